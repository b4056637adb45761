"""Delta networks: the same codes everywhere, and at threshold 0 those of the plain graph."""

import numpy as np
import pytest

from onnxgru.core.program import IntegerProgram
from onnxgru.passes.forms.form import Form
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine, verify
from tests import grus
from tests.pipeline import (
    Pipeline,
    dataset,
    first_job,
    pipeline,
    random_scheme,
    thresholded,
)
from tests.runtime.exact import expect, require_exact, to_step

QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference", "OpenVINO")
CASES = {
    "reset after": grus.Case(T=6, I=4, H=6),
    "reset before": grus.Case(T=6, I=3, H=5, linear_before_reset=0, direction="bidirectional"),
    "bidirectional, lengths": grus.Case(
        T=6, B=5, H=9, direction="bidirectional", lengths=(6, 3, 0, 1, 5), initial=True
    ),
    "lstm": grus.Case(T=5, I=3, H=4, operator="LSTM", direction="bidirectional", initial=True),
    "stacked": (grus.Case(T=6, direction="bidirectional"), grus.Case(I=12, H=5, seed=2)),
}


def programs(made: Pipeline, seeds: range) -> list[tuple[IntegerProgram, IntegerProgram]]:
    """Delta networks of random widths: at threshold 0, and at random thresholds."""
    found = []
    for seed in seeds:
        drawn = iter(np.random.default_rng(seed).integers(0, 4, 20).tolist())
        scheme = random_scheme(made.layers, seed)
        zero = made.lower(thresholded(made.layers, scheme, lambda: 0))
        some = made.lower(thresholded(made.layers, scheme, drawn.__next__))
        found.append((zero, some))
    return found


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[Pipeline, dict[str, np.ndarray]]:
    case = CASES[request.param]
    if isinstance(case, tuple):
        inputs = grus.feeds(case[0])
        return pipeline(grus.stacked(case), inputs), inputs
    inputs = grus.feeds(case)
    return pipeline(grus.model(case), inputs), inputs


def test_graphs_are_the_oracle(
    case: tuple[Pipeline, dict[str, np.ndarray]], request: pytest.FixtureRequest
) -> None:
    made, inputs = case
    names = QUICK if request.node.callspec.params["case"] == "reset after" else QUICK[:1]
    for zero, some in programs(made, range(1)):
        plain = expect(made, made.mixed(0), inputs)
        expected = require_exact(made, zero, inputs, names=names)
        for layer, states in expected.states.items():
            np.testing.assert_array_equal(states.y, plain.states[layer].y)
        require_exact(made, some, inputs, names=names)
        require_exact(made, some, inputs, Form("unrolled", steps=len(inputs["X"])), names=QUICK[:1])


def test_evaluators_are_the_oracle(case: tuple[Pipeline, dict[str, np.ndarray]]) -> None:
    made, inputs = case
    torch = pytest.importorskip("torch")
    stack = [pair[1].layers[0] for pair in programs(made, range(3))]
    jobs = [first_job(made, layer, inputs) for layer in stack]
    device = PopulationEngine(stack, torch.device("cpu"))
    together = device([j.x for j in jobs], [j.initial for j in jobs], [j.lengths for j in jobs])
    for layer, job, (y, last) in zip(stack, jobs, together, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=True)
        traced = LayerEvaluator(layer)(job.x, job.initial, job.lengths, trace=True)
        fused = FusedEngine(layer)(job.x, job.initial, job.lengths, trace=False)
        for found, carries in ((traced.y, traced.last), (fused.y, fused.last), (y, last)):
            np.testing.assert_array_equal(found, wanted.y)
            assert carries.keys() == wanted.last.keys()
            for name, codes in wanted.last.items():
                np.testing.assert_array_equal(carries[name], codes)
        assert traced.trace.keys() == wanted.trace.keys()
        for name, codes in wanted.trace.items():
            np.testing.assert_array_equal(traced.trace[name], codes)


def test_codes_of_0_are_those_of_the_plain_graph_for_1000_steps() -> None:
    case = grus.Case(T=1000, B=1, I=3, H=5)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    data = dataset(made.host, inputs)
    plain, zero = (
        made.mixed(3),
        made.lower(thresholded(made.layers, random_scheme(made.layers, 3), int)),
    )
    verify(made.emit(zero), made.host, zero, data)
    ((_, wanted),) = Evaluator(made.host, data, oracle_engine).states(plain)
    for engine in (LayerEvaluator, FusedEngine):  # verification has compared the oracle
        ((_, found),) = Evaluator(made.host, data, engine).states(zero)
        np.testing.assert_array_equal(found["/gru"].y, wanted["/gru"].y)


def test_the_step_form_hands_on_what_is_held() -> None:
    case = grus.Case(T=7)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    ((_, program),) = programs(made, range(1, 2))
    message = to_step(made).emit(program, Form("step"))
    names = [value.name for value in message.graph.input]
    prefix = "/gru/forward"
    assert names == ["X", f"{prefix}/state", f"{prefix}/input.held", f"{prefix}/state.held"]
    assert [value.name for value in message.graph.output][2:] == [
        f"{prefix}/next_state",
        f"{prefix}/next_state/input.held",
        f"{prefix}/next_state/state.held",
    ]
    assert "last propagated" in message.graph.input[2].doc_string
    for form in (Form("step"), Form("step", float_state=True)):
        message = to_step(made).emit(program, form)
        checked = verify(
            message, made.host, program, dataset(made.host, inputs), time_axes={"X": 0}
        )
        assert checked.calls == case.T
