"""Scale: y_j = v_j x_j, a product with a constant vector (a diagonal matrix).

Peepholes of an LSTM and the recurrent vectors of an SRU are such products. The vector has no codes
of its own: it is part of the multipliers, which have 15 bits and a sign::

    q_y,j = clip(Z_y + ((M_j (q_x,j - Z_x) + 2^(s-1)) >> s), 0, 2^b - 1)
    M_j = round(v_j S_x / S_y 2^s), at most 15 bits and a sign, one shift for all

The terms of the zero point and of rounding are one offset per channel, computed beforehand. The
product is below 2^23, so that the sum is exact in every runtime for every shift. Error::

    |q_y - exact| <= 1/2 + |q_x - Z_x| |v S_x / S_y - M 2^-s|

Wide codes are split into bytes, q_x - Z_x = 2^8 u + w, as in `onnxgru.custom_ops.kinds.add`, with
the same bound for M_j 2^-(s+8)::

    q_y,j = clip(Z_y + ((M_j u + ((M_j w + 2^(s+7)) >> 8)) >> s), 0, 2^b - 1)
    M_j = round(2^8 v_j S_x / S_y 2^s)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import MAXIMUM_SHIFT, Requantization, signed_multiplier
from onnxgru.core.integers import BYTE_BITS
from onnxgru.core.network import ScaleOperator
from onnxgru.core.primitives import Computing, Finish, Prepared, Storing, Value
from onnxgru.core.program import Boundary, Output, Proof, Work
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds import requantize
from onnxgru.custom_ops.kinds.single import Requantized
from onnxgru.custom_ops.kinds.words import LowerWord, byte_shift, split


def equation(tape: Tape, operator: ScaleOperator, x: ir.Value) -> ir.Value:
    """Float node: Mul by the vector."""
    vector = tape.constant(f"{operator.name}/vector", operator.vector)
    return tape.op("Mul", x, vector, name=operator.name)


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Scale.compute` takes.

    Parameters
    ----------
    offset : Value
        Rounding and zero point, one per channel.
    multiplier : Value
        M, one per channel.
    finish : Finish
        Shift, zero point and bounds of the result.
    words : LowerWord, optional
        For a wide operand; `offset` then belongs to the upper word.
    """

    offset: Value
    multiplier: Value
    finish: Finish[Value]
    words: LowerWord[Value] | None = None


@dataclass(frozen=True, eq=False)
class Scale(Requantized):
    """Product of a value and a constant vector.

    Parameters
    ----------
    operands : tuple of Boundary
        What is multiplied, one.
    inputs : tuple of str
        Name of the operand as a value.
    output : Output
        The product's codes.
    """

    kind: ClassVar[str] = "scale"
    vectors: ClassVar[tuple[str, ...]] = ("offset", "multiplier", "words.offset")

    @classmethod
    def derive(
        cls,
        operator: ScaleOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Scale":
        """Integer parameters from the vector and both scales."""
        (operand,) = operands
        ratio = operand.quantization.scale / result.quantization.scale
        vector = operator.vector.astype(np.float64) * ratio
        most = MAXIMUM_SHIFT
        if operand.quantization.type.wide:
            vector, most = np.ldexp(vector, BYTE_BITS), MAXIMUM_SHIFT - BYTE_BITS
        multipliers, shift = signed_multiplier(vector, most)
        requantization = Requantization(multipliers, shift, reach=0)
        # The product needs neither a pre-shift nor a clip: see the module's docstring.
        output = Output(operator.name, result, requantization, operator.width, 0)
        return cls(operands, inputs, output)

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """The multipliers, and rounding and zero point as one offset per channel."""
        p = primitives
        (multiplier,), (zero_point,) = given.multipliers, given.zero_points
        if self.operands[0].quantization.type.wide:
            byte = byte_shift(p)
            high, low = split(p, zero_point, byte)
            half = p.mul(given.result.shift.power, byte.half)
            offset = p.sub(p.constant(0), p.mul(high, multiplier))
            words = LowerWord(p.sub(half, p.mul(low, multiplier)), byte)
            return Parameters(offset, multiplier, given.result, words)
        offset = p.sub(given.result.shift.half, p.mul(zero_point, multiplier))
        return Parameters(offset, multiplier, given.result)

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the product, of the operand's shape."""
        p = primitives
        (codes,) = operands
        kind, step, words = self.types[0], p.widen(codes), parameters.words
        carried = None
        if words is not None:
            step, low = split(p, step, words.byte)
            lower = p.add(words.offset, p.mul(low, parameters.multiplier))
            carried = p.floor_shift(lower, words.byte)
        total = p.add(parameters.offset, p.mul(step, parameters.multiplier))
        if carried is not None:
            total = p.add(total, carried)
        return (requantize.finish(p, parameters.finish, total, kind),)

    def proofs(self) -> Iterator[Proof]:
        """Range of the product."""
        q = self.operands[0].quantization
        ends = np.asarray([-q.zero_point, q.type.maximum - q.zero_point])
        products = np.outer(ends, self.output.requantization.multipliers)
        if q.type.wide:
            half = 1 << self.output.requantization.shift + BYTE_BITS - 1
            products = products + half >> BYTE_BITS
        yield Proof(self.output.name, int(products.min()), int(products.max()))

    @property
    def work(self) -> Iterator[Work]:
        """One product per channel, which costs as much as a product of two values."""
        yield Work("mul", self.output.channels, self.operand_bits)
