"""Rounding of weights: clipping and granularities only ever lower the squared error."""

import numpy as np
import onnx
import pytest

from onnxgru.core import weights
from onnxgru.core.choices import WIDTHS
from onnxgru.core.integers import WeightType
from onnxgru.custom_ops.kinds import biases
from onnxgru.custom_ops.kinds.linear import BIAS_LIMIT, Part
from tests import grus
from tests.pipeline import pipeline

SEEDS = range(6)


def rows(seed: int) -> np.ndarray:
    """Rows of very different sizes and tails, one of them dead."""
    rng = np.random.default_rng(seed)
    sizes = 2.0 ** rng.uniform(-8, 3, (9, 1))
    drawn = sizes * rng.standard_t(3, (9, int(rng.integers(1, 40))))
    drawn[4] = 0
    return drawn.astype(np.float32)


def error(weight: np.ndarray, limits: np.ndarray, bits: int) -> np.ndarray:
    """Squared error of every row, each on its own, in float64."""

    def one(row: np.ndarray, limit: np.ndarray) -> float:
        codes, scales = weights.quantize(row[None], limit[None], np.zeros(1), bits)
        return float(((row - codes[0] * scales.astype(np.float64)) ** 2).sum())

    return np.asarray([one(row, limit) for row, limit in zip(weight, limits, strict=True)])


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_is_never_worse_than_none(seed: int, bits: int) -> None:
    weight = rows(seed)
    whole = np.abs(weight).max(1).astype(np.float64)
    limits = weights.clipping(weight, bits)
    assert (limits <= whole).all()
    assert (error(weight, limits, bits) <= error(weight, whole, bits) * (1 + 1e-5)).all()


def test_clipping_is_the_best_of_its_grid() -> None:
    weight = rows(1)
    for bits in WIDTHS:
        least = error(weight, weights.clipping(weight, bits), bits)
        for factor in weights.FACTORS:
            other = error(weight, factor * np.abs(weight).max(1).astype(np.float64), bits)
            assert (least <= other * (1 + 1e-5)).all()


def test_clipping_clips() -> None:
    """At few bits a scale that leaves the tail out is better."""
    weight = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    assert weights.clipping(weight, 3)[0] < 0.9 * np.abs(weight).max()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("seed", SEEDS)
def test_finer_granularity_is_never_worse(seed: int, bits: int) -> None:
    """Per channel <= per gate <= per tensor, each summed over three gates of three channels."""
    weight = rows(seed)

    def total(groups: int) -> float:
        limits = weights.clipping(weight.reshape(groups, -1), bits)
        return float(error(weight, np.repeat(limits, len(weight) // groups), bits).sum())

    # The factors are a grid relative to each group's largest weight, so a finer group may miss
    # the very scale that the coarser one has; it is never off by more than the grid's spacing.
    channel, gate, tensor = total(9), total(3), total(1)
    assert channel <= gate * 1.02
    assert gate <= tensor * 1.02


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_are_symmetric_and_nearest(bits: int) -> None:
    weight = rows(2)
    limits = weights.clipping(weight, bits)
    codes, scales = weights.quantize(weight, limits, np.zeros(len(weight)), bits)
    kind = WeightType(bits)
    assert codes.dtype == np.int8 and scales.dtype == np.float32
    assert (kind.nearest(codes.astype(float)) == codes).all()
    inside = np.abs(weight) <= limits[:, None]
    distance = np.abs(weight - codes * scales[:, None].astype(np.float64))
    assert (distance <= 0.50001 * kind.spacing * scales[:, None])[inside].all()


def test_scales_keep_to_their_least() -> None:
    weight = rows(3)
    least = np.linspace(0, 1, len(weight))
    _, scales = weights.quantize(weight, weights.clipping(weight, 8), least, 8)
    assert (scales >= least.astype(np.float32)).all()
    assert np.isfinite(1 / scales.astype(np.float64)).all()


def test_scales_of_an_operator_are_not_far_apart() -> None:
    weight = rows(4)
    _, scales = weights.quantize(weight, weights.clipping(weight, 8), np.zeros(len(weight)), 8)
    assert scales.max() / scales.min() == weights.SPREAD


def update_input(
    bits: int, weights_: dict[int, float], bias: float
) -> tuple[Part, np.ndarray, np.ndarray]:
    """Update gate's input projection, some channels of one weight and bias: scales and biases."""
    case = grus.Case()
    message = grus.model(case)
    arrays = {t.name: onnx.numpy_helper.to_array(t).copy() for t in message.graph.initializer}
    for channel, weight in weights_.items():
        arrays["W"][0, channel], arrays["B"][0, channel] = weight, bias
    del message.graph.initializer[:]
    message.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()
    )
    program = pipeline(message, grus.feeds(case)).uniform(bits)
    linear = next(o for o in program.operators if "/gru/forward/update.input" in o.outputs)
    part = linear.parts[linear.outputs.index("/gru/forward/update.input")]
    scale = linear.operands[0].quantization.scale * part.weight_scale.astype(np.float64)
    return part, scale, arrays["B"][0, : case.H].astype(np.float64)


@pytest.mark.parametrize("weight", [0.0, 1e-30])
@pytest.mark.parametrize("bias", [0.0, 1e-6, 0.5, -300.0])
def test_a_wholly_dead_operator(bias: float, weight: float) -> None:
    """No channel has a scale to go by: the bias's own keeps it within int32, and exact."""
    part, scale, wanted = update_input(8, dict.fromkeys(range(6), weight), bias)
    assert np.abs(part.bias.astype(np.int64)).max() <= BIAS_LIMIT + 2**8
    np.testing.assert_allclose(part.bias * scale, wanted, rtol=2**-28)


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("bias", [0.0, 1e-6, 0.5, -300.0])
def test_dead_channels(bias: float, bits: int) -> None:
    """A bias over a row of (nearly) no weights neither overflows nor spoils other channels.

    Biases of narrow widths may lose a 16th of a code.
    """
    part, scale, wanted = update_input(bits, {1: 0.0, 2: 1e-30}, bias)
    lost = biases.LOSS * part.output.boundary.quantization.scale if part.exponent else 0.0
    assert np.abs(part.bias * scale - wanted).max() <= max(0.51 * scale.max(), lost)
    assert bits == 2 or part.exponent == 0
    ratios = scale / part.output.boundary.quantization.scale
    bound = part.output.requantization.error_bound(
        ratios, np.abs(part.extremes).max(0), part.output.boundary.quantization.bits
    )
    assert bound.max() < 1.5
