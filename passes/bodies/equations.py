"""Equations: what a ``Scan`` or ``Loop`` computes at every step, as terms.

Both exchange values with their body in four ways:

- *carries*: an output of the body is its input at the next step;
- *sequences*: the body reads a slice along time at every step;
- *constants*: the body captures them, or carries them without change;
- *emitted* values: an output of every step, joined along time.
"""

from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxgru.core.activations import Activation
from onnxgru.passes.bodies import moving
from onnxgru.passes.bodies.masks import Mask
from onnxgru.passes.bodies.moving import Axes
from onnxgru.passes.bodies.sequences import Root
from onnxgru.passes.bodies.terms import AFFINE, Term, Terms


@dataclass(frozen=True, eq=False)
class Carried:
    """A carry: a value that is kept from step to step.

    Parameters
    ----------
    source : Term
        The value of the step before.
    following : Term
        The next value.
    axes : tuple of str
        Meaning of the axes of the value, see `onnxgru.passes.bodies.moving`.
    first : onnx_ir.Value
        The value before the first step.
    last : onnx_ir.Value or None
        The value after the last step, if something reads it.
    held : Mask or None
        Where it keeps its value.
    """

    source: Term
    following: Term
    axes: Axes
    first: ir.Value
    last: ir.Value | None
    held: Mask | None = None


@dataclass(frozen=True, eq=False)
class Emitted:
    """An output of every step.

    Parameters
    ----------
    term : Term
        Its equation.
    axes : tuple of str
        Meaning of the axes of the outputs of all steps, including time.
    value : onnx_ir.Value
        The outputs of all steps.
    held : Mask or None
        Where another value is emitted instead.
    old : Term or None
        That value, a carry; 0 where there is none.
    """

    term: Term
    axes: Axes
    value: ir.Value
    held: Mask | None = None
    old: Term | None = None


@dataclass(frozen=True, eq=False)
class Equations:
    """What a node computes.

    Parameters
    ----------
    terms : Terms
        The maker of its terms.
    carried : tuple of Carried
        The carries.
    roots : tuple of Root
        The sequences that are read, side by side.
    source : Term
        All sequences at one step.
    emitted : Emitted or None
        The output of every step, if something reads it.
    reverse : bool
        Whether time runs backwards.
    kept : tuple of (Value, Value)
        Outputs of the node that equal an input, each with that input.
    mask : Mask or None
        Which steps count, where sequences have lengths.
    holding : Term or None
        The carry whose last value is emitted after a sequence's end; None for 0.
    """

    terms: Terms
    carried: tuple[Carried, ...]
    roots: tuple[Root, ...]
    source: Term
    emitted: Emitted | None
    reverse: bool
    kept: tuple[tuple[ir.Value, ir.Value], ...] = ()
    mask: Mask | None = None
    holding: Term | None = None

    def needed(self) -> "Equations":
        """The same without carries that nothing reads."""
        followings = {each.source: each.following for each in self.carried}
        pending = [each.source for each in self.carried if each.last is not None]
        pending += [self.emitted.term] if self.emitted is not None else []
        seen: set[Term] = set()
        while pending:
            term = pending.pop()
            if term not in seen:
                seen.add(term)
                pending += [*term.operands, *filter(None, [followings.get(term)])]
        return replace(self, carried=tuple(c for c in self.carried if c.source in seen))

    def turned(self) -> "Equations":
        """The same with time reversed in the layer instead of in the sequences."""
        roots = tuple(replace(root, axes=moving.turned(root.axes)) for root in self.roots)
        emitted = self.emitted
        if emitted is not None:
            emitted = replace(emitted, axes=moving.turned(emitted.axes))
        return replace(self, roots=roots, emitted=emitted, reverse=not self.reverse)

    def computed(self, term: Term) -> Term:
        """A term that has an operator: an input of the step becomes the line y = x."""
        if term.kind != "source":
            return term
        return self.terms.lookup(term, Activation(AFFINE, 1.0, 0.0))


def read(value: ir.Value) -> bool:
    """Whether something reads a value."""
    return bool(value.uses()) or value.is_graph_output()


def origin(value: ir.Value) -> ir.Value:
    """The value that a value is a copy of."""
    while (node := value.producer()) is not None and node.op_type == "Identity":
        first = node.inputs[0]
        if first is None:
            break
        value = first
    return value
