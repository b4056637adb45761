"""Products of one input, whose biases are added after the multiplication: the oracle's codes."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import OutputScheme, Scheme
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.passes.forms.form import Form
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from tests import grus
from tests.pipeline import Pipeline, first_job, thresholded
from tests.runtime.exact import RUNTIMES, made, require_exact

CASES = (
    grus.Case(I=1, H=9, gain=3.0),
    grus.Case(I=1, H=5, direction="bidirectional", linear_before_reset=0, lengths=(5, 0, 2)),
    grus.Case(operator="LSTM", I=1, H=4, initial=True, peepholes=True),
)
QUICK = ("onnxruntime (disabled)", "onnxruntime (all)")


def single(model: Pipeline, bits: int) -> list[Part]:
    """Parts of products of the input."""
    operators = model.uniform(bits).layers[0].recurrences[0].prologue.operators
    return [part for o in operators if isinstance(o, Linear) for part in o.parts]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_forms_have_the_codes_of_the_oracle(case: grus.Case) -> None:
    model, inputs = made(replace(case, T=1) if case is CASES[0] else case)
    assert all(part.after for bits in WIDTHS for part in single(model, bits))
    require_exact(model, model.uniform(2), inputs, names=RUNTIMES)
    require_exact(model, model.mixed(1), inputs, names=QUICK)
    if case is CASES[0]:
        require_exact(model, model.mixed(2), inputs, Form("unrolled", steps=1), names=QUICK)


@pytest.mark.slow
def test_fused_equals_plain() -> None:
    """After a layer of the same form but for its number of inputs."""
    for model, inputs in map(made, (replace(CASES[0], I=2), CASES[0])):
        for program in (model.uniform(2), model.mixed(0)):
            _equal(model, inputs, program)


def _equal(model: Pipeline, inputs: dict[str, np.ndarray], program: IntegerProgram) -> None:
    (layer,) = program.layers
    job = first_job(model, layer, inputs)
    plain = LayerEvaluator(layer)(job.x, job.initial, job.lengths)
    fused = FusedEngine(layer)(job.x, job.initial, job.lengths)
    np.testing.assert_array_equal(plain.y, fused.y)


def test_delta_network() -> None:
    model, inputs = made(CASES[0])
    program = model.lower(thresholded(model.layers, Scheme.uniform(model.layers, 3), lambda: 1))
    require_exact(model, program, inputs, names=QUICK)


def test_wide_codes_keep_biases_in_the_accumulator() -> None:
    model, inputs = made(CASES[0])
    scheme = Scheme.uniform(model.layers, 4)
    scheme = replace(scheme, inputs={name: OutputScheme(16) for name in scheme.inputs})
    program = model.lower(scheme)
    operators = program.layers[0].recurrences[0].prologue.operators
    assert not any(part.after for o in operators if isinstance(o, Linear) for part in o.parts)
    require_exact(model, program, inputs, names=QUICK)
