"""Numbers that are spread over columns together, and outputs of Scan that nobody reads."""

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import pytest

from onnxgru.passes.emission.columns import Columns
from onnxgru.passes.emission.unread import Unread
from onnxgru.passes.graph import source

SPREAD = """<ir_version: 8, opset_import: ["" : 18]>
g (int32[B, 6] x) => (int32[B, 6] y)
<int32[2, 1] a = {1, 2}, int32[2, 1] b = {3, 4}, int32[3, 1] c = {5, 6, 7}, int32[2] v = {8, 9},
 int64[2] two = {2, 3}, int64[2] three = {3, 2}, int64[1] flat = {-1}, int64[2] column = {2, 1}>
{
  a_wide = Expand(a, two)
  a_flat = Reshape(a_wide, flat)
  b_wide = Expand(b, two)
  b_flat = Reshape(b_wide, flat)
  c_wide = Expand(c, three)
  c_flat = Reshape(c_wide, flat)
  w = Reshape(v, column)
  w_wide = Expand(w, two)
  w_flat = Reshape(w_wide, flat)
  one = Mul(x, a_flat)
  two_ = Add(one, b_flat)
  three_ = Mul(two_, c_flat)
  y = Sub(three_, w_flat)
}"""

SCAN = """<ir_version: 8, opset_import: ["" : 18]>
g (float[T, 2] x) => (float[2] last OUTPUT)
<float[2] zero = {0, 0}>
{
  last, all = Scan <num_scan_inputs = 1, body = step (float[2] h, float[2] i) =>
    (float[2] next, float[2] seen) { next = Add(h, i)  seen = Neg(next) }> (zero, x)
}"""


def parsed(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def computed(model: ir.Model, x: np.ndarray) -> np.ndarray:
    (found,) = onnx.reference.ReferenceEvaluator(source.proto(model)).run(None, {"x": x})[:1]
    return found


def test_numbers_of_one_shape_are_spread_together() -> None:
    model = parsed(SPREAD)
    x = np.random.default_rng(0).integers(-9, 9, (4, 6), np.int32)
    before = computed(model, x)
    assert Columns()(model).modified
    kinds = [node.op_type for node in model.graph]
    assert (kinds.count("Expand"), kinds.count("Split"), len(kinds)) == (3, 1, 12)
    assert {"a", "b"}.isdisjoint(model.graph.initializers)
    np.testing.assert_array_equal(computed(model, x), before)
    assert not Columns()(model).modified


@pytest.mark.parametrize("read", [False, True])
def test_what_nobody_reads_is_not_gathered(read: bool) -> None:
    model = parsed(SCAN.replace(" OUTPUT", ", float[T, 2] all" if read else ""))
    x = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    before = computed(model, x)
    assert Unread()(model).modified is not read
    (scan,) = model.graph
    body = scan.attributes["body"].as_graph()
    assert len(scan.outputs) == len(body.outputs) == 1 + read
    np.testing.assert_array_equal(computed(model, x), before)
    assert not Unread()(model).modified
