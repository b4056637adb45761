"""Requantisation, Add and Mul against exact rational arithmetic.

The integer steps are written here once more in Python's unbounded integers, with a check that no
intermediate leaves int32, and compared with ``acc * ratio`` as a fraction: the stated error bounds
hold for every accumulator within the proved extremes, and codes saturate where they must.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxgru.core.fixedpoint import (
    INT32_MAXIMUM,
    Requantization,
    multiplier,
)

FLOAT_SLACK = Fraction(1, 10**9)
"""The bound itself is computed in float64."""


def int32(value: int) -> int:
    assert -(2**31) <= value < 2**31, f"{value} leaves int32"
    return value


def requantize(accumulator: int, parameters: Requantization, channel: int) -> int:
    """Requantised accumulator before the zero point, as the module's docstring has it."""
    k, s = parameters.reach, parameters.shift
    p, c = max(0, k - 15), min(k, 15)
    value = int32(int32(accumulator) + ((1 << p) >> 1)) >> p
    value = max(-(2**c), min(2**c, value))
    product = int32(value * int(parameters.multipliers[channel]))
    return int32(product + (1 << (s - 1))) >> s


def probes(extreme: int, ratio: float, parameters: Requantization, bits: int) -> set[int]:
    """Accumulators where something changes: extremes, clip, saturation, ties."""
    reach, step = 1 << parameters.reach, Fraction(1) / Fraction(ratio)
    places = {0, extreme, reach, 1 << parameters.pre_shift, int(extreme * 0.37)}
    for code in (1, 2**bits - 1, 2**bits):
        places |= {int(code * step), int((code - Fraction(1, 2)) * step)}
    near = {place + offset for place in places for offset in (-1, 0, 1)}
    return {sign * n for n in near for sign in (1, -1) if abs(n) <= extreme}


def check(ratios: list[float], extremes: list[int], bits: int, extra: list[float]) -> None:
    for tolerance in (None, 0.01, 1.0):
        parameters = Requantization.derive(
            np.asarray(ratios, np.float64), np.asarray(extremes, np.int64), bits, tolerance
        )
        assert tolerance or not parameters.small
        require_within_the_bound(parameters, ratios, extremes, bits, extra)


def require_within_the_bound(
    parameters: Requantization,
    ratios: list[float],
    extremes: list[int],
    bits: int,
    extra: list[float],
) -> None:
    assert 7 <= parameters.shift <= 30  # below 7 a floor shift is not exact in every runtime
    assert parameters.multipliers.min() >= 1
    assert parameters.multipliers.max() < (2**8 if parameters.small else 2**15)
    if max(extremes) >= 2**24:
        assert parameters.pre_shift >= 7
    bound = parameters.error_bound(np.asarray(ratios), np.asarray(extremes), bits)
    top = 2**bits - 1
    for channel, (ratio, extreme) in enumerate(zip(ratios, extremes, strict=True)):
        allowed = Fraction(float(bound[channel])) + FLOAT_SLACK
        some = {int(extreme * share) for share in extra}
        for accumulator in probes(extreme, ratio, parameters, bits) | some:
            found = requantize(accumulator, parameters, channel)
            exact = accumulator * Fraction(ratio)
            for zero_point in (0, 2 ** (bits - 1), top):
                code = max(0, min(top, zero_point + found))
                wanted = max(Fraction(0), min(Fraction(top), zero_point + exact))
                assert abs(code - wanted) <= allowed, (accumulator, zero_point)


ratios = st.floats(-40, 12).map(lambda e: float(2.0**e))
close = st.floats(-3, 3).map(lambda e: float(2.0**e))
extremes = st.one_of(
    st.integers(0, 2**16),
    st.integers(2**24 - 3, 2**24 + 3),
    st.integers(0, 31).map(lambda e: min(2**e, INT32_MAXIMUM - 2**15)),
    st.integers(0, INT32_MAXIMUM - 2**15),
)
shares = st.lists(st.floats(-1, 1), max_size=8)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(base=ratios, channels=st.lists(st.tuples(close, extremes), min_size=1, max_size=4),
       bits=st.integers(2, 8), extra=shares)  # fmt: skip
def test_error_is_within_the_bound(
    base: float, channels: list[tuple[float, int]], bits: int, extra: list[float]
) -> None:
    check([base * factor for factor, _ in channels], [e for _, e in channels], bits, extra)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(channels=st.lists(st.tuples(ratios, extremes), min_size=2, max_size=4),
       bits=st.integers(2, 8), extra=shares)  # fmt: skip
def test_error_is_within_the_bound_however_far_apart_channels_are(
    channels: list[tuple[float, int]], bits: int, extra: list[float]
) -> None:
    check([ratio for ratio, _ in channels], [e for _, e in channels], bits, extra)


LARGEST = INT32_MAXIMUM - 2**15
"""With p = 16 the rounding adds 2^15: the linear kind refuses what lies beyond."""


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("extreme", [1, 255, 2**15, 2**15 + 1, 2**24 - 1, 2**24, LARGEST])
@pytest.mark.parametrize("exponent", [-60, -40, -24, -15, -8, -1, 0, 7, 8, 9, 20])
def test_extremes(exponent: int, extreme: int, bits: int) -> None:
    for factor in (1.0, 1.0 + 2**-15, 1.9999999):
        check([2.0**exponent * factor], [extreme], bits, [0.5, -0.5])


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("exponent", [-8, 0, 8, 12])
def test_saturation_beyond_the_reach(exponent: int, bits: int) -> None:
    """Whatever lies at or beyond 2^k saturates, from any zero point."""
    ratio, top = 2.0**exponent, 2**bits - 1
    extreme = 2**22
    parameters = Requantization.derive(np.asarray([ratio]), np.asarray([extreme]), bits)
    for accumulator in (1 << parameters.reach, (1 << parameters.reach) + 1, extreme):
        assert requantize(accumulator, parameters, 0) >= top
        assert requantize(-accumulator, parameters, 0) <= -top


@pytest.mark.parametrize(("ratio", "bits"), [(0.9, 8), (0.013, 8), (2.0**-12, 4), (3.7e-5, 6)])
def test_codes_are_the_nearest_but_for_near_ties(ratio: float, bits: int) -> None:
    """For accumulators of 16 bits a code is off only where the exact value is nearly a tie."""
    extreme = 2**15 - 1
    parameters = Requantization.derive(np.asarray([ratio]), np.asarray([extreme]), bits)
    assert parameters.pre_shift == 0
    for accumulator in range(-extreme, extreme + 1, 7):
        exact = accumulator * Fraction(ratio)
        if abs(exact) < 2**bits:
            distance = abs(requantize(accumulator, parameters, 0) - exact)
            assert distance <= Fraction(1, 2) + Fraction(2**bits, 2**15)


@pytest.mark.parametrize(
    ("ratio", "bits", "tolerance", "small"),
    [
        (0.99, 8, 0.005, True),  # 253.44 and 85.4 become 253 and 85
        (0.99, 8, 0.004, False),
        (0.99, 2, 0.0, True),  # within a sixteenth of a code in any case
        (2.01, 8, 0.003, False),  # no 8 bits at a shift of 7
        (0.99, 16, 1.0, False),
        (0.99, 8, None, False),
    ],
)
def test_small_multipliers_where_they_are_precise(
    ratio: float, bits: int, tolerance: float | None, small: bool
) -> None:
    ratios, extremes = np.asarray([ratio, ratio * 0.337]), np.asarray([1000, 1000])
    parameters = Requantization.derive(ratios, extremes, bits, tolerance)
    assert parameters.small == small
    most = 2**8 if small else 2**15
    assert most // 2 <= parameters.multipliers.max() < most


def test_rounds_half_up() -> None:
    parameters = Requantization.derive(np.asarray([0.5]), np.asarray([100]), 8)
    assert [requantize(a, parameters, 0) for a in (-3, -1, 1, 3)] == [-1, 0, 1, 2]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(values=st.lists(ratios, min_size=1, max_size=4), lowest=st.sampled_from([0, 7]))
def test_multiplier_is_as_precise_as_15_bits_allow(values: list[float], lowest: int) -> None:
    found, shift = multiplier(np.asarray(values), lowest)
    assert lowest <= shift <= 30
    assert 1 <= found.min() and found.max() < 2**15
    if lowest < shift < 30:
        assert found.max() >= 2**14 - 1
    for value, m in zip(values, found, strict=True):
        if 1 < m < 2**15 - 1:
            assert abs(Fraction(value) * 2**shift - int(m)) <= Fraction(1, 2)


def test_error_bound_is_not_vacuous() -> None:
    """Half a code and little more for ordinary ratios, and it is nearly reached."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        ratio, bits = float(2.0 ** rng.uniform(-10, -2)), 8
        extreme = np.asarray([2**20])
        parameters = Requantization.derive(np.asarray([ratio]), extreme, bits)
        (bound,) = parameters.error_bound(np.asarray([ratio]), extreme, bits)
        assert 0.5 < bound < 0.65
        reach = int(200 / ratio)
        worst = max(
            abs(requantize(int(a), parameters, 0) - int(a) * Fraction(ratio))
            for a in rng.integers(-reach, reach, 2000)
        )
        assert worst > 0.95 * bound
