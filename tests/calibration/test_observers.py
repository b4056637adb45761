import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import (
    _divergences,
    central,
    observe,
    require_observer,
    squared_error,
)
from onnxgru.core.choices import OBSERVERS, WIDTHS
from onnxgru.core.errors import DataError, UsageError
from onnxgru.core.integers import Quantization


def of(values):
    histogram = Histogram()
    histogram.update(np.asarray(values, dtype=np.float32))
    return histogram


def data(kind, size=20_000):
    generator = np.random.default_rng(7)
    normal = generator.normal(size=size)
    return {
        "gaussian": normal,
        "laplace": generator.laplace(size=size) - 0.3,
        "gate": 1.0 / (1.0 + np.exp(-3.0 * normal)),
        "saturated": np.tanh(2.0 * normal),
        "negative": -np.abs(normal) - 0.5,
        "lopsided": np.append(generator.gamma(2.0, size=size), -0.05),
        "outlier": np.append(normal, 60.0),
        "whole": generator.integers(-3, 5, size=size),
    }[kind]


KINDS = ["gaussian", "laplace", "gate", "saturated", "negative", "lopsided", "outlier", "whole"]


def sqnr(values, low, high, bits):
    """Of the values themselves, through the codes: nothing of the module under test."""
    values = np.asarray(values, dtype=np.float32)
    quantization = Quantization.of_range(low, high, bits)
    error = quantization.dequantize(quantization.quantize(values)) - values
    return 10.0 * np.log10(np.sum(values**2.0) / np.sum(error.astype(np.float64) ** 2))


def exhaustive(values, bits):
    """Least squared error on the values over every zero point and 1,000 scales."""
    values = np.sort(np.asarray(values, dtype=np.float64))[:: max(1, len(values) // 4000)]
    top = 2**bits - 1
    reach = np.abs(values).max()
    best = np.inf
    for scale in np.geomspace(2.0 * reach, reach / (4.0 * top), 1000):
        steps = np.rint(values / scale)
        for zero_point in range(top + 1):
            codes = np.clip(steps, -zero_point, top - zero_point)
            best = min(best, float(np.mean((codes * scale - values) ** 2)))
    return best, values


def test_minmax_reaches_over_every_value_and_zero():
    assert observe(of([-1.5, 0.25, 7.0]), "minmax", 4) == (-1.5, 7.0)
    assert observe(of([2.0, 7.0]), "minmax", 4) == (0.0, 7.0)
    assert observe(of([-2.0, -7.0]), "minmax", 4) == (-7.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_percentile_cuts_as_much_on_both_sides(kind):
    values = np.asarray(data(kind), dtype=np.float32)
    histogram = of(values)
    for percentile in (90.0, 99.0, 99.9):
        low, high = central(histogram, percentile)
        cut = (100.0 - percentile) / 200.0
        for bound, expected, inside in (
            (low, np.quantile(values, cut, method="lower"), min),
            (high, np.quantile(values, 1.0 - cut, method="higher"), max),
        ):
            assert abs(bound - inside(float(expected), 0.0)) <= 2.0 * histogram.width


def test_percentile_100_keeps_everything():
    histogram = of(data("laplace"))
    assert central(histogram, 100.0) == observe(histogram, "minmax", 4)
    for far in ([2.0, 7.0], [-7.0, -2.0]):  # the bins from 0.0 to there are empty
        histogram = of(far)
        for percentile in (50.0, 100.0):
            found = central(histogram, percentile)
            assert found == pytest.approx(observe(histogram, "minmax", 4), abs=histogram.width)


def test_percentile_leaves_out_rare_outliers():
    histogram = of(np.append(np.linspace(-1.0, 1.0, 100_001), [1e4, -1e4]))
    low, high = observe(histogram, "percentile", 8)
    assert -histogram.width - 1.0 <= low < 0.0 < high <= 1.0 + histogram.width


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_squared_error_is_that_of_the_values(kind, bits):
    values = np.asarray(data(kind, 100_000), dtype=np.float32)
    if kind == "whole":  # spread over their bins, as the histogram takes its values to be
        values = values + np.random.default_rng(8).random(values.shape, dtype=np.float32) / 256.0
    histogram = of(values)
    for low, high in [
        (-1.0, 1.0),
        (-3.0, 0.2),
        (0.0, 2.5),
        (-0.01, 0.01),
        (-100.0, 100.0),
        observe(histogram, "mse", bits),
    ]:
        quantization = Quantization.of_range(low, high, bits)
        error = quantization.dequantize(quantization.quantize(values)) - values
        measured = float(np.mean(error.astype(np.float64) ** 2))
        assert squared_error(histogram, low, high, bits) == pytest.approx(measured, rel=0.01)


def test_the_squared_error_of_a_range_far_wider_than_the_values():
    histogram = of([-1.0, 1.0] * 10)
    assert squared_error(histogram, -1e9, 1e9, 8) == pytest.approx(1.0, rel=2e-3)
    # An empty range has the scale 1 and the zero point 0: 1 is exact, -1 becomes 0.
    assert squared_error(histogram, 0.0, 0.0, 8) == pytest.approx(0.5, rel=5e-3)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_as_good_as_an_exhaustive_search(kind, bits):
    least, values = exhaustive(data(kind, 4000), bits)
    quality = 10.0 * np.log10(np.mean(values**2) / least) if least else np.inf
    ours = sqnr(values, *observe(of(values), "mse", bits), bits)
    # The best is exact where the values are few: there, as exact as a bin is narrow.
    assert ours > min(quality, 55.0) - 0.05


def test_mse_at_4_bits_of_gaussian_values():
    values = np.random.default_rng(9).normal(size=50_000)
    histogram = of(values)
    ours = sqnr(values, *observe(histogram, "mse", 4), 4)
    assert ours > sqnr(values, *observe(histogram, "minmax", 4), 4) + 3.0
    # Zero must have a code: the best scale of 15 such levels and one more, by fine search.
    finest = max(
        sqnr(values, -zero_point * scale, (15 - zero_point) * scale, 4)
        for zero_point in (7, 8)
        for scale in np.linspace(0.25, 0.45, 150)
    )
    assert ours == pytest.approx(finest, abs=0.05)
    assert ours == pytest.approx(19.3, abs=0.15)


def test_mse_at_2_bits_may_reach_outside_the_values():
    # -1 and 1 are exact in -2, -1, 0, 1 alone, and in its mirror image.
    values = np.repeat([-1.0, 1.0], 500)
    low, high = observe(of(values), "mse", 2)
    assert sqnr(values, low, high, 2) > 55.0
    assert sqnr(values, *observe(of(values), "minmax", 2), 2) < 10.0


@pytest.mark.parametrize("kind", KINDS)
def test_mse_never_has_more_squared_error_than_another(kind):
    histogram = of(data(kind))
    for bits in WIDTHS:
        least = squared_error(histogram, *observe(histogram, "mse", bits), bits)
        for observer in OBSERVERS:
            assert least <= squared_error(histogram, *observe(histogram, observer, bits), bits)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    st.sampled_from(WIDTHS),
)
def test_any_values_get_a_range_and_mse_the_best(values, bits):
    histogram = of(values)
    errors = {}
    for observer in OBSERVERS:
        low, high = observe(histogram, observer, bits)
        assert np.isfinite([low, high]).all()
        assert low <= 0.0 <= high
        assert "-0.0" not in (str(low), str(high))
        errors[observer] = squared_error(histogram, low, high, bits)
    assert errors["mse"] == min(errors.values())
    assert errors["mse"] >= 0.0


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("observer", ["mse", "entropy"])
def test_searched_ranges_are_those_of_their_codes(observer, bits):
    for kind in KINDS:
        low, high = observe(of(data(kind)), observer, bits)
        assert Quantization.of_range(low, high, bits).range == (low, high)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_powers_of_two_of_the_values_scale_the_range(observer):
    values = np.asarray(data("lopsided"), dtype=np.float32)
    low, high = observe(of(values), observer, 5)
    for power in (-100, -30, 20, 110):
        factor = 2.0**power
        assert observe(of(values * np.float32(factor)), observer, 5) == (
            low * factor,
            high * factor,
        )


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_values_all_the_same_are_exact(observer, bits):
    for value in (0.0, 3.7, -1e-30, 3e38, 1e-44):
        expected = float(np.float32(value))
        histogram = of([value] * 5)
        low, high = observe(histogram, observer, bits)
        assert (low, high) == (min(expected, 0.0), max(expected, 0.0))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_extreme_values(observer):
    for values in ([1e-44, -3e-45], [-3.4e38, 3.4e38], [1e-38, 3e-38], [0.0, 1e-37]):
        for bits in WIDTHS:
            low, high = observe(of(values), observer, bits)
            assert low <= 0.0 <= high
            Quantization.of_range(low, high, bits)


def divergence(histogram, scale, zero_point, bits):
    """KL(P || Q) one bin at a time, as TensorRT's slides and onnxruntime's code tell it."""
    counts = histogram.counts.astype(float)
    numbers = histogram.first + np.arange(len(counts)) + 0.5
    codes = np.floor(numbers / scale + 0.5) + zero_point
    inside = np.flatnonzero((codes >= 0) & (codes <= 2**bits - 1))
    if 2 * counts[inside].sum() < counts.sum():
        return np.inf
    p, q = np.zeros_like(counts), np.zeros_like(counts)
    p[inside] = counts[inside]
    p[inside[0]] += counts[: inside[0]].sum()
    p[inside[-1]] += counts[inside[-1] + 1 :].sum()
    for code in range(2**bits):
        cell = np.flatnonzero((codes == code) & (p > 0))
        if len(cell):
            q[cell] = max(counts[cell].sum(), 1e-4) / len(cell)
    kept = p > 0
    p, q = p[kept] / counts.sum(), q[kept] / counts[inside].sum()
    return float(np.sum(p * np.log(p / q)))


@pytest.mark.parametrize("kind", ["gaussian", "lopsided", "gate"])
@pytest.mark.parametrize("bits", [2, 3, 5])
def test_divergences_are_those_of_the_definition(kind, bits):
    histogram = of(data(kind)[-300:])  # few values: many bins are empty
    scales = np.geomspace(1000.0, 1.0, 12)
    ours = _divergences(histogram, scales, bits)
    assert ours.shape == (12, 2**bits)
    for row, scale in enumerate(scales):
        for zero_point in range(2**bits):
            expected = divergence(histogram, scale, zero_point, bits)
            assert ours[row, zero_point] == pytest.approx(expected, abs=1e-12)
    assert np.isfinite(ours).sum() > 5


def ends(histogram, scale, zero_point, top):
    """Range of a scale in bins and a zero point."""
    real = float(np.float32(scale * histogram.width))
    return -zero_point * real, (top - zero_point) * real


@pytest.mark.parametrize("kind", ["gaussian", "lopsided", "negative", "outlier"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_entropy_has_the_least_divergence(kind, bits):
    histogram = of(data(kind))
    quantization = Quantization.of_range(*observe(histogram, "entropy", bits), bits)
    ours = divergence(
        histogram, quantization.scale / histogram.width, quantization.zero_point, bits
    )
    top = 2**bits - 1
    least = squared_error(histogram, *observe(histogram, "mse", bits), bits)
    others = [
        divergence(histogram, scale, zero_point, bits)
        for scale in np.geomspace(2.0 * len(histogram.counts) / top, 1.0, 30)
        for zero_point in range(0, top + 1, max(1, top // 7))
        if squared_error(histogram, *ends(histogram, scale, zero_point, top), bits) <= 2.0 * least
    ]
    assert len(others) > 3
    # Between its own scales, 2.2 % apart, a bin more or less may move a code's edge.
    assert ours <= min(others) * 1.02 + 1e-9


def test_entropy_cuts_an_outlier_and_keeps_the_bulk():
    histogram = of(data("outlier"))
    low, high = observe(histogram, "entropy", 4)
    assert high < 20.0
    assert low < -1.5


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("tails", ["student", "lognormal", "rare"])
def test_entropy_keeps_heavy_tails(tails, bits):
    generator = np.random.default_rng(11)
    values = {
        "student": generator.standard_t(3, 50_000),
        "lognormal": generator.lognormal(0.0, 1.5, 50_000),
        "rare": np.where(generator.random(50_000) < 0.01, 60.0, 1.0)
        * generator.normal(size=50_000),
    }[tails]
    histogram = of(values)
    found = {name: sqnr(values, *observe(histogram, name, bits), bits) for name in OBSERVERS}
    # A factor of two in the squared error, and the histogram's own bins.
    assert found["entropy"] > found["mse"] - 3.1
    assert found["entropy"] > found["minmax"] - 3.1


def test_entropy_does_not_take_a_few_values_for_all():
    # Of [-0.05 .. 0] alone, one bin holds one value: with all others clipped into it, P is Q.
    histogram = of(data("lopsided"))
    for bits in WIDTHS:
        low, high = observe(histogram, "entropy", bits)
        assert high > 2.0
        assert low > -high


def test_unknown_names_and_numbers_are_refused():
    histogram = of([1.0, 2.0])
    sentence = "must be one of minmax, percentile, mse, entropy, but is 'mes'"
    with pytest.raises(UsageError, match=sentence):
        observe(histogram, "mes", 4)
    with pytest.raises(UsageError, match=sentence):
        require_observer("mes")
    with pytest.raises(UsageError, match=r"a bit-width must be .* from 2 to 8, or 16, got 9"):
        observe(histogram, "minmax", 9)
    for observer in OBSERVERS:
        with pytest.raises(DataError, match="at least one value, but calibration saw none"):
            observe(Histogram(), observer, 4)
    with pytest.raises(DataError, match="at least one value, but calibration saw none"):
        squared_error(Histogram(), -1.0, 1.0, 4)


def test_an_observer_takes_milliseconds():
    histogram = of(np.random.default_rng(10).uniform(-1.0, 0.999, size=20_000))
    assert len(histogram.counts) > 2000
    for observer in OBSERVERS:
        durations = []
        for _ in range(3):
            start = time.thread_time()
            observe(histogram, observer, 8)
            durations.append(time.thread_time() - start)
        assert min(durations) < 0.03  # about 2 ms here; room for a busy machine
