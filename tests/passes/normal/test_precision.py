"""float16 and double recurrences compute in float32; the interface keeps its types."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.passes.normal.precision import Precision
from tests import grus
from tests.pipeline import pipeline

CASES = [grus.Case(initial=True), grus.Case(I=6, seed=2)]
KINDS = {"float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}


def model(kind: str, *, cast_between: bool = False) -> onnx.ModelProto:
    """Two layers with a Relu between; or the second in float32, between casts."""
    message = grus.stacked(CASES, between="floats")
    graph = message.graph
    dtype = helper.tensor_dtype_to_np_dtype(KINDS[kind])
    for tensor in list(graph.initializer):
        own = cast_between and tensor.name.startswith("l1_")
        if tensor.data_type == TensorProto.FLOAT and not own:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name)
            )
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.elem_type = KINDS[kind]
    if cast_between:
        second = next(node for node in graph.node if node.name == "gru1")
        place = list(graph.node).index(second)
        graph.node.insert(
            place,
            helper.make_node("Cast", [second.input[0]], ["up"], name="up", to=TensorProto.FLOAT),
        )
        second = graph.node[place + 1]
        second.input[0] = "up"
        for output in graph.output:
            index = list(second.output).index(output.name)
            second.output[index] = f"{output.name}/wide"
            graph.node.append(
                helper.make_node("Cast", [second.output[index]], [output.name], to=KINDS[kind])
            )
    return message


def feeds(kind: str) -> dict[str, np.ndarray]:
    dtype = helper.tensor_dtype_to_np_dtype(KINDS[kind])
    return {name: array.astype(dtype) for name, array in grus.feeds(CASES[0]).items()}


@pytest.mark.parametrize("cast_between", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_recurrences_compute_in_float32(kind: str, cast_between: bool) -> None:
    made = pipeline(model(kind, cast_between=cast_between), feeds(kind))
    assert len(made.layers) == 2
    interface = [*made.model.graph.inputs, *made.model.graph.outputs]
    assert [v.dtype for v in interface] == [ir.DataType(KINDS[kind])] * 4
    emitted = made.emit(made.uniform(8))
    expected = grus.run(
        grus.stacked(CASES, between="floats"),
        {n: a.astype(np.float32) for n, a in feeds(kind).items()},
    )
    for found in (ir.to_proto(made.model), emitted):
        for ours, theirs in zip(grus.run(found, feeds(kind)), expected, strict=True):
            assert ours.dtype == helper.tensor_dtype_to_np_dtype(KINDS[kind])
            error = ((ours.astype(float) - theirs) ** 2).sum() / (theirs**2).sum()
            assert error < (1e-5 if found is not emitted else 10**-2.5)


def test_codes_pass_between_layers_in_spite_of_casts() -> None:
    """A Cast from float32 to float32 would stand between them."""
    message = model("float16")
    graph = message.graph
    for node in [n for n in graph.node if n.op_type in ("Mul", "Relu")]:
        graph.node.remove(node)
    second = next(node for node in graph.node if node.name == "gru1")
    for name, source, kind in (("a", "l0_next", "FLOAT"), ("b", "a", "FLOAT16")):
        place = list(graph.node).index(second)
        cast = helper.make_node("Cast", [source], [name], to=TensorProto.DataType.Value(kind))
        graph.node.insert(place, cast)
        second = graph.node[place + 1]
    second.input[0] = "b"
    made = pipeline(message, feeds("float16"))
    assert made.uniform(8).layers[1].reads_codes


def test_float32_recurrences_are_left() -> None:
    """Whatever the rest computes in."""
    message = grus.model(grus.Case())
    message.graph.node.append(
        helper.make_node("Cast", ["Y_h"], ["half"], name="cast", to=TensorProto.FLOAT16)
    )
    message.graph.output.append(
        helper.make_tensor_value_info("half", TensorProto.FLOAT16, [1, "B", 6])
    )
    assert not Precision()(ir.from_proto(message)).modified


def test_constants_and_subgraphs_are_converted() -> None:
    """ConstantOfShape, initializers of a branch, and an input handed through."""
    message = model("float16")
    graph = message.graph
    one = helper.make_tensor("one", TensorProto.FLOAT16, [1], [1.0])
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Add", ["l1_Y_h", f"{name}/c"], [f"{name}/y"])
        output = helper.make_tensor_value_info(f"{name}/y", TensorProto.FLOAT16, None)
        number = numpy_helper.from_array(np.asarray([1], np.float16), f"{name}/c")
        branches[name] = helper.make_graph([node], name, [], [output], [number])
    graph.node.extend(
        [
            helper.make_node("Shape", ["l1_Y_h"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=one),
            helper.make_node("ReduceMax", ["shape"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["which"], to=TensorProto.BOOL),
            helper.make_node("If", ["which"], ["chosen"], **branches),
            helper.make_node("Add", ["ones", "chosen"], ["sum"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT16, [1, "B", 6]))
    graph.output.append(helper.make_tensor_value_info("X", TensorProto.FLOAT16, ["T", "B", 4]))
    inputs = feeds("float16")
    made = pipeline(message, inputs)
    _, y_h, total, x = grus.run(made.emit(made.uniform(8)), inputs)
    np.testing.assert_array_equal(x, inputs["X"])
    np.testing.assert_allclose(total, y_h.astype(np.float32) + 2, atol=2e-3)
