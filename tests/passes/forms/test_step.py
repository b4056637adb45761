"""Axes of graph inputs and outputs, and of the states of the step form."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.errors import ModelError
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.step import Step
from onnxgru.passes.graph import source
from onnxgru.runtime.declared import Declared
from tests import grus
from tests.pipeline import pipeline

Axes = list[int | str | None]


def model(x: Axes, y: Axes, y_h: Axes, extra: Axes | None = None) -> onnx.ModelProto:
    """Batch first outside, two layers, and the declared axes."""
    message = grus.stacked([grus.Case(), grus.Case(I=6, seed=2)])
    graph = message.graph
    first = graph.node[0]
    turn = helper.make_node("Transpose", ["X"], ["turned"], name="in", perm=[1, 0, 2])
    first.input[0] = "turned"
    graph.node.insert(0, turn)
    back = helper.make_node("Transpose", ["l1_Y"], ["out"], name="back", perm=[2, 0, 1, 3])
    graph.node.append(back)
    del graph.output[:], graph.input[:]
    graph.input.append(helper.make_tensor_value_info("X", TensorProto.FLOAT, x))
    graph.output.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, y))
    graph.output.append(helper.make_tensor_value_info("l1_Y_h", TensorProto.FLOAT, y_h))
    if extra is not None:  # nobody knows the shape of a Reshape by a computed one
        graph.node.append(helper.make_node("Shape", ["turned"], ["sizes"], name="sizes"))
        graph.node.append(helper.make_node("NonZero", ["turned"], ["free"], name="free"))
        graph.output.append(helper.make_tensor_value_info("free", TensorProto.INT64, extra))
    return message


def axes(value: onnx.ValueInfoProto) -> Axes:
    return [d.dim_param or (d.dim_value if d.HasField("dim_value") else None)
            for d in value.type.tensor_type.shape.dim]  # fmt: skip


def written(message: onnx.ModelProto, form: Form) -> dict[str, Axes]:
    """Axes of every input and output of the emitted graph."""
    made = pipeline(message, {"X": np.tile(np.eye(5, 4, dtype=np.float32), (3, 1, 1))})
    clone = made.model.clone()
    Step(made.layers, form.length)(clone)
    Emit(made.uniform(8), form)(clone)
    graph = source.proto(clone).graph
    return {value.name: axes(value) for value in [*graph.input, *graph.output]}


NAMED: tuple[Axes, Axes, Axes] = (["n", "t", 4], ["n", "t", 1, 6], [1, "n", 6])
OWN: tuple[Axes, Axes, Axes] = (["a", "b", 4], ["c", "d", "e", 6], ["f", "g", 6])
OPEN: tuple[Axes, Axes, Axes] = ([None, None, 4], [None, None, 1, 6], [1, None, 6])
FIXED: tuple[Axes, Axes, Axes] = ([3, 5, 4], [3, 5, 1, 6], [1, 3, 6])


@pytest.mark.parametrize("shapes", [NAMED, OWN, OPEN, FIXED])
def test_scan_keeps_every_axis(shapes: tuple[Axes, Axes, Axes]) -> None:
    found = written(model(*shapes), Form())
    assert [found[name] for name in ("X", "out", "l1_Y_h")] == list(shapes)


@pytest.mark.parametrize("shapes", [NAMED, OWN, OPEN, FIXED])
@pytest.mark.parametrize(("form", "steps"), [(Form("step"), 1), (Form("unrolled", steps=7), 7)])
def test_the_length_alone_changes(shapes: tuple[Axes, Axes, Axes], form: Form, steps: int) -> None:
    x, y, y_h = (list(shape) for shape in shapes)
    x[1] = y[1] = steps
    found = written(model(*shapes), form)
    assert [found[name] for name in ("X", "out", "l1_Y_h")] == [x, y, y_h]
    if form.name == "step":
        for layer in ("gru0", "gru1"):
            assert found[f"/{layer}/forward/state"] == [x[0], 6]
            assert found[f"/{layer}/forward/next_state"] == [x[0], 6]


@pytest.mark.parametrize(
    ("declared", "left"), [([3, "count"], [3, "count"]), ([3, 5], [3, None]), ([3, 60], [3, 60])]
)
def test_sizes_of_which_nothing_is_known(declared: Axes, left: Axes) -> None:
    """Only one that may be the former length is left open."""
    assert written(model(*FIXED, extra=declared), Form("step"))["free"] == left


def test_a_second_run_and_no_length() -> None:
    made = pipeline(model(*NAMED), {"X": np.ones((3, 5, 4), np.float32)})
    clone = made.model.clone()
    assert not Step(made.layers, None)(clone).modified
    assert Step(made.layers, 4)(clone).modified
    assert not Step(made.layers, 4)(clone).modified


def test_a_length_that_cannot_be_followed_is_left() -> None:
    """Of several steps; the step form needs it and refuses."""
    message = model(*NAMED)
    message.graph.initializer.append(numpy_helper.from_array(np.asarray([-1]), "flat"))
    message.graph.initializer.append(numpy_helper.from_array(np.asarray([5, 3, 4]), "sizes"))
    for index, (kind, inputs, output) in enumerate(
        (("Reshape", ["turned", "flat"], "line"), ("Reshape", ["line", "sizes"], "again"))
    ):
        message.graph.node.insert(1 + index, helper.make_node(kind, inputs, [output], name=output))
    next(node for node in message.graph.node if node.name == "gru0").input[0] = "again"
    made = pipeline(message, {"X": np.ones((3, 5, 4), np.float32)}, declared=Declared({"X": 0}))
    assert not Step(made.layers, 5)(made.model.clone()).modified
    with pytest.raises(ModelError, match="/gru0: its time axis cannot be followed to an input of"):
        Step(made.layers)(made.model.clone())
