"""The fused evaluator: one product and one compiled kernel a step, equal to the emitted graph."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import Codes, IntegerType
from onnxgru.core.program import IntegerLayer, IntegerRecurrence, Stage
from onnxgru.custom_ops import kernel, stage
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.custom_ops.linear import Linear
from onnxgru.custom_ops.loops import Segment, cuts, segments
from onnxgru.runtime.drive import Lengths, Watch, drive
from onnxgru.runtime.engines import Given, LayerEvaluator, LayerRun, States
from onnxgru.runtime.kernels import compiled
from onnxgru.runtime.products import product

Array = npt.NDArray[Any]

BLOCK = 1024
"""Rows of the prologue at a time: their accumulators stay in the cache."""


class _Parameters(ArrayPrimitives):
    """Array primitives as far as kernels need them: weights go to the product as they are."""

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Array:
        """The codes."""
        return codes.T


_PRIMITIVES = _Parameters(general=True)
_Shape = tuple[tuple[object, ...], ...]
_SEGMENTS: dict[
    tuple[_Shape, tuple[int, ...], frozenset[str]], tuple[tuple[Segment, str], ...]
] = {}


def _segments(
    part: Stage, prepared: Mapping[Any, Any], kept: frozenset[str]
) -> tuple[tuple[Segment, str], ...]:
    """Segments of a stage with their kernels' text, made once for all schemes of a layer."""
    shape = tuple(operator.form for operator in part.operators)
    key = shape, cuts(part), kept
    if key not in _SEGMENTS:
        found = segments(part, prepared, kept)
        _SEGMENTS[key] = tuple((one, kernel.text(one)) for one in found)
    return _SEGMENTS[key]


_KEPT = threading.local()


def _buffer(place: int, shape: tuple[int, int], kind: IntegerType) -> Codes:
    """Memory for values that no call outlives: kept, because fresh pages cost as much as a step."""
    buffers: dict[int, Codes] = _KEPT.__dict__.setdefault("buffers", {})
    known = buffers.get(place)
    if known is None or known.shape != shape or known.dtype != kind.container:
        buffers[place] = np.empty(shape, kind.container)
    return buffers[place]


class _Runner:
    """One segment of one program."""

    def __init__(
        self,
        segment: Segment,
        text: str,
        part: Stage,
        prepared: Mapping[Any, Any],
    ) -> None:
        first = part.operators[segment.start]
        self.width = first.widths[0]
        self.reads, self.writes = segment.reads, segment.writes
        self._operand = first.inputs[0]
        self._kernel = compiled(text)
        self._product: Callable[[Codes], Array] | None = None
        if isinstance(first, Linear):
            weights = np.concatenate([p.weight for p in first.parts]).T
            self._product = product(weights, first.operands[0].quantization)
        self._values = kernel.values(segment, part, prepared, self.width)

    def __call__(self, values: dict[str, Array], writes: list[Codes]) -> None:
        """Compute the segment for all rows into `writes`."""
        known, operand = self._values, values[self._operand]
        self._kernel(
            operand if self._product is None else self._product(operand),
            self.width,
            *(values[name] for name in self.reads),
            *writes,
            known.numbers,
            known.vectors,
            known.tables,
            known.curves,
        )
        values.update(zip(self.writes, writes, strict=True))


class FusedEngine(LayerRun):
    """Runs one integer layer with compiled kernels; an engine of `Evaluator`.

    Parameters
    ----------
    layer : IntegerLayer
        The layer; its parameters are prepared once.
    watch : callable, optional
        Is told of every step.
    """

    def __init__(self, layer: IntegerLayer, watch: Watch | None = None) -> None:
        super().__init__(layer)
        self._watch = watch
        self._runners: dict[str, list[_Runner]] = {}
        for recurrence in layer.recurrences:
            body = {name for o in recurrence.body.operators for name in o.inputs}
            leaving = {recurrence.emits, *(carry.written_by for carry in recurrence.carries)}
            for part, kept in (
                (recurrence.prologue, frozenset(body | {recurrence.emits})),
                (recurrence.body, frozenset(leaving)),
            ):
                prepared = stage.prepare(_PRIMITIVES, part)
                outputs = {name for o in part.operators for name in o.outputs}
                self._runners[part.name] = [
                    _Runner(segment, text, part, prepared)
                    for segment, text in _segments(part, prepared, kept & outputs)
                ]

    def __call__(
        self,
        x: Codes,
        initial: Given | None = None,
        lengths: npt.NDArray[np.integer] | None = None,
        *,
        trace: bool = False,
    ) -> States:
        """Run the layer; as `LayerEvaluator`, which keeps the traces."""
        if trace:
            return LayerEvaluator(self._layer)(x, initial, lengths, trace=True)

        def direction(
            recurrence: IntegerRecurrence, carried: list[Codes], ends: Lengths | None
        ) -> tuple[Codes, list[Codes]]:
            return self._direction(recurrence, x, carried, ends)

        return self.run(direction, x.shape[1], initial, lengths)

    def _direction(
        self,
        recurrence: IntegerRecurrence,
        x: Codes,
        carried: list[Codes],
        lengths: Lengths | None,
    ) -> tuple[Codes, list[Codes]]:
        steps, batch = x.shape[:2]
        sequences = self._prologue(recurrence, x.reshape(steps * batch, x.shape[-1]))
        sequences = {n: v.reshape(steps, batch, v.shape[-1]) for n, v in sequences.items()}
        if recurrence.reads_input:
            sequences[recurrence.input] = np.ascontiguousarray(x)
        if not recurrence.carries:
            return sequences[recurrence.emits].copy(), []  # the buffer is used again
        body = self._runners[recurrence.body.name]
        types = recurrence.types
        shape = steps, batch, recurrence.widths[recurrence.emits]
        states = np.empty(shape, types[recurrence.emits].container)
        # Written where they are kept: what is emitted in its step, a carry in one of two buffers,
        # since the step that writes it reads the one before.
        places = {
            name: (index, runner.writes.index(name))
            for index, runner in enumerate(body)
            for name in runner.writes
        }
        last, place = places[recurrence.emits]
        inner = [c.written_by for c in recurrence.carries if c.written_by != recurrence.emits]
        buffers = [
            [[np.empty((batch, r.width), types[n].container) for n in r.writes] for r in body]
            for _ in range(2 if inner else 1)
        ]

        def compute(t: int, known: dict[str, Array]) -> dict[str, Array]:
            values = known | {name: value[t] for name, value in sequences.items()}
            scratch = buffers[t % len(buffers)]
            scratch[last][place] = states[t]
            for runner, writes in zip(body, scratch, strict=True):
                runner(values, writes)
            return values

        def keep(t: int, emitted: Codes) -> None:
            if lengths is not None:
                states[t] = emitted

        watch = self._watch
        return states, drive(recurrence, steps, carried, compute, keep, lengths, watch)

    def _prologue(self, recurrence: IntegerRecurrence, x: Codes) -> dict[str, Array]:
        """What does not depend on the state, for all rows (T * B, H), a block of rows at a time."""
        found: dict[str, Array] = {}
        for runner in self._runners[recurrence.prologue.name]:
            for name in runner.writes:
                kind = recurrence.types[name]
                found[name] = _buffer(len(found), (len(x), runner.width), kind)
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            values: dict[str, Array] = {recurrence.input: x[part]}
            for runner in self._runners[recurrence.prologue.name]:
                runner(values, [found[name][part] for name in runner.writes])
        return found
