"""Sequences for the inputs of a model: one array per input, split into calls of the model.

Letters: B sequences per call of a model, N sequences of a data set, T steps.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import UsageError

Array = npt.NDArray[Any]

LABELS = "labels"


@dataclass(frozen=True)
class InputSpec:
    """Specification of one graph input.

    Parameters
    ----------
    name : str
        Name in the graph.
    dtype : numpy.dtype
        Element type.
    shape : tuple of int, str or None
        Fixed sizes; a name or None for an axis of any size. The batch axis of data may have any
        size even if the model fixes it: sequences run in calls of the model's batch.
    batch_axis : int or None
        Axis of the sequences. None for an input that is no recording (a sampling rate, a window, a
        table); it is given once and is the same for all sequences.
    state : bool
        Whether it is a state of the model, which is zero if the data lack it.
    fed_by : str, optional
        For a state: the output whose value the next call reads here.
    frames : tuple of int, optional
        Axes along which data may hold frames for several calls; None if this is not known.
    bare : bool
        Whether the model takes the input without the axis of sequences, one sequence per call.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    batch_axis: int | None = 0
    state: bool = False
    fed_by: str | None = None
    frames: tuple[int, ...] | None = None
    bare: bool = False

    @property
    def batch(self) -> int | None:
        """Number of sequences per call; None if the input takes any number."""
        if self.batch_axis is None or self.batch_axis >= len(self.shape):
            return None
        size = self.shape[self.batch_axis]
        return size if isinstance(size, int) else None

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


Signature = tuple[InputSpec, ...]


@dataclass(frozen=True)
class Dataset:
    """Sequences of one length for every input of a model, with labels or without.

    Parameters
    ----------
    inputs : mapping of str to array
        By graph input name, in the model's order; N sequences along the batch axis of each.
    labels : array or None
        int64 classes, (N,) per sequence or (N, T) per frame, negative for padded frames, which do
        not count; or floating targets, (N, ...). The batch is always axis 0.
    source : str
        Origin of the data, for messages and reports.
    batch_axes : mapping of str to int or None
        Axis of the sequences by input name. None for inputs that are given once; 0 for names that
        are left out.
    streams : tuple of int
        For a model that is called once per frame: numbers of consecutive calls that pass states
        on, one per recording; their sum is the number of calls. Empty if every sequence begins
        anew.
    bare : frozenset of str
        Inputs that the model takes without the axis of sequences, one sequence per call.
    beside : tuple of int
        Recordings side by side in the calls of every stream; empty if all streams have equally
        many.
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    source: str
    batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    streams: tuple[int, ...] = ()
    bare: frozenset[str] = frozenset()
    beside: tuple[int, ...] = ()

    @property
    def parts(self) -> tuple["Dataset", ...]:
        """The data of each length: here one."""
        return (self,)

    @property
    def size(self) -> int:
        """Number of sequences, or of frames if there are `streams`."""
        for name, array in self.inputs.items():
            axis = self.batch_axes.get(name, 0)
            if axis is not None:
                return int(array.shape[axis])
        return 1

    @property
    def largest(self) -> int:
        """Elements of one sequence in its largest input, at least 1."""
        sizes = (
            array.size // max(1, self.size)
            for name, array in self.inputs.items()
            if self.batch_axes.get(name, 0) is not None
        )
        return max(1, max(sizes, default=1))

    @property
    def widths(self) -> tuple[int, ...]:
        """Recordings side by side in the calls of every stream."""
        each = max(1, self.size // max(1, sum(self.streams)))
        return self.beside or (each,) * len(self.streams)

    def rows(self) -> Iterator[range]:
        """Indices along the batch axis of every recording: one, or one per frame."""
        if not self.streams:
            yield from (range(index, index + 1) for index in range(self.size))
        start = 0
        for length, width in zip(self.streams, self.widths, strict=True):
            stop = start + length * width
            yield from (range(start + column, stop, width) for column in range(width))
            start = stop

    def part(self, start: int, stop: int) -> "Dataset":
        """Sequences from `start` to before `stop`, as views and without `streams`."""
        inputs = {
            name: array if axis is None else array[(slice(None),) * axis + (slice(start, stop),)]
            for name, array in self.inputs.items()
            for axis in (self.batch_axes.get(name, 0),)
        }
        labels = None if self.labels is None else self.labels[start:stop]
        return replace(self, inputs=inputs, labels=labels, streams=(), beside=())

    def pick(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "Dataset":
        """Sequences by number, in that order, as copies and without `streams`."""
        inputs = {
            name: array if axis is None else np.take(array, indices, axis=axis)
            for name, array in self.inputs.items()
            for axis in (self.batch_axes.get(name, 0),)
        }
        labels = None if self.labels is None else self.labels[np.asarray(indices)]
        return replace(self, inputs=inputs, labels=labels, streams=(), beside=())

    def take(self, count: int) -> "Dataset":
        """Return the first `count` sequences, or all where there are fewer.

        Of data with `streams`, these are the first frames, which keep their streams.

        Raises
        ------
        UsageError
            If `count` is below 1.
        """
        first = self.part(0, _positive(count, "sequences taken"))
        if not self.streams:
            return first
        left, streams, widths = first.size, [], []
        for length, width in zip(self.streams, self.widths, strict=True):
            if left > 0:
                streams.append(min(-(-left // width), length))
                widths.append(width)
            left -= length * width
        return replace(first, streams=tuple(streams), beside=tuple(widths) if self.beside else ())

    def chunks(self, count: int) -> Iterator["Dataset"]:
        """Return consecutive slices of `count` sequences; the last one may be shorter.

        Raises
        ------
        UsageError
            If `count` is below 1.
        """
        step = _positive(count, "sequences a chunk")
        return (self.part(start, start + step) for start in range(0, self.size, step))

    def calls(self, batch: int | None, most: int) -> Iterator[tuple["Dataset", int]]:
        """Return the data of every call of a model, and how many of its sequences count.

        Parameters
        ----------
        batch : int or None
            Sequences per call. The last call is filled up with repetitions of the last sequence,
            which do not count. None if the model takes any number.
        most : int
            Sequences per call where the model takes any number. Frames of `streams` go one by one.
        """
        for part in self._apart(batch or (1 if self.streams else most)):
            if batch is None or part.size == batch:
                yield part._given(), part.size
            else:
                filled = part.pick(np.minimum(np.arange(batch), part.size - 1))
                yield filled._given(), part.size

    def _apart(self, size: int) -> Iterator["Dataset"]:
        """Slices for calls: `size` sequences, or one frame of the recordings of a stream."""
        if not self.beside:
            yield from self.chunks(size)
        start = 0
        for length, width in zip(self.streams, self.beside, strict=False):
            for _ in range(length):
                yield self.part(start, start + width)
                start += width

    def _given(self) -> "Dataset":
        """The data of a call, without the axis of sequences in `bare` inputs."""
        if not self.bare:
            return self
        inputs = {n: array[0] if n in self.bare else array for n, array in self.inputs.items()}
        axes = {**self.batch_axes, **dict.fromkeys(self.bare)}
        return replace(self, inputs=inputs, batch_axes=axes, bare=frozenset())

    def digest(self) -> str:
        """SHA-256 (64 hexadecimal digits) over names, types, shapes and values, not the source."""
        digest = hashlib.sha256()
        arrays = [(f"input:{name}", self.inputs[name]) for name in sorted(self.inputs)]
        if self.labels is not None:
            arrays.append((LABELS, self.labels))
        for name, array in arrays:
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(repr((name, little.dtype.str, array.shape)).encode())
            digest.update(little.reshape(-1).view(np.uint8).data)
        if self.streams:
            digest.update(repr(self.streams).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Corpus:
    """Sequences of several lengths: one `Dataset` per length.

    Parameters
    ----------
    parts : tuple of Dataset
        One per length, at least two.
    source : str
        Origin of the data.
    """

    parts: tuple[Dataset, ...]
    source: str

    @property
    def size(self) -> int:
        """Number of sequences."""
        return sum(part.size for part in self.parts)

    @cached_property
    def labels(self) -> Array | None:
        """Labels of all sequences, (N,) or (N, ...); labels per frame are flat, (frames, ...)."""
        found = [part.labels for part in self.parts]
        if any(labels is None for labels in found):
            return None
        return joined([labels for labels in found if labels is not None])

    def take(self, count: int) -> "Corpus | Dataset":
        """Return the first `count` sequences, or all where there are fewer."""
        left, parts = _positive(count, "sequences taken"), []
        for part in self.parts:
            if left > 0:
                parts.append(part.take(left))
            left -= part.size
        return parts[0] if len(parts) == 1 else Corpus(tuple(parts), self.source)

    def chunks(self, count: int) -> Iterator[Dataset]:
        """Return slices of at most `count` sequences of one length."""
        return (chunk for part in self.parts for chunk in part.chunks(count))

    def calls(self, batch: int | None, most: int) -> Iterator[tuple[Dataset, int]]:
        """Return the data of every call of a model; as `Dataset.calls`."""
        return (call for part in self.parts for call in part.calls(batch, most))

    def digest(self) -> str:
        """SHA-256 over all parts."""
        digests = "".join(part.digest() for part in self.parts)
        return hashlib.sha256(digests.encode()).hexdigest()


Recorded = Dataset | Corpus


def joined(arrays: Sequence[Array]) -> Array:
    """Join arrays along axis 0; if they differ in axis 1, frames and sequences become one axis.

    Parameters
    ----------
    arrays : sequence of array
        (N, ...) of one rank; (N, T, ...) with different T become (frames, ...).

    Raises
    ------
    ValueError
        If they differ otherwise.
    """
    if len({array.shape[1:] for array in arrays}) > 1:
        arrays = [array.reshape(-1, *array.shape[2:]) for array in arrays]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _positive(count: int, what: str) -> int:
    if count < 1:
        raise UsageError(f"the number of {what} must be at least 1, got {count}")
    return count
