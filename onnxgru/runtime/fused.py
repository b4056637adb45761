"""The fused evaluator: one compiled call per layer and direction, equal to the emitted graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import BYTE, BYTE_BITS, Codes
from onnxgru.core.program import IntegerLayer, IntegerOperator, IntegerRecurrence
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.custom_ops.kernels import kernel, sequence, stage
from onnxgru.custom_ops.kernels.loops import Segment, cuts, segments
from onnxgru.custom_ops.kernels.sequence import CHUNK, LANES, ROWS, DirectionLoops, Product
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.runtime.dots import FASTEST, Way, begun, padded
from onnxgru.runtime.drive import Lengths, Watch, drive
from onnxgru.runtime.engines import Initial, LayerEvaluator, LayerRun, States
from onnxgru.runtime.kernels import compiled

Array = npt.NDArray[Any]


class _Parameters(ArrayPrimitives):
    """Array primitives for kernels, which take weights as they are."""

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Array:
        """The codes."""
        return codes.T


_PRIMITIVES = _Parameters(general=True)


@dataclass(frozen=True)
class KernelText:
    """The kernel of a direction as text; all schemes of a layer share it.

    Parameters
    ----------
    segments : sequence of tuple of Segment
        Of both stages.
    text : str
        Source of the kernel.
    memory : mapping of str to int
        Number of values that it needs memory for, by type.
    """

    segments: Sequence[tuple[Segment, ...]]
    text: str
    memory: Mapping[str, int]


_KNOWN: dict[tuple[object, ...], KernelText] = {}


def written(
    recurrence: IntegerRecurrence, prepared: Sequence[Mapping[Any, Any]], container: str
) -> KernelText:
    """The kernel of a direction for one type of input codes; all schemes share it."""
    stages = recurrence.stages
    carries = tuple((carry.name, carry.written_by) for carry in recurrence.carries)
    ends = recurrence.input, container, carries, recurrence.emits
    forms = (tuple(operator.form for operator in part.operators) for part in stages)
    key = (*forms, *map(cuts, stages), *ends)
    if key not in _KNOWN:
        found = [segments(*pair) for pair in zip(stages, prepared, strict=True)]
        products = tuple(
            _product(part.operators[segment.start])
            for part, made in zip(stages, found, strict=True)
            for segment in made
        )
        direction = DirectionLoops((*found[0], *found[1]), products, *ends)
        _KNOWN[key] = KernelText(found, sequence.text(direction), sequence.memory(direction))
    return _KNOWN[key]


class DirectionKernel:
    """One direction of one program as a compiled kernel.

    Parameters
    ----------
    recurrence : IntegerRecurrence
        The direction.
    container : str
        Type of the input's codes.
    way : Way
        How products are made.

    Attributes
    ----------
    kernel : callable
        The compiled function: see `onnxgru.custom_ops.kernels.sequence.text`.
    memory : mapping of str to int
        Number of values that it needs memory for, by type.
    codes, sums : int
        Columns of that memory.
    widths : ndarray of int
        Width of every segment.
    arguments : list of ndarray
        Arguments of the kernel after the carries.
    """

    def __init__(self, recurrence: IntegerRecurrence, container: str, way: Way) -> None:
        self._recurrence = recurrence
        prepared = [stage.prepare(_PRIMITIVES, part) for part in recurrence.stages]
        made = written(recurrence, prepared, container)
        self.memory = made.memory
        self.kernel = compiled(made.text, way.name)
        found = [
            (part, given, segment)
            for part, given, own in zip(recurrence.stages, prepared, made.segments, strict=True)
            for segment in own
        ]
        self.widths = np.asarray([part.operators[s.start].widths[0] for part, _, s in found])
        self.codes, self.sums = padded(int(self.widths.max())), 0
        self.arguments: list[Array] = []
        for (part, given, segment), width in zip(found, self.widths.tolist(), strict=True):
            known = kernel.values(segment, part, given, width)
            vectors = np.zeros((len(known.vectors), -(-width // CHUNK) * CHUNK), np.int32)
            vectors[:, :width] = known.vectors
            self.arguments += [known.numbers, vectors, known.tables, known.curves]
            first = part.operators[segment.start]
            if isinstance(first, Linear):
                self.arguments += _weights(first, way)
                columns = sum(first.widths) * len(first.parts[0].planes)
                self.sums = max(self.sums, padded(columns) + LANES)

    def __call__(
        self,
        x: Codes,
        carried: Sequence[Codes],
        ends: npt.NDArray[np.int64],
        silence: np.unsignedinteger[Any],
    ) -> Codes:
        """Run all steps of sequences (T, B, I) of given lengths.

        The carries (B, H) are overwritten by those after the last step. After the end of a
        sequence, the output is ``silence``.
        """
        recurrence = self._recurrence
        emits = recurrence.emits
        shape = *x.shape[:2], recurrence.widths[emits]
        emitted = np.empty(shape, recurrence.types[emits].container)
        codes = max(padded(x.shape[2]), self.codes)
        narrow, wide, sums = (
            np.zeros((self.memory[kind], ROWS, columns), kind)
            for kind, columns in (("uint8", codes), ("uint16", codes), ("int32", self.sums))
        )
        self.kernel(
            x,
            ends,
            bool((ends == ends[:1]).all()),
            recurrence.reverse,
            silence,
            self.widths,
            emitted,
            narrow,
            wide,
            sums,
            np.zeros((ROWS, codes), np.int16),
            *carried,
            *self.arguments,
        )
        return emitted


def _product(operator: IntegerOperator) -> Product | None:
    if not isinstance(operator, Linear):
        return None
    long = len(operator.parts) if operator.parts[0].type.wide else 0
    return Product(operator.inputs[0], operator.operands[0].quantization.type.wide, long)


def _weights(operator: Linear, way: Way) -> list[Array]:
    """Weights of all parts, and the initial values of their sums."""
    weights = np.concatenate(operator.matrices).T
    operand = operator.operands[0].quantization
    zero_points = [operand.zero_point]
    if operand.type.wide:
        zero_points = [operand.zero_point >> BYTE_BITS, operand.zero_point & BYTE]
    return [way.packed(weights), *(begun(weights, zero_point) for zero_point in zero_points)]


class FusedEngine(LayerRun):
    """Runs one integer layer with one compiled kernel per direction; an engine of `Evaluator`.

    Parameters
    ----------
    layer : IntegerLayer
        The layer; its parameters are prepared once.
    watch : callable, optional
        Called after every step, see `onnxgru.runtime.drive.Watch`.
    way : Way
        How products are made.
    """

    def __init__(
        self, layer: IntegerLayer, watch: Watch | None = None, *, way: Way = FASTEST
    ) -> None:
        super().__init__(layer)
        self._watch = watch
        container = layer.input.quantization.type.container.name
        self._directions = {r.name: DirectionKernel(r, container, way) for r in layer.recurrences}

    def __call__(
        self,
        x: Codes,
        initial: Initial | None = None,
        lengths: npt.NDArray[np.integer] | None = None,
        *,
        trace: bool = False,
    ) -> States:
        """Run the layer as `LayerEvaluator` does, which is used if a trace is wanted."""
        if trace:
            return LayerEvaluator(self._layer)(x, initial, lengths, trace=True)
        x = np.ascontiguousarray(x)
        steps, batch = x.shape[:2]
        ends = np.full(batch, steps) if lengths is None else lengths.astype(np.int64)

        def direction(
            recurrence: IntegerRecurrence, carried: list[Codes], given: Lengths | None
        ) -> tuple[Codes, list[Codes]]:
            if not recurrence.carries:  # every step is a sequence of its own
                rows = x.reshape(1, steps * batch, x.shape[-1])
                emitted = self._run(recurrence, rows, [], np.ones(steps * batch, np.int64))
                return emitted.reshape(steps, batch, -1), []
            if self._watch is not None:
                return self._watched(recurrence, x, carried, given, self._watch)
            carried = [codes.copy() for codes in carried]
            emitted = self._run(recurrence, x, carried, ends)
            if given is not None:
                for codes, zero in zip(carried, given.zeros, strict=True):
                    codes[ends == 0] = zero
            return emitted, carried

        return self.run(direction, batch, initial, lengths)

    def _run(
        self,
        recurrence: IntegerRecurrence,
        x: Codes,
        carried: Sequence[Codes],
        ends: npt.NDArray[np.int64],
    ) -> Codes:
        return self._directions[recurrence.name](x, carried, ends, self._layer.emitted.zero)

    def _watched(
        self,
        recurrence: IntegerRecurrence,
        x: Codes,
        carried: list[Codes],
        lengths: Lengths | None,
        watch: Watch,
    ) -> tuple[Codes, list[Codes]]:
        """One call per step."""
        kind = recurrence.types[recurrence.emits].container
        emitted = np.empty((*x.shape[:2], recurrence.widths[recurrence.emits]), kind)
        whole = np.ones(x.shape[1], np.int64)

        def compute(t: int, known: dict[str, Array]) -> dict[str, Array]:
            following = [known[carry.name].copy() for carry in recurrence.carries]
            (found,) = self._run(recurrence, x[t : t + 1], following, whole)
            written = (carry.written_by for carry in recurrence.carries)
            return {**dict(zip(written, following, strict=True)), recurrence.emits: found}

        keep = emitted.__setitem__
        carried = drive(recurrence, len(x), carried, compute, keep, lengths, watch)
        return emitted, carried
