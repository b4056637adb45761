"""Squeeze and Unsqueeze of the same axes."""

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxgru.passes.graph.cancel import Cancel

TEXT = """
<ir_version: 8, opset_import: ["" : 18]>
test (float[A, B] x) => (float[A, B] y)
<int64[1] one = {AXIS}, int64[1] other = {OTHER}>
{{ wide = Unsqueeze(x, one)  narrow = Squeeze(wide, other)  y = Neg(narrow) }}
"""


@pytest.mark.parametrize(
    ("axis", "other", "kept"),
    [("{1}", "{1}", ["Neg"]), ("{-1}", "{-1}", None), ("{0}", "{1}", None)],
)
def test_only_what_counts_from_the_front(axis: str, other: str, kept: list[str] | None) -> None:
    text = TEXT.replace("{AXIS}", axis).replace("{OTHER}", other)
    model = ir.from_proto(onnx.parser.parse_model(text.replace("{{", "{").replace("}}", "}")))
    result = Cancel()(model)
    assert result.modified == (kept is not None)
    assert [node.op_type for node in model.graph] == (kept or ["Unsqueeze", "Squeeze", "Neg"])
