"""Ends: equations of sequences of different lengths, in the meaning of ONNX's ``sequence_lens``.

After its end a sequence keeps what it carries, and gives 0. What a body gives otherwise, its last
value, is put together behind the node.
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
    """Equations with the lengths of sequences, where a body holds what it carries.

    Parameters
    ----------
    found : Equations
        With all carries; those that nobody reads are left out.
    given : sequence of (Value, int)
        What the steps are slices of, with the axis of time.

    Raises
    ------
    UnknownError
        If only a part is held, or not as ``sequence_lens`` does.
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
    """Check that a mask is made for as many steps as sequences have."""
    for value, axis in given:
        size = None if value.shape is None else value.shape[axis]
        if isinstance(mask.size, int):
            same = mask.size == size
        else:
            same = mask.size.same(Steps(value, axis))
        if not same:
            raise UnknownError(f"its mask is not made for all steps of {value.name}")
