"""Integer types and affine quantisation: which codes and real values are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxgru.core.activations import FORMS, Activation
from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import UsageError
from onnxgru.core.integers import IntegerType, Quantization, WeightType, narrowest
from onnxgru.custom_ops.kinds.lookup import entries

widths = st.sampled_from(WIDTHS)
magnitudes = st.floats(-30, 30).map(lambda e: float(np.float32(2.0**e)))
bounds = st.one_of(st.just(0.0), magnitudes, magnitudes.map(lambda m: -m))


@pytest.mark.parametrize("bits", WIDTHS)
def test_integer_types(bits: int) -> None:
    unsigned = IntegerType(bits)
    assert unsigned.maximum == 2**bits - 1
    assert (unsigned.levels, unsigned.middle) == (2**bits, 2**bits // 2)


@pytest.mark.parametrize("bits", WIDTHS)
def test_weight_types(bits: int) -> None:
    """The nearest codes of a fine grid are all there are, and no other is nearer."""
    kind = WeightType(bits)
    codes = [-3, -1, 1, 3] if bits == 2 else list(range(1 - 2 ** (bits - 1), 2 ** (bits - 1)))
    ratios = np.linspace(-1.2 * codes[-1], 1.2 * codes[-1], 20_001)
    found = kind.nearest(ratios)
    assert sorted(set(found)) == codes
    assert (kind.maximum, kind.spacing) == (codes[-1], codes[-1] - codes[-2])
    distances = np.abs(ratios[:, None] - np.asarray(codes))
    assert (np.abs(ratios - found) <= distances.min(axis=1)).all()


def test_four_levels_of_two_bits_are_worth_two_decibels() -> None:
    """Of a normal distribution: noise of 0.1188, with three 0.1902 (Max 1960)."""
    drawn = np.random.default_rng(0).standard_normal(200_000)
    nearest = WeightType(2).nearest
    noise = min(np.square(drawn - s * nearest(drawn / s)).mean() for s in np.linspace(0.3, 0.7, 60))
    assert float(noise) == pytest.approx(0.1188, rel=0.02)


@given(bits=widths, elements=st.integers(0, 10_000))
def test_sizes(bits: int, elements: int) -> None:
    size = IntegerType(bits).size(elements)
    assert 0 <= 8 * size - bits * elements < 8


@pytest.mark.parametrize("bits", [1, 9, 15, 17, 0, -4, 8.0, "8", True])
def test_other_widths_are_refused(bits: object) -> None:
    with pytest.raises(UsageError) as error:
        IntegerType(bits)
    expected = f"a bit-width must be a whole number from 2 to 8, or 16, got {bits!r}"
    assert str(error.value) == expected


def test_weights_of_16_bits_are_two_bytes() -> None:
    assert (WeightType(16).maximum, WeightType(16).spacing) == (127 * 256 + 127, 1)
    assert [WeightType(bits).container for bits in (2, 8, 16)] == [np.int8, np.int8, np.int16]
    with pytest.raises(UsageError) as error:
        WeightType(12)
    assert str(error.value) == "weight_bits must be a whole number from 2 to 8, or 16, got 12"


def test_wide_codes_have_two_bytes() -> None:
    assert [IntegerType(bits).container for bits in (2, 8, 16)] == [np.uint8, np.uint8, np.uint16]
    assert [IntegerType(bits).wide for bits in (2, 8, 16)] == [False, False, True]
    wide = Quantization.of_range(-1.5, 0.5, 16)
    values = np.asarray([-9.0, -1.5, 0.0, 0.5, 9.0], np.float32)
    codes = wide.quantize(values)
    assert codes.dtype == wide.zero.dtype == np.uint16
    assert codes.tolist() == [0, 0, wide.zero_point, 65535, 65535]
    assert wide.dequantize(codes)[2] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0, 8), "a scale must be a positive number, got 0.0"),
        ((-1.0, 0, 8), "a scale must be a positive number, got -1.0"),
        ((float("nan"), 0, 8), "a scale must be a positive number, got nan"),
        ((float("inf"), 0, 8), "a scale must be a positive number, got inf"),
        ((0.1, 0, 8), "a scale must be a float32 value, got 0.1"),
        ((0.5, 256, 8), "a zero point must lie in 0..255, got 256"),
        ((0.5, -1, 4), "a zero point must lie in 0..15, got -1"),
        ((0.5, 16, 4), "a zero point must lie in 0..15, got 16"),
        ((0.5, 0, 9), "a bit-width must be a whole number from 2 to 8, or 16, got 9"),
    ],
)
def test_wrong_quantisations_are_refused(arguments: tuple[float, int, int], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Quantization(*arguments)
    assert str(error.value) == message


@settings(max_examples=300, deadline=None, derandomize=True)
@given(a=bounds, b=bounds, bits=widths)
def test_a_range_spans_its_codes_and_zero_has_one(a: float, b: float, bits: int) -> None:
    low, high = min(a, b), max(a, b)
    q = Quantization.of_range(low, high, bits)
    assert q.quantize(np.zeros(1, np.float32))[0] == q.zero_point
    assert q.dequantize(np.asarray([q.zero_point], np.uint8))[0] == 0.0
    for end, bound in zip(q.range, (min(low, 0.0), max(high, 0.0)), strict=True):
        assert abs(end - bound) <= 0.51 * q.scale or low == high == 0.0
    values = np.linspace(low, high, 101, dtype=np.float32)
    error = np.abs(q.dequantize(q.quantize(values)).astype(np.float64) - values)
    assert error.max() <= 1.01 * q.scale  # half a step, and half of one where the ends moved


@settings(max_examples=300, deadline=None, derandomize=True)
@given(scale=magnitudes, bits=widths, share=st.floats(0, 1), odd=st.floats(1, 2))
def test_codes_come_back(scale: float, bits: int, share: float, odd: float) -> None:
    top = IntegerType(bits).maximum
    q = Quantization(float(np.float32(scale * odd)), round(share * top), bits)
    codes = np.arange(top + 1, dtype=np.uint8)
    assert np.array_equal(q.quantize(q.dequantize(codes)), codes)


@pytest.mark.parametrize("scale", [1.2e-38, 1e-30, 0.1, 1.0, 3.0, 1e30])
def test_codes_come_back_at_the_ends_of_float32(scale: float) -> None:
    q = Quantization(float(np.float32(scale)), 3, 8)
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(q.quantize(q.dequantize(codes)), codes)


def test_values_beyond_the_range_saturate() -> None:
    q = Quantization.of_range(-1, 1, 4)
    assert list(q.quantize(np.asarray([-9.0, 9.0, -np.inf, np.inf], np.float32))) == [0, 15, 0, 15]


def test_ties_round_to_even() -> None:
    q = Quantization(1.0, 4, 8)
    values = np.asarray([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert list(q.quantize(values)) == [2, 4, 4, 6, 6]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("limits", [(0.0, 0.0), (1e-45, 1e-45), (-1e-40, 1e-40), (-0.0, 0.0)])
def test_a_dead_range_gets_any_scale(limits: tuple[float, float], bits: int) -> None:
    assert Quantization.of_range(*limits, bits) == Quantization(1.0, 0, bits)


def test_one_sided_ranges_reach_zero() -> None:
    assert Quantization.of_range(2.0, 5.1, 8).zero_point == 0
    assert Quantization.of_range(-5.1, -2.0, 8).zero_point == 255


def fixed(name: str, bits: int) -> Quantization:
    q = Activation(name).quantization(bits)
    assert q is not None
    return q


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", ["Sigmoid", "HardSigmoid"])
def test_unit_codomain_is_exact_at_0_and_1(name: str, bits: int) -> None:
    q = fixed(name, bits)
    ends = np.asarray([0, q.type.maximum], np.uint8)
    assert list(q.dequantize(ends)) == [0.0, 1.0]
    assert list(q.quantize(np.asarray([0.0, 1.0], np.float32))) == list(ends)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", ["Tanh", "Softsign"])
def test_symmetric_codomain_is_exact_at_minus_1_0_and_1(name: str, bits: int) -> None:
    q = fixed(name, bits)
    codes = np.asarray([1, q.type.middle, q.type.maximum], np.uint8)
    assert list(q.dequantize(codes)) == [-1.0, 0.0, 1.0]
    assert list(q.quantize(np.asarray([-1.0, 0.0, 1.0], np.float32))) == list(codes)


def test_other_codomains_are_calibrated() -> None:
    free = {n for n, form in FORMS.items() if form.codomain is None}
    assert {"Relu", "Affine", "ScaledTanh"} <= free
    assert all(Activation(name).quantization(8) is None for name in free)


@pytest.mark.parametrize("bits", WIDTHS)
def test_complement_mirrors_codes_at_equal_widths(bits: int) -> None:
    gate = fixed("Sigmoid", bits)
    table = entries(Activation("Complement"), gate, gate)
    assert np.array_equal(table, np.arange(2**bits)[::-1])


@pytest.mark.parametrize("bits", [8, 16])
def test_narrowest_type_of_some_numbers(bits: int) -> None:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    assert narrowest(np.asarray([least, 0, most], np.int32)).name == f"int{bits}"
    assert narrowest(np.asarray([0, least - 1])).name == f"int{2 * bits}"
    assert narrowest(np.asarray([most + 1])).name == f"int{2 * bits}"
