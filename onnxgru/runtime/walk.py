"""Walk: one program runs through a model, for some calls at a time.

Float parts run call by call. An integer layer runs the sequences of all calls together. If calls
pass its state on, it runs their steps one after another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import ModelError
from onnxgru.core.integers import Codes, Quantization
from onnxgru.core.program import IntegerLayer
from onnxgru.data.dataset import Dataset
from onnxgru.runtime.engines import Initial, States
from onnxgru.runtime.plan import RunPlan

Array = npt.NDArray[Any]

REMEMBERED_BYTES = 64 * 2**20
"""Largest inputs of a segment whose results are cached for the next program."""


@dataclass(frozen=True, eq=False)
class Job:
    """Input of a layer for one run.

    Parameters
    ----------
    x : ndarray of uint8 or uint16, shape (T, B, I)
        Input codes.
    initial : mapping of str to ndarray of uint8 or uint16, shape (D, B, H), optional
        Codes of carries before the first step, by carry.
    lengths : ndarray of int, shape (B,), optional
        Steps of every sequence.
    calls : tuple of tuple of int
        For every call: its number, start and stop of its steps, start and stop of its sequences.
    """

    x: Codes
    initial: Initial | None
    lengths: Array | None
    calls: tuple[tuple[int, int, int, int, int], ...]


class Group:
    """Calls that run together, with cached values that are the same for all programs.

    Parameters
    ----------
    plan : RunPlan
        Of the model.
    calls : sequence of Dataset
        All of one shape.
    counts : sequence of int
        Sequences of every call that count.
    streams : sequence of int
        Numbers of consecutive calls that pass states on.
    once : bool
        Whether only one program is evaluated, so that nothing is cached for the next.
    """

    def __init__(
        self,
        plan: RunPlan,
        calls: Sequence[Dataset],
        counts: Sequence[int],
        streams: Sequence[int] = (),
        *,
        once: bool = False,
    ) -> None:
        self._once = once
        self.plan, self.calls, self.counts = plan, tuple(calls), tuple(counts)
        self.streams = tuple(streams) or (1,) * len(self.calls)
        self._remembered: dict[int, tuple[list[list[Array]], list[list[Array]]]] = {}
        self._codes: dict[tuple[int, Quantization], Codes] = {}

    def segment(self, level: int, given: list[list[Array]]) -> list[list[Array]]:
        """Run a segment for every call, unless its inputs equal those of the run before.

        Parameters
        ----------
        level : int
            Level of the segment.
        given : list of list of ndarray
            For every value that it reads, one array per call.

        Returns
        -------
        list of list of ndarray
            For every value that it gives, one array per call.
        """
        segment = self.plan.segments[level]
        assert segment is not None
        known = self._remembered.get(level)
        if known is not None and _same(known[0], given):
            return known[1]
        found: list[list[Array]] = [[] for _ in segment.gives]
        for call in range(len(self.calls)):
            feeds = {name: g[call] for name, g in zip(segment.reads, given, strict=True)}
            results = segment.run(feeds)
            for name, values in zip(segment.gives, found, strict=True):
                values.append(results[name])
        size = sum(array.nbytes for values in given for array in values)
        if not self._once and (not level or size <= REMEMBERED_BYTES):
            self._remembered[level] = given, found
        return found

    def codes(self, place: int, quantization: Quantization, x: Array) -> Codes:
        """Codes of a layer's input; cached where the input is the same for all programs."""
        if self._once or self.plan.levels[place]:
            return quantization.quantize(x)
        key = place, quantization
        if key not in self._codes:
            self._codes[key] = np.ascontiguousarray(quantization.quantize(x))
        return self._codes[key]


class Walk:
    """The values of one program in a group of calls.

    Parameters
    ----------
    group : Group
        The calls.
    """

    def __init__(self, group: Group) -> None:
        self._group, self._plan = group, group.plan
        self._level = -1
        self.values: dict[str, list[Array]] = {
            name: [call.inputs[name] for call in group.calls]
            for name in group.calls[0].inputs
            if name not in self._plan.lines
        }
        """Values that are known so far, one array per call, by name."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Sequences of every call that count."""
        return self._group.counts

    def jobs(self, place: int, layer: IntegerLayer) -> list[Job]:
        """Inputs of a layer, one `Job` per run.

        Parameters
        ----------
        place : int
            Of the layer in the program.
        layer : IntegerLayer
            The layer.
        """
        x, lengths, initial = self.entry(place, layer.node)
        if place in self._plan.carried:
            return self._carried(place, layer, x)
        alike = len({array.shape for array in x}) == 1
        members = [range(len(x))] if alike else [range(c, c + 1) for c in range(len(x))]
        return [
            Job(
                self._quantized(place, layer, [x[c] for c in member]),
                {
                    carry: layer.carried(carry).quantize(_beside([values[c] for c in member]))
                    for carry, values in initial.items()
                },
                None if lengths is None else np.concatenate([lengths[c] for c in member]),
                tuple(
                    (c, 0, x[c].shape[0], n * x[c].shape[1], (n + 1) * x[c].shape[1])
                    for n, c in enumerate(member)
                ),
            )
            for member in members
        ]

    def entry(
        self, place: int, node: str
    ) -> tuple[list[Array], list[Array] | None, dict[str, list[Array]]]:
        """Inputs of a layer's node in every call.

        Returns
        -------
        x : list of ndarray of float32, shape (T, B, I)
            The sequences.
        lengths : list of ndarray of int, shape (B,), or None
            Steps of every sequence.
        initial : dict of str to list of ndarray of float32, shape (D, B, H)
            Initial values by carry; empty where calls pass them on.

        Raises
        ------
        ModelError
            If the node has no sequences, or gets something else for some number of recordings.
        """
        self._advance(self._plan.levels[place])
        port = self._plan.ports[place]
        if not port.x:
            raise ModelError(f"node {node!r} has no input sequence; export the model again")
        sequences = self.value(port.x)
        if wrong := next((x.shape for x in sequences if x.ndim != 3), None):
            raise ModelError(
                f"node {node!r} reads an array of shape {wrong}, and must read (steps, recordings, "
                "features) for every number of recordings; export the model so that no axis of "
                "size 1 falls away"
            )
        given = {} if place in self._plan.carried else port.initial
        return (
            sequences,
            self.value(port.lengths) if port.lengths else None,
            {carry: self.value(name) for carry, name in given.items()},
        )

    def put(
        self, layer: IntegerLayer, results: Sequence[tuple[Codes, Mapping[str, Codes]]]
    ) -> None:
        """Store a layer's outputs (T, D, B, H) and last carries (D, B, H) of every call."""
        ports = layer.ports
        if ports.sequence:
            self.values[ports.sequence] = [layer.emitted.dequantize(y) for y, _ in results]
        for carry, name in ports.last.items():
            found = [layer.carried(carry).dequantize(last[carry]) for _, last in results]
            self.values[name] = found

    def _quantized(self, place: int, layer: IntegerLayer, x: Sequence[Array]) -> Codes:
        return self._group.codes(place, layer.input.quantization, _beside(x))

    def _carried(self, place: int, layer: IntegerLayer, x: list[Array]) -> list[Job]:
        """The steps of all calls of a recording one after another, recordings side by side."""
        lines = {
            carry: self._plan.lines[name] for carry, name in self._plan.ports[place].initial.items()
        }
        starts = np.cumsum([0, *self._group.streams])[:-1]
        found: list[Job] = []
        steps, batch = x[0].shape[:2]
        for length in dict.fromkeys(self._group.streams):
            members = [
                int(start)
                for start, own in zip(starts, self._group.streams, strict=True)
                if own == length
            ]
            sequences = [np.concatenate(x[start : start + length]) for start in members]
            initial = {
                carry: [line.values({}, self._first(start), 1)[0] for start in members]
                for carry, line in lines.items()
            }
            found.append(
                Job(
                    layer.input.quantization.quantize(_beside(sequences)),
                    {c: layer.carried(c).quantize(_beside(v)) for c, v in initial.items()},
                    None,
                    tuple(
                        (start + f, f * steps, (f + 1) * steps, n * batch, (n + 1) * batch)
                        for n, start in enumerate(members)
                        for f in range(length)
                    ),
                )
            )
        return found

    def _first(self, call: int) -> Array:
        """Elements of the states of a recording's first call."""
        return np.concatenate(
            [self._group.calls[call].inputs[name].reshape(-1) for name in self._plan.states]
        )

    def keep(
        self,
        place: int,
        layer: IntegerLayer,
        jobs: Sequence[Job],
        results: Sequence[tuple[Codes | None, Mapping[str, Codes]]],
    ) -> None:
        """Store a layer's outputs (T, D, B, H), if wanted, and last carries (D, B, H)."""
        ports = layer.ports
        emitted = [y for y, _ in results]
        if ports.sequence:
            parts = self._steps_of(jobs, emitted)
            self.values[ports.sequence] = [layer.emitted.dequantize(codes) for codes in parts]
        for carry, name in ports.last.items():
            parts = self._last_of(place, jobs, emitted, [last[carry] for _, last in results])
            self.values[name] = [layer.carried(carry).dequantize(codes) for codes in parts]

    def _steps_of(self, jobs: Sequence[Job], emitted: Sequence[Codes | None]) -> list[Codes]:
        """Outputs of a layer in every call, (T, D, B, H)."""
        found: dict[int, Codes] = {}
        for job, y in zip(jobs, emitted, strict=True):
            assert y is not None
            for call, start, end, low, high in job.calls:
                found[call] = y[start:end, :, low:high]
        return [found[call] for call in range(len(self._group.calls))]

    def _last_of(
        self,
        place: int,
        jobs: Sequence[Job],
        emitted: Sequence[Codes | None],
        last: Sequence[Codes],
    ) -> list[Codes]:
        """A carry of a layer after every call, (D, B, H)."""
        found: dict[int, Codes] = {}
        for job, y, codes in zip(jobs, emitted, last, strict=True):
            for call, _, end, low, high in job.calls:
                if place in self._plan.carried:  # the carry is the output
                    assert y is not None
                    found[call] = y[end - 1, :, low:high]
                else:
                    found[call] = codes[:, low:high]
        return [found[call] for call in range(len(self._group.calls))]

    def states(self, place: int, jobs: Sequence[Job], results: Sequence[States]) -> list[States]:
        """States of a layer call by call."""
        emitted = [result.y for result in results]
        every = self._steps_of(jobs, emitted)
        carries = list(results[0].last)
        if place in self._plan.carried:  # held values of a delta network are known at the end only
            carries = [carry for carry in carries if carry in self._plan.ports[place].initial]
        last = {
            carry: self._last_of(place, jobs, emitted, [result.last[carry] for result in results])
            for carry in carries
        }
        found: dict[int, States] = {}
        for job, result in zip(jobs, results, strict=True):
            for call, start, end, low, high in job.calls:
                trace = {n: codes[start:end, low:high] for n, codes in result.trace.items()}
                final = {carry: codes[call] for carry, codes in last.items()}
                found[call] = States(every[call], final, trace)
        return [found[call] for call in range(len(self._group.calls))]

    def outputs(self, names: Sequence[str] | None = None) -> list[dict[str, Array]]:
        """Outputs of the model in every call; all outputs of the plan where none are named."""
        self._advance(len(self._plan.segments) - 1)
        columns = {name: self.value(name) for name in names or self._plan.outputs}
        return [
            {name: values[call] for name, values in columns.items()}
            for call in range(len(self._group.calls))
        ]

    def _advance(self, level: int) -> None:
        """Run the segments up to a level."""
        while self._level < level:
            self._level += 1
            segment = self._plan.segments[self._level]
            if segment is None:
                continue
            given = [self.value(name) for name in segment.reads]
            found = self._group.segment(self._level, given)
            self.values.update(zip(segment.gives, found, strict=True))

    def value(self, name: str) -> list[Array]:
        """A value in every call."""
        if name not in self.values:
            if name not in self._plan.lines:
                return [self._plan.constants[name]] * len(self._group.calls)
            self.values[name] = self._lined(name)
        return self.values[name]

    def _lined(self, name: str) -> list[Array]:
        """A value that is moved out of states, composed recording by recording."""
        line, values, start = self._plan.lines[name], [], 0
        sources = {tap.source: self.value(tap.source) for tap in line.taps}
        for length in self._group.streams:
            part = {n: found[start : start + length] for n, found in sources.items()}
            values += line.values(part, self._first(start), length)
            start += length
        return values


def _beside(arrays: Sequence[Array]) -> Array:
    """Arrays (T, B, N) of several calls with their sequences side by side."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)


def _same(known: list[list[Array]], given: list[list[Array]]) -> bool:
    """Whether values are the same in every call."""
    return all(
        a is b or np.array_equal(a, b)
        for one, other in zip(known, given, strict=True)
        for a, b in zip(one, other, strict=True)
    )
