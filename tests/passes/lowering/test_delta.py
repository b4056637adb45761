"""Delta networks as tables, what a scheme may say of them, and their float graph."""

import json
from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.cells import Carry
from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.core.network import DeltaOperator
from onnxgru.core.scheme import OutputScheme, Scheme, operands
from onnxgru.passes.emission.annotate import Annotate
from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.graph import source
from onnxgru.passes.lowering import delta
from onnxgru.passes.lowering.networks import networks
from onnxgru.runtime.evaluator import Evaluator
from tests import grus
from tests.pipeline import Pipeline, dataset, pipeline, thresholded


@pytest.fixture(scope="module")
def both() -> Pipeline:
    case = grus.Case(linear_before_reset=0, direction="bidirectional")
    return pipeline(grus.model(case), grus.feeds(case))


def test_operands_are_what_linear_operators_read(both: Pipeline) -> None:
    (layer,) = both.layers
    assert operands(layer) == {
        "input": (),
        "state": ("/gru/forward/state.sum", "/gru/reverse/state.sum"),
        "new.reset": ("/gru/forward/new.reset", "/gru/reverse/new.reset"),
    }


def test_linear_operators_that_read_one_operand_share_what_it_propagates() -> None:
    case = grus.Case()
    (recurrence,) = pipeline(grus.model(case), grus.feeds(case)).layers[0].recurrences
    state = "/gru/forward/state"
    found = delta.propagated(recurrence, {state: 2}, {state: 6})
    assert found.carries == (*recurrence.carries, Carry(f"{state}.held", f"{state}.delta", state))
    (made,) = (o for o in found.operators if isinstance(o, DeltaOperator))
    assert (made.inputs, made.threshold, made.width) == ((state, f"{state}.held"), 2, 6)
    assert {o.row for o in found.readers(made.name)} == {
        "reset.hidden", "update.hidden", "new.hidden"
    }  # fmt: skip
    assert {o.row for o in found.readers(state)} == {"state.delta", "state.keep"}
    assert found.prologue == recurrence.prologue and not found.reads_input
    inner = delta.propagated(recurrence, {recurrence.input: 0}, {recurrence.input: 4})
    assert not inner.prologue and inner.reads_input
    assert delta.propagated(recurrence, {}, {}) is recurrence


def test_a_scheme_keeps_thresholds(both: Pipeline) -> None:
    plain = Scheme.uniform(both.layers, 4)
    assert b"threshold" not in plain.dumps()
    some = thresholded(both.layers, plain, iter(range(9)).__next__)
    assert Scheme.parse(json.loads(some.dumps()), "scheme") == some
    assert delta.thresholds(both.layers[0], some) == {
        name: {f"{name}/input": 0, f"{name}/state": state, f"{name}/new.reset": reset}
        for name, state, reset in (("/gru/forward", 1, 3), ("/gru/reverse", 2, 4))
    }


@pytest.mark.parametrize("value", [-1, 16, 1.5, True])
def test_a_threshold_is_a_code(value: object) -> None:
    with pytest.raises(UsageError, match="a threshold must be a whole number from 0 to 15, the la"):
        OutputScheme(4, threshold=value)


def changed(scheme: Scheme, name: str) -> Scheme:
    entry = replace(scheme.operators[name], threshold=1)
    return Scheme(scheme.inputs, {**scheme.operators, name: entry})


def test_thresholds_that_mean_nothing_are_refused(both: Pipeline) -> None:
    plain = Scheme.uniform(both.layers, 8)
    with pytest.raises(SchemeError, match=r"reset\.gate is read by no linear operator and must ha"):
        changed(plain, "/gru/forward/reset.gate").validate(both.layers)
    with pytest.raises(SchemeError, match="operand of two directions; both must have a threshold"):
        changed(plain, "/gru/forward/state.sum").validate(both.layers)


def test_the_annotated_graph_is_close_to_the_integers() -> None:
    """With thresholds as large as these, a graph without them would be far from the integers."""
    case = grus.Case(T=20, direction="bidirectional")
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    scheme = thresholded(made.layers, Scheme.uniform(made.layers, 8), lambda: 12)
    program = made.lower(scheme)
    (wanted,) = Evaluator(made.host, dataset(made.host, inputs)).calls_outputs(program)
    apart = []
    for layers in (networks(made.layers, scheme, program), made.layers):
        model = made.model.clone()
        Decompose(layers)(model)
        Annotate(program)(model)
        found = grus.run(source.proto(model), inputs)
        apart.append(np.abs(found[0] - wanted["Y"]).mean())
    assert apart[0] < apart[1] / 5
