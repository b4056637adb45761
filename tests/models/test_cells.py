"""The zoo's own layers: their equations, their export as Scan, and what recognition makes of it."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxgru.core.cells import CELLS
from onnxgru.models import cells
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.training.export import export_module
from onnxgru.training.trace import import_torch

pytestmark = pytest.mark.slow

torch = import_torch("testing")


def layer(kind: str, *, bidirectional: bool = False):
    torch.manual_seed(0)
    made = cells.classes()[kind](4, 6, bidirectional=bidirectional).eval()
    with torch.no_grad():
        made.remember(10)
    return made


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("kind", ["ligru", "sru"])
def test_equations(kind: str) -> None:
    made = layer(kind)
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    with torch.no_grad():
        emitted, last = made(torch.from_numpy(x))
    values = {name: value.detach().numpy() for name, value in made.directions[0].named_parameters()}
    carry, wanted = np.zeros((2, 6)), []
    for step in x.swapaxes(0, 1):
        product = step @ values["input.weight"].T + values["input.bias"]
        if kind == "ligru":
            update, new = np.split(product + carry @ values["hidden.weight"].T, 2, axis=1)
            z = sigmoid(update)
            carry = z * carry + (1 - z) * np.maximum(new, 0)
            wanted.append(carry)
        else:
            new, forget, reset, passed = np.split(product, 4, axis=1)
            f = sigmoid(forget + values["forget"] * carry)
            r = sigmoid(reset + values["reset"] * carry)
            carry = f * carry + (1 - f) * new
            wanted.append(r * np.tanh(carry) + (1 - r) * passed)
    np.testing.assert_allclose(emitted.numpy(), np.stack(wanted, axis=1), atol=1e-5)
    np.testing.assert_array_equal(last[0].numpy(), emitted[:, -1].numpy())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["ligru", "sru"])
def test_export_is_recognised(kind: str, bidirectional: bool, tmp_path) -> None:
    made = layer(kind, bidirectional=bidirectional)
    done = export_module(made, (torch.zeros(1, 7, 4),), tmp_path / "m.onnx")
    assert done.operators == ("Scan",) * (1 + bidirectional)
    assert (
        b"site-packages" not in done.path.read_bytes() and b"cells.py" not in done.path.read_bytes()
    )
    names = [node.name for node in onnx.load(done.path).graph.node if node.op_type == "Scan"]
    assert names == ["layer", "layer.reverse"][: 1 + bidirectional]
    model = ir.from_proto(onnx.load(done.path))
    Normalize()(model)
    layers = require(recognize(model), "test")
    reverse = [recurrence.reverse for found in layers for recurrence in found.recurrences]
    assert len(reverse) == 1 + bidirectional
    if kind == "ligru":
        assert {found.cell for found in layers} == {CELLS["ligru"]}
