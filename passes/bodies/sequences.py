"""Sequences: from the slices that a body reads back to one input sequence of the layer.

1. A matrix product that is computed for all steps at once, before the recurrence, belongs to the
   cell. It is found backwards through operators that move values and through the bias.
2. Several sequences become one, side by side. Only matrix products may read their parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxgru.passes.bodies import moving
from onnxgru.passes.bodies.lengths import turned
from onnxgru.passes.bodies.masks import Mask, mask
from onnxgru.passes.bodies.moving import BACK, FEATURES, ONE, TIME, Axes
from onnxgru.passes.bodies.reading import Features
from onnxgru.passes.bodies.terms import Term, Terms, UnknownError
from onnxgru.passes.graph.values import constant_value


@dataclass(frozen=True, eq=False)
class Root:
    """A sequence that the steps read.

    Parameters
    ----------
    source : Term
        Its value at one step.
    value : onnx_ir.Value
        All steps.
    axes : tuple of str
        Meaning of its axes, including time.
    """

    source: Term
    value: ir.Value
    axes: Axes


@dataclass
class Sequences:
    """The sequences that a body reads.

    Parameters
    ----------
    terms : Terms
        The maker of terms.
    """

    terms: Terms
    roots: list[Root] = field(default_factory=list)
    given: list[tuple[ir.Value, int]] = field(default_factory=list)
    """Values whose slices the body reads, with their axis of time."""

    def step(self, value: ir.Value, axis: int) -> Features | Mask:
        """A slice of a sequence along an axis, at this step."""
        if value.dtype == ir.DataType.BOOL and (found := mask(value)) is not None:
            return found
        if value.dtype != ir.DataType.FLOAT:
            raise UnknownError(
                f"its body reads steps of {value.name}, which must be float32, or a mask of lengths"
            )
        axes = moving.named(value.shape, f"the sequence {value.name}", axis)
        axis %= len(axes)
        self.given.append((value, axis))
        term = self._product(value, axes)
        if term is None:
            term = self._root(value, axes)
        return Features(term, axes[:axis] + axes[axis + 1 :])

    def _product(self, value: ir.Value, axes: Axes) -> Term | None:
        """The term of a matrix product that may be moved and have a bias; None for other values."""
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        first, second = (*node.inputs, None, None)[:2]
        match node.op_type:
            case "MatMul" if (weight := _matrix(second)) is not None and first is not None:
                operand = self._root(first, axes)
                bias = np.zeros(weight.shape[1], np.float32)
                return self.terms.linear(operand, weight.T, bias)
            case "Add":
                return self._biased(first, second, axes) or self._biased(second, first, axes)
            case "Split" | "Slice" if first is not None:
                others = [constant_value(other) for other in node.inputs[1:]]
                whole = moving.width(first, axes)
                if (below := before(node, axes)) is not None:
                    return self._product(*below)
                try:
                    start, stop = moving.taken(node, axes, whole, others, value)
                except UnknownError:
                    return None
                term = self._product(first, axes)
                return None if term is None else self.terms.part(term, start, stop)
            case _:
                below = before(node, axes)
                return None if below is None else self._product(*below)

    def _biased(self, operand: ir.Value | None, other: ir.Value | None, axes: Axes) -> Term | None:
        """A matrix product plus a constant."""
        numbers = constant_value(other)
        if numbers is None or operand is None or numbers.ndim > len(axes):
            return None
        term = self._product(operand, axes)
        if term is None:
            return None
        bias, _ = moving.vector(numbers, axes, term.width)
        return self.terms.shift(term, bias)

    def _root(self, value: ir.Value, axes: Axes) -> Term:
        for root in self.roots:
            if _unmoved(root.value, root.axes) == _unmoved(value, axes):
                return root.source
        if (straight := _straight(value, axes)) is not None:
            value, axes = straight
        name = f"sequence {len(self.roots)}"
        source = self.terms.source(name, moving.width(value, axes))
        self.roots.append(Root(source, value, axes))
        return source


def _matrix(value: ir.Value | None) -> np.ndarray | None:
    array = constant_value(value)
    return array if array is not None and array.ndim == 2 else None


def _unmoved(value: ir.Value, axes: Axes) -> tuple[ir.Value, Axes]:
    """The value that another one is a moved copy of, with its axes."""
    while (node := value.producer()) is not None and (below := before(node, axes)) is not None:
        value, axes = below
    return value, axes


def _straight(value: ir.Value, axes: Axes) -> tuple[ir.Value, Axes] | None:
    """The value that another one is a copy of with time reversed; None for any other value."""
    first = BACK in axes
    while (node := value.producer()) is not None and (below := before(node, axes)) is not None:
        value, axes = below
        if (BACK in axes) != first:
            return value, axes
    return None


def before(node: ir.Node, axes: Axes) -> tuple[ir.Value, Axes] | None:
    """The value that a node moves, with its axes; None for a node that does anything else.

    Parameters
    ----------
    node : onnx_ir.Node
        The node.
    axes : tuple of str
        Meaning of the axes of its output.
    """
    first = node.inputs[0] if node.inputs else None
    if first is None or first.shape is None or node.domain not in ("", "ai.onnx"):
        return None
    numbers = constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    places = [] if numbers is None else [int(n) for n in numbers.reshape(-1)]
    match node.op_type:
        case "Identity":
            return first, axes
        case "Transpose":
            order = list(node.attributes.get_ints("perm", ())) or range(len(axes))[::-1]
            found = dict(zip(order, axes, strict=True))
            return first, tuple(found[place] for place in range(len(axes)))
        case "Squeeze" if places:
            return first, moving.unsqueezed(axes, places)
        case "Unsqueeze" if places:
            new = {place % len(axes) for place in places}
            if any(axes[place] != ONE for place in new):
                return None
            return first, tuple(axis for place, axis in enumerate(axes) if place not in new)
        case "Reshape":
            return _reshaped(first, axes, node.outputs[0])
        case "ReverseSequence" | "Slice":
            axis = turned(node)
            if axis is not None and axes[axis] in (TIME, BACK):
                return first, moving.turned(axes)
    return None


def _reshaped(first: ir.Value, axes: Axes, result: ir.Value) -> tuple[ir.Value, Axes] | None:
    """The operand of a Reshape that only adds or removes axes of size 1; else None."""
    if first.shape is None or result.shape is None:
        return None
    wide = [size for size in first.shape if size != 1]
    if wide != [size for size in result.shape if size != 1]:
        return None
    core = iter([axis for size, axis in zip(result.shape, axes, strict=True) if size != 1])
    found = tuple(ONE if size == 1 else next(core) for size in first.shape)
    return (first, found) if FEATURES in found and {TIME, BACK} & set(found) else None


def joined(terms: Terms, roots: Sequence[Root]) -> tuple[Term, dict[Term, Term]]:
    """One sequence that holds several side by side, and the part of it for each source."""
    whole = terms.source("sequence", sum(root.source.width for root in roots))
    found, start = {}, 0
    for root in roots:
        stop = start + root.source.width
        found[root.source] = terms.part(whole, start, stop)
        start = stop
    return whole, found
