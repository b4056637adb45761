"""Emit: the integer program becomes a graph of standard operators.

Inside a recurrence there are only integer tensors, of 8, 16 and 32 bits. At its boundary a float
value is quantised by ``Mul -> Round -> Add -> Clip -> Cast``, which every runtime computes alike
(QuantizeLinear and Div differ in a few values of 10^5), and a state is dequantised by an integer
``Sub``, ``Cast`` and ``Mul``: one rounding, where OpenVINO would fuse a float ``Sub``. Layers that
feed each other through movements pass codes on.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.core.integers import IntegerType, Quantization
from onnxgru.core.program import (
    Boundary,
    IntegerLayer,
    IntegerOperator,
    IntegerProgram,
    IntegerRecurrence,
)
from onnxgru.core.tape import Tape
from onnxgru.custom_ops import stage
from onnxgru.custom_ops.graph import GraphPrimitives
from onnxgru.passes.arithmetic import Arithmetic
from onnxgru.passes.form import Form
from onnxgru.passes.recurrence import expand
from onnxgru.passes.states import State, record


class IntegerArithmetic(Arithmetic[IntegerLayer, IntegerRecurrence]):
    """A layer computed on codes."""

    def __init__(self) -> None:
        self._codes: dict[ir.Value, ir.Value] = {}
        self._parameters: dict[tuple[str, ...], Any] = {}

    def element(self, layer: IntegerLayer, grid: str) -> ir.DataType:
        """The container of codes."""
        boundary = layer.grids.get(grid, layer.input)
        return _element(boundary.quantization.type)

    def computed(self, recurrence: IntegerRecurrence, name: str) -> ir.DataType:
        """The container of an operator's codes."""
        return _element(recurrence.types[name])

    def enter(self, tape: Tape, layer: IntegerLayer, x: ir.Value) -> ir.Value:
        """Quantise, or follow the movements back to another layer's codes."""
        if layer.reads_codes:
            return self._moved(tape, x)
        return self._quantize(tape, layer, layer.input, x)

    def leave(self, tape: Tape, layer: IntegerLayer, y: ir.Value, grid: str, name: str) -> ir.Value:
        """Dequantise: subtract as integers, then one product."""
        p = GraphPrimitives(tape)
        steps = p.sub(p.widen(y), p.widen(self.zero(tape, layer, grid)))
        steps = tape.op("Cast", steps, to=ir.DataType.FLOAT)
        value = tape.op("Mul", steps, self._scale(tape, layer.grids[grid]), name=name)
        self._codes[value] = y
        return value

    def initial(self, tape: Tape, layer: IntegerLayer, value: ir.Value, grid: str) -> ir.Value:
        """Quantise with the carry's scale."""
        return self._quantize(tape, layer, layer.grids[grid], value)

    def zero(self, tape: Tape, layer: IntegerLayer, grid: str) -> ir.Value:
        """The zero point."""
        return self._zero_point(tape, layer, layer.grids[grid])

    def quantization(self, layer: IntegerLayer, grid: str) -> Quantization:
        """That of the codes."""
        return layer.grids[grid].quantization

    def prologue(
        self, tape: Tape, recurrence: IntegerRecurrence, x: ir.Value
    ) -> dict[str, ir.Value]:
        """Operators that only read the input."""
        values = {recurrence.input: x}
        self._parameters |= stage.prepare(GraphPrimitives(tape), recurrence.prologue)
        for operator in recurrence.prologue.operators:
            self._record(tape, operator, values)
        if not recurrence.reads_input:
            del values[recurrence.input]
        return values

    def prepare(self, tape: Tape, recurrence: IntegerRecurrence) -> None:
        """Parameters in the form that steps take."""
        self._parameters |= stage.prepare(GraphPrimitives(tape), recurrence.body)

    def step(
        self, tape: Tape, recurrence: IntegerRecurrence, known: dict[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """The operators of the body."""
        values = dict(known)
        for operator in recurrence.body.operators:
            self._record(tape, operator, values)
        return {name: value for name, value in values.items() if name not in known}

    def select(
        self,
        tape: Tape,
        layer: IntegerLayer,
        grid: str,
        mask: ir.Value,
        new: ir.Value,
        old: ir.Value,
        name: str,
    ) -> ir.Value:
        """Old + mask (new - old), in int32."""
        p = GraphPrimitives(tape)
        base = p.widen(old)
        step = p.mul(p.widen(mask), p.sub(p.widen(new), base))
        return p.narrow(p.add(base, step), layer.grids[grid].quantization.type)

    def _record(self, tape: Tape, operator: IntegerOperator, values: dict[str, ir.Value]) -> None:
        p = GraphPrimitives(tape)
        operands = [values[name] for name in operator.inputs]
        results = operator.compute(p, self._parameters[operator.outputs], *operands)
        for name, value in zip(operator.outputs, results, strict=True):
            node = value.producer()
            anonymous = node is not None and node.name == value.name
            value.name = tape.name(name)
            if node is not None and anonymous:
                node.name = value.name
            values[name] = value

    def _moved(self, tape: Tape, value: ir.Value) -> ir.Value:
        if value not in self._codes:
            node = value.producer()
            source = node.inputs[0] if node is not None else None
            if node is None or source is None:
                raise ValueError(f"{value.name} holds no codes")
            inputs = [self._moved(tape, source), *node.inputs[1:]]
            moved = tape.multiple(node.op_type, inputs, [f"{node.name}/codes"])
            copy = moved[0].producer()
            if copy is not None:
                for attribute in node.attributes.values():
                    copy.attributes[attribute.name] = attribute
            self._codes[value] = moved[0]
        return self._codes[value]

    @staticmethod
    def _scale(tape: Tape, boundary: Boundary) -> ir.Value:
        return tape.constant(
            f"{boundary.name}/scale", np.asarray(boundary.quantization.scale, np.float32)
        )

    @staticmethod
    def _zero_point(tape: Tape, layer: IntegerLayer, boundary: Boundary) -> ir.Value:
        stored, place = layer.zero_points, layer.zero_points.position(boundary)
        p, kind = GraphPrimitives(tape), boundary.quantization.type
        if not kind.wide:
            return p.byte(stored.name, stored.codes, place)
        words = p.words(stored.words_name, stored.words)
        index = tape.scalar(place - stored.codes.size)
        return p.narrow(p.pick(words, index), kind)

    def _quantize(
        self, tape: Tape, layer: IntegerLayer, boundary: Boundary, x: ir.Value
    ) -> ir.Value:
        top = boundary.quantization.type.maximum
        low, high = (
            tape.constant(f"onnxgru/float/{v}", np.asarray(v, np.float32)) for v in (0, top)
        )
        reciprocal = tape.constant(
            f"{boundary.name}/reciprocal", np.asarray(boundary.quantization.reciprocal, np.float32)
        )
        zero_point = self._zero_point(tape, layer, boundary)
        offset = tape.op("Cast", zero_point, to=ir.DataType.FLOAT)
        rounded = tape.op("Round", tape.op("Mul", x, reciprocal))
        clipped = tape.op("Clip", tape.op("Add", rounded, offset), low, high)
        to = _element(boundary.quantization.type)
        return tape.op("Cast", clipped, to=to, name=f"{boundary.name}/codes")


def _element(kind: IntegerType) -> ir.DataType:
    return ir.DataType.from_numpy(kind.container)


class Emit(ir.passes.InPlacePass):
    """Replace the layers of a normalised model by their integer program.

    Parameters
    ----------
    program : IntegerProgram
        What `onnxgru.passes.lower` made of this model.
    form : Form
        Scan, step or unrolled.
    """

    def __init__(self, program: IntegerProgram, form: Form | None = None) -> None:
        super().__init__()
        self._program, self._form = program, form or Form()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Expand every layer whose node is in the model."""
        root = Tape(graph=model.graph)
        arithmetic = IntegerArithmetic()
        modified = False
        states: list[State] = []
        for layer in self._program.layers:
            if all(node.name != layer.node for node in model.graph):
                continue
            modified = True
            states += expand(model.graph, layer, arithmetic, self._form, Tape(root))
        record(model, states)
        if modified:
            common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)
