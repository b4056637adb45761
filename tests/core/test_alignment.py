"""Ranges on the grid of a sum, judged by the codes that are added."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.alignment import aligned, is_aligned
from onnxgru.core.choices import WIDTHS
from onnxgru.core.integers import Quantization
from onnxgru.core.scheme import Scheme
from onnxgru.passes.lowering.lower import Lowering
from tests import grus
from tests.pipeline import pipeline
from tests.runtime.exact import expect, require_exact

TOTAL = Quantization.of_range(-1.0, 0.9, 8)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("limits", [(-1.0, 1.0), (-0.8, 0.9), (0.0, 0.3), (-2.5, 0.1)])
def test_operands_are_multiples_of_the_sum(bits: int, limits: tuple[float, float]) -> None:
    observed = Quantization.of_range(*limits, bits)
    found = aligned(observed, TOTAL)
    ratio, wanted = found.scale / TOTAL.scale, observed.scale / TOTAL.scale
    assert is_aligned(found.scale, TOTAL.scale) and ratio == pytest.approx(round(ratio), rel=1e-7)
    assert (found.bits, found.zero_point) == (bits, observed.zero_point)
    # Neither finer than the sum nor much narrower than it was, and no coarser than that takes.
    assert round(ratio) == 1 or wanted - 0.13 < ratio < wanted + 0.88


def test_scales_that_are_nearly_the_sum_s_become_it() -> None:
    for limits in ((-0.97, 0.98), (-1.1, 0.9), (-0.5, 0.5)):
        assert aligned(Quantization.of_range(*limits, 8), TOTAL).scale == TOTAL.scale


def test_what_is_finer_than_a_narrow_sum_stays() -> None:
    """The sum has to be rounded then."""
    narrow, wide = Quantization.of_range(-1, 1, 4), Quantization.of_range(-1, 1, 8)
    assert aligned(wide, narrow) is wide
    assert aligned(narrow, wide).scale == pytest.approx(17 * wide.scale)
    assert not is_aligned(wide.scale, narrow.scale)


def test_scales_beyond_float32_are_left() -> None:
    observed = Quantization(float(np.float32(1.9) * np.float32(2.0**127)), 0, 3)
    assert aligned(observed, Quantization(2.0**127, 0, 8)) is observed


@pytest.mark.parametrize("linear_before_reset", [0, 1])
@pytest.mark.parametrize("bits", [3, 8])
def test_a_state_is_the_sum_of_its_operands(bits: int, linear_before_reset: int) -> None:
    """In every code of a program, but where the sum saturates; with plain ranges it is not."""
    case = grus.Case(T=40, B=8, linear_before_reset=linear_before_reset)
    errors = {}
    for ranges in ("plain", "aligned"):
        made = pipeline(grus.model(case), grus.feeds(case), ranges)
        program = made.uniform(bits)
        (states,) = expect(made, program, grus.feeds(case)).states.values()
        values = {
            name.rpartition("/")[-1]: program.values[name].dequantize(codes)
            for name, codes in states.trace.items()
        }
        low, high = program.layers[0].emitted.range
        total = np.clip(values["state.new"] + values["state.keep"], low, high)
        errors[ranges] = np.abs(total - values["state.sum"]).max()
    assert errors["aligned"] < 1e-6 < errors["plain"]


@pytest.mark.parametrize("seed", range(4))
def test_mixed_widths_are_exact(seed: int) -> None:
    case = grus.Case(
        direction="bidirectional", linear_before_reset=seed % 2, initial=True, lengths=(5, 2, 0)
    )
    made = pipeline(grus.model(case), grus.feeds(case), "aligned")
    require_exact(made, made.mixed(seed), grus.feeds(case))


def test_a_range_that_was_given_stays() -> None:
    made = pipeline(grus.model(grus.Case()), grus.feeds(grus.Case()))
    name = next(o.name for o in made.layers[0].operators if o.row == "state.keep")
    calibration = replace(made.calibration, overrides={name: (-0.5, 0.5)})
    lower = Lowering(made.model.graph, made.layers, calibration, ranges="aligned")
    found = lower(Scheme.uniform(made.layers, 8)).values[name]
    assert found == Quantization.of_range(-0.5, 0.5, 8)
