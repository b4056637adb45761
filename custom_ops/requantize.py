"""Requantisation, written once over the primitives: the last part of linear, add and mul.

::

    v = clip((acc + 2^(p-1)) >> p, -2^c, 2^c)
    y = clip(Z_y + ((v M + 2^(s-1)) >> s), 0, 2^b - 1)

See `onnxgru.core.fixedpoint` for the derivation of M, s, p and c and for the error bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from onnxgru.core.primitives import Clip, Computing, Finish, Given, Value
from onnxgru.core.program import Output


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `compute` takes.

    Parameters
    ----------
    multiplier : Value
        M.
    finish : Finish
        s, Z_y and the bounds of codes.
    clip : Clip, optional
        p and c, where they have anything to do.
    """

    multiplier: Value
    finish: Finish[Value]
    clip: Clip[Value] | None

    @classmethod
    def of(cls, given: Given[Value]) -> "Parameters[Value]":
        """From what the stage prepared."""
        return cls(given.multipliers[0], given.result, given.clip)


def compute(
    p: Computing[Value],
    parameters: Parameters[Value],
    outputs: Sequence[Output],
    accumulator: Value,
) -> Value:
    """Codes (uint8) of an accumulator (int32), both of shape (..., sum of channels)."""
    value, clip = accumulator, parameters.clip
    if clip is not None and (p.general or any(o.requantization.pre_shift for o in outputs)):
        value = p.floor_shift(p.add(value, clip.shift.half), clip.shift)
    if clip is not None and (p.general or any(output.clips for output in outputs)):
        value = p.clip(value, clip.low, clip.high)
    product = p.mul(value, parameters.multiplier)
    rounded = p.add(product, parameters.finish.shift.half)
    return finish(p, parameters.finish, rounded)


def finish(p: Computing[Value], parameters: Finish[Value], rounded: Value) -> Value:
    """Shift a value to which half of the power has been added, add the zero point, saturate."""
    value = p.floor_shift(rounded, parameters.shift)
    value = p.add(value, parameters.zero_point)
    return p.narrow(p.clip(value, parameters.zero, parameters.top))
