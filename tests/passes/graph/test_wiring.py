"""Graphs that can be sorted, and what keeps others from it."""

import onnx
import pytest
from onnx import parser

from onnxgru.core.errors import ModelError
from onnxgru.passes.graph import source, wiring

HEAD = '<ir_version: 9, opset_import: ["" : 18]>'
SORTED = "a = Relu(x) b = Add(a, c) y = Neg(b)"


def graph(body: str) -> onnx.ModelProto:
    text = f"{HEAD} agraph (float[N] x) => (float[N] y) <float[1] c = {{1}}> {{ {body} }}"
    return parser.parse_model(text)


BRANCH = """
k = Constant<value = bool {1}>()
y = If (k) <then_branch = t () => (float[N] u) { u = Add(p, x) },
            else_branch = e () => (float[N] v) { v = Neg(%s) }>
p = Relu(x)
"""


@pytest.mark.parametrize(
    "body", [SORTED, "y = Neg(b) b = Add(a, c) a = Relu(x)", BRANCH % "p", "y = Relu(x)"]
)
def test_any_order_will_do(body: str) -> None:
    assert wiring.fault(graph(body).graph) is None


def test_what_is_wrong_beside_the_order_is_found() -> None:
    message = graph("y = Neg(b) b = Add(a, c) a = Relu(x)")
    wanted = [node.op_type for node in message.graph.node][::-1]
    again = onnx.ModelProto.FromString(message.SerializeToString())
    wiring.sort(again.graph)
    assert [node.op_type for node in again.graph.node] == wanted
    source.read(message)
    del message.graph.node[1].input[1]
    with pytest.raises(ModelError, match=r"not a valid ONNX model \(.*Add"):
        source.read(message)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("y = Add(x, d)", "a node Add reads 'd', which nothing makes"),
        ("a = Add(x, b) b = Neg(a) y = Neg(b)", "in a circle: a node "),
        ("a = Relu(x) a = Neg(x) y = Neg(a)", "value 'a' is made twice, the second time by a nod"),
        ("x = Relu(c) y = Neg(x)", "value 'x' is made twice"),
        ("c = Relu(x) y = Neg(c)", "value 'c' is made twice"),
        ("a = Relu(x)", "nothing makes the output 'y'"),
        (BRANCH % "nowhere", "a node Neg reads 'nowhere', which nothing makes"),
        ((BRANCH % "p").replace("Relu(x)", "Relu(y)"), "in a circle"),
    ],
)
def test_what_cannot_be_sorted(body: str, words: str) -> None:
    message = graph(body)
    assert words in str(wiring.fault(message.graph))
    with pytest.raises(ModelError, match="model: is not a valid ONNX model"):
        source.read(message)


@pytest.mark.parametrize("size", [0, -1, -(2**40)])
def test_sizes_that_no_input_has(size: int) -> None:
    message = graph(SORTED)
    message.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    with pytest.raises(ModelError, match=f"input 'x' has the size {size} on axis 0"):
        source.read(message)


def test_names_that_are_no_text() -> None:
    content = graph("first = Relu(x) y = Neg(first)").SerializeToString()
    for name in (b"first", b"Relu"):
        broken = content.replace(name[:2], b"\x9c\xff")
        with pytest.raises(ModelError, match=r"model \(the name b'.x9c.xff.*' is not UTF-8\)"):
            source.read(broken)
