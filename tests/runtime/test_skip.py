"""Weights of 16 bits, and values of 16 bits of which narrow readers read copies: the same codes."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core import skip
from onnxgru.core.errors import SchemeError
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.passes.emission.annotate import Annotate
from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import source
from onnxgru.passes.graph.upgrade import WIDE_IR_VERSION, WIDE_OPSET, Upgrade
from onnxgru.passes.lowering.networks import networks
from onnxgru.runtime.dots import FASTEST, PAIRS
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.pipeline import Pipeline, dataset, first_job, pipeline, random_scheme, thresholded
from tests.runtime.exact import RUNTIMES, require_exact
from tests.runtime.exact import made as make

pytestmark = pytest.mark.slow

CASES = {
    "reset after": (grus.Case(T=6, I=4, H=6), ("new.hidden",)),
    "reset before": (
        grus.Case(T=6, I=3, H=5, linear_before_reset=0, direction="bidirectional"),
        ("new.hidden",),
    ),
    "one direction": (
        grus.Case(
            T=6, B=5, H=9, direction="bidirectional", lengths=(6, 3, 0, 1, 5), initial=True
        ),
        ("/gru/reverse/new.hidden", "new.input"),
    ),
    "lstm": (
        grus.Case(T=5, I=3, H=4, operator="LSTM", direction="bidirectional", initial=True),
        ("new.hidden", "output.hidden"),
    ),
    "stacked": (
        (grus.Case(T=6, direction="bidirectional"), grus.Case(I=12, H=5, seed=2)),
        ("first:new.hidden", "/gru1"),
    ),
    "all": (grus.Case(T=6, I=4, H=6), ("*",)),
}  # fmt: skip
QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference", "OpenVINO")
Made = tuple[Pipeline, dict[str, np.ndarray], tuple[str, ...]]


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Made:
    case, names = CASES[request.param]
    if isinstance(case, tuple):
        inputs = grus.feeds(case[0])
        made = pipeline(grus.stacked(case), inputs)
    else:
        inputs = grus.feeds(case)
        made = pipeline(grus.model(case), inputs)
    return made, inputs, skip.named(made.layers, names)


def scheme(made: Pipeline, names: tuple[str, ...], seed: int) -> Scheme:
    """Random widths, but for what is skipped."""
    return skip.applied(random_scheme(made.layers, seed), made.layers, names)


def one_sided(names: tuple[str, ...]) -> bool:
    """Whether one direction alone reads the state in 16 bits."""
    return "/gru/reverse/new.hidden" in names and "/gru/forward/new.hidden" not in names


def programs(made: Pipeline, names: tuple[str, ...], seeds: range) -> list[IntegerProgram]:
    return [made.lower(scheme(made, names, seed)) for seed in seeds]


def test_graphs_are_the_oracle(case: Made, request: pytest.FixtureRequest) -> None:
    made, inputs, names = case
    every = request.node.callspec.params["case"] in ("reset after", "one direction")
    (program,) = programs(made, names, range(1))
    runtimes = [n for n in QUICK if n in RUNTIMES][: None if every else 1]
    require_exact(made, program, inputs, names=runtimes)
    require_exact(made, program, inputs, Form("unrolled", steps=len(inputs["X"])), names=QUICK[:1])


def test_evaluators_are_the_oracle(case: Made, request: pytest.FixtureRequest) -> None:
    made, inputs, names = case
    torch = pytest.importorskip("torch")
    found = programs(made, names, range(2))
    thresholds = iter(np.random.default_rng(0).integers(0, 4, 20).tolist())
    delta = thresholded(made.layers, scheme(made, names, 2), thresholds.__next__)
    if not one_sided(names):
        found.append(made.lower(delta))
    stack = [program.layers[0] for program in found]
    jobs = [first_job(made, layer, inputs) for layer in stack]
    device = PopulationEngine(stack, torch.device("cpu"))
    together = device([j.x for j in jobs], [j.initial for j in jobs], [j.lengths for j in jobs])
    for layer, job, (y, last) in zip(stack, jobs, together, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=True)
        plainly = LayerEvaluator(layer)(job.x, job.initial, job.lengths, trace=True)
        assert plainly.trace.keys() == wanted.trace.keys()
        for name, codes in plainly.trace.items():
            np.testing.assert_array_equal(codes, wanted.trace[name])
        ways = (FASTEST, PAIRS) if request.node.callspec.params["case"] == "all" else (FASTEST,)
        fused = [FusedEngine(layer, way=way)(job.x, job.initial, job.lengths) for way in ways]
        engines = [(found.y, found.last) for found in (plainly, *fused)]
        for emitted, carried in (*engines, (y, last)):
            np.testing.assert_array_equal(emitted, wanted.y)
            for carry, codes in wanted.last.items():
                np.testing.assert_array_equal(carried[carry], codes)


def test_at_threshold_0_nothing_changes(case: Made) -> None:
    made, inputs, names = case
    plain = scheme(made, names, 0)
    if one_sided(names):
        with pytest.raises(SchemeError, match="have a threshold and a copy; operators that re"):
            made.lower(thresholded(made.layers, plain, lambda: 0))
        return
    outputs = [
        next(Evaluator(made.host, dataset(made.host, inputs)).calls_outputs(made.lower(one)))
        for one in (plain, thresholded(made.layers, plain, lambda: 0))
    ]
    for name, values in outputs[0].items():
        np.testing.assert_array_equal(values, outputs[1][name])


@pytest.mark.parametrize("before", [0, 1])
def test_wide_states(before: int) -> None:
    made, inputs = make(grus.Case(T=6, I=4, H=6, linear_before_reset=before))
    found = skip.with_wide_states(random_scheme(made.layers, 0), made.layers)
    program = made.lower(found)
    require_exact(made, program, inputs, names=QUICK[:2])
    (recurrence,) = networks(made.layers, found, program)[0].recurrences
    readers = {o.row for o in recurrence.readers("/gru/forward/state")}
    assert readers == {"state.copy", "state.keep"}


def test_readers_of_the_state() -> None:
    case = grus.Case()
    made = pipeline(grus.model(case), grus.feeds(case))
    names = skip.named(made.layers, ("new.hidden",))
    assert names == ("/gru/forward/new.hidden",)
    found = skip.applied(Scheme.uniform(made.layers, 4), made.layers, names)
    entry = found.operators["/gru/forward/state.sum"]
    assert (entry.bits, entry.copy, found.linear(names[0]).weight_bits) == (16, 4, 16)
    (recurrence,) = networks(made.layers, found, made.lower(found))[0].recurrences
    state = "/gru/forward/state"
    assert {o.row for o in recurrence.readers(state)} == {"new.hidden", "state.copy"}
    readers = {o.row for o in recurrence.readers(f"{state}.copy")}
    assert readers == {"reset.hidden", "update.hidden", "state.keep"}
    wide = replace(found.operators["/gru/forward/state.keep"], bits=16)
    keeping = Scheme(found.inputs, {**found.operators, "/gru/forward/state.keep": wide})
    (recurrence,) = networks(made.layers, keeping, made.lower(keeping))[0].recurrences
    assert "state.keep" in {o.row for o in recurrence.readers(state)}


def test_sizes() -> None:
    case = grus.Case(I=7, H=6)
    made = pipeline(grus.model(case), grus.feeds(case))
    names = skip.named(made.layers, ("new.hidden",))
    plain = Scheme.uniform(made.layers, 4)
    before = account(made.lower(plain))
    after = account(made.lower(skip.applied(plain, made.layers, names)))
    assert after.weights == before.weights
    assert after.weight_bits - before.weight_bits == 36 * (16 - 4)
    assert after.flash["weight"] - before.flash["weight"] == 36 * (16 - 4) // 8
    assert after.bitops - before.bitops == 36 * (16 * 16 - 4 * 4)
    # Bytes per unit: one more for a code of the state, two more for its distance from the zero
    # point, one for a code of the copy, and two for its distance.
    assert after.ram - before.ram == (1 + 2 + 1 + 2) * 6


def test_the_annotated_graph_is_close_to_the_integers() -> None:
    case = grus.Case(T=20, direction="bidirectional")
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    found = skip.applied(
        Scheme.uniform(made.layers, 8), made.layers, skip.named(made.layers, ("new.*",))
    )
    program = made.lower(found)
    (wanted,) = Evaluator(made.host, dataset(made.host, inputs)).calls_outputs(program)
    model = made.model.clone()
    Upgrade(WIDE_OPSET, WIDE_IR_VERSION)(model)
    Decompose(networks(made.layers, found, program))(model)
    Annotate(program)(model)
    results = grus.run(source.proto(model), inputs)
    assert np.abs(results[0] - wanted["Y"]).mean() < 0.005


def test_training_starts_from_the_program() -> None:
    pytest.importorskip("torch")
    from onnxgru.training.finetune import Finetuning, FinetuningSettings

    case = grus.Case(T=6, outputs=("Y_h",))
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    names = skip.named(made.layers, ("new.hidden",))
    found = skip.applied(Scheme.uniform(made.layers, 4), made.layers, names)
    program = made.lower(found)
    data = dataset(made.host, inputs)
    values = Evaluator(made.host, data).outputs(program)
    twin = Finetuning(
        source.proto(made.model), made.layers, program, found, "Y_h",
        made.host.interface.outputs["Y_h"], FinetuningSettings(),
    )  # fmt: skip
    scale = program.layers[0].grids["/gru/state"].quantization.scale
    assert np.abs(twin.outputs(data) - values["Y_h"]).max() < 100 * scale
    (layer,) = twin._layers
    rounded = layer.linears[names[0]].rounded()
    assert rounded.codes.dtype == np.int16
    (part,) = (p for o in program.operators for p in getattr(o, "parts", ()) if p.type.wide)
    np.testing.assert_array_equal(rounded.codes, part.weight)
