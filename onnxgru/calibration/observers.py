"""Observers: from a histogram of an operator's output to the range its codes should span.

A range ``[low, high]`` and a width b stand for scale s and zero point z as
`Quantization.of_range` makes them. Code ``q`` then stands for ``v = s (q - z)``, and a value is
rounded outwards from 0.0 past each threshold ``s (j + 1/2)`` it exceeds, at most ``top - z``
times upwards and ``z`` times downwards, with ``top = 2**b - 1``. What a threshold does depends on
s alone, z only says how many there are on each side: so for one scale, running sums over the
thresholds give the cost of **every** zero point at once. "mse" and "entropy" search that way:
both sides of the range are cut independently, and the rounding of the zero point is in the cost.

Between the edges of a bin the values are taken to be spread evenly. Lengths are in bins inside
this module, so that nothing under- or overflows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxgru.calibration.histogram import Histogram
from onnxgru.core.choices import OBSERVERS
from onnxgru.core.errors import DataError, UsageError
from onnxgru.core.integers import IntegerType, Quantization

PERCENTILE = 99.99
"""Percent of the values that "percentile" keeps."""

STEPS_PER_OCTAVE = 32
"""Scales tried in each doubling: neighbours are 2.2 % apart."""
REFINEMENTS = 3
"""Times that the steps between scales near the best are divided by 8."""
REFINED_SCALES = 4
"""Scales that each refinement searches around."""

ERRORS = 1 << 14
"""Errors that are computed at a time."""

SMOOTHING = 1e-4
"""Count of a code that stands for clipped values alone, as in onnxruntime's smoothing."""

MOST_ERROR = 2.0
"""Multiple of the least squared error that ranges of "entropy" may have."""

_ROUNDING = 1e-12
"""Share of the largest squared error: smaller differences come from rounding."""

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Range = tuple[float, float]


def squared_error(histogram: Histogram, low: float, high: float, bits: int) -> float:
    """Mean squared error of quantising the values of a histogram with a range.

    ``E[(x - dequantize(quantize(x)))**2]``, with the scale and zero point of
    `Quantization.of_range`.

    Parameters
    ----------
    histogram : Histogram
        With at least one value.
    low, high : float
        Finite bounds, low <= high.
    bits : int
        Width of the codes, 2 to 8.

    Returns
    -------
    float
        In the values' own unit, squared.

    Raises
    ------
    DataError
        If the histogram is empty.
    UsageError
        If the width is not supported.
    """
    _require_values(histogram)
    quantization = Quantization.of_range(low, high, bits)
    scales = np.array([quantization.scale / histogram.width])
    errors = _squared_errors(_Tails.of_histogram(histogram), scales, bits)
    return float(errors[0, quantization.zero_point]) * histogram.width * histogram.width


# --- min-max and percentile ---


def _minmax(histogram: Histogram, _bits: int) -> Range:
    """Reach over every value: ``[min(x, 0), max(x, 0)]`` (Jacob et al. 2018, section 3.1)."""
    return min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)


def _percentile(histogram: Histogram, _bits: int) -> Range:
    """Cut the rarest values; see `central`."""
    return central(histogram, PERCENTILE)


def central(histogram: Histogram, percentile: float) -> Range:
    """Cut the rarest values, as many below as above: ``P(low <= x <= high) = percentile``.

    Wu et al. 2020, "Integer quantization for deep learning inference", section 3.2, and
    onnxruntime's asymmetric PercentileCalibrater: a side loses (100 - percentile) / 2 percent.

    Parameters
    ----------
    histogram : Histogram
        With at least one value.
    percentile : float
        Percent of the values to keep, above 0, at most 100.

    Returns
    -------
    tuple of float
        low <= 0.0 <= high.
    """
    counts = histogram.counts
    cut = (100.0 - percentile) / 200.0 * float(counts.sum())
    low = histogram.first + _position(counts, cut)
    high = histogram.first + len(counts) - _position(counts[::-1], cut)
    low, high = low * histogram.width, high * histogram.width
    # A bin reaches past the extreme value in it.
    return (
        min(max(low, histogram.minimum), 0.0),
        max(min(high, histogram.maximum), 0.0),
    )


def _position(counts: npt.NDArray[np.int64], cut: float) -> float:
    """How many bins from the start there are `cut` values, with fractions of a bin."""
    reached = np.cumsum(counts)
    index = min(int(np.searchsorted(reached, cut, side="right")), len(counts) - 1)
    return index + (cut - float(reached[index] - counts[index])) / float(counts[index])


# --- mean squared error ---


@dataclass(frozen=True)
class _Tail:
    """One side of a histogram, as a function of the distance t from 0.0.

    ``excess(t) = E[max(u - t, 0)]`` of the distances u on this side, piecewise quadratic::

        excess(k + f) = excess[k] - beyond[k] f + share[k] f**2 / 2        0 <= f < 1

    Attributes
    ----------
    share : float64 (n + 1,)
        Fraction of all values in bin k, counted away from 0.0; the last is 0.
    beyond : float64 (n + 1,)
        Fraction of all values further out than k.
    excess : float64 (n + 1,)
        At whole k.
    """

    share: Doubles
    beyond: Doubles
    excess: Doubles

    @classmethod
    def of_shares(cls, shares: Doubles) -> "_Tail":
        share = np.append(shares, 0.0)
        # Summed from the far end, where the terms are small: no cancellation in the tail.
        beyond = np.cumsum(share[::-1])[::-1]
        inside = beyond - share / 2.0  # the integral of `beyond` over a bin
        inside[-1] = 0.0
        return cls(share, beyond, np.cumsum(inside[::-1])[::-1])

    @property
    def square(self) -> float:
        """E[u**2] of this side: the integral of u**2 over a bin is k**2 + k + 1/3."""
        numbers = np.arange(len(self.share), dtype=np.float64)
        return float(self.share @ (numbers * (numbers + 1.0) + 1.0 / 3.0))

    def excess_at(self, distances: Doubles) -> Doubles:
        """Excess at any distances >= 0."""
        clipped = np.minimum(distances, float(len(self.share) - 1))  # 0 from there on
        indices = clipped.astype(np.intp)
        fractions = clipped - indices
        slope: Doubles = self.share.take(indices) * fractions
        slope *= 0.5
        slope -= self.beyond.take(indices)
        slope *= fractions
        slope += self.excess.take(indices)
        return slope


@dataclass(frozen=True)
class _Tails:
    """Both sides of a histogram, lengths in bins."""

    upper: _Tail
    lower: _Tail

    @classmethod
    def of_histogram(cls, histogram: Histogram) -> "_Tails":
        shares = histogram.counts / float(histogram.count)
        zero = -histogram.first
        return cls(_Tail.of_shares(shares[zero:]), _Tail.of_shares(shares[:zero][::-1]))


def _squared_errors(tails: _Tails, scales: Doubles, bits: int) -> Doubles:
    """Squared error of every zero point at each scale.

    A value u that rounds past the threshold t = s (j + 1/2), away from 0.0, leaves the code at
    s j for the one at s (j + 1), and ``(u - s j)**2 - (u - s (j + 1))**2 = 2 s (u - t)``. So ::

        E[e**2] = E[u**2] - 2 s (   sum_{j < top - z} E[max( u - s (j + 1/2), 0)]
                                  + sum_{j < z}       E[max(-u - s (j + 1/2), 0)] )

    Parameters
    ----------
    tails : _Tails
        Sides of the histogram.
    scales : float64 (S,)
        In bins.
    bits : int
        Width.

    Returns
    -------
    float64 (S, 2**b)
        In bins squared, by scale and zero point.
    """
    top = IntegerType(bits).maximum
    gains = np.zeros((len(scales), top + 1))
    gains[:, 1:] += _running(tails.lower, scales, top)
    gains[:, :-1] += _running(tails.upper, scales, top)[:, ::-1]
    errors: Doubles = tails.upper.square + tails.lower.square - 2.0 * scales[:, None] * gains
    return errors


def _running(tail: _Tail, scales: Doubles, top: int) -> Doubles:
    """Running sums of the excess over each scale's thresholds, float64 (S, top).

    Codes of 16 bits have far more thresholds than there are bins: the excess is 0 beyond the last.
    """
    inside = int(min(top, (len(tail.share) - 1) / float(scales.min()) + 1.0))
    thresholds = scales[:, None] * (np.arange(inside, dtype=np.float64) + 0.5)
    sums = np.empty((len(scales), top))
    np.cumsum(tail.excess_at(thresholds), axis=1, out=sums[:, :inside])
    sums[:, inside:] = sums[:, inside - 1 : inside]
    return sums


def scale_grid(histogram: Histogram, bits: int) -> Doubles:
    """Scales to search, in bins, float64 (S,), descending.

    From codes that reach over twice the span of the values (with few codes the best of them may
    lie outside the values: -1 and 1 are exact in -2, -1, 0, 1) down to one bin.
    """
    top = IntegerType(bits).maximum
    widest = 2.0 * len(histogram.counts) / top
    octaves = max(0.0, float(np.log2(widest)))
    exponents = np.arange(int(octaves * STEPS_PER_OCTAVE) + 1) / STEPS_PER_OCTAVE
    return _representable(histogram, widest * np.exp2(-exponents))


def _representable(histogram: Histogram, scales: Doubles) -> Doubles:
    """Round scales, in bins, to normal float32 values of the values' own unit; drop the others."""
    limits = np.finfo(np.float32)
    real = scales * histogram.width
    real = real[(real >= float(limits.tiny)) & (real <= float(limits.max))]
    return real.astype(np.float32).astype(np.float64) / histogram.width


def codes_range(scale: float, zero_point: int, bits: int) -> Range:
    """Range whose `Quantization.of_range` has this scale, a float32 value, and zero point."""
    # Exact: a scale has 24 bits and a code 8.
    return -zero_point * scale, (IntegerType(bits).maximum - zero_point) * scale


def least_error(
    histogram: Histogram, scales: Doubles, bits: int, errors: Callable[[Doubles], Doubles]
) -> Range:
    """Range of the least error among all zero points at some scales and finer ones around the best.

    Parameters
    ----------
    histogram : Histogram
        Of the values.
    scales : float64 (S,)
        In bins.
    bits : int
        Width of the codes.
    errors : callable
        From scales (S,) to errors (S, 2**b), by scale and zero point.
    """
    least, zero_points = _least(errors, scales, bits)
    ratio = 2.0 ** (1.0 / STEPS_PER_OCTAVE)
    for _ in range(REFINEMENTS):
        best = scales[np.argsort(least, kind="stable")[:REFINED_SCALES]]
        factors = ratio ** (np.arange(-8, 9) / 8.0)  # 1 among them: the best are kept
        scales = np.unique(_representable(histogram, np.outer(best, factors).reshape(-1)))
        least, zero_points = _least(errors, scales, bits)
        ratio **= 1.0 / 8.0
    row = int(np.argmin(least))
    return codes_range(float(scales[row]) * histogram.width, int(zero_points[row]), bits)


def _least(
    errors: Callable[[Doubles], Doubles], scales: Doubles, bits: int
) -> tuple[Doubles, Indices]:
    """Least error at each scale and the first zero point that has it, both (S,).

    A few scales at a time, so that the errors stay in the processor's cache.
    """
    rows = max(1, ERRORS >> bits)
    found = [errors(scales[start : start + rows]) for start in range(0, len(scales), rows)]
    return (
        np.concatenate([some.min(axis=1) for some in found]),
        np.concatenate([some.argmin(axis=1) for some in found]),
    )


def _mse(histogram: Histogram, bits: int) -> Range:
    """Least squared error: ``argmin_{s, z} E[(x - dequantize(quantize(x)))**2]``.

    Nagel et al. 2021, "A white paper on neural network quantization", section 3.1 (arXiv
    2106.08295). All zero points at a fine grid of scales, then finer ones around the best. The
    scales of min-max, percentile and entropy are among those tried, so that none has less error.
    """
    tails = _Tails.of_histogram(histogram)
    others = np.array(
        [
            Quantization.of_range(*observer(histogram, bits), bits).scale
            for observer in (_minmax, _percentile)
        ]
    )
    # _entropy chooses from scale_grid: nothing to add for it.
    scales = np.concatenate([scale_grid(histogram, bits), others / histogram.width])
    return least_error(histogram, scales, bits, lambda some: _squared_errors(tails, some, bits))


# --- entropy ---


@dataclass(frozen=True)
class _Cells:
    """The bins that round to each code, and the divergence each code costs.

    Codes are numbered from 0.0 outwards, -top .. top, K = 2 top + 1 of them; which are in use
    depends on the zero point. A bin belongs to the code its middle rounds to.

    Attributes
    ----------
    edges : intp (S, K + 1)
        Index of the first bin of each code, and of the last code's end.
    mass, occupied, information : float64 (S, K)
        Of the bins of a code: the sum of their counts P, how many are not empty, and the sum of
        P log P.
    """

    edges: Indices
    mass: Doubles
    occupied: Doubles
    information: Doubles

    @classmethod
    def of_scales(cls, histogram: Histogram, scales: Doubles, bits: int) -> "_Cells":
        counts = histogram.counts.astype(np.float64)
        top = IntegerType(bits).maximum
        thresholds = scales[:, None] * (np.arange(-top, top + 2) - 0.5)
        edges = np.ceil(thresholds - 0.5 - histogram.first)
        edges = np.clip(edges, 0, len(counts)).astype(np.intp)
        sums = (counts, (counts > 0).astype(np.float64), _information(counts))
        mass, occupied, information = (
            np.diff(np.append(0.0, np.cumsum(terms)).take(edges), axis=1) for terms in sums
        )
        return cls(edges, mass, occupied, information)

    @property
    def divergences(self) -> Doubles:
        """N KL(P || Q) of each code with no clipped values, float64 (S, K)."""
        spread = np.where(self.mass > 0.0, self.mass, 1.0) / np.maximum(self.occupied, 1.0)
        return self.information - self.mass * np.log(spread)

    def clipped(self, counts: Doubles, outside: Doubles, bins: Indices) -> Doubles:
        """Growth of N KL(P || Q) if a code is the outermost one, float64 (S, K).

        Parameters
        ----------
        counts : float64 (n,)
            Of the histogram.
        outside : float64 (S, K)
            Values beyond the code. P counts them in the outermost bin, Q not at all.
        bins : intp (S, K)
            Outermost bin of each code.
        """
        present = counts.take(bins)
        occupied = self.occupied + (present == 0.0)
        spread = np.maximum(self.mass, SMOOTHING) / np.maximum(occupied, 1.0)
        information = self.information - _information(present) + _information(present + outside)
        whole = information - (self.mass + outside) * np.log(spread)
        return np.where(outside > 0.0, whole - self.divergences, 0.0)


def _information(counts: Doubles) -> Doubles:
    """``P log P``, 0 at 0."""
    result: Doubles = counts * np.log(np.where(counts > 0.0, counts, 1.0))
    return result


def _divergences(histogram: Histogram, scales: Doubles, bits: int) -> Doubles:
    """KL divergence of every zero point at each scale, float64 (S, 2**b), in nats.

    P holds the counts of the bins in range, the clipped ones added to the outermost bins; Q the
    counts of a code without the clipped ones, spread evenly over its bins that are not empty.
    With N the values, M those in range and n_c the bins of code c::

        KL = (1 / N) sum_c [ sum_{i in c} P_i log P_i - P_c log(Q_c / n_c) ] + log(M / N)

    The bracket depends on z only at the outermost codes, so running sums serve every z. Infinite
    where more than half the values are clipped.
    """
    counts = histogram.counts.astype(np.float64)
    cells = _Cells.of_scales(histogram, scales, bits)
    top = IntegerType(bits).maximum
    reached = np.append(0.0, np.cumsum(counts))
    below, above = reached.take(cells.edges[:, :-1]), reached[-1] - reached.take(cells.edges[:, 1:])
    last = len(counts) - 1
    lowest = cells.clipped(counts, below, np.minimum(cells.edges[:, :-1], last))
    highest = cells.clipped(counts, above, np.maximum(cells.edges[:, 1:] - 1, 0))
    running = np.pad(np.cumsum(cells.divergences, axis=1), ((0, 0), (1, 0)))
    # Zero points 0 .. top: code numbers -z .. top - z, at -z + top .. 2 top - z.
    low = top - np.arange(top + 1)
    high = low + top
    sums = running[:, high + 1] - running[:, low] + lowest[:, low] + highest[:, high]
    kept = reached[-1] - below[:, low] - above[:, high]
    logarithms = np.log(np.where(kept > 0.0, kept / reached[-1], 1.0))
    # Q is normalised to 1 by the values in range. Where they are next to none, a single bin of
    # them beside all others clipped would look like a perfect match.
    return np.where(kept >= 0.5 * reached[-1], sums / reached[-1] + logarithms, np.inf)


def _entropy(histogram: Histogram, bits: int) -> Range:
    """Least loss of information: ``argmin_{s, z} KL(P || Q)``.

    Migacz 2017, "8-bit inference with TensorRT" (GTC), and onnxruntime's EntropyCalibrater, here
    with 2**b codes and both sides cut independently. As there, a code has a bin at least; half
    the values at least are kept. Of equal ranges, the widest.

    The divergence counts a clipped value once, however far it is clipped: of values with heavy
    tails it keeps the middle alone, and the large ones, which carry the signal, are lost. So only
    ranges are compared whose squared error is at most `MOST_ERROR` times the least.
    """
    scales = scale_grid(histogram, bits)
    errors = _squared_errors(_Tails.of_histogram(histogram), scales, bits)
    near = errors <= MOST_ERROR * max(float(errors.min()), 0.0) + _ROUNDING * float(errors.max())
    divergences = np.where(near, _divergences(histogram, scales, bits), np.inf)
    if not np.isfinite(divergences).any():  # every such range clips more than half the values
        return _mse(histogram, bits)
    # Differences of rounding do not decide.
    close = divergences <= divergences.min() + 1e-12
    row, zero_point = divmod(int(np.argmax(close)), divergences.shape[1])
    return codes_range(float(scales[row]) * histogram.width, zero_point, bits)


# --- the observers by name ---

_RANGES: dict[str, Callable[[Histogram, int], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}


def require_observer(observer: str) -> None:
    """Check the name of an observer.

    Parameters
    ----------
    observer : str
        Should be one of `onnxgru.core.choices.OBSERVERS`.

    Raises
    ------
    UsageError
        If it is not.
    """
    if observer not in OBSERVERS:
        raise UsageError(f"an observer must be one of {', '.join(OBSERVERS)}, but is {observer!r}")


def observe(histogram: Histogram, observer: str, bits: int) -> Range:
    """Choose the range that unsigned affine codes of a width should span.

    Parameters
    ----------
    histogram : Histogram
        Values of one tensor, at least one.
    observer : str
        One of `onnxgru.core.choices.OBSERVERS`: "minmax" keeps every value, "percentile"
        `PERCENTILE` of them, "mse" has the least squared error of quantisation, "entropy" the least
        Kullback-Leibler divergence.
    bits : int
        Width of the codes, 2 to 8, or 16.

    Returns
    -------
    tuple of float
        low <= 0.0 <= high, for `Quantization.of_range`. Those of "mse" and "entropy" are the
        first and last value that have a code, and may lie a little outside the values. Values
        that are all the same, or so small that a float32 scale would be subnormal, get the range
        of "minmax" from every observer.

    Raises
    ------
    UsageError
        If the observer is unknown or the width not supported.
    DataError
        If the histogram is empty.
    """
    require_observer(observer)
    IntegerType(bits)
    _require_values(histogram)
    if is_constant(histogram, bits):
        return _minmax(histogram, bits)
    return _RANGES[observer](histogram, bits)


def is_constant(histogram: Histogram, bits: int) -> bool:
    """Whether there is no range to search: all values the same, or a scale would be subnormal."""
    span = max(histogram.maximum, 0.0) - min(histogram.minimum, 0.0)
    # Four times: a search that narrows the range needs room above the smallest normal scale.
    least = 4.0 * float(np.finfo(np.float32).tiny) * IntegerType(bits).maximum
    return histogram.minimum == histogram.maximum or span < least


def _require_values(histogram: Histogram) -> None:
    """Refuse an empty histogram."""
    if not histogram.count:
        raise DataError(
            "a range must come from at least one value, but calibration saw none of this tensor: "
            "calibrate with sequences that reach it"
        )
