"""Where axes come from, through every operator that keeps them apart."""

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from onnxgru.passes.graph.axes import origin, origins, rank

BIG = (
    "<float[1,18,4] W, float[1,18,6] R, float[2,18,4] W2, float[2,18,6] R2, float[4,5] m = {%s}, "
    "float[5,4] mt = {%s}, float[3,4,5] m3 = {%s}, float[4] v = {1,2,3,4}, float[1,4] row = "
    "{1,2,3,4}, float[7,4] table = {%s}, float[2,4,3] k = {%s}, float[2] two = {1,1}, float[4] "
    "four = {1,1,1,1}, float s = {0.5}, uint8 z = {3}, int64[1] n0 = {0}, int64[1] n1 = {1}, "
    "int64[1] n2 = {2}, int64[1] last = {-1}, int64[2] n12 = {1,2}, int64[2] ends = {0,9}, "
    "int64[1] far = {9}, int64[3] keep = {0,0,-1}, int64[2] rows = {-1,4}, int64[4] wide = "
    "{1,0,1,4}, int64[4] pads4 = {0,1,0,1}, int64[3] i3 = {0,0,1}, int64 i = {1}, int64[1,1] "
    "ii = {{1}}, int64[6] pads = {0,1,0,0,1,0}, int64[3] reps = {1,2,1}, int64[3] threes = "
    "{3,3,4}, int64[2] halves = {2,2}, int64 depth = {9}, float[2] offon = {0,1}>"
)


def zeros(count: int) -> str:
    return ", ".join(["1"] * count)


HEADER = BIG.replace("{{1}}", "{1}") % tuple(zeros(n) for n in (20, 20, 60, 28, 24))
SHAPES = {
    "x": "float[B,T,4]",
    "y": "float[B,T,4]",
    "a": "float[B,4]",
    "e": "float[B,1,4]",
    "c": "float[1,B,1,4]",
    "t": "int64[B,T]",
    "q": "float[T,B,4]",
    "h": "float[1,B,6]",
    "hb": "float[B,1,6]",
    "im": "float[B,4,N]",
    "sq": "float[B,T,T]",
    "st": "float[B,S,5]",
    "one": "float[1,T,4]",
}


def graph(body: str, inputs: str, opset: int = 18) -> ir.Graph:
    """A graph of some of `SHAPES`, shapes inferred, whose last value is ``o``."""
    given = ", ".join(f"{SHAPES[name]} {name}" for name in inputs.split())
    text = f'<ir_version: 9, opset_import: ["" : {opset}]> g ({given}) => (o) {HEADER} {{ {body} }}'
    message = parser.parse_model(text)
    inferred = onnx.shape_inference.infer_shapes(message)
    return ir.from_proto(inferred).graph


def every(body: str, inputs: str, count: int, opset: int = 18) -> list[dict[str, int]]:
    """Origins of the axes of ``o``; the rank of a Squeeze without axes is not known."""
    value = graph(body, inputs, opset).outputs[0]
    assert rank(value) in (None, count)
    return [origins(value, axis) for axis in range(count)]


def of(*places: int | None, name: str = "x") -> list[dict[str, int]]:
    """Origins that are axes of one input."""
    return [{} if place is None else {name: place} for place in places]


SINGLE = [
    ("o = Relu(x)", of(0, 1, 2)),
    ("o = Cast<to = 11>(x)", of(0, 1, 2)),
    ("o = Softmax<axis = -1>(x)", of(0, 1, 2)),
    ("o = LayerNormalization<axis = -1>(x, four)", of(0, 1, 2)),
    ("b = QuantizeLinear(x, s, z) o = DequantizeLinear(b, s, z)", of(0, 1, 2)),
    ("o = CumSum(x, i)", of(0, 1, 2)),
    ("o = Pad(x, pads)", of(0, 1, 2)),
    ("o = Tile(x, reps)", of(0, 1, 2)),
    ("o = Slice(x, n1, far, n2)", of(0, 1, 2)),
    ("o, b = Split<axis = 2>(x, halves)", of(0, 1, 2)),
    ("b, o = Split<axis = 2>(x, halves)", of(0, 1, 2)),
    ("o, b = TopK(x, n2)", of(0, 1, 2)),
    ("o = ReverseSequence<batch_axis = 0, time_axis = 1>(x, n1)", of(0, 1, 2)),
    ("o = Transpose<perm = [1, 0, 2]>(x)", of(1, 0, 2)),
    ("o = Transpose(x)", of(2, 1, 0)),
    ("o = Concat<axis = 2>(x, x)", of(0, 1, 2)),
    ("o = Unsqueeze(x, n0)", of(None, 0, 1, 2)),
    ("o = Unsqueeze(x, last)", of(0, 1, 2, None)),
    ("o = Reshape(x, keep)", of(0, 1, 2)),
    ("o = Reshape(x, rows)", of(None, 2)),
    ("o = Flatten<axis = 2>(x)", of(None, 2)),
    ("o = Flatten<axis = -1>(x)", of(None, 2)),
    ("o = Flatten<axis = 1>(x)", of(0, None)),
    ("o = Gather<axis = 1>(x, i)", of(0, 2)),
    ("o = Gather<axis = 1>(x, i3)", of(0, None, 2)),
    ("o = Gather<axis = 1>(x, ii)", of(0, None, None, 2)),
    ("o = Gather<axis = -1>(x, i)", of(0, 1)),
    ("o = ReduceMean<keepdims = 1>(x, last)", of(0, 1, None)),
    ("o = ReduceMean<keepdims = 0>(x, n1)", of(0, 2)),
    ("o = ReduceSum<keepdims = 0>(x, n12)", of(0)),
    ("o = ReduceMax<keepdims = 1>(x)", of(None, None, None)),
    ("o = ReduceSum<noop_with_empty_axes = 1>(x)", of(0, 1, 2)),
    ("o = ArgMax<axis = 1, keepdims = 0>(x)", of(0, 2)),
    ("o = ArgMin<axis = -1, keepdims = 1>(x)", of(0, 1, None)),
    ("o = MatMul(x, m)", of(0, 1, None)),
    ("o = MatMul(x, v)", of(0, 1)),
    ("o = MatMul(v, b) b = Transpose<perm = [0, 2, 1]>(x)", of(0, 1)),
    ("o = MatMul(mt, b) b = Transpose<perm = [0, 2, 1]>(x)", of(0, None, 1)),
    ("o = Einsum<equation = \"btk,ki->tbi\">(x, m)", of(1, 0, None)),
    ("o = Einsum<equation = \"btk->b\">(x)", of(0)),
    ("o = Add(x, v)", of(0, 1, 2)),
    ("o = Mul(row, x)", of(0, 1, 2)),
    ("b = Greater(x, s) o = Where(b, x, s)", of(0, 1, 2)),
    ("o = Clip(x)", of(0, 1, 2)),
    ("b = Shape(x) o = ConstantOfShape(b)", of(None, None, None)),
    ("o = Compress<axis = 0>(x, b) b = Cast<to = 9>(two)", of(None, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), SINGLE, ids=[body for body, _ in SINGLE])
def test_one_input(body: str, expected: list[dict[str, int]]) -> None:
    assert every(body_in_order(body), "x", len(expected)) == expected


def body_in_order(body: str) -> str:
    """The body with the node that makes ``b`` first, where it is written behind."""
    if " b = Transpose" in body or " b = Cast" in body:
        last, before = body.split(" b = ")
        return f"b = {before} {last}"
    return body


SEVERAL = [
    ("o = Squeeze(c, n0)", "c", of(1, 2, 3, name="c")),
    ("o = Squeeze(c)", "c", of(1, 3, name="c")),
    ("o = Squeeze(e)", "e", of(0, 2, name="e")),
    ("o = Flatten<axis = 2>(c)", "c", of(1, 3, name="c")),
    ("o = Flatten<axis = 0>(a)", "a", of(None, None, name="a")),
    ("o = Reshape(e, rows)", "e", of(0, 2, name="e")),
    ("o = Gather(table, t)", "t", [{"t": 0}, {"t": 1}, {}]),
    ("o = OneHot(t, depth, offon)", "t", [{"t": 0}, {"t": 1}, {}]),
    ("o = OneHot<axis = 0>(t, depth, offon)", "t", [{}, {"t": 0}, {"t": 1}]),
    ("o = Concat<axis = 1>(x, y)", "x y", [{"x": i, "y": i} for i in range(3)]),
    ("o = Sum(x, y, x)", "x y", [{"x": i, "y": i} for i in range(3)]),
    ("o = Add(x, e)", "x e", [{"x": 0, "e": 0}, {"x": 1}, {"x": 2, "e": 2}]),
    ("o = Add(one, x)", "one x", [{"x": 0}, {"one": 1, "x": 1}, {"one": 2, "x": 2}]),
    ("o = Add(a, c)", "a c", [{"c": 0}, {"c": 1}, {"a": 0}, {"a": 1, "c": 3}]),
    ("o = Expand(e, threes)", "e", [{"e": 0}, {}, {"e": 2}]),
    ("b = Shape(x) o = Expand(e, b)", "x e", [{"e": 0}, {}, {"e": 2}]),
    ("o = MatMul(sq, x)", "sq x", [{"sq": 0, "x": 0}, {"sq": 1}, {"x": 2}]),
    ("b = Transpose(a) o = Gemm(mt, b)", "a", of(None, 0, name="a")),
    ("b = Gemm(a, m) o = Gemm(b, mt, a)", "a", of(0, 1, name="a")),
    ("o = MatMul(st, mt)", "st", of(0, 1, None, name="st")),
    ("o = Gemm(a, m)", "a", of(0, None, name="a")),
    ("o = Gemm<transB = 1>(a, mt)", "a", of(0, None, name="a")),
    ("b = Transpose(a) o = Gemm<transA = 1>(b, m)", "a", of(0, None, name="a")),
    ("o = Conv(im, k)", "im", of(0, None, 2, name="im")),
    ("o = MaxPool<kernel_shape = [2]>(im)", "im", of(0, 1, 2, name="im")),
    ("o = GlobalAveragePool(im)", "im", of(0, 1, None, name="im")),
    ("o, l = GRU<hidden_size = 6>(q, W, R)", "q", [{"q": 0}, {}, {"q": 1}, {}]),
    ("u, o = GRU<hidden_size = 6>(q, W, R)", "q", [{}, {"q": 1}, {}]),
    (
        "u, o = GRU<hidden_size = 6>(q, W, R, , , h)",
        "q h",
        [{}, {"q": 1, "h": 1}, {}],
    ),
    (
        "o, l = GRU<hidden_size = 6, layout = 1>(x, W, R, , , hb)",
        "x hb",
        [{"x": 0, "hb": 0}, {"x": 1}, {}, {}],
    ),
    (
        "u, o = GRU<hidden_size = 6, layout = 1>(x, W, R, , , hb)",
        "x hb",
        [{"x": 0, "hb": 0}, {}, {}],
    ),
    (
        "o, l = GRU<hidden_size = 6, direction = \"bidirectional\">(q, W2, R2)",
        "q",
        [{"q": 0}, {}, {"q": 1}, {}],
    ),
    ("o, l, d = LSTM<hidden_size = 6>(q, W, R)", "q", [{"q": 0}, {}, {"q": 1}, {}]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "inputs", "expected"), SEVERAL, ids=[body for body, _, _ in SEVERAL]
)
def test_several_inputs(body: str, inputs: str, expected: list[dict[str, int]]) -> None:
    assert every(body, inputs, len(expected)) == expected


def test_axes_as_attributes_of_old_opsets() -> None:
    assert every("o = Squeeze<axes = [0, 2]>(c)", "c", 2, 11) == of(1, 3, name="c")
    assert every("o = Unsqueeze<axes = [0]>(a)", "a", 3, 11) == of(None, 0, 1, name="a")
    assert every("o = ReduceMean<axes = [1], keepdims = 0>(x)", "x", 2, 11) == of(0, 2)


def test_what_is_written_into_a_tensor() -> None:
    """Into zeros: the axes are those of what is written."""
    zeros_at = "u = Shape(%s) w = ConstantOfShape(u)"
    body = zeros_at % "c" + " b = Unsqueeze(e, n0) o = ScatterND(w, ii, b)"
    assert every(body, "c e", 4) == [{}, {"e": 0}, {"e": 1}, {"e": 2}]
    body = zeros_at % "x" + " g = Cast<to = 7>(w) o = ScatterElements<axis = 1>(w, g, x)"
    assert every(body, "x", 3) == of(0, 1, 2)


def test_equal_sizes_of_one_keep_their_places() -> None:
    text = (
        '<ir_version: 9, opset_import: ["" : 18]> g (float[1,1,4] x) => (o) '
        "<int64[3] n = {1,1,4}> { o = Reshape(x, n) }"
    )
    inferred = onnx.shape_inference.infer_shapes(parser.parse_model(text))
    value = ir.from_proto(inferred).graph.outputs[0]
    assert [origins(value, axis) for axis in range(3)] == of(0, 1, 2)


def test_first_origin() -> None:
    value = graph("o = Add(x, y)", "x y").outputs[0]
    assert origin(value, 1) == ("x", 1)
    assert origin(None, 0) is None
    assert origins(value, -1) == {}
    assert rank(None) is None
