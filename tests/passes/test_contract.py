"""One contract for all passes.

`modified` tells the truth, a second run changes nothing and says so, graph inputs and outputs keep
name, order and type, and the functional form leaves its input untouched.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import pytest

from onnxgru.passes.annotate import Annotate
from onnxgru.passes.decompose import Decompose
from onnxgru.passes.emit import Emit
from onnxgru.passes.normalize import Normalize
from onnxgru.passes.pack import Pack
from onnxgru.passes.recurrence import Form
from onnxgru.passes.step import Step
from tests import grus
from tests.pipeline import Pipeline, pipeline
from tests.runtime.exact import every_node


@dataclass(frozen=True)
class Contract:
    """A pass, the passes that must have run before, and whether the interface may change."""

    make: Callable[[Pipeline], ir.passes.PassBase]
    before: tuple[Callable[[Pipeline], ir.passes.PassBase], ...] = ()
    normal: bool = True
    interface: bool = True


def emit(form: Form | None = None) -> Callable[[Pipeline], ir.passes.PassBase]:
    return lambda made: Emit(made.mixed(1), form)


CONTRACTS = {
    "Normalize": Contract(lambda made: Normalize(), normal=False),
    "Decompose": Contract(lambda made: Decompose(made.layers)),
    "Decompose unrolled": Contract(lambda made: Decompose(made.layers, Form("unrolled", steps=5))),
    "Annotate": Contract(
        lambda made: Annotate(made.mixed(1)), (lambda made: Decompose(made.layers),)
    ),
    "Emit": Contract(emit()),
    "Emit unrolled": Contract(emit(Form("unrolled", steps=5))),
    "Emit step": Contract(emit(Form("step")), (lambda made: Step(made.layers),), interface=False),
    "Pack": Contract(lambda made: Pack(), (emit(),)),
    "Step": Contract(lambda made: Step(made.layers), interface=False),
}
CASES = {
    "plain": grus.model(grus.Case()),
    "layout 1": grus.model(grus.Case(layout=1, linear_before_reset=0)),
    "both ways": grus.model(grus.Case(direction="bidirectional", initial=True, lengths=(5, 2, 0))),
    "stack": grus.stacked([grus.Case(), grus.Case(I=6, H=5, seed=2)]),
}
FEEDS = {
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
    graph = ir.to_proto(model).graph
    return [(v.name, str(v.type.tensor_type.elem_type)) for v in [*graph.input, *graph.output]]


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("name", list(CONTRACTS))
def test_contract(name: str, case: str) -> None:
    contract = CONTRACTS[name]
    if "tep" in name and case == "both ways":
        pytest.skip("backward recurrences and sequence lengths have no step form")
    made = pipeline(CASES[case], FEEDS.get(case, grus.feeds(grus.Case())))
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
    if name != "Normalize":
        assert first.modified
    if contract.interface:
        assert interface(model) == ends
        onnx.checker.check_model(ir.to_proto(model), full_check=True)

    for again in (pass_, contract.make(made)):
        second = again(model)
        assert serialised(model) == after, "a second run changed the model"
        assert not second.modified
