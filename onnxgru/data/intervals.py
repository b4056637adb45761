"""95 % intervals of figures of quality, and of the difference of two on the same recordings.

A figure is computed from sums over recordings, such as right answers and all answers, or the
energies of signal and noise. For every built-in metric, `PARTS` gives the summands of a recording
and the figure of the sums. So one rule gives the interval of every metric:

- a share with one answer per recording: Wilson's score interval (Wilson 1927), and Tango's for the
  difference of two shares of the same recordings (Tango 1998), which hold for few recordings and
  near 0 and 100 % as well;
- everything else: the percentile bootstrap over whole recordings (Efron 1979), because the frames
  of one recording are not independent of each other. Its draws come from a fixed seed.

A user's own metric has no known summands, and so no interval.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.data.dataset import Recorded
from onnxgru.data.metrics import METRICS, SQNR_LIMIT, Metric, answers, classes

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

Z = 1.959963984540054
"""Standard errors on both sides of a normal distribution's 95 % interval."""

DRAWS = 1000
"""Draws of the bootstrap."""

BLOCK = 2**18
"""Numbers that are drawn at a time."""

FEWEST = 2
"""Fewest recordings that tell anything of their spread."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Sums:
    """Summands of a figure, by recording.

    Parameters
    ----------
    parts : ndarray of float64, shape (B, K)
        Summands of every recording.
    combine : callable
        From sums (..., K) to figures (...).
    counted : int
        Number of answers that count: labels without padding, rows whose arg-max is compared, or
        recordings.
    share : bool
        Whether `parts` are right answers and answers, so that the figure is a share in percent.
    """

    parts: Floats
    combine: Callable[[Floats], Floats]
    counted: int
    share: bool

    @property
    def single(self) -> bool:
        """Whether every recording has at most one answer: a share of independent answers."""
        return self.share and bool((self.parts[:, 1] <= 1).all())


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and the amount of data.

    Parameters
    ----------
    figure : float
        In the metric's unit.
    interval : tuple of float, optional
        Its 95 % interval; None if it is not known.
    sequences : int
        Number of recordings.
    counted : int
        Number of answers that count.
    """

    figure: float
    interval: Interval | None
    sequences: int
    counted: int


def _share(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100.0 * sums[..., 0] / sums[..., 1]


def _ratio(sums: Floats) -> Floats:
    """Decibels of signal to noise, limited to +-`SQNR_LIMIT`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10.0 * np.log10(sums[..., 0] / sums[..., 1])
    return np.clip(np.nan_to_num(found, nan=SQNR_LIMIT), -SQNR_LIMIT, SQNR_LIMIT)


def _mean(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _macro(sums: Floats) -> Floats:
    """Mean over the classes that occur of 2 TP / (2 TP + FP + FN)."""
    right, seen = np.split(sums, 2, axis=-1)
    occur = seen > 0
    scores = np.divide(2.0 * right, seen, out=np.zeros_like(right), where=occur)
    return np.asarray(100.0 * scores.sum(axis=-1) / occur.sum(axis=-1))


def _of_accuracy(outputs: Array, labels: Array) -> Sums:
    predicted, counts = classes(outputs, labels)
    labels = labels.reshape(predicted.shape)
    right = ((predicted == labels) & counts).reshape(len(labels), -1).sum(axis=1)
    number = counts.reshape(len(labels), -1).sum(axis=1)
    parts = np.stack([right, number], axis=1).astype(np.float64)
    return Sums(parts, _share, int(number.sum()), share=True)


def _of_agreement(outputs: Array, reference: Array) -> Sums:
    same = (answers(outputs) == answers(reference)).reshape(len(outputs), -1)
    parts = np.stack([same.sum(axis=1), np.full(len(same), same.shape[1])], axis=1)
    return Sums(parts.astype(np.float64), _share, same.size, share=True)


def _of_macro_f1(outputs: Array, labels: Array) -> Sums:
    predicted, counts = classes(outputs, labels)
    labels = labels.reshape(predicted.shape)
    number = int(max(predicted[counts].max(), labels[counts].max())) + 1
    parts = np.zeros((len(labels), 2 * number))
    rows = np.broadcast_to(
        np.arange(len(labels)).reshape(-1, *([1] * (labels.ndim - 1))), labels.shape
    )
    hits = counts & (predicted == labels)
    np.add.at(parts, (rows[hits], labels[hits]), 1.0)
    for found in (predicted, labels):
        np.add.at(parts, (rows[counts], number + found[counts]), 1.0)
    return Sums(parts, _macro, int(counts.sum()), share=False)


def _of_sqnr(outputs: Array, target: Array) -> Sums:
    expected = np.asarray(target, np.float64).reshape(len(target), -1)
    found = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    largest = max(float(np.abs(expected).max()), float(np.abs(found).max())) or 1.0
    signal = np.square(expected / largest).sum(axis=1)
    noise = np.square(expected / largest - found / largest).sum(axis=1)
    return Sums(np.stack([signal, noise], axis=1), _ratio, len(signal), share=False)


def _of_si_sdr(outputs: Array, target: Array) -> Sums:
    expected = np.asarray(target, np.float64).reshape(len(target), -1)
    found = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    scaled = expected * (
        (found * expected).sum(axis=1, keepdims=True)
        / np.square(expected).sum(axis=1, keepdims=True)
    )
    energies = np.square(scaled).sum(axis=1), np.square(scaled - found).sum(axis=1)
    ratios = _ratio(np.stack(energies, axis=1))
    return Sums(np.stack([ratios, np.ones_like(ratios)], axis=1), _mean, len(ratios), share=False)


PARTS: Mapping[str, Callable[[Array, Array], Sums]] = {
    "accuracy": _of_accuracy,
    "macro_f1": _of_macro_f1,
    "agreement": _of_agreement,
    "sqnr": _of_sqnr,
    "si_sdr": _of_si_sdr,
}
"""Functions from outputs and targets to `Sums`, by name of the built-in metric."""


def sums(metric: Metric, outputs: Array, target: Array) -> Sums | None:
    """Summands of a figure for outputs (B, ...); None for a user's own metric."""
    known = METRICS.get(metric.name)
    if known is None or known.function is not metric.function:
        return None
    return PARTS[metric.name](outputs, target)


def sums_of(metric: Metric, outputs: Array, target: Array, data: Recorded) -> Sums | None:
    """Summands of a figure by recording, also if a recording has several rows in the outputs."""
    found = sums(metric, outputs, target)
    if found is None:
        return None
    lengths = rows_of(data, len(found.parts))
    if all(length == 1 for length in lengths):
        return found
    starts = np.cumsum([0, *lengths[:-1]])
    return dataclasses.replace(found, parts=np.add.reduceat(found.parts, starts, axis=0))


def recordings(data: Recorded) -> int:
    """Number of recordings of some data; a stream of frames is one recording."""
    return sum(sum(part.widths) if part.streams else part.size for part in data.parts)


def rows_of(data: Recorded, rows: int) -> list[int]:
    """Number of rows of every recording in outputs with `rows` rows.

    A recording has one row. It has one per frame in streams, and if recordings of different lengths
    have flat labels or outputs.
    """
    streams = [length for part in data.parts for length in (part.streams or [1] * part.size)]
    if sum(streams) == rows:
        return streams
    first = data.parts[0]
    for name, array in first.inputs.items():
        for axis in range(array.ndim):
            steps = [part.inputs[name].shape[axis] for part in data.parts]
            each = [t for t, part in zip(steps, data.parts, strict=True) for _ in range(part.size)]
            if axis != first.batch_axes.get(name, 0) and sum(each) == rows:
                return each
    return [1] * rows


def weights(sequences: int) -> Iterator[Floats]:
    """How often every recording is drawn, the same for the same number of recordings.

    Yields
    ------
    ndarray of float64, shape (draws, B)
        Some draws at a time, so that memory stays bounded; `DRAWS` in all.
    """
    generator = np.random.default_rng([0, sequences])
    share = np.full(sequences, 1.0 / sequences)
    most = max(1, BLOCK // sequences)
    for start in range(0, DRAWS, most):
        count = min(most, DRAWS - start)
        yield generator.multinomial(sequences, share, size=count).astype(np.float64)


def wilson(right: float, count: int, z: float = Z) -> Interval:
    """Wilson's interval of a share, in percent.

    Parameters
    ----------
    right : float
        Right answers.
    count : int
        Answers, at least 1.
    z : float
        Standard errors on both sides; a 95 % interval where left out.
    """
    share = right / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 100.0 / (1 + z * z / count)
    return max(0.0, scale * (middle - spread)), min(100.0, scale * (middle + spread))


def cautious(found: Sums, z: float = 1.0) -> float:
    """A share minus some standard errors, in percent.

    Answers of one recording are not independent of each other. With several answers per recording,
    the error is that of a ratio of sums over recordings, and 0 for a single recording.

    Parameters
    ----------
    found : Sums
        Of a share.
    z : float
        Standard errors.
    """
    right, counts = found.parts.sum(axis=0)
    if found.single:
        return wilson(float(right), int(counts), z)[0]
    recordings = len(found.parts)
    if recordings < FEWEST:
        return float(100.0 * right / counts)
    apart = found.parts[:, 0] - right / counts * found.parts[:, 1]
    error = math.sqrt(recordings / (recordings - 1) * float(np.square(apart).sum())) / counts
    return float(max(0.0, 100.0 * (right / counts - z * error)))


def paired_shares(gained: int, lost: int, count: int) -> Interval:
    """Tango's 95 % interval of the difference of two shares of the same answers, in points.

    Parameters
    ----------
    gained, lost : int
        Number of answers that only the first has right, and that only the second has right.
    count : int
        Answers, at least 1.
    """

    def score(delta: float) -> float:
        b = -gained - lost + (2 * count - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 8 * count * c)) - b) / (4 * count)
        variance = count * (2 * q + delta * (1 - delta))
        if variance <= 0:
            return math.copysign(math.inf, gained - lost - count * delta)
        return (gained - lost - count * delta) / math.sqrt(variance)

    point = (gained - lost) / count
    found = []
    for end, wanted in ((-1.0, Z), (1.0, -Z)):
        outside, inside = end, point
        for _ in range(60):
            middle = (outside + inside) / 2
            if abs(score(middle)) < abs(wanted):
                inside = middle
            else:
                outside = middle
        found.append(100.0 * inside)
    return found[0], found[1]


def _percentiles(drawn: Floats) -> Interval | None:
    known = drawn[np.isfinite(drawn)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def interval(every: Sequence[Sums | None]) -> Interval | None:
    """95 % interval of a figure; of the worst output in every draw, if there are several.

    Parameters
    ----------
    every : sequence of Sums or None
        One per output that is judged, all of the same recordings.
    """
    known = [found for found in every if found is not None]
    if len(known) < len(every) or not known:
        return None
    if len(known) == 1 and known[0].single:
        right, count = known[0].parts.sum(axis=0)
        return wilson(float(right), int(count))
    sequences = len(known[0].parts)
    if sequences < FEWEST:
        return None
    return _percentiles(
        np.concatenate(
            [
                np.min([found.combine(drawn @ found.parts) for found in known], axis=0)
                for drawn in weights(sequences)
            ]
        )
    )


def difference(
    every: Sequence[Sums | None], others: Sequence[Sums | None]
) -> tuple[float, Interval] | None:
    """The difference of two figures on the same recordings, with its 95 % interval.

    Parameters
    ----------
    every, others : sequence of Sums or None
        One per output that is judged.

    Returns
    -------
    tuple of float and interval, or None
        None if the spread is not known.
    """
    first = [found for found in every if found is not None]
    second = [found for found in others if found is not None]
    if len(first) < len(every) or len(second) < len(others) or not first:
        return None
    sequences = len(first[0].parts)
    if sequences < FEWEST:
        return None

    def worst(found: Sequence[Sums], drawn: Floats) -> Floats:
        return np.asarray(np.min([one.combine(drawn @ one.parts) for one in found], axis=0))

    whole = np.ones((1, sequences))
    point = float((worst(first, whole) - worst(second, whole))[0])
    if len(first) == 1 and first[0].single and second[0].single:
        one, two = first[0].parts[:, 0], second[0].parts[:, 0]
        count = int(first[0].parts[:, 1].sum())
        return point, paired_shares(int((one > two).sum()), int((two > one).sum()), count)
    found = _percentiles(
        np.concatenate([worst(first, drawn) - worst(second, drawn) for drawn in weights(sequences)])
    )
    return None if found is None else (point, found)
