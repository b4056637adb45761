"""Exact evaluation of integer layers with NumPy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import Codes
from onnxgru.core.program import IntegerLayer, IntegerOperator, IntegerRecurrence
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.custom_ops.kernels import stage
from onnxgru.runtime.drive import Lengths, drive

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class States:
    """Results of one layer for a chunk of sequences.

    Parameters
    ----------
    y : ndarray of uint8 or uint16, shape (T, D, B, H)
        Codes of the output.
    last : dict of str to ndarray of uint8 or uint16, shape (D, B, H)
        Codes of the carries after the last step, by carry.
    trace : dict of str to ndarray of uint8 or uint16, shape (T, B, H)
        Codes of every operator, where asked for.
    """

    y: Codes
    last: dict[str, Codes]
    trace: dict[str, Codes] = field(default_factory=dict)


Initial = Mapping[str, Codes]
"""Codes (D, B, H) of carries before the first step, by carry; the code of 0.0 where left out."""


class Engine(Protocol):
    """Runs one integer layer."""

    def __call__(
        self,
        x: Codes,
        initial: Initial | None,
        lengths: npt.NDArray[np.integer] | None,
        *,
        trace: bool,
    ) -> States:
        """States of sequences (T, B, I); see `LayerEvaluator`."""


class LayerRun:
    """Base class of the NumPy engines: directions, initial values and lengths.

    Parameters
    ----------
    layer : IntegerLayer
        The layer.
    """

    def __init__(self, layer: IntegerLayer) -> None:
        self._layer = layer

    def run(
        self,
        direction: Callable[
            [IntegerRecurrence, list[Codes], Lengths | None], tuple[Codes, list[Codes]]
        ],
        batch: int,
        initial: Initial | None,
        lengths: npt.NDArray[np.integer] | None,
    ) -> States:
        """Run all directions.

        Parameters
        ----------
        direction : callable
            Runs one direction: from the carries before the first step, each (B, H), and lengths to
            the output (T, B, H) and the carries after the last step.
        batch : int
            B.
        initial : mapping of str to ndarray of uint8 or uint16, shape (D, B, H), optional
            Codes of carries before the first step.
        lengths : ndarray of int, shape (B,), optional
            Steps of every sequence.
        """
        layer = self._layer
        found = []
        for index, recurrence in enumerate(layer.recurrences):
            carried, zeros = [], layer.zeros(recurrence)
            for carry, bound in recurrence.bound.items():
                given = (initial or {}).get(carry)
                width = recurrence.widths[bound.written_by]
                carried.append(
                    np.full((batch, width), zeros[carry])
                    if given is None
                    else np.ascontiguousarray(given[index])
                )
            ends = None
            if lengths is not None:
                ends = Lengths(
                    lambda t: (t < lengths)[:, None],
                    np.where,
                    list(zeros.values()),
                    layer.emitted.zero,
                )
            found.append(direction(recurrence, carried, ends))
        y = [states for states, _ in found]
        last = zip(*(carried for _, carried in found), strict=True)
        return States(
            y[0][:, None] if len(y) == 1 else np.stack(y, axis=1),
            dict(zip(layer.recurrences[0].bound, map(np.stack, last), strict=True)),
        )


class LayerEvaluator(LayerRun):
    """Runs one integer layer over NumPy primitives.

    Parameters
    ----------
    layer : IntegerLayer
        The layer; its parameters are prepared once.
    """

    def __init__(self, layer: IntegerLayer) -> None:
        super().__init__(layer)
        self._primitives = ArrayPrimitives()
        self._parameters: dict[tuple[str, ...], Any] = {}
        for recurrence in layer.recurrences:
            for part in recurrence.stages:
                self._parameters |= stage.prepare(self._primitives, part)

    def __call__(
        self,
        x: Codes,
        initial: Initial | None = None,
        lengths: npt.NDArray[np.integer] | None = None,
        *,
        trace: bool = False,
    ) -> States:
        """Run the layer.

        Parameters
        ----------
        x : ndarray of uint8 or uint16, shape (T, B, I)
            Input codes.
        initial : mapping of str to ndarray of uint8 or uint16, shape (D, B, H), optional
            Codes of carries before the first step; the code of 0.0 where left out.
        lengths : ndarray of int, shape (B,), optional
            Steps of every sequence.
        trace : bool
            Keep every operator's codes.
        """
        kept: dict[str, Codes] = {}

        def direction(
            recurrence: IntegerRecurrence, carried: list[Codes], ends: Lengths | None
        ) -> tuple[Codes, list[Codes]]:
            return self._direction(recurrence, x, carried, ends, kept if trace else None)

        return replace(self.run(direction, x.shape[1], initial, lengths), trace=kept)

    def _compute(self, operators: Sequence[IntegerOperator], values: dict[str, Array]) -> None:
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
        carried: list[Codes],
        lengths: Lengths | None,
        trace: dict[str, Codes] | None,
    ) -> tuple[Codes, list[Codes]]:
        steps, batch = x.shape[:2]
        sequence: dict[str, Array] = {recurrence.input: x}
        self._compute(recurrence.prologue.operators, sequence)
        computed = {name: codes for name, codes in sequence.items() if name != recurrence.input}
        if not recurrence.reads_input:
            sequence = computed

        def empty(name: str) -> Codes:
            shape = steps, batch, recurrence.widths[name]
            return np.empty(shape, recurrence.types[name].container)

        states = empty(recurrence.emits)
        body = [name for operator in recurrence.body.operators for name in operator.outputs]
        if trace is not None:
            trace.update(computed)
            trace.update({name: empty(name) for name in body})

        def compute(t: int, known: dict[str, Array]) -> dict[str, Array]:
            values = known | {name: value[t] for name, value in sequence.items()}
            self._compute(recurrence.body.operators, values)
            if trace is not None:
                for name in body:
                    trace[name][t] = values[name]
            return values

        return states, drive(recurrence, steps, carried, compute, states.__setitem__, lengths)
