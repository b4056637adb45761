"""Recurrences written out in a Scan go through everything, as the operators of ONNX do."""

from functools import cache

import numpy as np
import pytest

from onnxgru.core.cells import STATE
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.sessions import runtimes
from onnxgru.runtime.verify import oracle_engine
from tests import scans
from tests.pipeline import Pipeline, first_job, pipeline
from tests.runtime.exact import expect, require_exact, to_step

QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference")
CASES = [*((n, False) for n in scans.BODIES if not n.startswith("sru_")), ("sru_bare", True)]
ODD = ("low_rank", "odd", "sru")
"""Whose tables no operator of ONNX has."""


@cache
def made(name: str, reverse: bool) -> tuple[Pipeline, dict[str, np.ndarray]]:
    message = scans.model(scans.BODIES[name], reverse=reverse)
    inputs = scans.feeds(message)
    return pipeline(message, inputs), inputs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_the_oracles(case: tuple[str, bool]) -> None:
    model, inputs = made(*case)
    require_exact(model, model.uniform(8), inputs, names=QUICK)
    program = model.mixed(3)
    require_exact(model, program, inputs, Form("unrolled", steps=scans.T), names=QUICK)


@pytest.mark.parametrize("name", ["ligru", "lstm", "low_rank", "sru"])
@pytest.mark.parametrize("runtime", QUICK[1:])
def test_the_step_form_is_the_oracle(name: str, runtime: str) -> None:
    message = scans.model(scans.BODIES[name], initial=False)
    inputs = scans.feeds(message)
    model = pipeline(message, inputs)
    program = model.mixed(2)
    wanted = expect(model, program, inputs).outputs["Y"]
    emitted = to_step(model).emit(program, Form("step"))
    run, states = runtimes()[runtime](emitted), recorded(emitted)
    assert [state.get("carry", STATE) for state in states] == list(model.layers[0].carries)
    given = first_values(states, scans.B)
    for x, y in zip(inputs["X"], wanted, strict=True):
        found = run({"X": x[None], **given})
        np.testing.assert_array_equal(found["Y"], y[None])
        given = {state["input"]: found[state["output"]] for state in states}


@pytest.mark.parametrize("name", ODD)
def test_evaluators_are_the_oracle(name: str) -> None:
    model, inputs = made(name, False)
    (layer,) = model.mixed(4).layers
    job = first_job(model, layer, inputs)
    wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
    for engine in (LayerEvaluator(layer), FusedEngine(layer)):
        found = engine(job.x, job.initial, job.lengths)
        np.testing.assert_array_equal(found.y, wanted.y)
        for carry, codes in wanted.last.items():
            np.testing.assert_array_equal(found.last[carry], codes)


@pytest.mark.parametrize("name", ODD)
def test_a_device_is_the_oracle(name: str) -> None:
    torch = pytest.importorskip("torch")
    model, inputs = made(name, False)
    stack = [program.layers[0] for program in (model.uniform(5), model.mixed(4))]
    jobs = [first_job(model, layer, inputs) for layer in stack]
    engine = PopulationEngine(stack, torch.device("cpu"))
    results = engine([j.x for j in jobs], [j.initial for j in jobs], [j.lengths for j in jobs])
    for layer, job, (y, last) in zip(stack, jobs, results, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
        np.testing.assert_array_equal(y, wanted.y)
        for carry, codes in wanted.last.items():
            np.testing.assert_array_equal(last[carry], codes)


def test_states_that_calls_hand_on_are_found() -> None:
    model, _ = made("lstm", False)
    assert model.host.interface.states == {"first_h": "last_h", "first_c": "last_c"}
