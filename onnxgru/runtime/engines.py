"""Exact evaluation of integer layers with NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import Codes
from onnxgru.core.program import IntegerLayer, IntegerOperator, IntegerRecurrence
from onnxgru.custom_ops import stage
from onnxgru.custom_ops.arrays import ArrayPrimitives

Array = npt.NDArray[Any]


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
