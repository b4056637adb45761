"""Requantisation, written once over the primitives: the last part of several kinds.

::

    v = clip((acc + 2^(p-1)) >> p, -2^c, 2^c)
    y = clip(Z_y + ((v M + 2^(s-1)) >> s), 0, 2^b - 1)

An operator may add a number of its own to v M, together with 2^(s-1). For wide codes the product
has two words. See `onnxgru.core.fixedpoint` for M, s, p and c and for
the error bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import Clip, Computing, Finish, Prepared, Value, Words
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
        p and c, where they change anything.
    words : Words, optional
        w, where results have wide codes.
    offset : Value, optional
        What is added before the shift, where it is not 2^(s-1) alone.
    """

    multiplier: Value
    finish: Finish[Value]
    clip: Clip[Value] | None
    words: Words[Value] | None
    offset: Value | None = None

    @classmethod
    def of(cls, given: Prepared[Value]) -> "Parameters[Value]":
        """Parameters from what the stage prepared."""
        return cls(given.multipliers[0], given.result, given.clip, given.words)


def compute(
    p: Computing[Value],
    parameters: Parameters[Value],
    outputs: Sequence[Output],
    accumulator: Value,
) -> Value:
    """Codes of an accumulator.

    Parameters
    ----------
    p : Computing
        A back end.
    parameters : Parameters
        Of all columns.
    outputs : sequence of Output
        The results that lie side by side; they say which operations are needed.
    accumulator : Value
        int32, (..., sum of channels).
    """
    value, clip = accumulator, parameters.clip
    if clip is not None and (p.general or any(o.requantization.pre_shift for o in outputs)):
        value = p.floor_shift(p.add(value, clip.shift.half), clip.shift)
    if clip is not None and (p.general or any(output.clips for output in outputs)):
        value = p.clip(value, clip.low, clip.high)
    kind, words = outputs[0].boundary.quantization.type, parameters.words
    half = parameters.finish.shift.half if parameters.offset is None else parameters.offset
    if words is not None and (p.general or any(o.requantization.word for o in outputs)):
        upper = p.floor_shift(value, words.low)
        lower = p.mul(p.sub(value, p.mul(upper, words.low.power)), parameters.multiplier)
        carried = p.floor_shift(p.add(lower, half), words.low)
        total = p.add(p.mul(upper, parameters.multiplier), carried)
        return saturate(p, parameters.finish, p.floor_shift(total, words.high), kind)
    product = p.mul(value, parameters.multiplier)
    return finish(p, parameters.finish, p.add(product, half), kind)


def finish(
    p: Computing[Value], parameters: Finish[Value], rounded: Value, kind: IntegerType
) -> Value:
    """Shift a value that includes the rounding term, add the zero point, saturate."""
    return saturate(p, parameters, p.floor_shift(rounded, parameters.shift), kind)


def saturate(
    p: Computing[Value], parameters: Finish[Value], value: Value, kind: IntegerType
) -> Value:
    """Add the zero point, saturate, and store in the container of the codes."""
    value = p.add(value, parameters.zero_point)
    return p.narrow(p.clip(value, parameters.zero, parameters.top), kind)
