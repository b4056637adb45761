"""Masks: sequences of different lengths, where steps after the end change nothing.

A mask is ``t < length``. A body keeps its carries by ``where(mask, new, old)`` or, as tf2onnx
writes it, ``mask new + (1 - mask) old``. After the end it emits 0 or the last value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxgru.passes.bodies.lengths import Steps, steps
from onnxgru.passes.bodies.terms import Term, UnknownError
from onnxgru.passes.graph.values import constant_value

_MOVES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class Mask:
    """Whether a sequence goes on at this step, or whether it does not.

    Parameters
    ----------
    lengths : onnx_ir.Value
        Steps of every sequence (B,).
    size : int or Steps
        Number of steps of the mask.
    on : bool
        Whether it is true while the sequence goes on.
    """

    lengths: ir.Value
    size: int | Steps
    on: bool = True


@dataclass(frozen=True, eq=False)
class Masked:
    """Features where a mask is true, else 0. `term` None means features of 0."""

    mask: Mask
    term: Term | None
    axes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Selected:
    """New features while the sequence goes on, then old ones. `old` None means 0."""

    mask: Mask
    new: Term
    axes: tuple[str, ...]
    old: Term | None


def mask(value: ir.Value) -> Mask | None:
    """The mask for all steps that a value of the outer graph is; None for any other value."""
    node = _unmoved(value).producer()
    if node is None or node.op_type != "Less" or node.domain not in ("", "ai.onnx"):
        return None
    time, lengths = node.inputs
    if time is None or lengths is None or (size := _counted(time)) is None:
        return None
    lengths = _unmoved(lengths)
    known = lengths.dtype is not None and lengths.dtype.is_integer()
    if not known or lengths.shape is None or len(lengths.shape) != 1:
        return None
    return Mask(lengths, size)


def _unmoved(value: ir.Value) -> ir.Value:
    while (node := value.producer()) is not None and node.op_type in _MOVES:
        first = node.inputs[0]
        if first is None:
            break
        value = first
    return value


def _counted(value: ir.Value) -> int | Steps | None:
    """The number of steps, if a value counts them from 0; else None."""
    array = constant_value(value)
    if array is not None:
        counts = np.array_equal(array.reshape(-1), np.arange(array.size))
        return array.size if counts else None
    node = _unmoved(value).producer()
    if node is None or node.op_type != "Range":
        return None
    start, limit, delta = node.inputs
    first, step = constant_value(start), constant_value(delta)
    if first is None or step is None or first.any() or (step != 1).any():
        return None
    return steps(limit)


def rule(node: ir.Node, operands: Sequence[Any]) -> Any:
    """The result of a node that reads masks or masked features.

    Raises
    ------
    UnknownError
        If it does more than keep old features.
    """
    first = operands[0]
    match node.op_type:
        case "Identity":
            return first
        case "Cast" | "Expand" | "Reshape" | "Squeeze" | "Tile" | "Unsqueeze":
            if isinstance(first, Mask):
                return first
        case "Not" if isinstance(first, Mask):
            return Mask(first.lengths, first.size, not first.on)
        case "Mul":
            return _masked(*operands)
        case "Add" if all(isinstance(operand, Masked) for operand in operands):
            return _joined(*operands)
        case "Where" if isinstance(first, Mask):
            off = Mask(first.lengths, first.size, not first.on)
            return _joined(_masked(first, operands[1]), _masked(off, operands[2]))
    raise UnknownError(f"its body uses a mask in {node.op_type}, and not to hold what it carries")


def _masked(left: Any, right: Any) -> Masked:
    found, value = (left, right) if isinstance(left, Mask) else (right, left)
    if isinstance(found, Mask) and isinstance(value, np.ndarray) and not value.any():
        return Masked(found, None, ())
    term, axes = getattr(value, "term", None), getattr(value, "axes", None)
    if not isinstance(found, Mask) or term is None or axes is None:
        raise UnknownError("its body uses a mask in Mul, and not to hold what it carries")
    return Masked(found, term, axes)


def _joined(left: Masked, right: Masked) -> Selected:
    new, old = (left, right) if left.mask.on else (right, left)
    if (
        new.term is None
        or not new.mask.on
        or old.mask.on
        or new.mask.lengths is not old.mask.lengths
    ):
        raise UnknownError("its body adds what masks do not tell apart")
    return Selected(new.mask, new.term, new.axes, old.term)
