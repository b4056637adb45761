"""Every operator of the host graph in torch beside onnxruntime, on models of one node."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.errors import UsageError
from onnxgru.training.host import _FUNCTIONS, HostGraph
from tests import grus

torch = pytest.importorskip("torch")

GENERATOR = np.random.default_rng(5)
X = GENERATOR.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = GENERATOR.standard_normal((2, 3, 7, 6)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
ROW = GENERATOR.standard_normal(4).astype(np.float32)
WHOLE = np.asarray([-7, -1, 5, 9], np.int64)


def draw(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def int64(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def scalar(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


Case = tuple[str, list[np.ndarray | None], dict[str, Any]]
PLAIN = ("Abs", "Elu", "Exp", "Identity", "LeakyRelu", "LogSoftmax", "Neg", "Relu", "Sigmoid")
PLAIN += ("Softmax", "Softplus", "Tanh", "Transpose", "Flatten", "Dropout")
CASES: list[Case] = [
    *((name, [X], {}) for name in PLAIN),
    ("Erf", [X], {}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("HardSigmoid", [X], {}),
    ("HardSigmoid", [X], {"alpha": 0.4, "beta": 0.3}),
    ("LayerNormalization", [X, draw(4), draw(4)], {"epsilon": 1e-3}),
    ("LayerNormalization", [X, draw(3, 4)], {"axis": 1}),
    ("Max", [X, ROW, -X], {}),
    ("Min", [X, ROW], {}),
    ("Reciprocal", [POSITIVE], {}),
    ("Sum", [X, ROW, POSITIVE], {}),
    ("Where", [X > 0, X, ROW], {}),
    ("Log", [POSITIVE], {}),
    ("Sqrt", [POSITIVE], {}),
    ("Pow", [POSITIVE, scalar(1.7)], {}),
    ("Pow", [X, int64(2)], {}),
    ("Add", [X, ROW], {}),
    ("Sub", [X, ROW], {}),
    ("Mul", [X, ROW], {}),
    ("Div", [X, ROW], {}),
    ("Div", [WHOLE, int64(2, 2, -2, 4)], {}),
    ("Elu", [X], {"alpha": 0.4}),
    ("LeakyRelu", [X], {"alpha": 0.3}),
    ("Softmax", [X], {"axis": 1}),
    ("LogSoftmax", [X], {"axis": 0}),
    ("Transpose", [X], {"perm": [1, 0, 2]}),
    ("Flatten", [X], {"axis": 2}),
    ("Flatten", [X], {"axis": 0}),
    ("Flatten", [X], {"axis": -1}),
    ("Cast", [X], {"to": TensorProto.INT64}),
    ("Cast", [WHOLE], {"to": TensorProto.FLOAT}),
    ("Clip", [X, scalar(-0.3), scalar(0.4)], {}),
    ("Clip", [X, None, scalar(0.4)], {}),
    ("Clip", [X, scalar(-0.3)], {}),
    ("Clip", [X], {}),
    ("Concat", [X, X, POSITIVE], {"axis": -1}),
    ("Concat", [X, X], {"axis": 0}),
    ("Expand", [X[:, :1], int64(2, 3, 1)], {}),
    ("Gather", [X, int64(1, -1)], {"axis": 1}),
    ("Gather", [X, np.asarray([[0, 2], [1, -3]])], {"axis": -2}),
    ("Gather", [X, np.asarray(1)], {}),
    ("Gather", [WHOLE, np.asarray(-2)], {}),
    ("Gemm", [draw(3, 4), draw(4, 5)], {}),
    ("Gemm", [draw(4, 3), draw(5, 4), draw(5)],
     {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("MatMul", [X, draw(4, 5)], {}),
    ("MatMul", [X, draw(2, 4, 5)], {}),
    ("Conv", [X, draw(5, 3, 3), draw(5)], {"pads": [1, 2], "strides": [2]}),
    ("Conv", [IMAGE, draw(6, 1, 3, 2)],
     {"group": 3, "pads": [0, 1, 2, 1], "dilations": [2, 1], "strides": [1, 2]}),
    ("Conv", [IMAGE, draw(2, 3, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    ("Conv", [IMAGE, draw(2, 3, 4, 2)], {"auto_pad": "SAME_LOWER", "strides": [3, 1]}),
    ("Conv", [IMAGE, draw(2, 3, 3, 2)], {"auto_pad": "VALID"}),
    ("Conv", [draw(1, 2, 5, 4, 3), draw(2, 2, 2, 2, 2)], {}),
    ("BatchNormalization", [IMAGE, draw(3), draw(3), draw(3), POSITIVE[0, :, 0]],
     {"epsilon": 1e-3}),
    ("ReduceMean", [X, int64(-1)], {"keepdims": 0}),
    ("ReduceMean", [X], {}),
    ("ReduceMax", [X, int64(0, 2)], {}),
    ("ReduceSum", [X, int64(1)], {}),
    ("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    ("Reshape", [X, int64(0, -1)], {}),
    ("Reshape", [X, int64(4, 6)], {}),
    ("Reshape", [np.zeros((0, 3), np.float32), int64(3, 0)], {"allowzero": 1}),
    ("Shape", [X], {}),
    ("Shape", [X], {"start": 1}),
    ("Shape", [X], {"start": -2, "end": -1}),
    ("Slice", [X, int64(1), int64(3)], {}),
    ("Slice", [X, int64(-1, 0), int64(-100, 2), int64(2, 1), int64(-1, 1)], {}),
    ("Slice", [X, int64(3), int64(-(2**63)), int64(2), int64(-2)], {}),
    ("Slice", [X, int64(1), int64(2**63 - 1), int64(-1)], {}),
    ("Split", [X, int64(1, 3)], {"axis": 2}),
    ("Split", [X], {"axis": -1, "num_outputs": 2}),
    ("Squeeze", [X[:, :1, :, None], int64(1, -1)], {}),
    ("Squeeze", [X[:, :1]], {}),
    ("Unsqueeze", [X, int64(0, -1)], {}),
]  # fmt: skip


def single(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model whose one node reads the first operand as graph input, the others as constants."""
    kind, operands, attributes = case
    names = [f"in{index}" if array is not None else "" for index, array in enumerate(operands)]
    outputs = ["out0", "out1"] if kind == "Split" else ["out0"]
    node = helper.make_node(kind, names, outputs, name="it", **attributes)
    first = operands[0]
    assert first is not None
    kinds = {
        n: helper.np_dtype_to_tensor_dtype(a.dtype)
        for n, a in zip(names, operands, strict=False)
        if n
    }
    known = {"Shape": TensorProto.INT64, "Cast": attributes.get("to"), "Where": TensorProto.FLOAT}
    element = known.get(kind, kinds["in0"])
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("in0", kinds["in0"], first.shape)],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        [numpy_helper.from_array(a, n) for n, a in zip(names[1:], operands[1:], strict=True) if n],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9), {"in0": first}


def test_table_has_every_operator():
    assert {kind for kind, _, _ in CASES} == set(_FUNCTIONS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{len(case[1])}-{case[2]}")
def test_operator_equals_onnxruntime(case):
    message, inputs = single(case)
    wanted = grus.run(message, inputs)
    for index, expected in enumerate(wanted):
        if case[0] in ("Softmax", "LogSoftmax"):  # as the last operator it would be left out
            output = helper.make_node("Identity", ["out0"], ["end"], name="end")
            message.graph.node.append(output)
            message.graph.output[0].name = "end"
        found = HostGraph(message, {}, message.graph.output[index].name)(inputs).detach().numpy()
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def classifier(kind: str, axis: int | None = None) -> onnx.ModelProto:
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("Add", ["product", "b"], ["logits"], name="bias"),
        helper.make_node("Mul", ["logits", "c"], ["scaled"], name="scaled"),
        helper.make_node(kind, ["scaled"], ["y"], name="last", **attributes),
    ]
    arrays = {"w": draw(4, 5), "b": draw(5), "c": draw(5)}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3, 5])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(("kind", "axis", "cut"), [
    ("Softmax", None, True), ("LogSoftmax", 2, True), ("Softmax", 1, False), ("Relu", None, False),
])  # fmt: skip
def test_a_softmax_over_classes_is_left_to_the_loss(kind, axis, cut):
    message = classifier(kind, axis)
    graph = HostGraph(message, {}, "y")
    assert graph.distribution == (kind if cut else "")
    (wanted,) = grus.run(message, {"x": X})
    found = graph({"x": X})
    if cut:
        found = getattr(torch, {"Softmax": "softmax", "LogSoftmax": "log_softmax"}[kind])(found, -1)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_weights_of_products_and_their_biases_are_trained():
    graph = HostGraph(classifier("Softmax"), {}, "y")
    assert set(graph.trained) == {"w", "b"}
    graph({"x": X}).square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().max() > 0
               for tensor in graph.trained.values())  # fmt: skip


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_unknown_operator_is_refused(domain):
    message = classifier("Relu" if domain else "Hardmax")
    message.graph.node[-1].domain = domain
    kind = message.graph.node[-1].op_type
    with pytest.raises(UsageError, match=rf"gradient of every operator that output 'y' .* {kind} "):
        HostGraph(message, {}, "y")


def test_operators_that_the_output_does_not_need_are_let_be():
    message = classifier("Relu")
    message.graph.node.append(helper.make_node("Hardmax", ["logits"], ["other"], name="other"))
    message.graph.output.append(
        helper.make_tensor_value_info("other", TensorProto.FLOAT, ["B", 3, 5])
    )
    assert HostGraph(message, {}, "y")({"x": X}).shape == (2, 3, 5)


def surrounded() -> onnx.ModelProto:
    """Conv, MaxPool and a branch in front of a layer; shape arithmetic and a product behind."""
    way = [
        helper.make_graph([helper.make_node(kind, ["pooled"], [kind])], kind, [],
                          [helper.make_tensor_value_info(kind, TensorProto.FLOAT, None)])
        for kind in ("Selu", "Neg")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["filtered"], name="conv", pads=[1, 1]),
        helper.make_node("MaxPool", ["filtered"], ["pooled"], name="pool", kernel_shape=[2]),
        helper.make_node("ReduceSum", ["x"], ["total"], name="total", keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["up"], name="greater"),
        helper.make_node("If", ["up"], ["front"], "if", then_branch=way[0], else_branch=way[1]),
        helper.make_node("GRU", ["front", "", ""], ["y", "y_h"], name="gru"),
        helper.make_node("Shape", ["y"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "first"], ["count"], name="count"),
        helper.make_node("Mod", ["count", "large"], ["same"], name="mod"),
        helper.make_node("Unsqueeze", ["same", "axis"], ["sizes"], name="sizes"),
        helper.make_node("Concat", ["sizes", "rest"], ["target"], name="target", axis=0),
        helper.make_node("Reshape", ["y", "target"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "head"], ["out"], name="head"),
    ]
    arrays = {
        "kernel": draw(4, 3, 3), "zero": scalar(0), "first": np.asarray(0), "axis": int64(0),
        "large": np.asarray(99), "rest": int64(-1), "head": draw(12, 2),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 2])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_needs_no_gradient_is_computed(sign):
    gain = torch.ones(1, requires_grad=True)
    plain = surrounded()
    (node,) = (node for node in plain.graph.node if node.name == "gru")
    given, made = node.input[0], node.output[:1]
    graph = HostGraph(
        plain, {"gru": lambda values: dict.fromkeys(made, gain * values[given])}, "out"
    )
    assert set(graph.trained) == {"head"}  # none reaches the kernel, in front of MaxPool
    x = sign * POSITIVE
    found = graph({"x": x})
    layer = next(node for node in plain.graph.node if node.name == "gru")
    layer.op_type = "Identity"
    del layer.input[1:], layer.output[1:]
    np.testing.assert_allclose(found.detach().numpy(), *grus.run(plain, {"x": x}), rtol=1e-5)
    found.square().sum().backward()
    assert gain.grad is not None and gain.grad.abs() > 0


def test_an_unknown_operator_behind_a_layer_is_refused():
    message = surrounded()
    message.graph.node[-1].op_type = "Hardmax"
    del message.graph.node[-1].input[1:]
    with pytest.raises(
        UsageError,
        match=r"output 'out' depends on behind a trained layer, but does not of Hardmax .node 'he",
    ):
        HostGraph(message, {"gru": dict}, "out")
