"""A fixed number of recordings per call, in every form."""

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core.errors import ModelError
from onnxgru.events import silent
from onnxgru.passes.forms.states import recorded
from onnxgru.runtime.crossings import sized
from onnxgru.runtime.sessions import onnxruntime_session
from tests import grus
from tests.passes.forms.test_step import axes

CASE = grus.Case(T=4, B=5, I=3, H=4)


def quantized(folder, message: onnx.ModelProto, **settings) -> onnx.ModelProto:
    onnx.save(message, folder / "m.onnx")
    data = grus.feeds(CASE)
    result = onnxgru.quantize(
        folder / "m.onnx", calibration=data, output=folder / "o", listener=silent, **settings
    )
    assert result.report["verification"]["sequences"] == CASE.B
    return onnx.load(folder / "o" / "integer.onnx")


def scopes(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *bodies]


@pytest.mark.parametrize("form", ["scan", "step", "unrolled"])
def test_every_axis_of_the_batch_is_fixed(tmp_path, form):
    steps = 4 if form == "unrolled" else None
    message = quantized(tmp_path, grus.model(CASE), recurrence=form, steps=steps, batch=2)
    for graph in scopes(message.graph):
        for value in (*graph.input, *graph.output):
            assert 2 in axes(value), value
            assert not {"B", None} & set(axes(value)), value
    assert all(state["shape"][0] == 2 for state in recorded(message))
    golden = onnx.TensorProto.FromString(
        (tmp_path / "o" / "test_data_set_0" / "input_0.pb").read_bytes()
    )
    assert golden.dims[1] == 2


def test_outputs_follow_the_name_of_the_axis(tmp_path):
    message = grus.model(CASE)
    message.graph.output[1].type.tensor_type.shape.dim[1].dim_param = "B"
    found = quantized(tmp_path, message, batch=3)
    assert [axes(value)[-2] for value in found.graph.output] == [3, 3]


def test_the_codes_are_those_of_any_batch(tmp_path):
    """The graph is the same, but for sizes."""
    fixed = quantized(tmp_path, grus.model(CASE), batch=CASE.B)
    (tmp_path / "free").mkdir()
    free = quantized(tmp_path / "free", grus.model(CASE))
    inputs = grus.feeds(CASE)
    outputs = [onnxruntime_session(message)(inputs) for message in (fixed, free)]
    for name in outputs[0]:
        np.testing.assert_array_equal(outputs[0][name], outputs[1][name])


def test_a_model_of_another_batch_is_refused(tmp_path):
    case = grus.Case(T=4, B=5, I=3, H=4, dynamic=False)
    onnx.save(grus.model(case), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="--batch 2: the model itself takes 5 recordings per call"):
        onnxgru.quantize(tmp_path / "m.onnx", batch=2, output=tmp_path / "o", listener=silent)


def test_sizes_of_a_copy_reach_bodies():
    message = grus.model(CASE)
    fixed = sized(message, {"X": (4, 2, 3)})
    assert axes(fixed.graph.input[0]) == [4, 2, 3]
