"""Exact evaluation of integer programs on recordings, equal to the emitted graph."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.data.dataset import Dataset, Recorded
from onnxgru.runtime.engines import Engine, LayerEvaluator, States
from onnxgru.runtime.host import Host
from onnxgru.runtime.plan import LoopError, RunPlan
from onnxgru.runtime.walk import Group, Walk

Array = npt.NDArray[Any]
Layers = Sequence[tuple[IntegerLayer, Engine]]

Held = dict[str, dict[str, Array]]
"""Held values of a delta network after a call, by layer and carry."""

CHUNK_BYTES = 32 * 2**20
"""Largest working memory of calls that run together."""

MOST_ROWS = 1024
"""Most sequences that run together: the accumulators of a step then stay in the cache."""


def holds(program: IntegerProgram) -> bool:
    """Whether a program is a delta network."""
    carries = (c for layer in program.layers for r in layer.recurrences for c in r.carries)
    return any(carry.holds for carry in carries)


class Evaluator:
    """Evaluates programs of one model on one set of data, equal to the emitted graph.

    Values that no layer influences, such as the first layer's input, are computed once. If the data
    have streams, each call reads the states that the call before wrote.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset or Corpus
        Sequences.
    engine : callable
        From a layer to the engine that runs it.
    outputs : sequence of str, optional
        Outputs of the model that are wanted; all where left out.
    most : int, optional
        Most sequences per call, where the model takes any number.
    once : bool
        Whether only one program is evaluated, so that nothing is cached for the next.
    """

    def __init__(
        self,
        host: Host,
        data: Recorded,
        engine: Callable[[IntegerLayer], Engine] = LayerEvaluator,
        *,
        outputs: Sequence[str] | None = None,
        most: int | None = None,
        once: bool = False,
    ) -> None:
        self._host, self._engine, self._once = host, engine, once
        self._outputs = outputs
        self._groups: list[Group] = []
        self._apart: list[tuple[Dataset, tuple[int, ...]]] = []
        self._looped: list[tuple[Dataset, tuple[int, ...]]] = []
        self._plan = host.plan(outputs)
        for part in data.parts:
            self._add(part, most)

    def _add(self, data: Dataset, most: int | None) -> None:
        together = max(1, CHUNK_BYTES // self._bytes(data))
        rows = min(MOST_ROWS, together)
        batch = self._host.batch
        calls = list(data.calls(batch, min(rows, most or rows)))
        if data.streams:
            self._add_streams(data, calls, together)
            return
        size = max(1, min(rows, most or rows) // batch) if batch else 1
        for start in range(0, len(calls), size):
            part = calls[start : start + size]
            self._groups.append(self._group(self._plan, part))

    def _add_streams(
        self, data: Dataset, calls: Sequence[tuple[Dataset, int]], together: int
    ) -> None:
        try:
            plan = self._host.plan(self._outputs, calls[0][0].inputs)
        except LoopError:
            self._looped.append((data, data.streams))
            return
        if len(plan.carried) < len(plan.ports):
            self._apart.append((data, data.streams))
        start, members = 0, list(data.streams)
        while members:
            streams = [members.pop(0)]
            while members and sum(streams) + members[0] <= together:
                streams.append(members.pop(0))
            part = calls[start : start + sum(streams)]
            start += len(part)
            self._groups.append(self._group(plan, part, streams))

    def _group(
        self, plan: RunPlan, calls: Sequence[tuple[Dataset, int]], streams: Sequence[int] = ()
    ) -> Group:
        parts, counts = [call for call, _ in calls], [count for _, count in calls]
        return Group(plan, parts, counts, streams, once=self._once)

    def _bytes(self, data: Dataset) -> int:
        """Estimate of the working memory of a sequence: inputs, codes, and a layer's values."""
        longest, steps = self._extent(data)
        widest = max((layer.hidden_size for layer in self._host.layers), default=1)
        return 5 * longest + 8 * steps * widest

    def _extent(self, data: Dataset) -> tuple[int, int]:
        """Elements of a sequence's largest input, and an upper bound of its steps."""
        narrowest = min((layer.input_size for layer in self._host.layers), default=1)
        return data.largest, max(1, data.largest // narrowest)

    @property
    def calls(self) -> Iterator[Dataset]:
        """Inputs of every call of the model, in the order of `states`."""
        for group in self._groups:
            yield from group.calls
        for data, _ in self._looped:
            yield from (call for call, _ in data.calls(self._host.batch, 1))

    def states(
        self, program: IntegerProgram, *, trace: bool = False
    ) -> Iterator[tuple[dict[str, Array], dict[str, States]]]:
        """Run a program.

        Parameters
        ----------
        program : IntegerProgram
            Of this model.
        trace : bool
            Keep every operator's codes.

        Yields
        ------
        values : dict of str to ndarray
            Values of the host graph in one call: inputs, including states from the call before, and
            outputs of the layers.
        states : dict of str to States
            By layer name.
        """
        names = [spec.name for spec in self._host.signature]
        for walk, found in self._walks(program, trace=trace, apart=True):
            given = {name: walk.value(name) for name in names}
            columns = {**walk.values, **given}
            for call in range(len(given[names[0]])):
                values = {name: arrays[call] for name, arrays in columns.items()}
                yield values, {name: states[call] for name, states in found.items()}

    def calls_outputs(self, program: IntegerProgram) -> Iterator[dict[str, Array]]:
        """Model outputs call by call, as the model gives them, by name."""
        for walk, _ in self._walks(program):
            yield from walk.outputs(self._outputs)

    def outputs(self, program: IntegerProgram) -> dict[str, Array]:
        """Model outputs over all sequences, joined along the batch axis, by name."""
        parts: list[dict[str, Array]] = []
        counts: list[int] = []
        for walk, _ in self._walks(program):
            parts += walk.outputs(self._outputs)
            counts += walk.counts
        return self._host.join(parts, counts)

    def _walks(
        self, program: IntegerProgram, *, trace: bool = False, apart: bool = False
    ) -> Iterator[tuple[Walk, dict[str, list[States]]]]:
        """Walk through all calls; with `apart`, also the states of every layer call by call."""
        layers = [(layer, self._engine(layer)) for layer in program.layers]
        # A delta network also passes its held values on. If layers do not run over all frames at
        # once, this needs calls in turn.
        together = not (self._apart and holds(program))
        for group in self._groups if together else ():
            yield self._walked(group, layers, {}, trace=trace, apart=apart)
        for data, streams in [*([] if together else self._apart), *self._looped]:
            yield from self._in_turn(data, streams, layers, trace=trace, apart=apart)

    def _walked(
        self, group: Group, layers: Layers, held: Held, *, trace: bool, apart: bool
    ) -> tuple[Walk, dict[str, list[States]]]:
        walk = Walk(group)
        found: dict[str, list[States]] = {}
        for place in group.plan.order:
            layer, evaluate = layers[place]
            jobs = walk.jobs(place, layer)
            results = []
            for job in jobs:
                initial = {**(job.initial or {}), **held.get(layer.name, {})}
                results.append(evaluate(job.x, initial, job.lengths, trace=trace))
            if copies := [name for name, c in layer.recurrences[0].bound.items() if c.holds]:
                held[layer.name] = {name: results[-1].last[name] for name in copies}
            walk.keep(place, layer, jobs, [(r.y, r.last) for r in results])
            if apart:
                found[layer.name] = walk.states(place, jobs, results)
        return walk, found

    def _in_turn(
        self,
        data: Dataset,
        streams: Sequence[int],
        layers: Layers,
        *,
        trace: bool,
        apart: bool,
    ) -> Iterator[tuple[Walk, dict[str, list[States]]]]:
        """Run call after call, for models whose frames depend on each other outside of layers."""
        fed_by = self._host.interface.states
        whole = self._host.plan(None)
        firsts = set(np.cumsum([0, *streams])[:-1].tolist())
        following: dict[str, Array] = {}
        held: Held = {}
        for index, (call, count) in enumerate(data.calls(self._host.batch, 1)):
            if index in firsts:
                following, held = {}, {}
            inputs = {**call.inputs, **following}
            group = Group(whole, [replace(call, inputs=inputs)], [count])
            walk, found = self._walked(group, layers, held, trace=trace, apart=apart)
            (results,) = walk.outputs()
            following = {name: results[output] for name, output in fed_by.items()}
            yield walk, found
