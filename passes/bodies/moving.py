"""Moving: the meaning of a value's axes, through operators that only move them.

Axes are a tuple of letters: time, batch, features, and 1 for an axis of size 1 without a meaning.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.integers import Floats
from onnxgru.passes.bodies.terms import UnknownError

Axes = tuple[str, ...]

TIME, BATCH, FEATURES, ONE = "T", "B", "F", "1"
BACK = "-T"
"""Time that runs backwards."""


def named(shape: ir.Shape | None, what: str, time: int | None = None) -> Axes:
    """The meaning of a value's axes; the last one holds the features.

    Parameters
    ----------
    shape : onnx_ir.Shape or None
        Of the value.
    what : str
        The value in messages.
    time : int, optional
        Its axis of time, where it has one.

    Raises
    ------
    UnknownError
        If that cannot be told.
    """
    if shape is None or len(shape) == 0 or len(shape) == (time is not None):
        raise UnknownError(f"the shape of {what} is not known")
    axes = [ONE] * len(shape)
    if time is not None:
        time %= len(shape)
        axes[time] = TIME
    rest = [place for place in range(len(shape)) if place != time]
    axes[rest.pop()] = FEATURES
    wide = [place for place in rest if shape[place] != 1]
    if len(wide) > 1:
        raise UnknownError(f"{what} has {len(shape)} axes, of which one must be the batch's")
    if rest:
        axes[wide[0] if wide else rest[-1]] = BATCH
    return tuple(axes)


def turned(axes: Axes) -> Axes:
    """The same axes with time reversed."""
    other = {TIME: BACK, BACK: TIME}
    return tuple(other.get(axis, axis) for axis in axes)


def width(value: ir.Value, axes: Axes) -> int:
    """Features of a value.

    Raises
    ------
    UnknownError
        If their number is not known.
    """
    size = None if value.shape is None else value.shape[axes.index(FEATURES)]
    if not isinstance(size, int):
        raise UnknownError(f"the number of features of {value.name} is not known")
    return size


def broadcast(one: Axes, other: Axes) -> Axes:
    """Axes of a result of two operands.

    Raises
    ------
    UnknownError
        If axes of different meaning meet.
    """
    found = []
    for a, b in zip_longest(reversed(one), reversed(other), fillvalue=ONE):
        if ONE not in (a, b) and a != b:
            raise UnknownError("the batch meets the features in one operator of its body")
        found.append(b if a == ONE else a)
    return tuple(reversed(found))


def vector(array: npt.NDArray[Any], axes: Axes, width: int) -> tuple[Floats, Axes]:
    """Numbers of a constant along the features, and the axes of the result.

    Raises
    ------
    UnknownError
        If it has other axes.
    """
    lacking = len(axes) - array.ndim
    shape = (1,) * lacking + array.shape
    axes = (ONE,) * -lacking + axes
    if any(size != 1 and axis != FEATURES for size, axis in zip(shape, axes, strict=True)):
        raise UnknownError(f"a constant of shape {list(array.shape)} is not one for every feature")
    numbers: Floats = array.reshape(-1).astype(np.float32)
    if numbers.size not in (1, width):
        raise UnknownError(f"{numbers.size} constant numbers meet {width} features in its body")
    return numbers, axes


def taken(
    node: ir.Node, axes: Axes, width: int, others: Sequence[Any], value: ir.Value
) -> tuple[int, int]:
    """Start and stop of the features that a Slice or an output of a Split takes.

    Raises
    ------
    UnknownError
        If it takes a part of another axis.
    """
    if node.op_type == "Split":
        place = node.attributes.get_int("axis", 0)
        if axes[place] != FEATURES:
            raise UnknownError("its body has a Split of another axis than that of the features")
        sizes = others[0].reshape(-1).tolist() if others and others[0] is not None else []
        count = len(node.outputs)
        each = -(-width // count)
        sizes = sizes or [min(each, width - each * index) for index in range(count)]
        index = value.index() or 0
        start = sum(sizes[:index])
        return start, start + sizes[index]
    starts, ends, *rest = (None if o is None else np.reshape(o, -1).tolist() for o in others)
    given = [*rest, None, None]
    places = given[0] if given[0] is not None else range(len(starts or ()))
    steps = given[1] if given[1] is not None else [1] * len(starts or ())
    found = 0, width
    for start, stop, place, step in zip(starts or (), ends or (), places, steps, strict=True):
        if axes[place] != FEATURES:
            if start == 0 and stop > 2**30 and step == 1:
                continue
            raise UnknownError("its body has a Slice of another axis than that of the features")
        if step != 1:
            raise UnknownError(f"its body has a Slice of step {step}")
        first, last, _ = slice(start, stop).indices(width)
        found = first, last
    return found


def moved(node: ir.Node, axes: Axes, width: int, others: Sequence[Any], value: ir.Value) -> Axes:
    """Axes behind a Transpose, Squeeze, Unsqueeze or Reshape.

    Raises
    ------
    UnknownError
        If axes are lost or joined.
    """
    given = others[0] if others else None
    numbers = None if given is None else np.reshape(given, -1).astype(int).tolist()
    match node.op_type:
        case "Transpose":
            order = list(node.attributes.get_ints("perm", ())) or range(len(axes))[::-1]
            return tuple(axes[place] for place in order)
        case "Squeeze":
            gone = {n % len(axes) for n in numbers or ()} or {
                place for place, axis in enumerate(axes) if axis == ONE
            }
            return _without(axes, gone)
        case "Unsqueeze":
            return unsqueezed(axes, numbers or ())
    if numbers and numbers[-1] == -1 and value.shape is not None:  # as it is inferred
        numbers = [*numbers[:-1], value.shape[-1] if value.shape[-1] == width else -1]
    return reshaped(axes, width, numbers or ())


def _without(axes: Axes, gone: set[int]) -> Axes:
    if any(axes[place] not in (ONE, BATCH) for place in gone):
        raise UnknownError("its body has a Squeeze of the features")
    return tuple(axis for place, axis in enumerate(axes) if place not in gone)


def unsqueezed(axes: Axes, places: Sequence[int]) -> Axes:
    """Axes with new ones of size 1."""
    count = len(axes) + len(places)
    new, rest = {place % count for place in places}, iter(axes)
    return tuple(ONE if place in new else next(rest) for place in range(count))


def reshaped(axes: Axes, width: int, target: Sequence[int]) -> Axes:
    """Axes behind a Reshape that only adds or removes axes of size 1.

    Raises
    ------
    UnknownError
        If it does more.
    """
    core = [axis for axis in axes if axis != ONE]
    found: list[str] = []
    for size in reversed(target):
        spare = len(target) - len(found) > len(core)
        found.append(ONE if not core or (size == 1 and spare and found) else core.pop())
        if found[-1] == FEATURES and size not in (0, width):
            raise UnknownError("its body has a Reshape that takes features apart")
    if core:
        raise UnknownError("its body has a Reshape that joins axes")
    return tuple(reversed(found))
