"""What layers reach, and how outputs are made."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.passes.graph.reach import RECURRENCE, Maker, maker, reached
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize

FLOAT, H = TensorProto.FLOAT, 6


def model(nodes, outputs, arrays=(), inputs=()) -> ir.Model:
    """A GRU of X (T, B, 3) whose last state is ``last`` (B, H) and states ``states`` (T, B, H)."""
    generator = np.random.default_rng(0)
    known = {
        "W": generator.normal(size=(1, 3 * H, 3)), "R": generator.normal(size=(1, 3 * H, H)),
    } | {name: np.asarray(array) for name, array in dict(arrays).items()}  # fmt: skip
    known |= {"first": np.array([0]), "second": np.array([1])}
    graph = helper.make_graph(
        [
            helper.make_node("GRU", ["X", "W", "R"], ["Y", "Y_h"], "gru", hidden_size=H),
            helper.make_node("Squeeze", ["Y_h", "first"], ["last"]),
            helper.make_node("Squeeze", ["Y", "second"], ["states"]),
            *nodes,
        ],
        "test",
        [helper.make_tensor_value_info("X", FLOAT, ["T", "B", 3]), *inputs],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [
            numpy_helper.from_array(a.astype(np.float32) if a.dtype == float else a, n)
            for n, a in known.items()
        ],
    )
    opsets = [helper.make_opsetid("", 18)]
    message = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(message, full_check=True)
    found = ir.from_proto(message)
    Normalize()(found)
    return found


def test_only_what_depends_on_a_layer_is_reached():
    found = model(
        [
            helper.make_node("ReduceMax", ["X", "first"], ["loudness"], keepdims=0),
            helper.make_node("Relu", ["last"], ["features"]),
            helper.make_node("Shape", ["X"], ["size"]),
            helper.make_node("Shape", ["states"], ["of states"]),
        ],
        [
            ("loudness", FLOAT, ["B", 3]), ("features", FLOAT, ["B", H]),
            ("size", TensorProto.INT64, [3]), ("of states", TensorProto.INT64, [3]),
            ("X", FLOAT, ["T", "B", 3]),
        ][:4],
    )  # fmt: skip
    assert reached(found.graph, recognize(found).layers) == {"features", "of states"}
    assert reached(found.graph, ()) == frozenset()


def test_what_a_branch_captures_is_reached():
    def branch(node, name):
        value = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([node], name, [], [value])

    choice = helper.make_node(
        "If", ["loud"], ["out"],
        then_branch=branch(helper.make_node("Neg", ["last"], ["negative"]), "negative"),
        else_branch=branch(helper.make_node("Abs", ["last"], ["positive"]), "positive"),
    )  # fmt: skip
    loud = helper.make_tensor_value_info("loud", TensorProto.BOOL, [])
    found = model([choice], [("out", FLOAT, ["B", H])], inputs=[loud])
    assert reached(found.graph, recognize(found).layers) == {"out"}
    assert maker(found.graph, "out", recognize(found).layers).operator == "If"


HEAD = {"head": np.ones((H, 4)), "turned": np.ones((4, H)), "bias": np.ones(4)}


@pytest.mark.parametrize(
    ("nodes", "rank", "expected"),
    [
        ([("Softmax", ["last"])], 2, Maker("Softmax")),
        ([("Gemm", ["last", "head", "bias"])], 2, Maker("Gemm", 4)),
        ([("Gemm", ["last", "turned"], {"transB": 1})], 2, Maker("Gemm", 4)),
        ([("MatMul", ["last", "head"])], 2, Maker("MatMul", 4)),
        ([("MatMul", ["last", "head"]), ("Add", ["bias", "*"])], 2, Maker("Add", 4)),
        ([("MatMul", ["last", "head"]), ("LogSoftmax", ["*"])], 2, Maker("LogSoftmax")),
        ([("MatMul", ["last", "head"]), ("Sigmoid", ["*"])], 2, Maker("Sigmoid")),
        ([("MatMul", ["states", "head"]), ("Gather", ["*", "end"], {"axis": 0})], 2,
         Maker("MatMul", 4)),
        ([("MatMul", ["last", "head"]), ("Gather", ["*", "end"], {"axis": 1})], 1, Maker("Gather")),
        ([("Add", ["last", "last"])], 2, Maker("Add")),
        ([("Identity", ["last"])], 2, Maker(RECURRENCE, last_state=True)),
        ([("Concat", ["last", "last"], {"axis": 1})], 2, Maker(RECURRENCE, last_state=True)),
        ([("Identity", ["states"])], 3, Maker("GRU")),
        ([("Identity", ["X"])], 3, Maker("")),
    ],
    ids=str,
)  # fmt: skip
def test_how_outputs_are_made(nodes, rank, expected):
    made, name = [], "last"
    for index, (kind, read, *settings) in enumerate(nodes):
        inputs = [name if one == "*" else one for one in read]
        name = "out" if index == len(nodes) - 1 else f"value{index}"
        made.append(helper.make_node(kind, inputs, [name], **(settings[0] if settings else {})))
    outputs = [("out", FLOAT, [f"d{axis}" for axis in range(rank)])]
    found = model(made, outputs, {**HEAD, "end": np.array(-1)})
    assert maker(found.graph, "out", recognize(found).layers) == expected
