"""The normal form: what files write in many ways comes out in one."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.passes.graph import source
from onnxgru.passes.graph.naming import Naming
from onnxgru.passes.graph.shapes import Shapes
from onnxgru.passes.normal.defaults import Defaults
from onnxgru.passes.normal.domains import Domains
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize
from tests import grus
from tests.pipeline import pipeline


def normal(message: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(message)
    Normalize()(model)
    return model


def same(message: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> None:
    """The normal form computes what the file does."""
    after = source.proto(normal(message))
    for ours, theirs in zip(grus.run(after, inputs), grus.run(message, inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("both", [False, True])
def test_the_domain_ai_onnx_is_the_empty_one(both: bool) -> None:
    message = grus.model(grus.Case())
    message.opset_import[0].domain = "ai.onnx"
    message.graph.node[0].domain = "ai.onnx"
    if both:
        message.opset_import.append(helper.make_opsetid("", 18))
    model = ir.from_proto(message)
    assert Domains()(model).modified
    assert dict(model.opset_imports) == {"": 18}
    assert not Domains()(model).modified
    assert len(recognize(normal(message)).layers) == 1
    same(message, grus.feeds(grus.Case()))


def test_the_domain_in_functions() -> None:
    case = grus.Case(outputs=("Y",))
    message = grus.model(case)
    node = message.graph.node[0]
    body = helper.make_node("GRU", ["x", "w", "r", "b"], ["y"], hidden_size=case.H)
    body.attribute.extend(a for a in node.attribute if a.name != "hidden_size")
    body.domain = "ai.onnx"
    function = helper.make_function(
        "own",
        "Recurrent",
        ["x", "w", "r", "b"],
        ["y"],
        [body],
        [helper.make_opsetid("ai.onnx", 18)],
    )
    message.functions.append(function)
    message.opset_import[0].domain = "ai.onnx"
    message.opset_import.append(helper.make_opsetid("own", 1))
    call = helper.make_node("Recurrent", list(node.input), ["Y"], name="call", domain="own")
    del message.graph.node[:]
    message.graph.node.append(call)
    model = normal(message)  # onnxruntime does not take the long domain in functions
    assert len(recognize(model).layers) == 1
    (ours,) = grus.run(source.proto(model), grus.feeds(case))
    np.testing.assert_array_equal(ours, *grus.run(grus.model(case), grus.feeds(case)))


def test_initializers_that_are_inputs_are_constants() -> None:
    case = grus.Case(bias=True)
    message = grus.model(case)
    message.ir_version, message.opset_import[0].version = 3, 9
    for tensor in message.graph.initializer:
        message.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    model = ir.from_proto(message)
    assert Defaults()(model).modified
    assert [v.name for v in model.graph.inputs] == ["X"]
    assert not Defaults()(model).modified
    after = normal(message)
    assert after.ir_version >= 8
    assert len(recognize(after).layers) == 1
    same(message, grus.feeds(case))


def test_names_of_nodes() -> None:
    nodes = [
        helper.make_node("Relu", ["X"], ["a"], name="relu_0"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"], name="same"),
        helper.make_node("Relu", ["c"], ["d"], name="same"),
    ]
    model = ir.from_proto(_plain(nodes, "d"))
    for node, given in zip(model.graph, nodes, strict=True):
        node.name = given.name
    assert Naming()(model).modified
    assert [n.name for n in model.graph] == ["relu_0", "relu_1", "same", "same_0"]
    assert not Naming()(model).modified


def test_initializers_named_like_ours_hold_their_own_values() -> None:
    """Constants of ours are told by name alone."""
    case = grus.Case(initial=True)
    message = grus.model(case)
    message.graph.initializer.append(
        numpy_helper.from_array(np.asarray([7.0], np.float32), "onnxgru/length/0")
    )
    message.graph.node.append(
        helper.make_node("Add", ["Y_h", "onnxgru/length/0"], ["onnxgru/length/1"], name="add")
    )
    message.graph.output.append(
        helper.make_tensor_value_info("onnxgru/length/1", TensorProto.FLOAT, None)
    )
    inputs = grus.feeds(case)
    same(message, inputs)
    made = pipeline(message, inputs)
    emitted = made.emit(made.uniform(8))
    y, y_h, moved = grus.run(emitted, inputs)
    np.testing.assert_array_equal(moved, y_h + np.float32(7))
    assert np.abs(y[-1] - y_h).max() == 0


def test_outputs_keep_the_axes_that_the_file_declares() -> None:
    message = grus.model(grus.Case())
    for value, axes in zip(message.graph.output, (["t", 1, "n", 6], [1, None, 6]), strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, axes))
    model = normal(message)
    found = [[s if isinstance(s, int) else s.value for s in v.shape] for v in model.graph.outputs]
    assert found == [["t", 1, "n", 6], [1, None, 6]]
    assert not Shapes()(model).modified


def _plain(nodes: list[onnx.NodeProto], output: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (("gru", "/gru"), ("/gru", "/gru_1")),
        (("/", ""), ("/gru", "/gru_0")),
        (("a b", "ü/ß"), ("/a b", "/ü/ß")),
        (("gru", "gru/forward"), ("/gru", "/gru/forward_1")),
        (("gru/forward", "gru"), ("/gru/forward", "/gru_1")),
        (("/gru_1", "gru_1/"), ("/gru_1", "/gru_1_1")),
    ],
)
def test_layers_have_names_of_their_own(names: tuple[str, str], layers: tuple[str, str]) -> None:
    cases = [grus.Case(), grus.Case(I=6, seed=2)]
    message = grus.stacked(cases)
    nodes = [node for node in message.graph.node if node.op_type == "GRU"]
    for node, name in zip(nodes, names, strict=True):
        node.name = name
    inputs = grus.feeds(cases[0])
    made = pipeline(message, inputs)
    assert tuple(layer.name for layer in made.layers) == layers
    _near(made.emit(made.uniform(8)), message, inputs)


@pytest.mark.parametrize("taken", ["/gru/forward/state", "/gru/zero_point", "/gru/y"])
def test_layers_leave_names_of_the_graph_alone(taken: str) -> None:
    """As a value, an initializer or the name of a node."""
    case = grus.Case()
    inputs = grus.feeds(case)
    value = grus.model(case)
    value.graph.input[0].name = value.graph.node[0].input[0] = taken
    initializer = grus.model(case)
    initializer.graph.initializer[0].name = initializer.graph.node[0].input[1] = taken
    node = grus.model(case)
    node.graph.node.append(helper.make_node("Identity", ["Y"], ["copy"], name=taken))
    node.graph.output.append(helper.make_tensor_value_info("copy", TensorProto.FLOAT, None))
    for message, feeds in (
        (value, {taken: inputs["X"]}),
        (initializer, inputs),
        (node, inputs),
    ):
        made = pipeline(message, feeds)
        assert [layer.name for layer in made.layers] == ["/gru_1"]
        _near(made.emit(made.uniform(8)), message, feeds)


def test_a_name_with_brackets_is_taken_literally_too() -> None:
    message = grus.model(grus.Case())
    message.graph.node[0].name = "gru[0]"
    model = normal(message)
    assert len(recognize(model, include=["gru[0]"]).layers) == 1
    assert len(recognize(model, exclude=["gru[0]"]).refusals) == 1


def _near(emitted: onnx.ModelProto, message: onnx.ModelProto, inputs: dict) -> None:
    for ours, theirs in zip(grus.run(emitted, inputs), grus.run(message, inputs), strict=True):
        noise = ((ours - theirs) ** 2).sum() / (theirs**2).sum()
        assert 10 * np.log10(noise) < -25
