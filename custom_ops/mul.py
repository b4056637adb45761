"""Mul: y = a * b, element by element (the Hadamard product).

Integer::

    acc = (q_a - Z_a)(q_b - Z_b)
    q_y = clip(Z_y + requantize(acc, S_a S_b / S_y), 0, 2^b - 1)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import Requantization
from onnxgru.core.integers import Quantization
from onnxgru.core.network import Operator
from onnxgru.core.primitives import Primitives, Value
from onnxgru.core.program import Boundary, FlashItem, IntegerOperator, Proof
from onnxgru.core.tape import Tape
from onnxgru.custom_ops import requantize


def equation(tape: Tape, operator: Operator, left: ir.Value, right: ir.Value) -> ir.Value:
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


@dataclass(frozen=True, eq=False)
class Mul(IntegerOperator):
    """Product of two values.

    Parameters
    ----------
    operands : tuple of Boundary
        What is multiplied.
    inputs : tuple of str
        Names of the operands as values.
    output : requantize.Output
        The product's codes.
    """

    kind: ClassVar[str] = "mul"
    operands: tuple[Boundary, Boundary]
    inputs: tuple[str, ...]
    output: requantize.Output

    @classmethod
    def derive(
        cls,
        operator: Operator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, Boundary],
        result: Boundary,
    ) -> "Mul":
        """Integer parameters from the scales of both operands and of the product."""
        left, right = (operand.quantization for operand in operands)
        largest = max(1, *map(abs, extremes(left, right)))
        ratio = np.asarray([left.scale * right.scale / result.quantization.scale])
        requantization = Requantization.derive(
            ratio, np.asarray([largest]), result.quantization.bits
        )
        output = requantize.Output(
            operator.name,
            f"{result.name}/zero_point",
            result.quantization,
            requantization,
            operator.width,
            largest,
        )
        return cls(operands, inputs, output)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The product."""
        return (self.output.name,)

    def prepare(self, primitives: Primitives[Value]) -> Mapping[str, Value]:
        """Zero points of both operands, and the requantisation."""
        p = primitives
        left, right = (
            p.widen(
                p.parameter(f"{b.name}/zero_point", np.asarray(b.quantization.zero_point, np.uint8))
            )
            for b in self.operands
        )
        return {
            "left_zero_point": left,
            "right_zero_point": right,
            **requantize.prepare(p, (self.output,)),
        }

    def compute(
        self, primitives: Primitives[Value], parameters: Mapping[str, Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the product, of the operands' shape."""
        p = primitives
        left, right = operands
        product = p.mul(
            p.sub(p.widen(left), parameters["left_zero_point"]),
            p.sub(p.widen(right), parameters["right_zero_point"]),
        )
        return (requantize.compute(p, parameters, (self.output,), product),)

    def flash(self) -> Iterator[FlashItem]:
        """A multiplier, a shift, a reach where it is needed, a zero point."""
        yield from requantize.flash((self.output,))

    def proofs(self) -> Iterator[Proof]:
        """Range of the product of steps."""
        yield Proof(self.output.name, *extremes(*(b.quantization for b in self.operands)))

    @property
    def scratch(self) -> int:
        """An int32 and a code a channel."""
        return 5 * self.output.channels
