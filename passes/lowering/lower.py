"""Lower: layers, calibration and scheme become the frozen integer program.

A gate whose function has a bounded codomain gets a quantisation of exactly this codomain, and so
does its complement. A gate that has no complement and uses a small part of the codomain gets a
quantisation of this part. Everything else is calibrated. All directions of a layer share the
quantisation of its state. A layer that reads another layer's states through movements reads that
layer's codes.

Weights are rounded, and ranges looked up, once for every operator and width: a search lowers
hundreds of schemes with one `Lowering`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import onnx_ir as ir

from onnxgru.calibration.addition import Addition
from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.saturation import Reader
from onnxgru.core import copies
from onnxgru.core.alignment import aligned
from onnxgru.core.choices import ACCUMULATOR_BITS, MAXIMUM_BITS
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import Quantization, WeightType
from onnxgru.core.network import (
    CopyOperator,
    Layer,
    LinearOperator,
    LookupOperator,
    Operator,
    Recurrence,
)
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
from onnxgru.custom_ops.kinds.linear import BIAS_LIMIT, Linear, Part
from onnxgru.custom_ops.kinds.table import KINDS
from onnxgru.passes.graph.values import named
from onnxgru.passes.lowering.codes import code_source, dequantized
from onnxgru.passes.lowering.networks import changed
from onnxgru.rounding.nearest import Nearest, Rounding

PARTS = 256
"""Linear operators that are cached: candidates of a search have many in common."""


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
    rounding : Rounding, optional
        How weights become codes; to the nearest where left out.
    ranges : {"plain", "saturating", "aligned"}
        "plain": the observer chooses every range. "saturating": where the observer is "mse", a
        value that only a function reads, and the terms of such a value, get the range with the
        least error of the function's codes. "aligned": the same, and terms of a state are on the
        state's grid, unless the calibration overrides their range.
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
        values = named(graph)
        self._sources = {
            layer.name: code_source(values.get(layer.ports.x), layers) for layer in layers
        }
        self._dequantized = {
            layer.name: frozenset(dequantized(values, layer, layers)) for layer in layers
        }
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
        narrow, by_name = scheme.narrowed(), {layer.name: layer for layer in self._layers}
        for layer in self._layers:
            source = by_name.get(self._sources[layer.name] or "")
            grids = {
                name: Boundary(name, self._shared(layer, name, scheme)) for name in layer.writers
            }
            outputs = {done.name: done.grids[done.output] for done in layers}
            if source is None:
                bits = scheme.inputs[layer.name]
                entry = Boundary(layer.input, self._quantization(layer.input, bits))
            else:
                entry = outputs[source.name]
            boundaries = self._boundaries(layer, entry, grids, scheme)
            read = copies.copied_input(layer, scheme, source)
            made = [changed(layer, r, scheme, read) for r in layer.recurrences]
            for plain, recurrence in zip(layer.recurrences, made, strict=True):
                for operator in recurrence.operators:
                    if isinstance(operator, CopyOperator):
                        copy = self._copy(layer, plain, operator, narrow, source)
                        boundaries[operator.name] = copy
            values.update({name: b.quantization for name, b in boundaries.items()})
            layers.append(self._layer(layer, made, boundaries, entry, grids, scheme))
        program = IntegerProgram(tuple(layers), values)
        self._prove(program)
        return program

    def _layer(
        self,
        layer: Layer,
        made: Sequence[Recurrence],
        boundaries: dict[str, Boundary],
        entry: Boundary,
        grids: Mapping[str, Boundary],
        scheme: Scheme,
    ) -> IntegerLayer:
        """The integers of a layer, whose recurrences a scheme has changed to `made`."""
        zero_points = ZeroPoints(
            f"{layer.name}/zero_point", {b.name: b.quantization for b in boundaries.values()}
        )
        recurrences = tuple(
            self._recurrence(recurrence, plain, boundaries, zero_points, scheme)
            for plain, recurrence in zip(layer.recurrences, made, strict=True)
        )
        held = (boundaries[c.holds] for r in made for c in r.carries if c.holds)
        return IntegerLayer(
            layer.name,
            layer.node,
            layer.ports,
            entry,
            layer.carries,
            layer.output,
            {**grids, **{boundary.name: boundary for boundary in held}},
            recurrences,
            layer.input_size,
            layer.hidden_size,
            reads_codes=entry.name != layer.input,
            dequantized=self._dequantized[layer.name],
            zero_points=zero_points,
        )

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

    def _shared(self, layer: Layer, name: str, scheme: Scheme) -> Quantization:
        """Quantisation that all directions share."""
        entry = scheme.operators[layer.writers[name][0]]
        codomain = layer.fixed(name, entry.bits)
        if codomain is None:
            return self._quantization(name, entry)
        return self._calibration.gate(name, codomain, entry.observer)

    def _copy(
        self,
        layer: Layer,
        recurrence: Recurrence,
        operator: CopyOperator,
        narrow: Scheme,
        source: Layer | None,
    ) -> Boundary:
        """Quantisation of a copy: the one that the value would have in narrow codes."""
        (value,) = operator.inputs
        if value == recurrence.input:
            found = (
                self._quantization(layer.input, narrow.inputs[layer.name])
                if source is None
                else self._shared(source, source.output, narrow)
            )
            return Boundary(f"{layer.input}{copies.COPY}", found)
        grid = layer.grids.get(value)
        if grid is None:
            plain = recurrence.by_name[value]
            return Boundary(operator.name, self._output(recurrence, plain, narrow.operators))
        return Boundary(f"{grid}{copies.COPY}", self._shared(layer, grid, narrow))

    def _boundaries(
        self, layer: Layer, entry: Boundary, grids: Mapping[str, Boundary], scheme: Scheme
    ) -> dict[str, Boundary]:
        """Quantisations of everything in a layer, by name of the value."""
        boundaries = {layer.input: entry, **grids}
        for recurrence in layer.recurrences:
            boundaries[recurrence.input] = entry
            for carry in recurrence.carries:
                boundaries[carry.name] = grids[layer.grids[carry.name]]
            for operator in recurrence.operators:
                grid = layer.grids.get(operator.name)
                boundaries[operator.name] = (
                    grids[grid]
                    if grid is not None
                    else Boundary(
                        operator.name, self._output(recurrence, operator, scheme.operators)
                    )
                )
            if self._aligned:
                for name, adder in recurrence.summands.items():
                    if name not in self._calibration.overrides and name not in layer.grids:
                        observed, total = boundaries[name].quantization, boundaries[adder]
                        boundaries[name] = Boundary(name, aligned(observed, total.quantization))
        return boundaries

    def _recurrence(
        self,
        recurrence: Recurrence,
        plain: Recurrence,
        boundaries: dict[str, Boundary],
        zero_points: ZeroPoints,
        scheme: Scheme,
    ) -> IntegerRecurrence:
        """The integers of a direction as a scheme changes the plain one."""
        copies = {
            n: boundaries[c.holds]
            for c in recurrence.carries
            for n in (c.name, c.written_by)
            if c.holds
        }
        boundaries = boundaries | copies
        prologue, body = (
            Stage(
                f"{recurrence.name}/{name}",
                self._operators(plain, operators, boundaries, zero_points, scheme),
                zero_points,
            )
            for name, operators in (("prologue", recurrence.prologue), ("body", recurrence.body))
        )
        return IntegerRecurrence(
            recurrence.name,
            recurrence.reverse,
            prologue,
            body,
            recurrence.carries,
            recurrence.emits,
        )

    def _output(
        self, recurrence: Recurrence, operator: Operator, entries: Mapping[str, OutputScheme]
    ) -> Quantization:
        entry = entries[operator.name]
        codomain = recurrence.fixed(operator.name, entry.bits)
        if codomain is None:
            reader = self._reader(recurrence, operator, entries, _decays(recurrence, entries))
            observed = self._quantization(operator.name, entry, reader)
            addition = self._addition(recurrence, operator, entries)
            if addition is None:
                return observed
            return self._calibration.addend(operator.name, observed, addition)
        # h' = (1 - z) n + z h needs an exact 1 - z, which only the whole codomain gives.
        mirrored = any(map(_mirrors, (operator, *recurrence.readers(operator.name))))
        return (
            codomain
            if mirrored
            else self._calibration.gate(operator.name, codomain, entry.observer)
        )

    def _addition(
        self, recurrence: Recurrence, operator: Operator, entries: Mapping[str, OutputScheme]
    ) -> Addition | None:
        """The sum that alone reads an operator and that a function alone reads, or None.

        It assumes that all operators but states have this operator's width, so that a search
        computes one range per width.
        """
        entry, readers = entries[operator.name], recurrence.readers(operator.name)
        if entry.observer != "mse" or len(readers) != 1 or readers[0].kind != "add":
            return None
        (total,) = readers
        decays = _decays(recurrence, entries)
        alike = dict.fromkeys((o.name for o in recurrence.operators), entry)
        reader = self._reader(recurrence, total, alike, decays)
        if reader is None:
            return None
        (other,) = (name for name in total.inputs if name != operator.name)
        return Addition(
            other,
            self._quantization(other, entry),
            self._quantization(total.name, entry, reader),
            reader,
        )

    def _reader(
        self,
        recurrence: Recurrence,
        operator: Operator,
        entries: Mapping[str, OutputScheme],
        decays: Mapping[str, str],
    ) -> Reader | None:
        """The function that alone reads an operator's codes, or None; also for plain ranges."""
        readers = recurrence.readers(operator.name)
        if not self._saturating or len(readers) != 1:
            return None
        (reader,) = readers
        if not isinstance(reader, LookupOperator):
            return None
        result = self._output(recurrence, reader, entries)
        return Reader(reader.function, result, decays.get(reader.name, ""))

    def _operators(
        self,
        plain: Recurrence,
        operators: Sequence[Operator],
        boundaries: dict[str, Boundary],
        zero_points: ZeroPoints,
        scheme: Scheme,
    ) -> tuple[IntegerOperator, ...]:
        """Integer operators; linear ones that read the same value are one group."""
        result: list[IntegerOperator] = []
        grouped: set[str] = set()
        for operator in operators:
            if operator.name in grouped:
                continue
            if isinstance(operator, LinearOperator):
                key = _group(operator, boundaries, scheme)
                group = [
                    o
                    for o in operators
                    if isinstance(o, LinearOperator) and _group(o, boundaries, scheme) == key
                ]
                grouped.update(o.name for o in group)
                operand = boundaries[operator.inputs[0]]
                entries = [scheme.linear(o.name) for o in group]
                parts = tuple(
                    self._part(
                        plain,
                        plain.by_name[o.name],
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
                    KINDS[operator.kind].derived(
                        operator, operator.inputs, operands, boundaries[operator.name]
                    )
                )
        return tuple(result)

    def _derived(
        self,
        recurrence: Recurrence,
        operator: LinearOperator,
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


def _group(
    operator: LinearOperator, boundaries: Mapping[str, Boundary], scheme: Scheme
) -> tuple[object, ...]:
    """Equal for linear operators that share one product."""
    long = WeightType(scheme.linear(operator.name).weight_bits).wide
    return operator.inputs, boundaries[operator.name].quantization.type.wide, long


def _decays(recurrence: Recurrence, entries: Mapping[str, OutputScheme]) -> dict[str, str]:
    """Gates by which wide states decay: by name, whether the gate or its complement does."""
    return {
        gate: "complement" if complement else "value"
        for gate, (writer, complement) in recurrence.decays.items()
        if entries[writer].bits > MAXIMUM_BITS
    }


def _mirrors(operator: Operator) -> bool:
    return isinstance(operator, LookupOperator) and operator.function.mirrors
