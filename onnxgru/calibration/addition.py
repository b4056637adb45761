"""Ranges of addends: a term of a sum that a function reads needs codes only where they matter.

An addend of a sum that a sigmoid reads may span -200 .. 200 while the sum matters within -6 .. 6.
The range in which the addend a matters depends on the other addend b. So its scale s and zero point
z are those with the least expected error of the function's codes, with all other values rounded::

    argmin_{s, z} E[(f(a + b) - T[quantize(A + B)])**2]

    A = dequantize(quantize(a))    B = b in its observed codes    T = the function's table

The expectation runs over the two histograms as if a and b were independent, so it includes pairs of
values that the calibration data never had. The other roundings are included because of their
effect: if an addend is clipped close to the point where the function saturates, the rounding error
of the other addend can bring the sum back out of saturation.

The search tries ranges that are clipped at magnitudes half an octave apart, then scales and zero
points around the best one. The observer's choice stays unless the error falls clearly.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.saturation import Reader
from onnxgru.core.integers import TINY, Quantization

Doubles = npt.NDArray[np.float64]

VALUES = 1024
"""Values that represent the histogram of the addend."""
OTHERS = 64
"""Values that represent the histogram of the other addend."""
STEPS_PER_OCTAVE = 2
"""Ranges that are tried in each halving."""
PATIENCE = 6
"""Ranges in a row without a smaller error, after which the search stops."""
REFINEMENTS = 3
"""Number of times that the distance of neighbouring scales and zero points is halved."""
LEAST_GAIN = 0.3
"""Share by which the error must fall: smaller gains are within the spread of real models."""


@dataclass(frozen=True)
class Addition:
    """The sum of an addend and the function that reads it.

    Parameters
    ----------
    other : str
        The other addend.
    rounded : Quantization
        Quantisation of the other addend.
    total : Quantization
        Quantisation of the sum.
    reader : Reader
        The function that alone reads the sum.
    """

    other: str
    rounded: Quantization
    total: Quantization
    reader: Reader


def observe_addend(
    histogram: Histogram, other: Histogram, addition: Addition, observed: Quantization
) -> Quantization:
    """Quantisation of an addend, such that the function's codes have the least squared error.

    Parameters
    ----------
    histogram, other : Histogram
        Histograms of the addend and of the other one; at least one value each.
    addition : Addition
        The sum and its function.
    observed : Quantization
        The observer's choice for the addend.

    Returns
    -------
    Quantization
        With the same width; `observed` itself if no other one is clearly better.
    """
    error = _Error(histogram, other, addition)
    before = error(observed)
    low, high = min(0.0, histogram.minimum), max(0.0, histogram.maximum)
    top = observed.type.maximum
    best, waited, cut = observed, 0, max(-low, high)
    while waited < PATIENCE and cut > 4 * TINY * top:
        candidate = Quantization.of_range(max(low, -cut), min(high, cut), observed.bits)
        waited += 1
        if error(candidate) < error(best):
            best, waited = candidate, 0
        cut *= 2 ** (-1 / STEPS_PER_OCTAVE)
    if best is observed:  # the cuts are half an octave apart: what lies between gains no third
        return observed
    growth, shift = 2 ** (0.5 / STEPS_PER_OCTAVE), max(1, top // 8)
    for _ in range(REFINEMENTS):
        best = min(_around(best, growth, shift), key=error)
        growth, shift = math.sqrt(growth), max(1, shift // 2)
    return best if error(best) < (1 - LEAST_GAIN) * before else observed


class _Error:
    """Expected squared error of the function's codes, computed once per quantisation."""

    def __init__(self, histogram: Histogram, other: Histogram, addition: Addition) -> None:
        self._values, self._shares = _points(histogram, VALUES)
        others, shares = _points(other, OTHERS)
        self._total = addition.total
        self._roots = np.sqrt(shares)
        self._others = _rounded(others, addition.rounded)
        sums = self._values[:, None] + others
        self._exact = np.asarray(addition.reader.function(sums)) * self._roots
        self._table = addition.reader.table(_levels(addition.total))
        self._known: dict[Quantization, float] = {}

    def __call__(self, quantization: Quantization) -> float:
        """Error with a quantisation of the addend."""
        if quantization not in self._known:
            codes = quantization.quantize(self._values.astype(np.float32))
            used, places = np.unique(codes, return_inverse=True)  # few of 65,536
            sums = (_levels(quantization)[used, None] + self._others).astype(np.float32)
            found = self._table[self._total.quantize(sums)] * self._roots
            errors = np.square(self._exact - found[places]).sum(axis=1)
            self._known[quantization] = float(self._shares @ errors)
        return self._known[quantization]


def _points(histogram: Histogram, count: int) -> tuple[Doubles, Doubles]:
    """At most `count` values and their shares: means of bins, or of neighbours of equal mass."""
    used = histogram.counts > 0
    counts, centres = histogram.counts[used], histogram.centres[used]
    if len(counts) > count:
        # In integers: bin i belongs to the group in which its last value is.
        groups = (np.cumsum(counts) - 1) * count // histogram.count
        masses = np.bincount(groups, counts, count)
        sums = np.bincount(groups, counts * centres, count)
        counts, centres = masses[masses > 0], sums[masses > 0] / masses[masses > 0]
    return centres, counts / float(histogram.count)


def _levels(quantization: Quantization) -> Doubles:
    """Real values of all codes."""
    codes = np.arange(quantization.type.levels)
    return np.asarray(quantization.scale * (codes - quantization.zero_point), np.float64)


def _rounded(values: Doubles, quantization: Quantization) -> Doubles:
    """Values after quantisation."""
    return _levels(quantization)[quantization.quantize(values.astype(np.float32))]


def _around(centre: Quantization, growth: float, shift: int) -> list[Quantization]:
    """Quantisation and its neighbours: other scales, zero points, and ends of the range."""
    top, zero = centre.type.maximum, centre.zero_point
    pairs = [(1.0, 0)]
    for factor in (growth, 1 / growth):
        # With the same zero point, the lower end, or the upper end.
        pairs += [(factor, 0), (factor, round(zero / factor) - zero)]
        pairs += [(factor, top - round((top - zero) / factor) - zero)]
    pairs += [(1.0, shift), (1.0, -shift)]
    found = [
        Quantization(scale, zero + step, centre.bits)
        for factor, step in pairs
        if 0 <= zero + step <= top
        and TINY <= (scale := float(np.float32(centre.scale * factor))) < math.inf
    ]
    return list(dict.fromkeys(found))
