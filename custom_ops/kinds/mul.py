"""Mul: y = a * b, element by element (the Hadamard product).

Integer::

    acc = (q_a - Z_a)(q_b - Z_b)
    q_y = clip(Z_y + requantize(acc, S_a S_b / S_y), 0, 2^b - 1)

The product of a wide and a narrow step stays below 2^24. The product of two wide steps is computed
without its last byte: with q_a - Z_a = 2^8 u + v, 0 <= v < 2^8::

    acc = u (q_b - Z_b) + ((v (q_b - Z_b) + 2^7) >> 8)        for the ratio 2^8 S_a S_b / S_y

This is within 1/2 of the product over 2^8, and below 2^24 too. So the error is that of the
requantisation. For two wide operands, 2^7 S_a S_b / S_y is added, which is a 2^9th of a code where
the result has wide codes and the range of the product.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import Requantization
from onnxgru.core.integers import BYTE_BITS, Quantization
from onnxgru.core.network import ElementwiseOperator
from onnxgru.core.primitives import Computing, Prepared, Shift, Storing, Value
from onnxgru.core.program import Boundary, Output, Proof
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds import requantize
from onnxgru.custom_ops.kinds.single import Requantized
from onnxgru.custom_ops.kinds.words import byte_shift, split


def equation(
    tape: Tape, operator: ElementwiseOperator, left: ir.Value, right: ir.Value
) -> ir.Value:
    """Float node: Mul."""
    return tape.op("Mul", left, right, name=operator.name)


def extremes(left: Quantization, right: Quantization) -> tuple[int, int]:
    """Smallest and largest product of two steps from the zero points."""
    products = [
        a * b
        for a in (-left.zero_point, left.type.maximum - left.zero_point)
        for b in (-right.zero_point, right.type.maximum - right.zero_point)
    ]
    return min(products), max(products)


def _less(left: Quantization, right: Quantization) -> int:
    """Bits that are dropped from the product, so that it fits."""
    return BYTE_BITS if left.type.wide and right.type.wide else 0


def _rounded(product: int, less: int) -> int:
    """A product without its last bits, rounded half up."""
    return product + (1 << less >> 1) >> less


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Mul.compute` takes.

    Parameters
    ----------
    zero_points : tuple of Value
        Of the operands.
    requantization : requantize.Parameters
        Of the product.
    byte : Shift, optional
        By 8 bits, where both operands have wide codes.
    """

    zero_points: tuple[Value, ...]
    requantization: requantize.Parameters[Value]
    byte: Shift[Value] | None = None


@dataclass(frozen=True, eq=False)
class Mul(Requantized):
    """Product of two values.

    Parameters
    ----------
    operands : tuple of Boundary
        What is multiplied.
    inputs : tuple of str
        Names of the operands as values.
    output : Output
        The product's codes.
    """

    kind: ClassVar[str] = "mul"

    @classmethod
    def derive(
        cls,
        operator: ElementwiseOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Mul":
        """Integer parameters from the scales of both operands and of the product."""
        left, right = (operand.quantization for operand in operands)
        less = _less(left, right)
        largest = max(1, *(abs(_rounded(end, less)) for end in extremes(left, right)))
        ratio = np.asarray([left.scale * right.scale / result.quantization.scale * 2**less])
        requantization = Requantization.derive(
            ratio, np.asarray([largest]), result.quantization.bits
        )
        output = Output(operator.name, result, requantization, operator.width, largest)
        return cls(operands, inputs, output)

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """Zero points of the operands, and the requantisation."""
        parameters = requantize.Parameters.of(given)
        if not self._less:
            return Parameters(given.zero_points, parameters)
        return Parameters(given.zero_points, parameters, byte_shift(primitives))

    @property
    def _less(self) -> int:
        return _less(*(operand.quantization for operand in self.operands))

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the product, of the operands' shape."""
        p = primitives
        steps = [p.widen(codes) for codes in operands]
        for index, operand in enumerate(self.operands):
            if p.general or operand.quantization.zero_point:  # gates have none
                steps[index] = p.sub(steps[index], parameters.zero_points[index])
        if parameters.byte is None:
            product = p.mul(*steps)
        else:
            (left, right), byte = steps, parameters.byte
            upper, lower = split(p, left, byte)
            carried = p.floor_shift(p.add(p.mul(lower, right), byte.half), byte)
            product = p.add(p.mul(upper, right), carried)
        return (requantize.compute(p, parameters.requantization, (self.output,), product),)

    def proofs(self) -> Iterator[Proof]:
        """Range of the product of steps."""
        ends = extremes(*(b.quantization for b in self.operands))
        yield Proof(self.output.name, *(_rounded(end, self._less) for end in ends))
