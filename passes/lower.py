"""Lower: layers, calibration and scheme become the frozen integer program.

Quantisations: gates whose function has a bounded codomain get it exactly, but for those that use a
small part of it and have no complement; the complement of a gate gets it too. Everything else is
calibrated. One state a layer: its quantisation serves all directions. A
layer that reads another layer's states through movements reads that layer's codes.

Weights are rounded, and ranges looked up, once for every operator and width: a search lowers
hundreds of schemes with one `Lowering`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.saturation import Reader
from onnxgru.core.activations import FORMS
from onnxgru.core.alignment import aligned
from onnxgru.core.choices import ACCUMULATOR_BITS
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import Quantization
from onnxgru.core.network import Layer, Operator, Recurrence
from onnxgru.core.program import (
    Boundary,
    IntegerLayer,
    IntegerOperator,
    IntegerProgram,
    IntegerRecurrence,
    Stage,
    ZeroPoints,
)
from onnxgru.core.scheme import OutputScheme, Scheme
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds import ELEMENTWISE
from onnxgru.custom_ops.linear import BIAS_LIMIT, Linear, Part
from onnxgru.passes.recognize import code_source, given_state, meets_floats
from onnxgru.rounding.nearest import Nearest

PARTS = 256
"""Linear operators remembered: candidates of a search have many in common."""


class Rounding(Protocol):
    """A method of rounding weights; it must depend on its arguments alone."""

    def __call__(
        self,
        recurrence: Recurrence,
        operator: Operator,
        granularity: str,
        bits: int,
        least: npt.NDArray[np.float64] | None = None,
    ) -> Rounded:
        """See `onnxgru.rounding.nearest.Nearest`."""


class Lowering:
    """Lowers schemes of one network.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Graph of the normalised model.
    layers : sequence of Layer
        Its recognised layers.
    calibration : Calibration
        Statistics of every operator's output, by name, and of every layer's ``/input`` and
        ``/state``.
    accumulator_bits : int
        Width that every accumulator must fit, at most 32.
    rounding : callable, optional
        How weights become codes, a method of `onnxgru.rounding`; to the nearest where left out.
    ranges : {"plain", "saturating", "aligned"}
        "plain": every value's observer alone chooses its range. "saturating": ranges of what a
        function alone reads have the least error of the function's codes, where the observer is
        "mse". "aligned": that, and what is added up to a state is on the state's grid, where
        the calibration has no override for it.
    """

    def __init__(
        self,
        graph: ir.Graph,
        layers: Sequence[Layer],
        calibration: Calibration,
        accumulator_bits: int = ACCUMULATOR_BITS,
        rounding: Rounding | None = None,
        *,
        ranges: str = "plain",
    ) -> None:
        self._saturating, self._aligned = ranges != "plain", ranges == "aligned"
        self._layers = tuple(layers)
        self._calibration = calibration
        self._accumulator_bits = accumulator_bits
        self._sources = {
            layer.name: code_source(graph.node(layer.node).inputs[0], layers) for layer in layers
        }
        self._given = {layer.name: given_state(graph, layer) for layer in layers}
        self._meets_floats = {layer.name: meets_floats(graph, layer, layers) for layer in layers}
        self._rounding = rounding or Nearest(layers)
        self._rounded = lru_cache(maxsize=None)(self._rounding)
        self._quantization = lru_cache(maxsize=None)(self._calibrated)
        self._part = lru_cache(maxsize=PARTS)(self._derived)

    def __call__(self, scheme: Scheme) -> IntegerProgram:
        """The program of a scheme.

        Raises
        ------
        SchemeError
            If the scheme is not one for these layers.
        OverflowProofError
            If an accumulator could overflow.
        """
        scheme.validate(self._layers)
        values: dict[str, Quantization] = {}
        layers: list[IntegerLayer] = []
        for layer in self._layers:
            state = Boundary(layer.state, self._state(layer, scheme))
            source = self._sources[layer.name]
            entry = next((done.state for done in layers if done.name == source), None)
            if entry is None:
                bits = scheme.inputs[layer.name]
                entry = Boundary(layer.input, self._quantization(layer.input, bits))
            boundaries = self._boundaries(layer, entry, state, scheme)
            values.update({name: b.quantization for name, b in boundaries.items()})
            zero_points = ZeroPoints(
                f"{layer.name}/zero_point",
                {b.name: b.quantization.zero_point for b in boundaries.values()},
            )
            recurrences = tuple(
                self._recurrence(recurrence, boundaries, zero_points, scheme)
                for recurrence in layer.recurrences
            )
            layers.append(
                IntegerLayer(
                    layer.name,
                    layer.node,
                    entry,
                    state,
                    recurrences,
                    layer.input_size,
                    layer.hidden_size,
                    reads_codes=entry.name != layer.input,
                    given_state=self._given[layer.name],
                    meets_floats=self._meets_floats[layer.name],
                    zero_points=zero_points,
                )
            )
        program = IntegerProgram(tuple(layers), values)
        self._prove(program)
        return program

    def _prove(self, program: IntegerProgram) -> None:
        for proof in program.proofs():
            if proof.bits > self._accumulator_bits:
                raise OverflowProofError(
                    f"{proof.name}: its accumulator must fit {self._accumulator_bits} bits, but "
                    f"some input needs {proof.bits}; use fewer bits for its weights or its input"
                )

    def _calibrated(
        self, name: str, entry: OutputScheme, reader: Reader | None = None
    ) -> Quantization:
        limits = self._calibration.range(name, entry.observer, entry.bits, reader=reader)
        return Quantization.of_range(*limits, entry.bits)

    def _state(self, layer: Layer, scheme: Scheme) -> Quantization:
        return self._quantization(layer.state, scheme.operators[layer.results[0]])

    def _boundaries(
        self, layer: Layer, entry: Boundary, state: Boundary, scheme: Scheme
    ) -> dict[str, Boundary]:
        """Quantisations of everything in a layer, by name of the value."""
        boundaries = {layer.input: entry, layer.state: state}
        for recurrence in layer.recurrences:
            boundaries |= {recurrence.input: entry, recurrence.state: state}
            for operator in recurrence.operators:
                boundaries[operator.name] = (
                    state
                    if operator.name == recurrence.result
                    else Boundary(operator.name, self._output(recurrence, operator, scheme))
                )
            if self._aligned:
                for name in recurrence.summands:
                    if name not in self._calibration.overrides:
                        observed = boundaries[name].quantization
                        boundaries[name] = Boundary(name, aligned(observed, state.quantization))
        return boundaries

    def _recurrence(
        self,
        recurrence: Recurrence,
        boundaries: dict[str, Boundary],
        zero_points: ZeroPoints,
        scheme: Scheme,
    ) -> IntegerRecurrence:
        prologue, body = (
            Stage(
                f"{recurrence.name}/{name}",
                self._operators(recurrence, operators, boundaries, zero_points, scheme),
                zero_points,
            )
            for name, operators in (("prologue", recurrence.prologue), ("body", recurrence.body))
        )
        return IntegerRecurrence(
            recurrence.name, recurrence.reverse, prologue, body, recurrence.result
        )

    def _output(self, recurrence: Recurrence, operator: Operator, scheme: Scheme) -> Quantization:
        entry = scheme.operators[operator.name]
        function = operator.function
        if function is not None:
            codomain = function.quantization(entry.bits)
            if function.name == "Complement" and self._unit(recurrence, operator.inputs[0]):
                return Quantization(float(np.float32(1 / (2**entry.bits - 1))), 0, entry.bits)
            if codomain is not None:
                # 1 - z is exact on the whole codomain alone, and h' = (1 - z) n + z h leans on it.
                return (
                    codomain
                    if self._has_complement(recurrence, operator)
                    else self._calibration.gate(operator.name, codomain, entry.observer)
                )
        return self._quantization(operator.name, entry, self._reader(recurrence, operator, scheme))

    def _reader(self, recurrence: Recurrence, operator: Operator, scheme: Scheme) -> Reader | None:
        """The function that alone reads an operator's codes, if ranges are to know it."""
        readers = [o for o in recurrence.operators if operator.name in o.inputs]
        if not self._saturating or len(readers) != 1 or readers[0].function is None:
            return None
        return Reader(readers[0].function, self._output(recurrence, readers[0], scheme))

    @staticmethod
    def _unit(recurrence: Recurrence, name: str) -> bool:
        gate = next(o for o in recurrence.operators if o.name == name)
        return gate.function is not None and FORMS[gate.function.name].codomain == "unit"

    @staticmethod
    def _has_complement(recurrence: Recurrence, operator: Operator) -> bool:
        return any(
            o.function is not None and o.function.name == "Complement" and operator.name in o.inputs
            for o in recurrence.operators
        )

    def _operators(
        self,
        recurrence: Recurrence,
        operators: Sequence[Operator],
        boundaries: dict[str, Boundary],
        zero_points: ZeroPoints,
        scheme: Scheme,
    ) -> tuple[IntegerOperator, ...]:
        """Integer operators, those linear ones that read the same value in one group."""
        result: list[IntegerOperator] = []
        grouped: set[str] = set()
        for operator in operators:
            if operator.name in grouped:
                continue
            if operator.kind == "linear":
                group = [o for o in operators if o.kind == "linear" and o.inputs == operator.inputs]
                grouped.update(o.name for o in group)
                operand = boundaries[operator.inputs[0]]
                entries = [scheme.linear(o.name) for o in group]
                parts = tuple(
                    self._part(
                        recurrence,
                        o,
                        operand.quantization,
                        boundaries[o.name],
                        entry.granularity,
                        entry.weight_bits,
                    )
                    for o, entry in zip(group, entries, strict=True)
                )
                result.append(Linear((operand,), operator.inputs, parts, zero_points))
            else:
                operands = tuple(boundaries[name] for name in operator.inputs)
                result.append(
                    ELEMENTWISE[operator.kind](
                        operator, operator.inputs, operands, boundaries[operator.name]
                    )
                )
        return tuple(result)

    def _derived(
        self,
        recurrence: Recurrence,
        operator: Operator,
        operand: Quantization,
        result: Boundary,
        granularity: str,
        bits: int,
    ) -> Part:
        rounded = self._rounded(recurrence, operator, granularity, bits)
        least = np.abs(rounded.bias.astype(np.float64)) / (operand.scale * BIAS_LIMIT)
        if (rounded.scales < least).any():
            rounded = self._rounding(recurrence, operator, granularity, bits, least)
        return Part.derive(operator, rounded, bits, operand, result)
