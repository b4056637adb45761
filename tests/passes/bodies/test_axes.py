"""Where the axes of a body's values lie does not matter."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxgru.passes.graph import source
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize
from tests import grus, scans
from tests.passes.emission.test_decompose import TOLERANCE, decompose, distance
from tests.scans import H, I, whole

RNN = scans.RNN.nodes
CASES = {
    "batch first": whole(
        RNN,
        inputs=f"float[B, T, {I}] X, float[B, {H}] h0",
        attributes="num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-2]",
        outputs=f"float[B, T, {H}] Y, float[B, {H}] hT",
    ),
    "directions of a state": whole(
        "zero = Constant <value_ints = [0]> () h = Squeeze (h3, zero) "
        + RNN.replace("next_h = Tanh", "flat = Tanh").replace("(next_h)", "(flat)")
        + "next_h = Unsqueeze (flat, zero)",
        inputs=f"float[T, B, {I}] X, float[1, B, {H}] h0",
        states=f"float[1, B, {H}] h3",
        following=f"float[1, B, {H}] next_h, float[B, {H}] out",
        outputs=f"float[T, B, {H}] Y, float[1, B, {H}] hT",
    ),
    "reshaped": whole(
        f"shape = Constant <value_ints = [1, -1, {H}]> () "
        f"back = Constant <value_ints = [-1, {H}]> () "
        + RNN.replace("rh = MatMul (h, R)", "h3 = Reshape (h, shape) rh3 = MatMul (h3, R) "
                      "rh = Reshape (rh3, back)"),
        outputs=f"float[T, B, {H}] Y, float[B, {H}] hT",
    ),
    "one sequence": whole(
        RNN,
        inputs=f"float[T, {I}] X, float[{H}] h0",
        states=f"float[{H}] h",
        steps=f"float[{I}] x",
        following=f"float[{H}] next_h, float[{H}] out",
        outputs=f"float[T, {H}] Y, float[{H}] hT",
    ),
    "four axes": whole(
        "rows = Constant <value_ints = [1]> () x = Squeeze (x3, rows) " + RNN,
        inputs=f"float[T, B, 1, {I}] X, float[B, {H}] h0",
        steps=f"float[B, 1, {I}] x3",
        outputs=f"float[T, B, {H}] Y, float[B, {H}] hT",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_floats_are_those_of_onnxruntime(name: str) -> None:
    message = CASES[name]
    onnx.checker.check_model(message, full_check=True)
    inputs = scans.feeds(message)
    wanted = grus.run(message, inputs)
    model = ir.from_proto(message)
    Normalize()(model)
    (layer,) = recognize(model).layers
    assert layer.cell.name == "rnn"
    found = grus.run(source.proto(model), inputs)
    assert [array.shape for array in found] == [array.shape for array in wanted]
    assert distance(wanted, found) < TOLERANCE
    assert distance(wanted, grus.run(decompose(message), inputs)) < TOLERANCE
    np.testing.assert_allclose(wanted[0], found[0], atol=1e-6)
