"""Preparation of a stage: small parameters, stored side by side, handed to each operator.

Shifts and reaches of all operators are turned into powers of two, masks and rounding offsets in
one go. An operator of one result gets numbers; a group of linear operators gets a number a
column.
"""

from collections.abc import Mapping

from onnxgru.core.fixedpoint import OPERAND_BITS
from onnxgru.core.primitives import Primitives, Value
from onnxgru.core.program import IntegerOperator, Stage


def prepare(p: Primitives[Value], stage: Stage) -> dict[tuple[str, ...], Mapping[str, Value]]:
    """Parameters of every operator of a stage, by the names of its outputs."""
    results = stage.results
    vectors = _powers(p, stage)
    scalars = {name: p.split(vector, [1] * len(results)) for name, vector in vectors.items()}
    zero_vector = p.bytes(stage.zero_points.name, stage.zero_points.codes)
    zero_points = p.split(zero_vector, [1] * len(stage.zero_points.values))
    multipliers = iter(
        p.split(
            p.words(f"{stage.name}/multiplier", stage.multipliers),
            [size for operator in stage.operators for size in operator.multiplier_sizes],
        )
    )
    prepared: dict[tuple[str, ...], Mapping[str, Value]] = {}
    slot = 0
    for operator in stage.operators:
        shared: dict[str, Value] = {
            f"multiplier/{index}": next(multipliers)
            for index in range(len(operator.multiplier_sizes))
        }
        for index, operand in enumerate(operator.operands):
            shared[f"zero_point/{index}"] = zero_points[stage.zero_points.position(operand)]
        count = len(operator.results)
        places = [stage.zero_points.position(r.boundary) for r in operator.results]
        if count == 1:
            shared.update({name: values[slot] for name, values in scalars.items()})
            shared["zero_point"] = zero_points[places[0]]
        elif count:
            channels = operator.results[0].channels
            slots = list(range(slot, slot + count))
            shared.update(
                {name: p.columns(vector, slots, channels) for name, vector in vectors.items()}
            )
            shared["zero_point"] = p.columns(zero_vector, places, channels)
        if count:
            shared["zero"] = p.constant(0)
            shared["top"] = _top(p, operator)
        prepared[operator.outputs] = operator.prepare(p, shared)
        slot += count
    return prepared


def _powers(p: Primitives[Value], stage: Stage) -> dict[str, Value]:
    one = p.constant(1)
    power = p.power(p.bytes(f"{stage.name}/shift", stage.shifts))
    vectors = {"power": power, "mask": p.sub(power, one), "half": p.halve(power)}
    if p.general or stage.stores_reaches:
        reach = p.bytes(f"{stage.name}/reach", stage.reaches)
        limit = p.clip(reach, p.constant(0), p.constant(OPERAND_BITS))
        before = p.power(p.sub(reach, limit))
        high = p.power(limit)
        vectors |= {
            "pre_power": before,
            "pre_mask": p.sub(before, one),
            "pre_half": p.halve(before),
            "high": high,
            "low": p.sub(p.constant(0), high),
        }
    return vectors


def _top(p: Primitives[Value], operator: IntegerOperator) -> Value:
    tops = [r.boundary.quantization.type.maximum for r in operator.results]
    if len(set(tops)) == 1:
        return p.constant(tops[0])
    return p.columns(p.numbers(tops), range(len(tops)), operator.results[0].channels)
