"""Ends: equations of sequences of different lengths, as ONNX's ``sequence_lens`` defines them.

After its end a sequence keeps its carries and emits 0. If a body emits its last value instead, the
graph computes this behind the node.
"""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxgru.passes.bodies.equations import Equations
from onnxgru.passes.bodies.lengths import Steps
from onnxgru.passes.bodies.masks import Mask
from onnxgru.passes.bodies.terms import UnknownError
from onnxgru.passes.graph.values import is_zero


def lengthened(found: Equations, given: Sequence[tuple[ir.Value, int]]) -> Equations:
    """Equations with the lengths of sequences, if the body keeps its carries by a mask.

    Parameters
    ----------
    found : Equations
        With all carries; the result has only those that something reads.
    given : sequence of (Value, int)
        Sequences that the body reads, with their axis of time.

    Raises
    ------
    UnknownError
        If only some carries are kept, or not as ``sequence_lens`` keeps them.
    """
    every = {each.source: each for each in found.carried}
    found = found.needed()
    emitted = found.emitted
    masks = [each.held for each in found.carried]
    masks += [emitted.held] if emitted is not None else []
    lengths = {mask.lengths for mask in masks if mask is not None}
    if not lengths:
        return found
    if None in masks or len(lengths) > 1:
        raise UnknownError("its body holds only a part of what it carries and gives")
    if found.reverse:
        raise UnknownError("it runs backwards over sequences of different lengths")
    if not all(is_zero(each.first) for each in found.carried):
        raise UnknownError("its sequences of different lengths do not start from 0")
    mask = next(mask for mask in masks if mask is not None)
    _require_all_steps(mask, given)
    holding = None
    if emitted is not None and emitted.old is not None:
        before = every.get(emitted.old)
        written = {each.following: each.source for each in found.carried}
        holding = written.get(emitted.term)
        same = before is not None and before.following is emitted.term and is_zero(before.first)
        if holding is None or not same:
            raise UnknownError("after the end of a sequence, it gives what it does not carry")
    return replace(found, mask=mask, holding=holding)


def _require_all_steps(mask: Mask, given: Sequence[tuple[ir.Value, int]]) -> None:
    """Check that a mask has as many steps as the sequences."""
    for value, axis in given:
        size = None if value.shape is None else value.shape[axis]
        if isinstance(mask.size, int):
            same = mask.size == size
        else:
            same = mask.size.same(Steps(value, axis))
        if not same:
            raise UnknownError(f"its mask is not made for all steps of {value.name}")
