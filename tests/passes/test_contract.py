"""One contract for all passes.

`modified` tells the truth, a second run changes nothing and says so, graph inputs and outputs keep
name, order and type, and the functional form leaves its input untouched.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.passes.emission.annotate import Annotate
from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.emission.divisions import Divisions
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.functions import Functions
from onnxgru.passes.emission.native import INT2, Native
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.emission.shorten import Shorten
from onnxgru.passes.emission.unpacked import Unpacked
from onnxgru.passes.forms.batch import Batch
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.step import Step
from onnxgru.passes.graph.cancel import Cancel
from onnxgru.passes.graph.naming import Naming
from onnxgru.passes.graph.shapes import Shapes
from onnxgru.passes.graph.upgrade import Upgrade
from onnxgru.passes.normal.branches import Branches
from onnxgru.passes.normal.canonicalize import Canonicalize
from onnxgru.passes.normal.constants import Constants, Fold
from onnxgru.passes.normal.defaults import Defaults
from onnxgru.passes.normal.domains import Domains
from onnxgru.passes.normal.layout import Layout
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.normal.precision import Precision
from onnxgru.passes.recognize.retune import Retune
from tests import grus, scans
from tests.pipeline import Pipeline, pipeline
from tests.runtime.exact import every_node

Pass = ir.passes.PassBase


@dataclass(frozen=True)
class Contract:
    """A pass, the passes that must have run before, and what it may do.

    `normal` models come from `Normalize`, others from the file; `always` passes change every case.
    """

    make: Callable[[Pipeline], ir.passes.PassBase]
    before: tuple[Callable[[Pipeline], ir.passes.PassBase], ...] = ()
    normal: bool = True
    interface: bool = True
    always: bool = True


def raw(make: Callable[[], Pass], *before: Callable[[], Pass]) -> Contract:
    """A pass of those that normalisation consists of, and what it needs before it."""
    earlier = tuple(lambda made, each=each: each() for each in before)
    return Contract(lambda made: make(), earlier, normal=False, always=False)


def emit(form: Form | None = None) -> Callable[[Pipeline], ir.passes.PassBase]:
    return lambda made: Emit(made.mixed(1), form)


def whole(made: Pipeline) -> Emit:
    return Emit(made.mixed(1), whole=True)


def upgrade(_made: Pipeline) -> Upgrade:
    return Upgrade(*INT2)


def batch(made: Pipeline) -> Batch:
    return Batch({s.name: s.batch_axis for s in made.host.signature if s.batch_axis is not None}, 3)


CONTRACTS = {
    "Normalize": raw(Normalize),
    "Domains": raw(Domains),
    "Defaults": raw(Defaults),
    "Upgrade": raw(Upgrade, Domains),
    "Constants": raw(Constants),
    "Branches": raw(Branches),
    "Naming": raw(Naming),
    "Precision": raw(Precision),
    "Fold": raw(Fold),
    "Layout": raw(Layout),
    "Canonicalize": raw(Canonicalize, Constants, Naming),
    "Shapes": raw(Shapes),
    "Decompose": Contract(lambda made: Decompose(made.layers)),
    "Decompose unrolled": Contract(lambda made: Decompose(made.layers, Form("unrolled", steps=5))),
    "Annotate": Contract(
        lambda made: Annotate(made.mixed(1)), (lambda made: Decompose(made.layers),)
    ),
    "Emit": Contract(emit()),
    "Emit unrolled": Contract(emit(Form("unrolled", steps=5))),
    "Emit step": Contract(emit(Form("step")), (lambda made: Step(made.layers),), interface=False),
    "Pack": Contract(lambda made: Pack(), (emit(),)),
    "Unpacked": Contract(lambda made: Unpacked(), (emit(),)),
    "Divisions": Contract(lambda made: Divisions(), (emit(), lambda made: Unpacked())),
    "Native": Contract(lambda made: Native(), (upgrade, emit())),
    "Cancel": Contract(lambda made: Cancel(), (whole,), always=False),
    "Functions": Contract(lambda made: Functions(), (whole,)),
    "Shorten": Contract(lambda made: Shorten(), (emit(),)),
    "Step": Contract(lambda made: Step(made.layers), interface=False),
    "Batch": Contract(batch, interface=False),
}


def old() -> onnx.ModelProto:
    """IR version 3 and opset 9."""
    message = grus.model(grus.Case())
    message.ir_version, message.opset_import[0].version = 3, 9
    for tensor in message.graph.initializer:
        message.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return message


def foreign() -> onnx.ModelProto:
    """The other name of ONNX's domain, a number as a Constant, computed weights, no node names."""
    message = grus.model(grus.Case())
    message.opset_import[0].domain = "ai.onnx"
    nodes, gru = message.graph.node, message.graph.node[0]
    gru.name = ""
    gru.input[1] = "scaled"
    scaled = helper.make_node("Mul", ["W", "half"], ["scaled"])
    number = helper.make_node("Constant", [], ["half"], value_float=0.5)
    nodes.insert(0, scaled)
    nodes.insert(0, number)
    return message


def branch() -> onnx.ModelProto:
    """An If that always takes the same way to a graph output."""
    message = grus.model(grus.Case())
    graph = message.graph
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    ways = {
        f"{way}_branch": helper.make_graph(
            [helper.make_node(kind, ["inside"], ["inner"])], way, [], [output]
        )
        for way, kind in (("then", "Relu"), ("else", "Neg"))
    }
    graph.node[0].output[0] = "inside"
    graph.node.append(helper.make_node("If", ["always"], ["Y"], name="if", **ways))
    graph.initializer.append(numpy_helper.from_array(np.asarray(True), "always"))
    return message


def half() -> onnx.ModelProto:
    """float16 throughout."""
    message = grus.model(grus.Case())
    for tensor in message.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in [*message.graph.input, *message.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return message


def exposed() -> onnx.ModelProto:
    """The input weights are a graph output too."""
    message = grus.model(grus.Case())
    weight = message.graph.initializer[0]
    message.graph.output.append(
        helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
    )
    return message


CASES = {
    "plain": grus.model(grus.Case()),
    "layout 1": grus.model(grus.Case(layout=1, linear_before_reset=0)),
    "both ways": grus.model(grus.Case(direction="bidirectional", initial=True, lengths=(5, 2, 0))),
    "stack": grus.stacked([grus.Case(), grus.Case(I=6, H=5, seed=2)]),
    "old": old(),
    "foreign": foreign(),
    "branch": branch(),
    "half": half(),
    "exposed": exposed(),
    "written": scans.model(scans.LSTM, initial=False),
}
CHANGED = {
    "Cancel": ["stack"],
    "Domains": ["foreign"],
    "Defaults": ["old"],
    "Upgrade": ["old"],
    "Constants": ["foreign"],
    "Branches": ["branch"],
    "Naming": ["foreign"],
    "Precision": ["half"],
    "Fold": ["foreign"],
    "Layout": ["layout 1"],
    "Canonicalize": ["written"],
    "Shapes": ["foreign"],
    "Normalize": ["old", "foreign", "branch", "half", "layout 1", "written"],
}
FEEDS = {
    "written": scans.feeds(CASES["written"]),
    "half": {"X": grus.feeds(grus.Case())["X"].astype(np.float16)},
    "layout 1": grus.feeds(grus.Case(layout=1)),
    "both ways": grus.feeds(grus.Case(direction="bidirectional", initial=True, lengths=(5, 2, 0))),
}


def serialised(model: ir.Model) -> bytes:
    """Bytes of a model, without the numbers that onnx_ir gives to nodes that nobody named."""
    message = ir.to_proto(model)
    for node in every_node(message.graph):
        node.name = re.sub("^node_.*_[0-9]+$", "", node.name)
    return message.SerializeToString(deterministic=True)


def interface(model: ir.Model) -> list[tuple[str, str]]:
    """Inputs without a value in the file, and outputs."""
    graph = ir.to_proto(model).graph
    given = {tensor.name for tensor in graph.initializer}
    ends = [*(v for v in graph.input if v.name not in given), *graph.output]
    return [(v.name, str(v.type.tensor_type.elem_type)) for v in ends]


@cache
def calibrated(case: str) -> Pipeline:
    return pipeline(CASES[case], FEEDS.get(case, grus.feeds(grus.Case())))


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("name", list(CONTRACTS))
def test_contract(name: str, case: str) -> None:
    contract = CONTRACTS[name]
    if "tep" in name and case == "both ways":
        pytest.skip("backward recurrences and sequence lengths have no step form")
    made = calibrated(case)
    model = made.model.clone() if contract.normal else ir.from_proto(CASES[case])
    for earlier in contract.before:
        earlier(made)(model)
    before, ends = serialised(model), interface(model)

    functional = ir.passes.functionalize(contract.make(made))
    result = functional(model)
    assert serialised(model) == before, "the functional form changed its input"

    pass_ = contract.make(made)
    first = pass_(model)
    after = serialised(model)
    assert first.model is model
    assert first.modified == (after != before)
    assert serialised(result.model) == after
    assert result.modified == first.modified
    if contract.always or case in CHANGED.get(name, ()):
        assert first.modified
    if contract.interface:
        assert interface(model) == ends
        onnx.checker.check_model(ir.to_proto(model), full_check=True)

    for again in (pass_, contract.make(made)):
        second = again(model)
        assert serialised(model) == after, "a second run changed the model"
        assert not second.modified


@pytest.mark.parametrize("name", ["Emit", "Retune"])
def test_initializers_that_somebody_reads_stay(name: str) -> None:
    """Values of graph outputs and defaults of optional inputs stay; what nobody reads goes."""
    made = calibrated("plain")
    model = made.model.clone()
    graph, node = model.graph, model.graph.node("gru")
    output, default, unread = (graph.initializers[str(node.inputs[i].name)] for i in (1, 2, 3))
    graph.outputs.append(output)
    graph.inputs.append(default)
    if name == "Retune":
        weights = {o.name: (o.weight + 1, o.bias) for layer in made.layers for o in layer.linears}
        Retune(made.layers, weights, {})(model)
    else:
        CONTRACTS[name].make(made)(model)
    kept = set(graph.initializers)
    assert {output.name, default.name} <= kept
    assert unread.name not in kept
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
