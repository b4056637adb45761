"""Canonical: the one form that a normalised graph has for a recurrence that was written out.

A ``Scan`` of one sequence, whose inputs and outputs have the axes of a recurrent operator of ONNX::

    first value of every carry (1, B, H), x (T, B, I)
      ->  last value of every carry (1, B, H), what is emitted (T, 1, B, H)

Its body has the nodes of the cell's table; the weights are initializers of the main graph. The
table is written into the node's metadata, from which recognition reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxgru.core.activations import Activation
from onnxgru.core.cells import INPUT, Cell
from onnxgru.core.integers import Floats
from onnxgru.core.network import (
    ElementwiseOperator,
    LinearOperator,
    LookupOperator,
    Operator,
)
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds import KINDS
from onnxgru.passes.bodies.moving import BACK, BATCH, FEATURES, ONE, TIME, Axes
from onnxgru.passes.bodies.tables import COMPLEMENT, Bound

CELL = "onnxgru.cell"
"""Metadata key of the node: what its body computes, as JSON."""

_VALUE = (ONE, BATCH, FEATURES)
_SEQUENCE = (TIME, BATCH, FEATURES)
_EMITTED = (TIME, ONE, BATCH, FEATURES)


@dataclass(frozen=True, eq=False)
class Description:
    """What a canonical node says of itself.

    Parameters
    ----------
    host : str
        The operator that it stands for, ``Scan`` or ``Loop``.
    cell : Cell
        Its table.
    functions : mapping of str to Activation
        By letter.
    input_size, hidden_size : int
        I and H.
    reverse : bool
        Whether time runs backwards.
    """

    host: str
    cell: Cell
    functions: Mapping[str, Activation]
    input_size: int
    hidden_size: int
    reverse: bool

    def to_json(self) -> str:
        """As metadata hold it."""
        return json.dumps(
            {
                "host": self.host,
                "cell": self.cell.to_dict(),
                "functions": {k: [f.name, f.alpha, f.beta] for k, f in self.functions.items()},
                "input_size": self.input_size,
                "hidden_size": self.hidden_size,
                "reverse": self.reverse,
            }
        )

    @classmethod
    def parse(cls, text: str) -> "Description":
        """From metadata."""
        found: dict[str, Any] = json.loads(text)
        cell = Cell.parse(found["cell"])
        functions = {letter: Activation(*f) for letter, f in found["functions"].items()}
        sizes = found["input_size"], found["hidden_size"]
        return cls(found["host"], cell, functions, *sizes, found["reverse"])

    def operators(
        self, prefix: str, weights: Mapping[str, tuple[Floats, Floats]]
    ) -> tuple[Operator, ...]:
        """The rows as operators.

        Parameters
        ----------
        prefix : str
            Put before every name, with a slash.
        weights : mapping of str to tuple of ndarray of float32
            Weight (outputs, inputs) and bias (outputs,) by row.
        """
        widths = {carry.name: self.hidden_size for carry in self.cell.carries}
        widths[INPUT] = self.input_size
        found: list[Operator] = []
        for row in self.cell.rows:
            inputs = tuple(f"{prefix}/{name}" for name in row.inputs)
            width = len(weights[row.name][0]) if row.kind == "linear" else widths[row.inputs[0]]
            widths[row.name] = width
            names = f"{prefix}/{row.name}", row.name, inputs, width
            if row.kind == "linear":
                matrix = row.parameter.split(".")[0]
                found.append(LinearOperator(*names, *weights[row.name], matrix))
            elif row.kind == "lookup":
                found.append(LookupOperator(*names, self._function(row.parameter)))
            else:
                found.append(ElementwiseOperator(*names, row.kind))
        return tuple(found)

    def _function(self, parameter: str) -> Activation:
        if parameter == COMPLEMENT:
            return Activation(COMPLEMENT.capitalize())
        return self.functions[parameter]


def description(node: ir.Node) -> Description | None:
    """What a node says of itself; None where it is no canonical one."""
    text = node.metadata_props.get(CELL)
    return None if text is None else Description.parse(text)


def place(node: str) -> str:
    """What the names of everything in a canonical node's body begin with."""
    return f"{node}/body"


def weights(graph: ir.Graph, node: ir.Node, cell: Cell) -> dict[str, tuple[Floats, Floats]]:
    """Weight (outputs, inputs) and bias (outputs,) by row, as initializers hold them."""
    found = {}
    for row in cell.rows:
        if row.kind == "linear":
            arrays = [
                graph.initializers[name].const_value for name in names(str(node.name), row.name)
            ]
            empty = np.zeros((0, 0), np.float32)
            weight, bias = (empty if a is None else a.numpy() for a in arrays)
            found[row.name] = np.ascontiguousarray(weight.T), bias
    return found


def names(node: str, row: str) -> tuple[str, str]:
    """Names of the initializers of a row: the weight (inputs, outputs), and the bias."""
    return f"{place(node)}/{row}/weight", f"{place(node)}/{row}/bias"


def write(
    tape: Tape, node: str, bound: Bound, described: Description, inputs: list[ir.Value]
) -> list[ir.Value]:
    """Record a canonical node.

    Parameters
    ----------
    tape : Tape
        Of the main graph.
    node : str
        Its name.
    bound : Bound
        The cell.
    described : Description
        What it says of itself.
    inputs : list of onnx_ir.Value
        First values of the carries, and the sequence.

    Returns
    -------
    list of onnx_ir.Value
        Last values of the carries, and what is emitted.
    """
    cell, prefix = bound.cell, place(node)
    inner = Tape(tape)
    given = [
        _typed(tape.name(f"{prefix}/given/{carry.name}"), [1, None, described.hidden_size])
        for carry in cell.carries
    ]
    x = _typed(tape.name(f"{prefix}/x"), [None, described.input_size])
    values = {f"{prefix}/{INPUT}": x}
    for carry, value in zip(cell.carries, given, strict=True):
        values[f"{prefix}/{carry.name}"] = inner.op("Squeeze", value, tape.axes(0))
    for operator in described.operators(prefix, bound.weights):
        operands = [values[name] for name in operator.inputs]
        values[operator.name] = KINDS[operator.kind].equation(inner, operator, *operands)
    results = [
        inner.op("Unsqueeze", values[f"{prefix}/{row}"], tape.axes(0))
        for row in (*(carry.written_by for carry in cell.carries), cell.emits)
    ]
    for value in results:
        value.shape = ir.Shape([1, None, described.hidden_size])
        value.type = ir.TensorType(ir.DataType.FLOAT)
    body = ir.Graph([*given, x], results, nodes=inner.nodes, name=prefix)
    labels = [f"{node}/last/{carry.name}" for carry in cell.carries]
    direction = [int(described.reverse)]
    found = tape.multiple(
        "Scan",
        inputs,
        [*labels, f"{node}/emitted"],
        body=body,
        num_scan_inputs=1,
        scan_input_directions=direction,
        scan_output_directions=direction,
    )
    made = found[0].producer()
    if made is not None:
        made.metadata_props[CELL] = described.to_json()
    return found


def _typed(name: str, shape: list[int | None]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def entered(tape: Tape, value: ir.Value, axes: Axes, name: str, *, sequence: bool) -> ir.Value:
    """A value as the canonical node reads it."""
    return _adapted(tape, value, axes, _SEQUENCE if sequence else _VALUE, name)


def left(tape: Tape, value: ir.Value, axes: Axes, name: str, *, sequence: bool) -> ir.Value:
    """What the canonical node makes with the axes that the graph reads."""
    return _adapted(tape, value, _EMITTED if sequence else _VALUE, axes, name)


def _adapted(tape: Tape, value: ir.Value, axes: Axes, wanted: Axes, name: str) -> ir.Value:
    """A value with its axes moved: those that it lacks have the size 1."""
    if axes == wanted:
        return value
    if (BACK in axes) != (BACK in wanted):
        value = _turned(tape, value, axes, name)
    axes, wanted = (tuple(TIME if a == BACK else a for a in each) for each in (axes, wanted))
    gone = [n for n, axis in enumerate(axes) if axis == ONE or axis not in wanted]
    if gone:
        value = tape.op("Squeeze", value, tape.axes(*gone), name=f"{name}/squeezed")
    core = [axis for axis in axes if axis != ONE and axis in wanted]
    order = [core.index(axis) for axis in wanted if axis in core]
    if order != sorted(order):
        value = tape.op("Transpose", value, name=f"{name}/transposed", perm=order)
    new = [n for n, axis in enumerate(wanted) if axis not in core]
    if new:
        value = tape.op("Unsqueeze", value, tape.axes(*new), name=f"{name}/unsqueezed")
    return value


def _turned(tape: Tape, value: ir.Value, axes: Axes, name: str) -> ir.Value:
    """A value with its axis of time the other way round."""
    axis = next(place for place, letter in enumerate(axes) if letter in (TIME, BACK))
    ends = tape.constant("onnxgru/length/before", np.asarray([-(2**31) + 1], np.int64))
    back = tape.axes(-1)
    return tape.op("Slice", value, back, ends, tape.axes(axis), back, name=f"{name}/turned")
