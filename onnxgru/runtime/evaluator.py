"""Exact evaluation of integer programs with NumPy, and of the float parts around them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxgru.core.data import Dataset
from onnxgru.core.errors import DataError
from onnxgru.core.integers import Codes, Quantization
from onnxgru.core.program import IntegerLayer, IntegerOperator, IntegerProgram, IntegerRecurrence
from onnxgru.custom_ops import stage
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.runtime.host import Entry, Host

Array = npt.NDArray[Any]

CHUNK_BYTES = 32 * 2**20
"""Working memory that a chunk of sequences may take."""

MOST_ROWS = 1024
"""Sequences in a chunk at most: a step's accumulators stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class States:
    """What one layer computed for a chunk of sequences.

    Parameters
    ----------
    y : ndarray of uint8, shape (T, D, B, H)
        Codes of the states.
    y_h : ndarray of uint8, shape (D, B, H)
        Codes of the last states.
    trace : dict of str to ndarray of uint8, shape (T, B, H)
        Codes of every operator, where asked for.
    """

    y: Codes
    y_h: Codes
    trace: dict[str, Codes] = field(default_factory=dict)


def together(directions: Sequence[tuple[Codes, Codes]]) -> tuple[Codes, Codes]:
    """States (T, B, H) and last states (B, H) of each direction as (T, D, B, H) and (D, B, H)."""
    if len(directions) == 1:
        ((states, last),) = directions
        return states[:, None], last[None]
    return (
        np.stack([states for states, _ in directions], axis=1),
        np.stack([last for _, last in directions]),
    )


class Engine(Protocol):
    """Runs one integer layer."""

    def __call__(
        self,
        x: Codes,
        initial: Codes | None,
        lengths: npt.NDArray[np.integer] | None,
        *,
        trace: bool,
    ) -> States:
        """States of sequences (T, B, I); see `LayerEvaluator`."""


class LayerEvaluator:
    """Runs one integer layer over NumPy primitives.

    Parameters
    ----------
    layer : IntegerLayer
        The layer; its parameters are prepared once.
    """

    def __init__(self, layer: IntegerLayer) -> None:
        self._layer = layer
        self._primitives = ArrayPrimitives()
        self._parameters: dict[tuple[str, ...], Mapping[str, Array]] = {}
        for recurrence in layer.recurrences:
            for part in recurrence.stages:
                self._parameters |= stage.prepare(self._primitives, part)

    def __call__(
        self,
        x: Codes,
        initial: Codes | None = None,
        lengths: npt.NDArray[np.integer] | None = None,
        *,
        trace: bool = False,
    ) -> States:
        """Run the layer.

        Parameters
        ----------
        x : ndarray of uint8, shape (T, B, I)
            Input codes.
        initial : ndarray of uint8, shape (D, B, H), optional
            Codes of the initial state; the code of 0.0 if left out.
        lengths : ndarray of int, shape (B,), optional
            Steps of every sequence.
        trace : bool
            Keep every operator's codes.
        """
        layer = self._layer
        if initial is None:
            shape = (len(layer.recurrences), x.shape[1], layer.hidden_size)
            initial = np.full(shape, layer.state.quantization.zero_point, np.uint8)
        kept: dict[str, Codes] = {}
        results = [
            self._direction(recurrence, x, initial[index], lengths, kept if trace else None)
            for index, recurrence in enumerate(layer.recurrences)
        ]
        return States(*together(results), kept)

    def _run(self, operators: Sequence[IntegerOperator], values: dict[str, Array]) -> None:
        for operator in operators:
            operands = (values[name] for name in operator.inputs)
            results = operator.compute(
                self._primitives, self._parameters[operator.outputs], *operands
            )
            values.update(zip(operator.outputs, results, strict=True))

    def _direction(
        self,
        recurrence: IntegerRecurrence,
        x: Codes,
        state: Codes,
        lengths: npt.NDArray[np.integer] | None,
        trace: dict[str, Codes] | None,
    ) -> tuple[Codes, Codes]:
        zero = np.uint8(self._layer.state.quantization.zero_point)
        steps, batch = x.shape[:2]
        sequence: dict[str, Array] = {recurrence.input: x}
        self._run(recurrence.prologue.operators, sequence)
        del sequence[recurrence.input]
        states = np.empty((steps, batch, self._layer.hidden_size), np.uint8)
        body = [name for operator in recurrence.body.operators for name in operator.outputs]
        if trace is not None:
            trace.update(sequence)
            trace.update({name: np.empty_like(states) for name in body})
        order = range(steps - 1, -1, -1) if recurrence.reverse else range(steps)
        for t in order:
            values = {name: value[t] for name, value in sequence.items()}
            values[recurrence.state] = state
            self._run(recurrence.body.operators, values)
            new = values[recurrence.result]
            if lengths is None:
                states[t] = state = new
            else:
                going = (t < lengths)[:, None]
                states[t] = np.where(going, new, zero)
                state = np.where(going, new, state)
            if trace is not None:
                for name in body:
                    trace[name][t] = values[name]
        if lengths is not None:
            state = np.where((lengths > 0)[:, None], state, zero)
        return states, state


class Evaluator:
    """Evaluates programs of one model on one set of data, equal to the emitted graph.

    What no layer influences, such as the first layer's input, is computed once.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset
        Sequences.
    engine : callable
        Makes what runs a layer.
    """

    def __init__(
        self,
        host: Host,
        data: Dataset,
        engine: Callable[[IntegerLayer], Engine] = LayerEvaluator,
    ) -> None:
        self._host = host
        self._engine = engine
        size = host.batch or min(MOST_ROWS, max(1, CHUNK_BYTES // self._bytes(data)))
        if data.size % (host.batch or 1):
            raise DataError(
                f"{data.source}: the model takes {host.batch} sequences at a time, so their number "
                f"must be a multiple of it, got {data.size}; add or leave out some"
            )
        self._chunks = list(data.chunks(size))
        self._first: list[Entry | None] = [None] * len(self._chunks)
        self._codes: dict[tuple[int, Quantization], Codes] = {}

    def _bytes(self, data: Dataset) -> int:
        """Estimate of the working memory of a sequence: inputs, codes, and a layer's values."""
        longest, steps = self._extent(data)
        widest = max((layer.hidden_size for layer in self._host.layers), default=1)
        return 5 * longest + 8 * steps * widest

    def _extent(self, data: Dataset) -> tuple[int, int]:
        """Elements of a sequence's largest input, and the steps that these may be at most."""
        longest = max(
            (array.size // max(1, data.size) for array in data.inputs.values()), default=1
        )
        narrowest = min((layer.input_size for layer in self._host.layers), default=1)
        return longest, max(1, longest // narrowest)

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
            Values of the host graph for a chunk of sequences, the layers' states among them.
        states : dict of str to States
            By layer name.
        """
        layers = [(layer, self._engine(layer)) for layer in program.layers]
        for index, chunk in enumerate(self._chunks):
            values: dict[str, Array] = dict(chunk.inputs)
            found: dict[str, States] = {}
            for position, (layer, evaluate) in enumerate(layers):
                x, initial, lengths = self._given(index, position, layer, values)
                states = found[layer.name] = evaluate(x, initial, lengths, trace=trace)
                self._keep(layer, (states.y, states.y_h), values)
            yield values, found

    def outputs(self, program: IntegerProgram) -> dict[str, Array]:
        """Model outputs over all sequences, joined along the batch axis, by name."""
        return self._host.join([self._host.finish(values) for values, _ in self.states(program)])

    def _given(
        self, index: int, position: int, layer: IntegerLayer, values: Mapping[str, Array]
    ) -> tuple[Codes, Codes | None, Array | None]:
        """Codes of a layer's input and initial state, and lengths, for a chunk of sequences."""
        entry, state = self._entry(index, position, layer, values), layer.state.quantization
        return (
            self._quantized(index, position, layer.input.quantization, entry.x),
            None if entry.initial is None else state.quantize(entry.initial),
            entry.lengths,
        )

    def _keep(
        self, layer: IntegerLayer, states: tuple[Codes | None, Codes], values: dict[str, Array]
    ) -> None:
        """Give a layer's states (T, D, B, H) and last states (D, B, H) to the host graph."""
        for name, codes in zip(self._host.outputs(layer.node), states, strict=True):
            if name is not None and codes is not None:
                values[name] = layer.state.quantization.dequantize(codes)

    def _quantized(self, index: int, position: int, quantization: Quantization, x: Array) -> Codes:
        """Codes of a layer's input; those of the first layer depend on few genes, and are kept."""
        if position:
            return quantization.quantize(x)
        key = index, quantization
        if key not in self._codes:
            self._codes[key] = np.ascontiguousarray(quantization.quantize(x))
        return self._codes[key]

    def _entry(
        self, index: int, position: int, layer: IntegerLayer, values: Mapping[str, Array]
    ) -> Entry:
        if position:
            return self._host.entry(layer.node, values)
        known = self._first[index]
        if known is None:
            known = self._first[index] = self._host.entry(layer.node, values)
        return known
