"""Recurrences that are left in float are named, with the reason."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.errors import ModelError
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import Recognition, recognize, require
from tests import grus

FLOAT = TensorProto.FLOAT
H = 6


def found(
    nodes: list[onnx.NodeProto],
    arrays: dict[str, np.ndarray] | None = None,
    inputs: tuple[str, ...] = ("x",),
    output: str = "y",
    domains: tuple[str, ...] = (),
) -> Recognition:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in (arrays or {}).items()],
    )
    imports = [helper.make_opsetid("", 18), *(helper.make_opsetid(d, 1) for d in domains)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=imports, ir_version=9))
    Normalize()(model)
    return recognize(model)


def square(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    return {name: np.random.default_rng(seed).standard_normal((H, H)).astype(np.float32)}


def test_other_operators() -> None:
    node = helper.make_node(
        "DynamicQuantizeLSTM", ["x", "W", "R"], ["y"], name="layer", domain="com.microsoft"
    )
    found_ = found([node], square("W") | square("R"), domains=("com.microsoft",))
    (refusal,) = found_.refusals
    assert refusal.node == "layer"
    assert refusal.reason == (
        "DynamicQuantizeLSTM of domain com.microsoft is not supported yet; onnxgru "
        "quantises GRU, LSTM and RNN nodes, and cells in the body of a Scan or Loop"
    )
    with pytest.raises(
        ModelError,
        match="m: holds no GRU, LSTM or RNN that can be quantised, all of it stays in float "
        r".layer: DynamicQuantizeLSTM of",
    ):
        require(found_, "m")


def test_operators_of_other_domains() -> None:
    node = helper.make_node("AttnLSTM", ["x"], ["y"], name="a", domain="com.microsoft")
    (refusal,) = found([node], domains=("com.microsoft",)).refusals
    assert refusal.reason.startswith("AttnLSTM of domain com.microsoft is not supported yet; onn")


def test_loops_are_named_with_what_lies_in_them() -> None:
    """A GRU two levels down, and a body with a cell written out."""
    gru = helper.make_node("GRU", ["x", "W", "R"], ["v"], name="inner", hidden_size=H)
    deep = helper.make_graph([gru], "d", [], [helper.make_tensor_value_info("v", FLOAT, None)])
    branch = helper.make_node("If", ["c"], ["w"], name="if", then_branch=deep, else_branch=deep)
    cell = [
        helper.make_node("MatMul", ["s", "M"], ["p"]),
        helper.make_node("Tanh", ["p"], ["w"]),
    ]
    for nodes, name in (([branch], "inner"), (cell, "loop")):
        body = helper.make_graph(
            [*nodes, helper.make_node("Identity", ["c"], ["c_out"])],
            "b",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("c", TensorProto.BOOL, []),
                helper.make_tensor_value_info("s", FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
                helper.make_tensor_value_info("w", FLOAT, None),
            ],
        )
        loop = helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)
        arrays = square("W") | square("R") | square("M") | {"n": np.asarray(3)}
        refusals = found([loop], arrays).refusals
        assert {refusal.node for refusal in refusals} == {name}
        assert refusals[0].reason == (
            "GRU lies in a subgraph of If node 'if' in a subgraph of Loop node 'loop'; "
            "onnxgru quantises GRU, LSTM and RNN nodes, and cells in the body of a Scan or Loop, "
            "all in the main graph"
            if name == "inner"
            else "the body of this Loop is no cell; the shape of s is not known: export the "
            "layer as one operator, such as torch.nn.GRU or torch.nn.LSTM, or write the loop "
            "without this"
        )


def cell(step: int, x: str, h: str) -> list[onnx.NodeProto]:
    """torch's GRUCell as its exporter writes it: update gate and candidate."""
    n = f"s{step}"
    return [
        helper.make_node("Gemm", [x, "W"], [f"{n}/i"], name=f"{n}/w", transB=1),
        helper.make_node("Gemm", [h, "R"], [f"{n}/h"], name=f"{n}/r", transB=1),
        helper.make_node("Add", [f"{n}/i", f"{n}/h"], [f"{n}/sum"]),
        helper.make_node("Sigmoid", [f"{n}/sum"], [f"{n}/z"]),
        helper.make_node("Tanh", [f"{n}/i"], [f"{n}/n"]),
        helper.make_node("Sub", [h, f"{n}/n"], [f"{n}/d"]),
        helper.make_node("Mul", [f"{n}/d", f"{n}/z"], [f"{n}/m"]),
        helper.make_node("Add", [f"{n}/m", f"{n}/n"], [f"h{step + 1}"], name=f"{n}/next"),
    ]


def test_a_cell_unrolled() -> None:
    nodes = [node for step in range(3) for node in cell(step, "x", f"h{step}")]
    result = found(nodes, square("W") | square("R", 1), ("x", "h0"), "h3")
    (refusal,) = result.refusals
    assert refusal.node == "s0/r"
    assert refusal.reason.startswith(
        "R multiplies 3 times what came out of it through a sigmoid or tanh: a recurrent cell "
        "written out as elementary operators, step by step; onnxgru "
        "quantises GRU, LSTM and RNN nodes, and cells in the body of a Scan or Loop: export the "
        "model with its layer as one operator (torch.nn.GRU, not GRUCell)"
    )


@pytest.mark.parametrize("form", ["torch", "textbook"])
def test_one_step_of_a_cell(form: str) -> None:
    nodes = cell(0, "x", "h0")
    if form == "textbook":  # (1 - z) n + z h
        nodes[5:] = [
            helper.make_node("Sub", ["one", "s0/z"], ["s0/c"]),
            helper.make_node("Mul", ["s0/c", "s0/n"], ["s0/m"]),
            helper.make_node("Mul", ["s0/z", "h0"], ["s0/k"]),
            helper.make_node("Add", ["s0/m", "s0/k"], ["h1"], name="s0/next"),
        ]
    arrays = square("W") | square("R", 1) | {"one": np.asarray(1, np.float32)}
    (refusal,) = found(nodes, arrays, ("x", "h0"), "h1").refusals
    assert refusal.node == "s0/next"
    assert "one step of a recurrent cell written out as elementary operators" in refusal.reason


def test_what_is_no_recurrence_is_not_named() -> None:
    """Tied weights without a gate between, gated convolutions, a highway."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"], name="a"),
        helper.make_node("MatMul", ["a", "W"], ["b"], name="b"),
        helper.make_node("Sigmoid", ["a"], ["c"]),
        helper.make_node("Tanh", ["b"], ["d"]),
        helper.make_node("Mul", ["c", "d"], ["e"]),
        helper.make_node("Add", ["e", "b"], ["y"]),
    ]
    result = found(nodes, square("W"))
    assert not result.refusals
    with pytest.raises(
        ModelError,
        match="m: holds no GRU, LSTM or RNN that can be quantised; it must have such a "
        "node, or a cell in the body of a Scan or Loop, but has only MatMul, Sigmoid, Tanh, Mul, "
        "Add",
    ):
        require(result, "m")


def test_what_onnxgru_wrote_is_known() -> None:
    model = ir.from_proto(grus.model(grus.Case()))
    model.graph.node("gru").op_type = "LSTM"
    model.metadata_props["onnxgru.version"] = "0.6.0"
    Normalize()(model)
    with pytest.raises(
        ModelError,
        match=r"m: was written by onnxgru 0.6.0 and is quantised already; give the float model "
        "that it was made from",
    ):
        require(recognize(model), "m")
