"""Requantisation, written once over the primitives: the last stage of linear, add and mul.

::

    v = clip((acc + 2^(p-1)) >> p, -2^c, 2^c)
    y = clip(Z_y + ((v M + 2^(s-1)) >> s), 0, 2^b - 1)

See `onnxgru.core.fixedpoint` for the derivation of M, s, p and c and for the error bound.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxgru.core.fixedpoint import OPERAND_BITS, Requantization
from onnxgru.core.integers import Quantization
from onnxgru.core.primitives import Primitives, Value
from onnxgru.core.program import FlashItem


@dataclass(frozen=True, eq=False)
class Output:
    """One operator's codes, and how an accumulator becomes them.

    Parameters
    ----------
    name : str
        Operator.
    zero_point : str
        Name of the initializer with the output's zero point: the operator's own, or its
        layer's state's.
    quantization : Quantization
        Of the codes.
    requantization : Requantization
        From the accumulator.
    channels : int
        Features: H.
    extreme : int
        Proved largest magnitude of the accumulator.
    """

    name: str
    zero_point: str
    quantization: Quantization
    requantization: Requantization
    channels: int
    extreme: int

    @property
    def clips(self) -> bool:
        """Whether the pre-shifted accumulator can exceed its limit."""
        parameters = self.requantization
        rounded = self.extreme + (1 << parameters.pre_shift >> 1)
        return rounded >> parameters.pre_shift > 1 << parameters.limit

    @property
    def reaches(self) -> bool:
        """Whether the pre-shift or the clip has anything to do."""
        return self.requantization.pre_shift > 0 or self.clips


def flash(outputs: Sequence[Output]) -> Iterator[FlashItem]:
    """Multipliers, shift, reach where the accumulator needs it, and zero point of each output."""
    for output in outputs:
        multipliers = output.requantization.multipliers.size
        yield FlashItem(f"{output.name}/multiplier", "multiplier", 2 * multipliers)
        yield FlashItem(f"{output.name}/shift", "shift", 1)
        if any(other.reaches for other in outputs):
            yield FlashItem(f"{output.name}/reach", "reach", 1)
        yield from zero_point_item(output.name, output.zero_point)


def zero_point_item(name: str, zero_point: str) -> Iterator[FlashItem]:
    """Flash item of an operator's zero point, unless that is its layer's state's."""
    if zero_point == f"{name}/zero_point":
        yield FlashItem(zero_point, "zero_point", 1)


def prepare(primitives: Primitives[Value], outputs: Sequence[Output]) -> dict[str, Value]:
    """Parameters of `compute`, side by side where several outputs share one accumulator."""
    p = primitives

    def columns(value: Callable[[Output], Value]) -> Value:
        if len(outputs) == 1:
            return value(outputs[0])
        return p.concatenate([p.repeat(value(output), output.channels) for output in outputs])

    def stored(role: str, number: Callable[[Output], int]) -> Callable[[Output], Value]:
        return lambda output: p.parameter(
            f"{output.name}/{role}", np.asarray(number(output), np.uint8)
        )

    multipliers = [
        p.parameter(f"{o.name}/multiplier", o.requantization.multipliers.astype(np.int16))
        for o in outputs
    ]
    shift = columns(lambda o: p.widen(stored("shift", lambda o: o.requantization.shift)(o)))
    parameters = {
        "multiplier": p.widen(
            p.concatenate(multipliers) if len(multipliers) > 1 else multipliers[0]
        ),
        "power": p.power(shift),
        "zero_point": columns(
            lambda o: p.widen(
                p.parameter(o.zero_point, np.asarray(o.quantization.zero_point, np.uint8))
            )
        ),
        "zero": p.constant(0),
        "top": columns(lambda o: p.constant(o.quantization.type.maximum)),
    }
    parameters["mask"] = p.sub(parameters["power"], p.constant(1))
    parameters["half"] = p.halve(parameters["power"])
    if any(output.reaches for output in outputs):
        reach = columns(lambda o: p.widen(stored("reach", lambda o: o.requantization.reach)(o)))
        operand = p.constant(OPERAND_BITS)
        limit = p.clip(reach, parameters["zero"], operand)
        parameters["pre_power"] = p.power(p.sub(reach, limit))
        parameters["pre_mask"] = p.sub(parameters["pre_power"], p.constant(1))
        parameters["pre_half"] = p.halve(parameters["pre_power"])
        parameters["high"] = p.power(limit)
        parameters["low"] = p.sub(parameters["zero"], parameters["high"])
    return parameters


def compute(
    primitives: Primitives[Value],
    parameters: Mapping[str, Value],
    outputs: Sequence[Output],
    accumulator: Value,
) -> Value:
    """Codes (uint8) of an accumulator (int32), both of shape (..., sum of channels)."""
    p = primitives
    value = accumulator
    if any(output.requantization.pre_shift for output in outputs):
        rounded = p.add(value, parameters["pre_half"])
        value = p.floor_shift(rounded, parameters["pre_power"], parameters["pre_mask"])
    if any(output.clips for output in outputs):
        value = p.clip(value, parameters["low"], parameters["high"])
    value = p.mul(value, parameters["multiplier"])
    return finish(p, parameters, value)


def finish(p: Primitives[Value], parameters: Mapping[str, Value], value: Value) -> Value:
    """Round, shift, add the zero point and saturate."""
    rounded = p.add(value, parameters["half"])
    value = p.floor_shift(rounded, parameters["power"], parameters["mask"])
    value = p.add(value, parameters["zero_point"])
    return p.narrow(p.clip(value, parameters["zero"], parameters["top"]))
