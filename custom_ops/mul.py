"""Mul: y = a * b, element by element (the Hadamard product).

Integer::

    acc = (q_a - Z_a)(q_b - Z_b)
    q_y = clip(Z_y + requantize(acc, S_a S_b / S_y), 0, 2^b - 1)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import Requantization
from onnxgru.core.integers import Quantization
from onnxgru.core.network import ElementwiseOperator
from onnxgru.core.primitives import Computing, Given, Storing, Value
from onnxgru.core.program import Boundary, FlashItem, IntegerOperator, Output, Proof, Work
from onnxgru.core.tape import Tape
from onnxgru.custom_ops import requantize


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


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Mul.compute` takes.

    Parameters
    ----------
    zero_points : tuple of Value
        Of the operands.
    requantization : requantize.Parameters
        Of the product.
    """

    zero_points: tuple[Value, ...]
    requantization: requantize.Parameters[Value]


@dataclass(frozen=True, eq=False)
class Mul(IntegerOperator):
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
    operands: tuple[Boundary, ...]
    inputs: tuple[str, ...]
    output: Output

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
        largest = max(1, *map(abs, extremes(left, right)))
        ratio = np.asarray([left.scale * right.scale / result.quantization.scale])
        requantization = Requantization.derive(
            ratio, np.asarray([largest]), result.quantization.bits
        )
        output = Output(operator.name, result, requantization, operator.width, largest)
        return cls(operands, inputs, output)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The product."""
        return (self.output.name,)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the product."""
        return (self.output.channels,)

    @property
    def results(self) -> tuple[Output, ...]:
        """The product."""
        return (self.output,)

    def prepare(self, primitives: Storing[Value], given: Given[Value]) -> Parameters[Value]:
        """Zero points of the operands, and the requantisation."""
        return Parameters(given.zero_points, requantize.Parameters.of(given))

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the product, of the operands' shape."""
        p = primitives
        steps = [p.widen(codes) for codes in operands]
        for index, operand in enumerate(self.operands):
            if p.general or operand.quantization.zero_point:  # gates have none
                steps[index] = p.sub(steps[index], parameters.zero_points[index])
        product = p.mul(*steps)
        return (requantize.compute(p, parameters.requantization, (self.output,), product),)

    def flash(self) -> Iterator[FlashItem]:
        """Nothing beside what its stage stores."""
        return iter(())

    def proofs(self) -> Iterator[Proof]:
        """Range of the product of steps."""
        yield Proof(self.output.name, *extremes(*(b.quantization for b in self.operands)))

    @property
    def work(self) -> Iterator[Work]:
        """An element a channel."""
        yield Work(self.kind, self.output.channels, self.operand_bits)

    @property
    def scratch(self) -> int:
        """An int32 and a code a channel."""
        return 5 * self.output.channels
