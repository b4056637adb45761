"""Inputs of 16 bits: measured where a program is far from the float model, and advised."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from tests import grus

CASE = grus.Case(I=6, H=8, T=20, B=60)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GRU whose weights are great where its input is quiet."""
    message = grus.model(CASE)
    tensor = next(i for i in message.graph.initializer if i.name == "W")
    weights = onnx.numpy_helper.to_array(tensor) * np.array([0.01, 40, 40, 40, 40, 40], np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights.astype(np.float32), "W"))
    onnx.save(message, tmp_path / "gru.onnx")
    return tmp_path / "gru.onnx"


def recordings(quiet: float) -> dict[str, dict[str, np.ndarray]]:
    """One loud input, the others as quiet as said."""
    found = {"calibration": grus.feeds(CASE, 1), "validation": grus.feeds(CASE, 2)}
    for inputs in found.values():
        inputs["X"] *= np.array([20, *[quiet] * 5], np.float32)
    return found


def test_what_layers_read_is_too_coarse(model: Path) -> None:
    data = recordings(0.02)
    folders = {bits: model.parent / str(bits) for bits in (8, 16)}
    with pytest.warns(
        onnxgru.OnnxgruWarning, match="with --input-bits 16 SQNR on validation data is "
    ):
        plain = onnxgru.quantize(model, output=folders[8], **data)
    found = plain.parsed.wide_inputs
    assert found is not None and found.validation is not None and found.before is not None
    assert found.validation > found.before + 10

    wide = onnxgru.quantize(model, output=folders[16], input_bits=16, **data)
    assert wide.parsed.quality["validation"].integer == pytest.approx(found.validation, abs=1e-4)
    assert wide.parsed.wide_inputs is None
    assert [entry.bits for entry in wide.scheme.inputs.values()] == [16]
    assert wide.ram_bytes >= plain.ram_bytes


def test_inputs_near_the_float_model_are_not_measured(tmp_path: Path) -> None:
    data = {"calibration": grus.feeds(CASE, 1), "validation": grus.feeds(CASE, 2)}
    found = onnxgru.quantize(grus.model(CASE), output=tmp_path / "out", **data)
    assert found.parsed.wide_inputs is None
