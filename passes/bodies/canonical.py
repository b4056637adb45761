"""Canonical: the form of a recurrence in a normalised graph if it is no recurrent operator.

It is a ``Scan`` of one sequence. Inputs and outputs have the axes of an ONNX recurrent operator::

    first value of every carry (1, B, H), x (T, B, I)
      ->  last value of every carry (1, B, H), what is emitted (T, 1, B, H)

Where sequences have lengths, the lengths (B,) and a counter from 0 are carried too. The body has
the nodes of the cell's table. See `onnxgru.passes.graph.description` for the node's metadata.
"""

import numpy as np
import onnx_ir as ir

from onnxgru.core.cells import INPUT
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds.table import KINDS
from onnxgru.passes.bodies.moving import BACK, BATCH, FEATURES, ONE, TIME, Axes
from onnxgru.passes.bodies.tables import Bound
from onnxgru.passes.graph.description import CELL, Description
from onnxgru.passes.graph.values import value_names

_VALUE = (ONE, BATCH, FEATURES)
_SEQUENCE = (TIME, BATCH, FEATURES)
_EMITTED = (TIME, ONE, BATCH, FEATURES)


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
        Its metadata.
    inputs : list of onnx_ir.Value
        Initial values of the carries, lengths and 0 where sequences have lengths, and the sequence.

    Returns
    -------
    list of onnx_ir.Value
        Last values of the carries, of the lengths and of the counter if there are any, and the
        output of every step.
    """
    cell, prefix = bound.cell, described.place
    inner = Tape(tape)
    given = [
        _typed(tape.name(f"{prefix}/given/{carry.name}"), [1, None, described.hidden_size])
        for carry in cell.carries
    ]
    x = _typed(tape.name(f"{prefix}/x"), [None, described.input_size])
    values = {f"{prefix}/{INPUT}": x}
    for carry, value in zip(cell.carries, given, strict=True):
        values[f"{prefix}/{carry.name}"] = inner.op("Squeeze", value, _axes(tape, prefix, 0))
    for operator in described.operators(prefix, bound.numbers):
        operands = [values[name] for name in operator.inputs]
        values[operator.name] = KINDS[operator.kind].equation(inner, operator, *operands)
    following = [values[f"{prefix}/{carry.written_by}"] for carry in cell.carries]
    following.append(values[f"{prefix}/{cell.emits}"])
    labels = [f"{node}/last/{carry.name}" for carry in cell.carries]
    counted: list[ir.Value] = []
    counts: list[ir.Value] = []
    if described.lengths:
        counted, counts, going = _counted(inner, prefix)
        zero = tape.constant(f"{prefix}/zero", np.asarray(0, np.float32))
        before = [*(values[f"{prefix}/{carry.name}"] for carry in cell.carries), zero]
        pairs = zip(following, before, strict=True)
        following = [inner.op("Where", going, new, old) for new, old in pairs]
        labels += [f"{node}/last/lengths", f"{node}/last/step"]
    results = [inner.op("Unsqueeze", value, _axes(tape, prefix, 0)) for value in following]
    for value in results:
        value.shape = ir.Shape([1, None, described.hidden_size])
        value.type = ir.TensorType(ir.DataType.FLOAT)
    *last, emitted = results
    body = ir.Graph(
        [*given, *counted, x], [*last, *counts, emitted], nodes=inner.nodes, name=prefix
    )
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


def _counted(inner: Tape, prefix: str) -> tuple[list[ir.Value], list[ir.Value], ir.Value]:
    """Lengths and counter of a body, their next values, and whether sequences go on (B, 1)."""
    whole = ir.TensorType(ir.DataType.INT64)
    lengths = ir.Value(name=inner.name(f"{prefix}/lengths"), shape=ir.Shape([None]), type=whole)
    step = ir.Value(name=inner.name(f"{prefix}/step"), shape=ir.Shape([]), type=whole)
    one = inner.constant(f"{prefix}/one", np.asarray(1, np.int64))
    going = inner.op("Unsqueeze", inner.op("Less", step, lengths), _axes(inner, prefix, 1))
    following = [inner.op("Identity", lengths), inner.op("Add", step, one)]
    for value, given in zip(following, (lengths, step), strict=True):
        value.shape, value.type = given.shape, whole
    return [lengths, step], following, going


def held(
    tape: Tape, emitted: ir.Value, last: ir.Value, x: ir.Value, lengths: ir.Value, name: str
) -> ir.Value:
    """The output (T, 1, B, H), which is the last value (1, B, H) after the end of a sequence."""
    zero, one = (tape.constant(f"{name}/{n}", np.asarray(n, np.int64)) for n in (0, 1))
    count = tape.op("Squeeze", tape.op("Shape", x, start=0, end=1), _axes(tape, name, 0))
    time = tape.op("Unsqueeze", tape.op("Range", zero, count, one), _axes(tape, name, 1, 2, 3))
    going = tape.op("Less", time, tape.op("Unsqueeze", lengths, _axes(tape, name, 0, 1, 3)))
    last = tape.op("Unsqueeze", last, _axes(tape, name, 0))
    return tape.op("Where", going, emitted, last, name=name)


def free_place(graph: ir.Graph, node: str) -> str:
    """A prefix for names in the body of a node that no name of the graph has."""
    taken, place = value_names(graph), f"{node}/body"
    while any(name.startswith(f"{place}/") for name in taken):
        place += "_"
    return place


def _typed(name: str, shape: list[int | None]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def entered(tape: Tape, value: ir.Value, axes: Axes, name: str, *, sequence: bool) -> ir.Value:
    """A value with the axes that the canonical node reads."""
    return _adapted(tape, value, axes, _SEQUENCE if sequence else _VALUE, name)


def left(tape: Tape, value: ir.Value, axes: Axes, name: str, *, sequence: bool) -> ir.Value:
    """An output of the canonical node with the axes that the graph reads."""
    return _adapted(tape, value, _EMITTED if sequence else _VALUE, axes, name)


def _adapted(tape: Tape, value: ir.Value, axes: Axes, wanted: Axes, name: str) -> ir.Value:
    """A value with its axes moved; missing axes get the size 1."""
    if axes == wanted:
        return value
    if (BACK in axes) != (BACK in wanted):
        value = _turned(tape, value, axes, name)
    axes, wanted = (tuple(TIME if a == BACK else a for a in each) for each in (axes, wanted))
    gone = [n for n, axis in enumerate(axes) if axis == ONE or axis not in wanted]
    if gone:
        value = tape.op("Squeeze", value, _axes(tape, name, *gone), name=f"{name}/squeezed")
    core = [axis for axis in axes if axis != ONE and axis in wanted]
    order = [core.index(axis) for axis in wanted if axis in core]
    if order != sorted(order):
        value = tape.op("Transpose", value, name=f"{name}/transposed", perm=order)
    new = [n for n, axis in enumerate(wanted) if axis not in core]
    if new:
        value = tape.op("Unsqueeze", value, _axes(tape, name, *new), name=f"{name}/unsqueezed")
    return value


def _turned(tape: Tape, value: ir.Value, axes: Axes, name: str) -> ir.Value:
    """A value with its axis of time reversed."""
    axis = next(place for place, letter in enumerate(axes) if letter in (TIME, BACK))
    ends = tape.constant(f"{name}/before", np.asarray([-(2**31) + 1], np.int64))
    back = _axes(tape, name, -1)
    where = _axes(tape, name, axis)
    return tape.op("Slice", value, back, ends, where, back, name=f"{name}/turned")


def _axes(tape: Tape, name: str, *axes: int) -> ir.Value:
    """Axes or places; not shared, because normalisation renames shared constants."""
    array = np.asarray(axes, np.int64)
    return tape.constant(f"{name}/axes/{'_'.join(map(str, axes))}", array)
