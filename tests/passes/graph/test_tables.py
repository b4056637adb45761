"""How many values integer inputs may take."""

import onnx
import onnx_ir as ir
import pytest

from onnxgru.passes.graph.tables import sizes
from onnxgru.passes.normal.normalize import Normalize

HEAD = '<ir_version: 9, opset_import: ["" : 18]>\n'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("(int64[T, B] tokens) => (float[T, B, 4] out) <float[11, 4] table = {%s}> "
         "{ out = Gather(table, tokens) }", {"tokens": 11}),
        ("(int32[B, T] tokens) => (float[T, B, 4] out) <float[4, 9] table = {%s}> "
         "{ turned = Transpose<perm = [1, 0]>(tokens)\n wide = Cast<to = 7>(turned)\n "
         "got = Gather<axis = 1>(table, wide)\n out = Transpose<perm = [1, 2, 0]>(got) }",
         {"tokens": 9}),
        ("(int64[T, B] tokens) => (float[T, B, 6] out) <int64 depth = {6}, float[2] off = {0, 1}> "
         "{ out = OneHot(tokens, depth, off) }", {"tokens": 6}),
        ("(int64[T, B] tokens) => (float[T, B, 4] out, float[T, B, 2] pos) "
         "<float[11, 4] table = {%s}, float[5, 2] other = {%s}> "
         "{ out = Gather(table, tokens)\n pos = Gather(other, tokens) }", {"tokens": 5}),
        ("(int64[B] lengths, float[B] x) => (float[B] out) "
         "{ y = Cast<to = 1>(lengths)\n out = Add(x, y) }", {}),
    ],
)  # fmt: skip
def test_sizes_of_tables(body, expected):
    counts = [44 if "11" in body else 36, 10]
    for count in counts[: body.count("%s")]:
        body = body.replace("%s", ", ".join(["0"] * count), 1)
    message = onnx.parser.parse_model(HEAD + "test " + body)
    model = ir.from_proto(message)
    Normalize()(model)
    assert sizes(model.graph) == expected
