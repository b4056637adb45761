"""Shapes of models as files."""

from typing import Any

import onnx
import onnx_ir as ir
import pytest

from onnxgru.core.errors import ModelError
from onnxgru.passes.graph import source
from tests import grus

InferenceError = onnx.shape_inference.InferenceError


@pytest.mark.parametrize("broken", [{True}, {True, False}])
def test_contradictions_that_are_none(broken: set[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnx finds by following values of the graph must be found without them too."""
    infer = onnx.shape_inference.infer_shapes

    def failing(message: onnx.ModelProto, *, strict_mode: bool, data_prop: bool) -> Any:
        if data_prop in broken:
            raise InferenceError("[ShapeInferenceError] (144) vs (192)")
        return infer(message, strict_mode=strict_mode, data_prop=data_prop)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", failing)
    model = ir.from_proto(grus.model(grus.Case()))
    if False not in broken:
        assert source.proto(model).graph.node[0].op_type == "GRU"
        return
    with pytest.raises(ModelError, match=r"shapes of the model contradict .*\(144\) vs \(192\)"):
        source.proto(model)
