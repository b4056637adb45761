"""A new cell is a table and a recogniser: a toy of two carries that this test alone knows.

Nobody published it. It keeps a cell state that it does not emit, and mixes a second candidate into
what it does::

    f, o = sigma(W x + R h + b)        n, m = tanh(W x + R h + b)
    c' = f * c + (1 - f) * n           h' = o * tanh(c') + (1 - o) * m
"""

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from onnxgru.core.cells import INPUT, STATE, Carry, Cell, Row
from onnxgru.passes.forms.form import Form
from onnxgru.passes.recognize import layers
from onnxgru.passes.recognize.stacked import OnnxCell
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.passes.emission.test_decompose import TOLERANCE, decompose, distance
from tests.pipeline import Pipeline, first_job, pipeline
from tests.runtime.exact import require_exact, to_step

pytestmark = pytest.mark.slow

QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference")
GATES = ("forget", "out", "new", "mixed")


def gate(name: str, function: str = "f") -> tuple[Row, ...]:
    return (
        Row(f"{name}.input", "linear", (INPUT,), f"W.{name}"),
        Row(f"{name}.hidden", "linear", (STATE,), f"R.{name}"),
        Row(f"{name}.sum", "add", (f"{name}.input", f"{name}.hidden")),
        Row(f"{name}.gate", "lookup", (f"{name}.sum",), function),
    )


TABLE = Cell(
    "toy",
    (
        *gate("forget"),
        *gate("out"),
        *gate("new", "g"),
        *gate("mixed", "g"),
        Row("forget.complement", "lookup", ("forget.gate",), "complement"),
        Row("cell.keep", "mul", ("forget.gate", "cell")),
        Row("cell.new", "mul", ("forget.complement", "new.gate")),
        Row("cell.sum", "add", ("cell.keep", "cell.new")),
        Row("cell.tanh", "lookup", ("cell.sum",), "h"),
        Row("out.complement", "lookup", ("out.gate",), "complement"),
        Row("state.cell", "mul", ("out.gate", "cell.tanh")),
        Row("state.mixed", "mul", ("out.complement", "mixed.gate")),
        Row("state.sum", "add", ("state.cell", "state.mixed")),
    ),
    carries=(Carry(STATE, "state.sum"), Carry("cell", "cell.sum")),
    emits="state.sum",
)
KIND = OnnxCell(
    "LSTM",  # the operator of ONNX that has inputs and outputs for two carries
    gates=GATES,
    functions={"f": "Sigmoid", "g": "Tanh", "h": "Tanh"},
    cell=lambda _node: TABLE,
    carries={STATE: ("initial_h", "Y_h"), "cell": ("initial_c", "Y_c")},
)
PLAIN = grus.Case(operator="LSTM", outputs=("Y", "Y_h", "Y_c"))
CASES = [
    replace(PLAIN, direction=direction, initial=initial, lengths=lengths)
    for direction, initial, lengths in product(
        ("forward", "reverse", "bidirectional"), (False, True), (None, (5, 2, 0))
    )
]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recognition takes the operator for the toy."""
    monkeypatch.setattr(layers, "operators", lambda: {KIND.operator: KIND})


def made(case: grus.Case) -> tuple[Pipeline, dict[str, np.ndarray]]:
    """Pipeline and inputs of one of the cases, made once."""
    return _made(CASES.index(case))


@cache
def _made(index: int) -> tuple[Pipeline, dict[str, np.ndarray]]:
    inputs = grus.feeds(CASES[index])
    return pipeline(grus.model(CASES[index]), inputs), inputs


def reference(case: grus.Case, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Y (T, D, B, H), Y_h and Y_c (D, B, H), from the equations."""
    weights = grus.weights(case)
    y = np.zeros((case.T, case.D, case.B, case.H))
    h, c = (
        inputs.get(name, np.zeros((case.D, case.B, case.H))).astype(np.float64)
        for name in ("initial_h", "initial_c")
    )
    ends = np.asarray(case.lengths or [case.T] * case.B)
    h[:, ends == 0] = c[:, ends == 0] = 0.0
    for d in range(case.D):
        order = range(case.T)
        bias = weights["B"][d].reshape(2, -1).sum(axis=0)
        for t in order[::-1] if d or case.direction == "reverse" else order:
            total = inputs["X"][t] @ weights["W"][d].T + h[d] @ weights["R"][d].T + bias
            f, o, n, m = np.split(total, 4, axis=1)
            f, o = 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o))
            cell = f * c[d] + (1 - f) * np.tanh(n)
            state = o * np.tanh(cell) + (1 - o) * np.tanh(m)
            going = (t < ends)[:, None]
            y[t, d] = np.where(going, state, 0.0)
            h[d], c[d] = np.where(going, state, h[d]), np.where(going, cell, c[d])
    return [y, h, c]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_floats_are_those_of_the_equations(case: grus.Case) -> None:
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert distance(reference(case, inputs), found) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_the_oracles(case: grus.Case) -> None:
    model, inputs = made(case)
    require_exact(model, model.uniform(8), inputs, names=QUICK)
    mixed = model.mixed(3)
    for form in (None, Form("unrolled", steps=case.T)):
        require_exact(model, mixed, inputs, form, names=QUICK)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_evaluators_are_the_oracle(case: grus.Case) -> None:
    model, inputs = made(case)
    for program in (model.uniform(5), model.mixed(4)):
        (layer,) = program.layers
        job = first_job(model, layer, inputs)
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
        for engine in (LayerEvaluator(layer), FusedEngine(layer)):
            found = engine(job.x, job.initial, job.lengths)
            np.testing.assert_array_equal(found.y, wanted.y)
            assert found.last.keys() == {STATE, "cell"}
            for carry, codes in wanted.last.items():
                np.testing.assert_array_equal(found.last[carry], codes)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_device_is_the_oracle(case: grus.Case) -> None:
    torch = pytest.importorskip("torch")
    model, inputs = made(case)
    stack = [program.layers[0] for program in (model.uniform(5), model.mixed(4))]
    jobs = [first_job(model, layer, inputs) for layer in stack]
    engine = PopulationEngine(stack, torch.device("cpu"))
    results = engine([j.x for j in jobs], [j.initial for j in jobs], [j.lengths for j in jobs])
    for layer, job, (y, last) in zip(stack, jobs, results, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
        np.testing.assert_array_equal(y, wanted.y)
        for carry, codes in wanted.last.items():
            np.testing.assert_array_equal(last[carry], codes)


def test_the_step_form_has_a_state_for_every_carry() -> None:
    model, _ = made(PLAIN)
    message = to_step(model).emit(model.mixed(2), Form("step"))
    names = [value.name for value in message.graph.input]
    assert names == ["X", "/gru/forward/state", "/gru/forward/cell"]
    outputs = [value.name for value in message.graph.output]
    assert outputs[-2:] == ["/gru/forward/next_state", "/gru/forward/next_state/cell"]


def test_carries_have_quantisations_of_their_own() -> None:
    model, _ = made(replace(PLAIN, direction="bidirectional"))
    (layer,) = model.mixed(5).layers
    assert layer.carries == {STATE: "/gru/state", "cell": "/gru/cell"}
    assert layer.output == "/gru/state"
    assert layer.carried("cell") != layer.emitted
