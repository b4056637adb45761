"""Glitches in recordings: a few values that are too large for the tail of all others.

One value of 1,000 among values within -4 .. 4 leaves two or three of 256 codes for all others. Let
``a[1] >= a[2] >= ...`` be the magnitudes of an input's values. The m largest are a glitch if they
are few, in few places, and above a gap::

    a[m] >= LEAST a[m + 1]        and        a[m] >= a[m + 1] exp(SURE h)

where h is Hill's estimate of the heaviness of the tail below the gap, the largest over several k
(Hill 1975, "A simple general approach to inference about the tail of a distribution")::

    h = mean of log(a[m + i] / a[m + k + 1])        i = 1 .. k

In a tail P(x > t) ~ t**(-1 / h) the largest value is r times the next with a probability of
r**(-1 / h): exp(-SURE) at the limit, one in a million. So heavy tails, such as raw power, are no
glitches.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.data.dataset import Dataset

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

LEAST = 4.0
"""Smallest ratio to the largest other magnitude: a smaller glitch costs less than two bits."""

SURE = float(np.log(1e6))
"""Minus the logarithm of the largest probability of a gap in the tail of the others."""

MOST_VALUES = 1024
"""Most values of a glitch, for any amount of data."""

SHARE = 200
"""At most one in this many values may belong to a glitch."""

MOST_PLACES = 3
"""Most places with glitches: values at more places are no mistake."""

RECORDINGS = 30
"""Recordings per allowed place with a glitch; one place is always allowed."""

TAILS = 20, 200
"""Numbers of values below the gap from which the tail is estimated."""

ENOUGH = 200
"""Fewest non-zero values for an estimate of the tail."""

DISTINCT = 16
"""Fewest distinct magnitudes: inputs with fewer hold flags, classes or counts without a tail."""

APART = 3
"""Steps of a recording that are further apart belong to two places."""

KEPT = MOST_VALUES + TAILS[-1] + 1
BLOCK = 2**18
SAMPLE = 4096


@dataclass(frozen=True)
class Glitch:
    """Values of one input that are too large for the tail of the others.

    Parameters
    ----------
    source : str
        Origin of the largest value.
    input : str
        Graph input.
    count : int
        Number of values.
    recordings : int
        Number of recordings with such values.
    recording : int
        Number of the recording with the largest value, from 0, in its source.
    position : tuple of int
        Index of the largest value in its array; only the frame if there are streams.
    frames : bool
        Whether the data are streams of frames.
    value : float
        The largest.
    limit : float
        The largest magnitude of all other values.
    """

    source: str
    input: str
    count: int
    recordings: int
    recording: int
    position: tuple[int, ...]
    frames: bool
    value: float
    limit: float


@dataclass(frozen=True)
class _Batch:
    """Shape of a batch with recordings or frames first, and the axis where these were."""

    source: str
    shape: tuple[int, ...]
    axis: int
    first: int
    """Recordings and frames in batches before."""
    streams: tuple[int, ...]
    widths: tuple[int, ...]
    """Recordings side by side in the calls of every stream."""


@dataclass
class Extremes:
    """The largest magnitudes of one input with their places, and statistics of the others.

    Parameters
    ----------
    name : str
        Graph input.
    values : float64 (K,)
        The `KEPT` values of the largest magnitudes, the largest first.
    rows, offsets : int64 (K,)
        Numbers of their recordings or frames, over all batches, and places in those.
    count : int
        Number of values that are not zero.
    distinct : set of float
        Distinct magnitudes, at least `DISTINCT` if there are so many.
    peaks : list of float
        The largest magnitude of every recording or frame.
    recordings : int
        Number of recordings.
    """

    name: str
    values: Doubles = field(default_factory=lambda: np.zeros(0))
    rows: Whole = field(default_factory=lambda: np.zeros(0, np.int64))
    offsets: Whole = field(default_factory=lambda: np.zeros(0, np.int64))
    count: int = 0
    distinct: set[float] = field(default_factory=set)
    peaks: list[float] = field(default_factory=list)
    recordings: int = 0
    _batches: list[_Batch] = field(default_factory=list)

    def update(self, data: Dataset) -> None:
        """Add the input's values in further recordings.

        Parameters
        ----------
        data : Dataset
            Recordings; no axis of this input may be empty.
        """
        axis = data.batch_axes.get(self.name, 0) or 0
        array = np.moveaxis(data.inputs[self.name], axis, 0)
        first, widths = len(self.peaks), data.widths
        self._batches.append(_Batch(data.source, array.shape, axis, first, data.streams, widths))
        self.recordings += sum(widths) if data.streams else len(array)
        most = max(1, BLOCK * len(array) // max(1, array.size))
        for start in range(0, len(array), most):
            rows = array[start : start + most]
            self._take(rows.reshape(len(rows), -1), first + start)

    def _take(self, rows: Array, first: int) -> None:
        """Take values (n, ...) of recordings from a number on."""
        magnitudes = np.abs(rows)
        self.count += int(np.count_nonzero(magnitudes))
        self.peaks += magnitudes.max(axis=1).astype(np.float64).tolist()
        flat = magnitudes.reshape(-1)
        if len(self.distinct) < DISTINCT:
            self.distinct |= set(np.unique(flat[:SAMPLE])[-DISTINCT:].tolist())
        least = abs(self.values[-1]) if len(self.values) == KEPT else 0.0
        found = np.flatnonzero(flat > least)
        if len(found) > KEPT:
            found = found[np.argpartition(flat[found], -KEPT)[-KEPT:]]
        if not len(found):
            return
        values = np.append(self.values, rows.reshape(-1)[found].astype(np.float64))
        order = np.argsort(-np.abs(values), kind="stable")[:KEPT]
        self.values = values[order]
        numbers, offsets = np.divmod(found, rows.shape[1])
        self.rows = np.append(self.rows, numbers + first)[order]
        self.offsets = np.append(self.offsets, offsets)[order]

    def glitch(self) -> Glitch | None:
        """The glitch of this input, or None."""
        magnitudes = np.abs(self.values)
        most = min(MOST_VALUES, max(1, self.count // SHARE), len(magnitudes) - TAILS[0] - 1)
        if len(self.distinct) < DISTINCT or self.count < ENOUGH or most < 1:
            return None
        # Magnitudes that are kept are above zero.
        ratios = magnitudes[:most] / magnitudes[1 : most + 1]
        allowed = min(MOST_PLACES, max(1, self.recordings // RECORDINGS))
        for index in np.flatnonzero(ratios >= LEAST)[::-1]:
            count = int(index) + 1
            places = self._places(count)
            if len(places) > allowed:
                continue
            tail = max(_heaviness(magnitudes[count:], k) for k in TAILS)
            if count > 2 * len(places):
                # Many values at one place may be the level of the whole recording.
                tail = max(tail, self._heaviness_of_peaks(count))
            if ratios[index] >= np.exp(SURE * tail):
                return self._described(count, len({place[:2] for place in places}))
        return None

    def _heaviness_of_peaks(self, count: int) -> float:
        """Heaviness of the tail of the recordings' peaks, without those of the largest values."""
        others = np.delete(np.array(self.peaks), np.unique(self.rows[:count]))
        others = np.sort(others[others > 0])[::-1]
        return _heaviness(others, len(others) // 4) if len(others) >= TAILS[0] else 0.0

    def _places(self, count: int) -> set[tuple[int, int, int]]:
        """Places of the largest values: batch, recording, and part of the recording."""
        found = []
        for row, offset in zip(self.rows[:count], self.offsets[:count], strict=True):
            number, batch = self._batch(int(row))
            recording, step = _recording(batch, int(row) - batch.first)
            if not batch.streams and len(batch.shape) > 1:
                # The axis of time is not known; most likely it is the longest.
                place = np.unravel_index(int(offset), batch.shape[1:])
                step = int(place[int(np.argmax(batch.shape[1:]))])
            found.append((number, recording, step))
        places: set[tuple[int, int, int]] = set()
        part, before = 0, (-1, -1, 0)
        for one in sorted(found):
            part = part + (one[2] - before[2] > APART) if one[:2] == before[:2] else 0
            places.add((*one[:2], part))
            before = one
        return places

    def _batch(self, row: int) -> tuple[int, _Batch]:
        firsts = [batch.first for batch in self._batches]
        number = int(np.searchsorted(firsts, row, side="right")) - 1
        return number, self._batches[number]

    def _described(self, count: int, recordings: int) -> Glitch:
        row, value = int(self.rows[0]), float(self.values[0])
        _, batch = self._batch(row)
        recording, frame = _recording(batch, row - batch.first)
        position = [int(i) for i in np.unravel_index(int(self.offsets[0]), batch.shape[1:] or (1,))]
        position = position[: len(batch.shape) - 1]
        position.insert(batch.axis, row - batch.first)
        return Glitch(
            batch.source,
            self.name,
            count,
            recordings,
            recording,
            (frame,) if batch.streams else tuple(position),
            bool(batch.streams),
            value,
            float(abs(self.values[count])),
        )


def _recording(batch: _Batch, row: int) -> tuple[int, int]:
    """Number of a recording in its batch, and the frame in it: 0 where recordings are whole."""
    if not batch.streams:
        return row, 0
    number = 0
    for length, width in zip(batch.streams, batch.widths, strict=True):
        if row < length * width:
            break
        row, number = row - length * width, number + width
    frame, column = divmod(row, width)
    return number + column, frame


def _heaviness(magnitudes: Doubles, count: int) -> float:
    """Hill's estimate from descending magnitudes above zero, the first `count` of them."""
    count = min(count, len(magnitudes) - 1)
    if count < 1:
        return 0.0
    return float(np.log(magnitudes[:count] / magnitudes[count]).mean())


def limited(data: Dataset, glitches: Iterable[Glitch]) -> Dataset:
    """Data with the values of glitches clipped to the largest magnitude of all others.

    Parameters
    ----------
    data : Dataset
        Data with or without glitches.
    glitches : iterable of Glitch
        At most one for each input.
    """
    limits = {glitch.input: glitch.limit for glitch in glitches}
    inputs = {
        name: np.clip(array, -limits[name], limits[name]) if name in limits else array
        for name, array in data.inputs.items()
    }
    return replace(data, inputs=inputs)
