"""Preparation of a stage: its small parameters, which it stores together, for each operator.

The shifts and reaches of all operators become powers of two, masks and rounding offsets together.
An operator with one result gets numbers. A group of linear operators gets one number per column.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, Generic

from onnxgru.core.fixedpoint import OPERAND_BITS, WORD_BITS
from onnxgru.core.primitives import Clip, Finish, Other, Prepared, Shift, Storing, Value, Words
from onnxgru.core.program import IntegerOperator, Stage


@dataclass(frozen=True)
class _Slots(Generic[Value]):
    """Vectors over the results of a stage; see `Finish`, `Clip` and `Words`."""

    shift: Shift[Value]
    clip: Clip[Value] | None
    words: Words[Value] | None

    def mapped(self, change: Callable[[Value], Other]) -> "_Slots[Other]":
        """The same with changed values."""

        def shift(given: Shift[Value]) -> Shift[Other]:
            return Shift(change(given.power), change(given.mask), change(given.half))

        inner, given, words = shift(self.shift), self.clip, self.words
        if given is None:
            return _Slots(inner, None, None)
        clip = Clip(shift(given.shift), change(given.low), change(given.high))
        if words is None:
            return _Slots(inner, clip, None)
        return _Slots(inner, clip, Words(shift(words.low), shift(words.high)))


def prepare(p: Storing[Value], stage: Stage) -> dict[tuple[str, ...], Any]:
    """Parameters of every operator of a stage, by the names of its outputs."""
    if not stage.results:
        return {o.outputs: o.prepare(p, Prepared((), ())) for o in stage.operators}
    count = len(stage.results)
    slots = _slots(p, stage)
    split = slots.mapped(lambda vector: p.split(vector, [1] * count))
    zero_vector = stage.zero_points.stored(p)
    zero_points = p.split(zero_vector, [1] * len(stage.zero_points.values))
    multipliers = _multipliers(p, stage)
    prepared: dict[tuple[str, ...], Any] = {}
    slot, first = 0, count
    for operator in stage.operators:
        own = tuple(next(multipliers) for _ in operator.multiplier_runs)
        zeros = tuple(zero_points[stage.zero_points.position(o)] for o in operator.operands)
        results = len(operator.results)
        places = [stage.zero_points.position(r.boundary) for r in operator.results]
        given: Prepared[Value] = Prepared(own, zeros)
        if results == 1:
            one = split.mapped(itemgetter(slot))
            given = _given(p, operator, own, zeros, one, zero_points[places[0]])
        elif results:
            channels, wanted = operator.results[0].channels, list(range(slot, slot + results))
            wide = slots.mapped(partial(p.columns, positions=wanted, count=channels))
            zero = p.columns(zero_vector, places, channels)
            given = _given(p, operator, own, zeros, wide, zero)
        if exponents := len(operator.exponents):
            wanted = list(range(first, first + exponents))
            units = p.columns(slots.shift.power, wanted, operator.results[0].channels)
            given = replace(given, units=units)
            first += exponents
        prepared[operator.outputs] = operator.prepare(p, given)
        slot += results
    return prepared


def _multipliers(p: Storing[Value], stage: Stage) -> Iterator[Value]:
    """Multipliers of all operators in the form that each asks for; see `multiplier_runs`."""
    handed = [runs for operator in stage.operators for runs in operator.multiplier_runs]
    counts = [
        [n for runs in handed for small, n in runs if small == kind] for kind in (False, True)
    ]
    words, small = stage.multipliers, stage.small_multipliers
    stores = (
        iter(p.split(p.words(f"{stage.name}/multiplier", words), counts[0]) if words.size else ()),
        iter(p.split(p.bytes(stage.small_name, small), counts[1]) if small.size else ()),
    )
    for runs in handed:
        found = [next(stores[kind]) for kind, _ in runs]
        yield p.concatenate(found) if len(found) > 1 else found[0]


def _given(
    p: Storing[Value],
    operator: IntegerOperator,
    multipliers: tuple[Value, ...],
    zero_points: tuple[Value, ...],
    slots: _Slots[Value],
    zero_point: Value,
) -> Prepared[Value]:
    finish = Finish(slots.shift, zero_point, p.constant(0), _top(p, operator))
    return Prepared(multipliers, zero_points, finish, slots.clip, slots.words)


def _slots(p: Storing[Value], stage: Stage) -> _Slots[Value]:
    whole = p.bytes(f"{stage.name}/shift", stage.shifts)
    shift = p.shift(whole)
    if not (p.general or stage.stores_reaches):
        return _Slots(shift, None, None)
    reach = p.bytes(f"{stage.name}/reach", stage.reaches)
    kept = [result.requantization.operand_bits for result in stage.results]
    wide = max(kept, default=0) > OPERAND_BITS
    most = p.numbers(kept) if wide else p.constant(OPERAND_BITS)
    limit = p.clip(reach, p.constant(0), most)
    before = p.shift(p.sub(reach, limit))
    high = p.power(limit)
    clip = Clip(before, p.sub(p.constant(0), high), high)
    if not wide:
        return _Slots(shift, clip, None)
    two = p.clip(p.sub(limit, p.constant(OPERAND_BITS)), p.constant(0), p.constant(1))
    word = p.mul(two, p.constant(WORD_BITS))
    if extra := len(stage.shifts) - len(kept):
        whole, _ = p.split(whole, (len(kept), extra))
    return _Slots(shift, clip, Words(p.shift(word), p.shift(p.sub(whole, word))))


def _top(p: Storing[Value], operator: IntegerOperator) -> Value:
    tops = [r.boundary.quantization.type.maximum for r in operator.results]
    if len(set(tops)) == 1:
        return p.constant(tops[0])
    return p.columns(p.numbers(tops), range(len(tops)), operator.results[0].channels)
