"""RNN through everything that GRU goes through: decomposed, integer, searched for, trained."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core.activations import ACTIVATIONS
from onnxgru.core.choices import WIDTHS
from onnxgru.passes.forms.form import Form
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from tests import grus
from tests.passes.emission.test_decompose import PARAMETERS, TOLERANCE, decompose, distance
from tests.pipeline import first_job
from tests.runtime.exact import RUNTIMES, made, require_exact, to_step

pytestmark = pytest.mark.slow

PLAIN = grus.Case(operator="RNN")
QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference")
GRID = [
    grus.Case(
        operator="RNN", direction=direction, initial=initial, lengths=lengths, clip=clip,
        bias=bias, layout=layout, outputs=outputs,
    )
    for direction, initial, lengths, clip, bias, layout, outputs in product(
        ("forward", "reverse", "bidirectional"),
        (False, True),
        (None, (5, 2, 0)),
        (None, 0.7),
        (False, True),
        (0, 1),
        (("Y", "Y_h"), ("Y",), ("Y_h",)),
    )
]  # fmt: skip
DRAWN = sorted(np.random.default_rng(3).choice(len(GRID), 16, replace=False))


@pytest.mark.parametrize("case", [c for c in GRID if c.outputs == ("Y", "Y_h")], ids=str)
def test_decomposed_floats_are_those_of_onnxruntime(case: grus.Case) -> None:
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    alphas, betas = PARAMETERS.get(name, ((), ()))
    case = replace(
        PLAIN, activations=(name,), alphas=alphas, betas=betas, direction="bidirectional", gain=0.2
    )
    inputs = grus.feeds(case)
    assert (
        distance(grus.reference(case, inputs), grus.run(decompose(grus.model(case)), inputs))
        < TOLERANCE
    )
    model, inputs = made(case)
    require_exact(model, model.uniform(8), inputs, names=QUICK)


@pytest.mark.parametrize("index", DRAWN, ids=lambda index: str(GRID[index]))
def test_integers_are_the_oracles(index: int) -> None:
    model, inputs = made(GRID[index])
    names = [n for n in RUNTIMES if n in QUICK or (index % 2 and n == "OpenVINO")]
    require_exact(model, model.uniform(WIDTHS[index % 7]), inputs, names=names)
    require_exact(model, model.mixed(int(index)), inputs, names=names)


@pytest.mark.parametrize("bits", WIDTHS)
def test_all_forms_in_all_runtimes(bits: int) -> None:
    case = replace(PLAIN, T=1)
    model, inputs = made(case)
    program = model.mixed(bits)
    require_exact(model, program, inputs)
    require_exact(model, program, inputs, Form("unrolled", steps=1))
    fixed, inputs = made(replace(PLAIN, direction="bidirectional", dynamic=False))
    require_exact(fixed, fixed.uniform(bits), inputs, Form("unrolled"))
    assert to_step(model).emit(program, Form("step")).graph.output[-1].name.endswith("next_state")


@pytest.mark.parametrize("case", [PLAIN, GRID[-1], replace(PLAIN, H=70, B=7)], ids=str)
def test_fused_equals_plain(case: grus.Case) -> None:
    model, inputs = made(case)
    for program in (*(model.uniform(bits) for bits in WIDTHS), model.mixed(0)):
        (layer,) = program.layers
        job = first_job(model, layer, inputs)
        plain = LayerEvaluator(layer)(job.x, job.initial, job.lengths)
        fused = FusedEngine(layer)(job.x, job.initial, job.lengths)
        np.testing.assert_array_equal(plain.y, fused.y)
        np.testing.assert_array_equal(plain.last["state"], fused.last["state"])


def test_a_bounded_state_has_the_quantisation_of_its_function() -> None:
    """tanh writes the state, so that its range is known and not calibrated."""
    model, _ = made(replace(PLAIN, gain=2.0))
    (layer,) = model.uniform(8).layers
    assert (layer.emitted.scale, layer.emitted.zero_point) == (np.float32(1 / 127), 128)
    relu, _ = made(replace(PLAIN, activations=("Relu",)))
    assert relu.uniform(8).layers[0].emitted.zero_point == 0


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few and random data
def test_search_and_fine_tuning(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    case = replace(PLAIN, T=4, B=60, I=3, H=8, outputs=("Y_h",))
    onnx.save(grus.model(case), tmp_path / "m.onnx")
    data = {"X": generator.standard_normal((4, 60, 3)).astype(np.float32)}
    onnxgru.quantize(
        tmp_path / "m.onnx", search=True, generations=2, population=8, seed=1,
        calibration=data, validation=data, output=tmp_path / "front",
    )  # fmt: skip
    assert {p.name for p in (tmp_path / "front").iterdir()} >= {"integer.onnx", "front.json"}
