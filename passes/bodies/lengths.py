"""Lengths: numbers that are the size of an axis, and nodes that reverse a whole axis."""

from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.passes.graph.axes import origin
from onnxgru.passes.graph.values import constant_value

UNLIMITED = 2**30
"""A limit from here on is larger than every size."""
_MOVING = frozenset({"Cast", "Expand", "Identity", "ReduceMax", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class Steps:
    """The size of an axis of a value.

    Parameters
    ----------
    value : onnx_ir.Value
        The value.
    axis : int
        Its axis.
    """

    value: ir.Value
    axis: int

    def same(self, other: "Steps") -> bool:
        """Whether two sizes are equal because they come from the same axis."""
        if self._untransposed() == other._untransposed():
            return True
        found = origin(self.value, self.axis)
        return found is not None and found == origin(other.value, other.axis)

    def _untransposed(self) -> tuple[ir.Value, int]:
        value, axis = self.value, self.axis
        while (node := value.producer()) is not None and node.op_type in ("Identity", "Transpose"):
            (first,) = node.inputs
            order = node.attributes.get_ints("perm", ())
            if first is None or (node.op_type == "Transpose" and not order):
                break
            value, axis = first, order[axis] if order else axis
        return value, axis


def steps(value: ir.Value | None) -> Steps | None:
    """The axis whose size a number is; None for any other number."""
    place: int | None = None
    while value is not None and (node := value.producer()) is not None:
        first = node.inputs[0] if node.inputs else None
        if first is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Shape":
            start = node.attributes.get_int("start", 0)
            return _axis(first, start if place is None else start + place)
        if node.op_type in ("Gather", "Slice") and place is None:
            array = constant_value(node.inputs[1])
            if array is None or array.size != 1:
                return None
            place = int(array.reshape(-1)[0])
        elif node.op_type not in _MOVING:
            return None
        value = first
    return None


def _axis(value: ir.Value, axis: int) -> Steps | None:
    if axis >= 0:
        return Steps(value, axis)
    return None if value.shape is None else Steps(value, axis + len(value.shape))


def turned(node: ir.Node) -> int | None:
    """The axis that a node reverses; None for a node that does anything else."""
    first = node.inputs[0] if node.inputs else None
    if first is None or first.shape is None or node.domain not in ("", "ai.onnx"):
        return None
    rank = len(first.shape)
    if node.op_type == "ReverseSequence":
        axis = node.attributes.get_int("time_axis", 0) % rank
        found = steps(node.inputs[1])
        return axis if found is not None and found.same(Steps(first, axis)) else None
    if node.op_type != "Slice" or len(node.inputs) < 5:
        return None
    numbers = [constant_value(value) for value in node.inputs[1:5]]
    if any(array is None or array.size != 1 for array in numbers):
        return None
    start, end, axis, step = (int(a.reshape(-1)[0]) for a in numbers if a is not None)
    size = first.shape[axis]
    last = start in (-1, size - 1 if isinstance(size, int) else -1) or start >= UNLIMITED
    return axis % rank if step == -1 and last and end <= -UNLIMITED else None
