"""Decompose: every recognised layer becomes its elementary float operators.

The node is replaced by its recurrence (see `onnxgru.passes.forms.recurrence`): input projections
for all steps, then the cell's table step by step. The value of every operator has the operator's
name. Its node has the name in its metadata too, where annotation reads it.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxgru.core.network import Layer, Operator, Recurrence
from onnxgru.core.tape import OPERATOR, Tape
from onnxgru.custom_ops.kinds.table import KINDS
from onnxgru.passes.forms.arithmetic import Arithmetic
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.recurrence import expand
from onnxgru.passes.forms.states import State, record


class FloatArithmetic(Arithmetic[Layer, Recurrence]):
    """A layer computed in float32, operator by operator."""

    def element(self, layer: Layer, grid: str) -> ir.DataType:
        """Floats."""
        return ir.DataType.FLOAT

    def computed(self, recurrence: Recurrence, name: str) -> ir.DataType:
        """Floats."""
        return ir.DataType.FLOAT

    def enter(self, tape: Tape, layer: Layer, x: ir.Value) -> ir.Value:
        """The sequence itself."""
        value = tape.op("Identity", x, name=layer.input)
        _mark(value, layer.input)
        return value

    def leave(self, tape: Tape, layer: Layer, y: ir.Value, grid: str, name: str) -> ir.Value:
        """The values themselves."""
        return tape.op("Identity", y, name=name)

    def initial(self, tape: Tape, layer: Layer, value: ir.Value, grid: str) -> ir.Value:
        """The given value itself."""
        kept = tape.op("Identity", value, name=grid)
        _mark(kept, grid)
        return kept

    def zero(self, tape: Tape, layer: Layer, grid: str) -> ir.Value:
        """0.0."""
        return tape.constant("onnxgru/float/zero", np.asarray(0, np.float32))

    def quantization(self, layer: Layer, grid: str) -> None:
        """None: values are real numbers."""

    def prologue(self, tape: Tape, recurrence: Recurrence, x: ir.Value) -> dict[str, ir.Value]:
        """Values of the operators that depend on the input alone."""
        values = {recurrence.input: x}
        for operator in recurrence.prologue:
            values[operator.name] = _record(tape, operator, values)
        if not recurrence.reads_input:
            del values[recurrence.input]
        return values

    def entering(self, recurrence: Recurrence, name: str) -> tuple[int, ir.DataType]:
        """Floats."""
        return recurrence.widths[name], ir.DataType.FLOAT

    def step(
        self, tape: Tape, recurrence: Recurrence, known: dict[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """Values of the remaining operators of the table."""
        values = dict(known)
        for operator in recurrence.body:
            values[operator.name] = _record(tape, operator, values)
        return {operator.name: values[operator.name] for operator in recurrence.body}

    def select(
        self,
        tape: Tape,
        layer: Layer,
        grid: str,
        mask: ir.Value,
        new: ir.Value,
        old: ir.Value,
        name: str,
    ) -> ir.Value:
        """``new`` where the mask is 1, otherwise ``old``."""
        condition = tape.op("Cast", mask, to=ir.DataType.BOOL, name=f"{name}/mask")
        return tape.op("Where", condition, new, old, name=name)


def _mark(value: ir.Value, name: str) -> None:
    """Write the name of an operator into the metadata of the node that computes it."""
    node = value.producer()
    if node is not None:
        node.metadata_props[OPERATOR] = name


def _record(tape: Tape, operator: Operator, values: dict[str, ir.Value]) -> ir.Value:
    """Record the float equation of an operator."""
    operands = [values[name] for name in operator.inputs]
    value = KINDS[operator.kind].equation(tape, operator, *operands)
    _mark(value, operator.name)
    return value


class Decompose(ir.passes.InPlacePass):
    """Replace recognised layers by elementary operators.

    Parameters
    ----------
    layers : sequence of Layer
        Layers that `onnxgru.passes.recognize` found in this model.
    form : Form
        Scan, step or unrolled.
    observe : bool
        For calibration, in the scan form only: add graph outputs for the value of every operator
        at every step, (T, B, N), for the input of every layer and for its given initial states.
        An output's name is that of the operator followed by ``/all``.
    """

    def __init__(
        self, layers: Sequence[Layer], form: Form | None = None, *, observe: bool = False
    ) -> None:
        super().__init__()
        self._layers, self._form, self._observe = tuple(layers), form or Form(), observe
        self.observed: dict[str, str] = {}
        """Name of the operator by name of the graph output, after a run with `observe`."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Expand every layer whose node is in the model."""
        root = Tape(graph=model.graph)
        modified = False
        states: list[State] = []
        for layer in self._layers:
            if all(node.name != layer.node for node in model.graph):
                continue
            modified = True
            observed: dict[str, ir.Value] | None = {} if self._observe else None
            tape = Tape(root)
            states += expand(model.graph, layer, FloatArithmetic(), self._form, tape, observed)
            if observed is not None:
                self._expose(model.graph, layer, tape, observed)
        record(model, states)
        if modified:
            model.graph.opset_imports.setdefault("", 18)
        return ir.passes.PassResult(model, modified)

    def _expose(
        self, graph: ir.Graph, layer: Layer, tape: Tape, observed: dict[str, ir.Value]
    ) -> None:
        boundary = [
            (node.metadata_props[OPERATOR], node.outputs[0])
            for node in tape.nodes
            if node.metadata_props.get(OPERATOR) in (layer.input, *layer.carries.values())
        ]
        for name, value in [*boundary, *observed.items()]:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(value)
            self.observed[str(value.name)] = name
