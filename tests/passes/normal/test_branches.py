"""Branches of an If with a constant condition take its place."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.passes.normal.branches import Branches
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize
from tests import grus
from tests.pipeline import pipeline

FLOAT = TensorProto.FLOAT
CASE = grus.Case()


def branch(case: grus.Case, name: str, *, deeper: bool = False) -> onnx.GraphProto:
    """A GRU with weights of its own, or an If that has it in both branches."""
    arrays = {n: numpy_helper.from_array(a, n) for n, a in grus.weights(case).items()}
    output = helper.make_tensor_value_info("inner", FLOAT, None)
    if deeper:
        parts = {f"{k}_branch": branch(case, f"{name}/{k}") for k in ("then", "else")}
        node = helper.make_node("If", ["yes"], ["inner"], name=f"{name}/if", **parts)
        return helper.make_graph([node], name, [], [output])
    node = helper.make_node(
        "GRU",
        ["X", "W", "R", "B"],
        ["inner"],
        name="gru",
        hidden_size=case.H,
        linear_before_reset=1,
    )
    return helper.make_graph([node], name, [], [output], list(arrays.values()))


def model(condition: np.ndarray | None, *, deeper: bool = False) -> onnx.ModelProto:
    """An If whose output is the graph's, and a second one that feeds a Relu."""
    one, two = CASE, grus.Case(seed=3)
    nodes = [
        helper.make_node(
            "If", ["yes"], ["Y"], name="first",
            then_branch=branch(one, "t", deeper=deeper), else_branch=branch(two, "e"),
        ),
        helper.make_node(
            "If", ["no"], ["two"], name="second",
            then_branch=branch(two, "t2"), else_branch=branch(one, "e2"),
        ),
        helper.make_node("Relu", ["two"], ["Z"], name="relu"),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info("X", FLOAT, ["T", "B", CASE.I])]
    outputs = [helper.make_tensor_value_info(n, FLOAT, ["T", 1, "B", CASE.H]) for n in ("Y", "Z")]
    nodes.insert(0, helper.make_node("Not", ["yes"], ["no"], name="not"))
    arrays = []
    if condition is None:
        inputs.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    else:
        arrays.append(numpy_helper.from_array(condition, "yes"))
    graph = helper.make_graph(nodes, "g", inputs, outputs, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("deeper", [False, True])
@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_constant_condition(value: bool, shape: tuple[int, ...], deeper: bool) -> None:
    message = model(np.full(shape, value), deeper=deeper)
    inputs = grus.feeds(CASE)
    before = grus.run(message, inputs)
    made = pipeline(message, inputs)
    assert len(made.layers) == 2
    assert not [node for node in made.model.graph if node.op_type == "If"]
    after = grus.run(ir.to_proto(made.model), inputs)
    for ours, theirs in zip(after, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    emitted = made.emit(made.uniform(8))
    assert "GRU" not in {node.op_type for node in emitted.graph.node}
    for ours, theirs in zip(grus.run(emitted, inputs), before, strict=True):
        assert ((ours - theirs) ** 2).sum() < 10**-2.5 * (theirs**2).sum()


def test_a_condition_that_varies_is_left() -> None:
    message = ir.from_proto(model(None))
    assert not Branches()(message).modified
    Normalize()(message)
    found = recognize(message)
    assert not found.layers
    assert [refusal.node for refusal in found.refusals] == ["gru"] * 4
    assert found.refusals[0].reason == (
        "GRU lies in a subgraph of If node 'first'; onnxgru quantises GRU, LSTM and RNN "
        "nodes, and cells in the body of a Scan or Loop, all in the main graph"
    )


def test_the_source_keeps_its_names() -> None:
    """Clones share tensors."""
    source = ir.from_proto(model(np.asarray(True)))
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    clone = source.clone()
    assert Branches()(clone).modified
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before
    names = [str(v.name) for v in clone.graph.initializers.values()]
    assert len(names) == len(set(names)) == 7


def test_a_branch_may_give_an_initializer_or_an_outer_value() -> None:
    """Either as an output of the graph."""
    number = numpy_helper.from_array(np.asarray([2.0], np.float32), "two")
    then = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["a"]), helper.make_node("Identity", ["two"], ["b"])],
        "t", [], [helper.make_tensor_value_info(n, FLOAT, None) for n in "ab"], [number],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Neg", ["X"], ["a"]), helper.make_node("Neg", ["X"], ["b"])],
        "e", [], [helper.make_tensor_value_info(n, FLOAT, None) for n in "ab"],
    )  # fmt: skip
    node = helper.make_node("If", ["yes"], ["p", "q"], then_branch=then, else_branch=other)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("X", FLOAT, [1])],
        [helper.make_tensor_value_info(n, FLOAT, [1]) for n in "pq"],
        [numpy_helper.from_array(np.asarray(True), "yes")],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    after = ir.from_proto(message)
    assert Branches()(after).modified
    x = np.asarray([5.0], np.float32)
    assert [float(a[0]) for a in grus.run(ir.to_proto(after), {"X": x})] == [5.0, 2.0]
