"""LSTM through everything that GRU goes through: decomposed, integer, searched for."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core.activations import ACTIVATIONS
from onnxgru.core.choices import WIDTHS
from onnxgru.events import silent
from onnxgru.passes.forms.form import Form
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.passes.emission.test_decompose import PARAMETERS, TOLERANCE, decompose, distance
from tests.pipeline import Pipeline, first_job, pipeline
from tests.runtime.exact import RUNTIMES, made, require_exact, to_step

pytestmark = pytest.mark.slow

ALL = ("Y", "Y_h", "Y_c")
PLAIN = grus.Case(operator="LSTM", outputs=ALL)
QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference")
COUPLED = {"input_forget": 1}
GRID = [
    replace(
        PLAIN, direction=direction, initial=initial, lengths=lengths, clip=clip, bias=bias,
        layout=layout, outputs=outputs, extra=extra, peepholes=peepholes,
    )
    for direction, initial, lengths, clip, bias, layout, outputs, extra, peepholes in product(
        ("forward", "reverse", "bidirectional"),
        (False, True),
        (None, (5, 2, 0)),
        (None, 0.7),
        (False, True),
        (0, 1),
        (ALL, ("Y",), ("Y_h",), ("Y_c",), ("Y", "Y_c")),
        ({}, COUPLED),
        (False, True),
    )
]  # fmt: skip
WHOLE = [case for case in GRID if case.outputs == ALL]
DRAWN = sorted(np.random.default_rng(3).choice(len(GRID), 10, replace=False))
FOUR = [replace(PLAIN, extra=e, peepholes=p) for e in ({}, COUPLED) for p in (False, True)]


@pytest.mark.parametrize("part", range(8))
def test_decomposed_floats_are_those_of_onnxruntime(part: int) -> None:
    for case in WHOLE[part::8]:
        inputs = grus.feeds(case)
        found = grus.run(decompose(grus.model(case)), inputs)
        assert distance(grus.reference(case, inputs), found) < TOLERANCE, case


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", range(3))
def test_activations(name: str, place: int) -> None:
    names = ["Sigmoid", "Tanh", "Tanh"]
    names[place] = name
    alphas, betas = PARAMETERS.get(name, ((), ()))
    case = replace(
        PLAIN, activations=tuple(names), alphas=alphas, betas=betas, direction="bidirectional",
        gain=0.2,
    )  # fmt: skip
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


@pytest.mark.parametrize("index", DRAWN, ids=lambda index: str(GRID[index]))
def test_integers_are_the_oracles(index: int) -> None:
    model, inputs = made(GRID[index])
    names = [n for n in RUNTIMES if n in QUICK or (index % 2 and n == "OpenVINO")]
    require_exact(model, model.uniform(WIDTHS[index % 7]), inputs, names=names)
    require_exact(model, model.mixed(int(index)), inputs, names=names)


@pytest.mark.parametrize("bits", [3, 8])
def test_all_forms_in_all_runtimes(bits: int) -> None:
    case = replace(FOUR[bits % 4], T=1)
    model, inputs = made(case)
    program = model.mixed(bits)
    require_exact(model, program, inputs)
    require_exact(model, program, inputs, Form("unrolled", steps=1))
    fixed, inputs = made(replace(FOUR[bits % 4], direction="bidirectional", dynamic=False))
    require_exact(fixed, fixed.uniform(bits), inputs, Form("unrolled"))


def test_the_step_form_has_a_state_for_every_carry() -> None:
    model, _ = made(PLAIN)
    message = to_step(model).emit(model.mixed(2), Form("step"))
    names = [value.name for value in message.graph.input]
    assert names == ["X", "/gru/forward/state", "/gru/forward/cell"]
    outputs = [value.name for value in message.graph.output]
    assert outputs[-2:] == ["/gru/forward/next_state", "/gru/forward/next_state/cell"]


@pytest.mark.parametrize(
    "case", [FOUR[0], replace(FOUR[3], H=70, B=7, lengths=(5, 4, 3, 2, 1, 0, 5))], ids=str
)
def test_engines_are_the_oracle(case: grus.Case) -> None:
    torch = pytest.importorskip("torch")
    model, inputs = made(case)
    programs = (*(model.uniform(bits) for bits in (2, 5, 8)), model.mixed(0))
    stack = [program.layers[0] for program in programs]
    jobs = [first_job(model, layer, inputs) for layer in stack]
    together = PopulationEngine(stack, torch.device("cpu"))(
        [j.x for j in jobs], [j.initial for j in jobs], [j.lengths for j in jobs]
    )
    for layer, job, (y, last) in zip(stack, jobs, together, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
        np.testing.assert_array_equal(y, wanted.y)
        for engine in (LayerEvaluator(layer), FusedEngine(layer)):
            found = engine(job.x, job.initial, job.lengths)
            np.testing.assert_array_equal(found.y, wanted.y)
            assert found.last.keys() == wanted.last.keys() == last.keys()
            for carry, codes in wanted.last.items():
                np.testing.assert_array_equal(found.last[carry], codes)
                np.testing.assert_array_equal(last[carry], codes)


def _stacked(cases: list[grus.Case]) -> tuple[Pipeline, dict[str, np.ndarray]]:
    inputs = grus.feeds(cases[0])
    return pipeline(grus.stacked(cases), inputs), inputs


def test_a_stack_reads_codes_from_layer_to_layer() -> None:
    cases = [replace(PLAIN, direction="bidirectional"), replace(PLAIN, I=12, H=5)]
    model, inputs = _stacked(cases)
    program = model.mixed(1)
    assert program.layers[1].reads_codes
    require_exact(model, program, inputs, names=QUICK)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activations": ("Sigmoid", "Tanh")}, "it has 2 activations; it must have 3"),
        ({"extra": {"projection": 1}}, "its attribute 'projection' is not one of"),
    ],
)
def test_what_does_not_apply_is_refused(change: dict, reason: str) -> None:
    with pytest.raises(onnxgru.OnnxgruError, match=reason):
        decompose(grus.model(replace(PLAIN, **change)))


def test_a_first_value_of_another_size_is_refused() -> None:
    """As torch's exporter writes an LSTM with proj_size, which no runtime takes."""
    message = grus.model(replace(PLAIN, initial=True))
    (wrong,) = (value for value in message.graph.input if value.name == "initial_c")
    wrong.type.tensor_type.shape.dim[-1].dim_value = 9
    with pytest.raises(onnxgru.OnnxgruError, match="its initial_c has 9 features, but R has 6"):
        decompose(message)


def test_a_zero_first_value_of_another_size_is_refused_too() -> None:
    message = grus.model(replace(PLAIN, initial=True))
    (wrong,) = (value for value in message.graph.input if value.name == "initial_c")
    message.graph.input.remove(wrong)
    zeros = np.zeros((1, PLAIN.B, 9), np.float32)
    message.graph.initializer.append(onnx.numpy_helper.from_array(zeros, "initial_c"))
    with pytest.raises(onnxgru.OnnxgruError, match="its initial_c has 9 features, but R has 6"):
        decompose(message)


def test_search(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    case = replace(PLAIN, T=4, B=20, I=3, H=8, outputs=("Y_h",))
    onnx.save(grus.model(case), tmp_path / "m.onnx")
    data = {"X": generator.standard_normal((4, 20, 3)).astype(np.float32)}
    onnxgru.quantize(
        tmp_path / "m.onnx", search=True, generations=1, population=6, seed=1,
        calibration=data, validation=data, output=tmp_path / "front", listener=silent,
    )  # fmt: skip
    assert {p.name for p in (tmp_path / "front").iterdir()} >= {"integer.onnx", "front.json"}
