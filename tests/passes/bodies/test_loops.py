"""Loops that run over a sequence from its first step to its last are recurrences."""

import onnx_ir as ir
import pytest

from onnxgru.passes.graph import source
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import Recognition, recognize
from tests import grus, scans
from tests.passes.emission.test_decompose import TOLERANCE, decompose, distance

COUNTED = "next_k = Add (k, one)"

LOOPS = {
    "length": {},
    "counter": {"step": "x = Gather (X, k)", "carried": COUNTED},
    "condition": {
        "trips": "",
        "before": "m = Shape <start = 0, end = 1> (X) n = Squeeze (m) first = Less (zero, n)",
        "carried": COUNTED,
        "going": "left = Less (next_k, n) more = And (left, c)",
    },
    "greater": {
        "trips": "",
        "before": "n = Shape <start = 0, end = 1> (X) first = Identity (true)",
        "carried": COUNTED,
        "going": "last = Squeeze (n) more = GreaterOrEqual (last, near) ",
        "step": "two_on = Add (k, one) near = Add (two_on, one) x = Gather (X, k)",
    },
    "fixed": {"steps": 5, "before": "n = Constant <value_int = 5> () first = Identity (true)"},
    "endless": {
        "steps": 5,
        "before": "n = Constant <value_int = 9223372036854775807> () first = Identity (true)",
        "going": "m = Constant <value_int = 4> () more = Less (i, m)",
    },
    "turned": {
        "before": "n = Shape <start = 0, end = 1> (X) first = Identity (true) "
        "back = Constant <value_ints = [-1]> () zeros = Constant <value_ints = [0]> () "
        "far = Constant <value_ints = [-9223372036854775807]> () "
        "turned = Slice (X, back, far, zeros, back)",
        "step": "x = Gather (turned, i)",
    },
    "batch first": {
        "before": "n = Shape <start = 0, end = 1> (X) first = Identity (true) "
        "other = Transpose <perm = [1, 2, 0]> (X)",
        "step": "x = Gather <axis = 2> (other, i)",
    },
}


def found(name: str) -> Recognition:
    model = ir.from_proto(scans.loop(**LOOPS[name]))
    Normalize()(model)
    return recognize(model)


@pytest.mark.parametrize("name", LOOPS)
def test_floats_are_those_of_onnxruntime(name: str) -> None:
    message = scans.loop(**LOOPS[name])
    inputs = scans.feeds(message)
    wanted = grus.run(message, inputs)
    model = ir.from_proto(message)
    Normalize()(model)
    assert distance(wanted, grus.run(source.proto(model), inputs)) < TOLERANCE
    assert distance(wanted, grus.run(decompose(message), inputs)) < TOLERANCE
    (layer,) = found(name).layers
    assert layer.cell.name == "rnn"
    assert layer.attributes["operator"] == "Loop"
    assert layer.recurrences[0].reverse == (name == "turned")
    assert all(node.op_type != "Loop" for node in model.graph)


REFUSED = {
    "its trip count is 4, which must be the length of X on axis 0, 5": {
        "steps": 5,
        "before": "n = Constant <value_int = 4> () first = Identity (true)",
    },
    "its trip count is the size of h0, which must be the length of X": {
        "before": "n = Shape <start = 0, end = 1> (h0) first = Identity (true)",
    },
    "its trip count must be the length of X": {
        "trips": "",
        "going": "more = Identity (c)",
    },
    "its trip count n is not the length of its sequence": {
        "before": "m = Shape <start = 0, end = 1> (X) n = Sub (m, two) first = Identity (true)",
    },
    "its condition first may be false before the first step": {
        "before": "n = Shape <start = 0, end = 1> (X) m = ReduceMax (X) no = Cast <to = 9> (m) "
        "first = Squeeze (no)",
    },
    "its condition may end it before the last step": {
        "going": "m = Constant <value_int = 2> () more = Less (m, i)",
    },
    "Gather takes another step of a sequence than this one": {
        "step": "later = Add (i, one) x = Gather (X, later)",
    },
    "its body reads no sequence": {
        "step": "sizes = Constant <value_ints = [4, 2]> () x, y = Split <axis = 1> (h, sizes)"
    },
    "its counter last_k is read behind it": {"carried": COUNTED, "counter": True},
    "its counter k begins with what is not constant": {
        "carried": COUNTED,
        "before": "n = Shape <start = 0, end = 1> (X) first = Identity (true) begin = Squeeze (n)",
        "begin": "begin",
    },
    "its counter k is not counted up by 1": {"carried": "next_k = Add (k, two)"},
    "its body adds its counter to what is not constant": {"carried": "next_k = Add (k, i)"},
    "its body subtracts its counter": {"carried": "next_k = Sub (one, k)"},
    "its body computes Mul of its counter": {"carried": "next_k = Mul (k, two)"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_loops_are_left_with_the_reason(reason: str) -> None:
    model = ir.from_proto(scans.loop(**REFUSED[reason]))
    Normalize()(model)
    (refusal,) = recognize(model).refusals
    assert refusal.reason == (
        f"the body of this Loop is no cell; {reason}: export the layer as one operator, such as "
        "torch.nn.GRU or torch.nn.LSTM, or write the loop without this"
    )
