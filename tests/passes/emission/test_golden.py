"""Golden text of one tiny integer graph: what changes in it is seen in review.

After a wanted change write it anew and look at the difference::

    ONNXGRU_GOLDEN=write pytest tests/passes/emission/test_golden.py
    git diff tests/passes/emission/golden_*.txt
"""

import os
from pathlib import Path

import numpy as np
import onnx
import onnx.printer
import pytest

from tests import grus
from tests.pipeline import pipeline

CASE = grus.Case(T=2, B=1, I=2, H=2)
HERE = Path(__file__).parent


def exact(case: grus.Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Weights and inputs that are short binary fractions: no rounding depends on the machine."""
    message = grus.model(case)
    for tensor in message.graph.initializer:
        array = np.round(onnx.numpy_helper.to_array(tensor) * 16) / np.float32(16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return message, {n: np.round(a * 16) / np.float32(16) for n, a in grus.feeds(case).items()}


@pytest.mark.parametrize("bits", [4])
def test_golden(bits: int) -> None:
    model = pipeline(*exact(CASE))
    message = model.emit(model.uniform(bits, observer="minmax"))
    lines = [line.rstrip() for line in onnx.printer.to_text(message).splitlines()]
    found = "\n".join(lines) + "\n"
    path = HERE / f"golden_scan_{bits}.txt"
    if os.environ.get("ONNXGRU_GOLDEN") == "write":
        path.write_text(found, "utf-8")
    assert found == path.read_text("utf-8")
