"""Quantisers in torch: the library's own codes forward, LSQ's gradients backward."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxgru.core import weights
from onnxgru.core.choices import WIDTHS
from onnxgru.core.integers import Quantization, WeightType
from onnxgru.training.quantizers import ValueQuantizer, WeightQuantizer

torch = pytest.importorskip("torch")

SEED = 3


def values(quantization: Quantization, count: int = 2000) -> np.ndarray:
    """Ties between codes, what lies around them, and values far beyond the range."""
    generator = np.random.default_rng(SEED)
    low, high = quantization.range
    spread = generator.uniform(2 * low - 1, 2 * high + 1, count)
    ties = (generator.integers(0, 2**quantization.bits, count) + 0.5) * quantization.scale + low
    return np.concatenate([spread, ties]).astype(np.float32)


@pytest.mark.parametrize("learned", [False, True])
@given(bits=st.sampled_from(WIDTHS), low=st.floats(-9, 0), high=st.floats(1e-3, 9))
def test_values_have_the_codes_of_the_integer_program(learned, bits, low, high):
    quantization = Quantization.of_range(low, high, bits)
    x = values(quantization)
    found = ValueQuantizer(quantization, learned=learned)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_array_equal(found, quantization.dequantize(quantization.quantize(x)))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("learned", [False, True])
def test_functions_have_the_codes_of_a_table(learned, bits):
    """In float64; half a gate is below the tie that it is at in float32."""
    quantization = Quantization(float(np.float32(1 / (2**bits - 1))), 0, bits)
    x = np.concatenate([[0.5], np.random.default_rng(SEED).uniform(-0.2, 1.2, 999)])
    quantizer = ValueQuantizer(quantization, learned=learned)
    found = quantizer(torch.from_numpy(x)).detach()
    assert found.dtype == torch.float32
    codes = np.clip(np.rint(x / quantization.scale), 0, quantization.type.maximum)
    np.testing.assert_array_equal(np.rint(found.numpy() / quantization.scale), codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_weights_have_the_codes_of_plain_rounding(bits):
    weight = np.random.default_rng(SEED).standard_normal((64, 96)).astype(np.float32)
    weight[5] = 0.0
    codes, scales = weights.quantize(weight, weights.clipping(weight, bits), np.zeros(64), bits)
    for growth in (None, torch.zeros(64, 1), torch.zeros(1, 1)):
        quantizer = WeightQuantizer(scales, bits, growth)
        np.testing.assert_array_equal(quantizer.scales.numpy()[:, 0], scales)
        np.testing.assert_array_equal(quantizer.codes(torch.from_numpy(weight)).numpy(), codes)
        found = quantizer(torch.from_numpy(weight)).numpy()
        np.testing.assert_allclose(found, codes * scales[:, None], rtol=1e-6)


def test_no_scale_of_weights_falls_far_below_the_largest():
    growth = torch.tensor([[0.0], [-9.0], [-1.0]])
    found = WeightQuantizer(np.ones(3, np.float32), 4, growth).scales[:, 0].numpy()
    np.testing.assert_allclose(found, [1, 1 / weights.SPREAD, math.exp(-1)], rtol=1e-6)


@pytest.mark.parametrize("learned", [False, True])
def test_gradient_of_values_passes_inside_the_range_only(learned):
    quantization = Quantization.of_range(-1.0, 3.0, 4)
    x = torch.from_numpy(values(quantization)).requires_grad_()
    wanted = torch.from_numpy(np.random.default_rng(SEED).standard_normal(x.shape))
    (ValueQuantizer(quantization, learned=learned)(x) * wanted).sum().backward()
    scaled = x.detach().numpy() * np.float32(quantization.reciprocal)
    codes = np.rint(scaled) + quantization.zero_point
    inside = (codes >= 0) & (codes <= quantization.type.maximum)
    assert 0.2 < inside.mean() < 0.9
    np.testing.assert_allclose(x.grad.numpy(), wanted.numpy() * inside, rtol=1e-6)


def test_gradient_of_a_scale_by_hand():
    """Scale 0.5, zero point 1, codes 0 to 3: ratios 0.8, -0.6, -2.6 and 9, the last two clipped."""
    quantizer = ValueQuantizer(Quantization(0.5, 1, 2), learned=True)
    x = torch.tensor([0.4, -0.3, -1.3, 4.5])
    found = quantizer(x)
    assert found.tolist() == [0.5, -0.5, -0.5, 1.0]
    (found * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    by_hand = 1 * (1 - 0.8) + 2 * (-1 + 0.6) + 3 * -1 + 4 * 2
    wanted = by_hand / math.sqrt(4 * 3) * 0.5  # N = 4, high = 3; of the logarithm: times s
    assert quantizer.parameters[0].grad.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("rows", [1, 8])
def test_gradient_of_weight_scales_is_that_of_lsq(rows, bits):
    """And the derivative, by differences, of the value with what rounding added held."""
    generator = np.random.default_rng(SEED)
    weight = generator.standard_normal((8, 20)).astype(np.float32)
    slopes = generator.standard_normal((8, 20))
    scales = np.full(8, 0.4, np.float32)
    growth = torch.zeros(rows, 1, requires_grad=True)
    found = WeightQuantizer(scales, bits, growth)(torch.from_numpy(weight))
    (found * torch.from_numpy(slopes)).sum().backward()
    ratio = weight / scales[:, None].astype(np.float64)
    kind = WeightType(bits)
    codes = kind.nearest(ratio)
    inside = np.abs(ratio) <= kind.maximum + kind.spacing / 2
    assert 0.5 < inside.mean() < 1
    residue = np.where(inside, codes - ratio, 0.0)

    def loss(step: np.ndarray) -> np.ndarray:
        value = np.where(inside, weight + residue * step[:, None], codes * step[:, None])
        return (slopes * value).sum(axis=1)

    wide, change = scales.astype(np.float64), 1e-6
    numeric = (loss(wide * (1 + change)) - loss(wide * (1 - change))) / (2 * change)
    wanted = numeric / math.sqrt(20 * kind.maximum)
    expected = wanted if rows == 8 else wanted.sum(keepdims=True)
    np.testing.assert_allclose(growth.grad.numpy()[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_range_of_a_learned_scale_gives_the_scale_that_was_trained():
    quantization = Quantization.of_range(-1.0, 3.0, 5)
    quantizer = ValueQuantizer(quantization, learned=True)
    with torch.no_grad():
        quantizer.parameters[0].fill_(0.3)
    found = Quantization.of_range(*quantizer.range, 5)
    assert found.zero_point == quantization.zero_point
    assert found.scale == pytest.approx(quantizer.scale.item(), rel=1e-7)
    assert found.scale == pytest.approx(quantization.scale * math.exp(0.3), rel=1e-6)
