"""Add: y = a + b, element by element.

In integers, the float example of Miccini et al. 2024 (arXiv 2402.12263) in fixed point::

    q_y = clip(Z_y + ((M_a (q_a - Z_a) + M_b (q_b - Z_b) + 2^(s-1)) >> s), 0, 2^b - 1)
    M_i = round(S_i / S_y 2^s), at most 15 bits, one shift for both

The terms of the zero points and of rounding are one offset, computed beforehand. Both products
are below 2^23, so that the sum is exact in every runtime for every shift. Error::

    |q_y - exact| <= 1/2 + sum_i |q_i - Z_i| |S_i / S_y - M_i 2^-s|

Where an operand has wide codes, the sum has two words. Wide operands are split into bytes,
q - Z = 2^8 u + v with u = floor(q / 2^8) - floor(Z / 2^8); other operands are upper words::

    q_y = clip(Z_y + ((sum_i M_i u_i + ((sum_i M_i v_i + 2^(s+7)) >> 8)) >> s), 0, 2^b - 1)
    M_i = round(2^8 S_i / S_y 2^s) for wide operands, round(S_i / S_y 2^s) for others

This equals one sum of more than 32 bits that is shifted once. So the error bound is the same, with
M_i 2^-(s+8) for wide operands. All magnitudes are below 2^24, except for the rounding term, which
is shifted by 8, and for sums that are shifted by 7 or more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.fixedpoint import (
    EXACT_IN_FLOAT32,
    MAXIMUM_SHIFT,
    MINIMUM_SHIFT,
    Integers,
    Ratios,
    Requantization,
    multiplier,
)
from onnxgru.core.integers import BYTE_BITS
from onnxgru.core.network import ElementwiseOperator
from onnxgru.core.primitives import Computing, Finish, Prepared, Storing, Value
from onnxgru.core.program import Boundary, Output, Proof, Runs
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds import requantize
from onnxgru.custom_ops.kinds.single import Requantized
from onnxgru.custom_ops.kinds.words import LowerWord, byte_shift, split


def equation(
    tape: Tape, operator: ElementwiseOperator, left: ir.Value, right: ir.Value
) -> ir.Value:
    """Float node: Add."""
    return tape.op("Add", left, right, name=operator.name)


def _words(ratios: Ratios, wide: npt.NDArray[np.bool_]) -> tuple[Integers, int]:
    """Multipliers of a sum with wide operands, and their shift: see the module's docstring."""
    steps = np.where(wide, np.ldexp(ratios, BYTE_BITS), ratios)
    scales, shift = multiplier(steps, lowest_shift=0)
    most = MAXIMUM_SHIFT - BYTE_BITS
    if int(scales.sum()) << BYTE_BITS >= EXACT_IN_FLOAT32 and shift < MINIMUM_SHIFT:
        most = max(0, shift - 1)
    if shift > most:
        shift = most
        scales = np.maximum(np.rint(np.ldexp(steps, shift)), 1).astype(np.int64)
    return scales, shift


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Add.compute` takes.

    Parameters
    ----------
    offset : Value
        Rounding and zero points.
    multipliers : tuple of Value
        M of each operand.
    finish : Finish
        Shift, zero point and bounds of the sum.
    words : LowerWord, optional
        Of wide operands.
    """

    offset: Value
    multipliers: tuple[Value, ...]
    finish: Finish[Value]
    words: LowerWord[Value] | None = None


@dataclass(frozen=True, eq=False)
class Add(Requantized):
    """Sum of two values.

    Parameters
    ----------
    operands : tuple of Boundary
        What is added, two.
    inputs : tuple of str
        Names of the operands as values.
    output : Output
        The sum's codes; its requantisation has a multiplier for each operand.
    """

    kind: ClassVar[str] = "add"

    @classmethod
    def derive(
        cls,
        operator: ElementwiseOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Add":
        """Integer parameters from the scales of both operands and of the sum."""
        ratios = np.asarray([o.quantization.scale / result.quantization.scale for o in operands])
        wide = np.asarray([o.quantization.type.wide for o in operands])
        scales, shift = (
            multiplier(ratios, lowest_shift=0) if not wide.any() else _words(ratios, wide)
        )
        requantization = Requantization(scales, shift, reach=0)
        # Products need neither a pre-shift nor a clip: see the module's docstring.
        return cls(
            operands, inputs, Output(operator.name, result, requantization, operator.width, 0)
        )

    @property
    def multiplier_runs(self) -> tuple[Runs, ...]:
        """One multiplier per operand."""
        return (((False, 1),), ((False, 1),))

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """The multipliers, and rounding and zero points as one offset."""
        p = primitives
        if any(self._wide):
            return self._prepare_words(p, given)
        offset = given.result.shift.half
        for zero_point, factor in zip(given.zero_points, given.multipliers, strict=True):
            offset = p.sub(offset, p.mul(zero_point, factor))
        return Parameters(offset, given.multipliers, given.result)

    @property
    def _wide(self) -> tuple[bool, ...]:
        return tuple(operand.quantization.type.wide for operand in self.operands)

    def _prepare_words(self, p: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        byte = byte_shift(p)
        upper, lower = p.constant(0), p.mul(given.result.shift.power, byte.half)
        for zero_point, factor, wide in zip(
            given.zero_points, given.multipliers, self._wide, strict=True
        ):
            high, low = split(p, zero_point, byte) if wide else (zero_point, None)
            upper = p.sub(upper, p.mul(high, factor))
            lower = lower if low is None else p.sub(lower, p.mul(low, factor))
        return Parameters(upper, given.multipliers, given.result, LowerWord(lower, byte))

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the sum, of the operands' shape."""
        p, words = primitives, parameters.words
        kind = self.output.boundary.quantization.type
        total = parameters.offset
        lower = None if words is None else words.offset
        for codes, factor, wide in zip(operands, parameters.multipliers, self._wide, strict=True):
            step = p.widen(codes)
            if words is not None and lower is not None and wide:
                step, low = split(p, step, words.byte)
                lower = p.add(lower, p.mul(low, factor))
            total = p.add(total, p.mul(step, factor))
        if words is not None and lower is not None:
            total = p.add(total, p.floor_shift(lower, words.byte))
        return (requantize.finish(p, parameters.finish, total, kind),)

    def proofs(self) -> Iterator[Proof]:
        """Range of the weighted sum, or of its upper word after the lower one is added."""
        low = high = 0
        words = any(self._wide)
        for boundary, scale, wide in zip(
            self.operands, self.output.requantization.multipliers, self._wide, strict=True
        ):
            q = boundary.quantization
            unit = 1 << (BYTE_BITS if words and not wide else 0)
            low -= q.zero_point * int(scale) * unit
            high += (q.type.maximum - q.zero_point) * int(scale) * unit
        if words:
            half = 1 << self.output.requantization.shift + BYTE_BITS - 1
            low, high = low + half >> BYTE_BITS, high + half >> BYTE_BITS
        yield Proof(self.output.name, low, high)
