"""Add: y = a + b, element by element.

Integer, with the example of Miccini et al. 2024 (arXiv 2402.12263) in fixed point::

    q_y = clip(Z_y + ((M_a (q_a - Z_a) + M_b (q_b - Z_b) + 2^(s-1)) >> s), 0, 2^b - 1)
    M_i = round(S_i / S_y 2^s), at most 15 bits, one shift for both

The zero points' share and the rounding term are one offset, computed beforehand. Both products
are below 2^23, so the sum is exact in every runtime whatever the shift. Error::

    |q_y - exact| <= 1/2 + sum_i |q_i - Z_i| |S_i / S_y - M_i 2^-s|
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import Requantization, multiplier
from onnxgru.core.network import ElementwiseOperator
from onnxgru.core.primitives import Computing, Finish, Given, Storing, Value
from onnxgru.core.program import Boundary, FlashItem, IntegerOperator, Output, Proof, Work
from onnxgru.core.tape import Tape
from onnxgru.custom_ops import requantize


def equation(
    tape: Tape, operator: ElementwiseOperator, left: ir.Value, right: ir.Value
) -> ir.Value:
    """Float node: Add."""
    return tape.op("Add", left, right, name=operator.name)


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
    """

    offset: Value
    multipliers: tuple[Value, ...]
    finish: Finish[Value]


@dataclass(frozen=True, eq=False)
class Add(IntegerOperator):
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
    ) -> "Add":
        """Integer parameters from the scales of both operands and of the sum."""
        ratios = np.asarray([o.quantization.scale / result.quantization.scale for o in operands])
        scales, shift = multiplier(ratios, lowest_shift=0)
        requantization = Requantization(scales, shift, reach=0)
        # Products need neither a pre-shift nor a clip: see the module's docstring.
        return cls(
            operands, inputs, Output(operator.name, result, requantization, operator.width, 0)
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The sum."""
        return (self.output.name,)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the sum."""
        return (self.output.channels,)

    @property
    def results(self) -> tuple[Output, ...]:
        """The sum."""
        return (self.output,)

    @property
    def multiplier_sizes(self) -> tuple[int, ...]:
        """One an operand."""
        return (1, 1)

    def prepare(self, primitives: Storing[Value], given: Given[Value]) -> Parameters[Value]:
        """The terms that no code changes: rounding and zero points as one offset."""
        p = primitives
        offset = given.result.shift.half
        for zero_point, factor in zip(given.zero_points, given.multipliers, strict=True):
            offset = p.sub(offset, p.mul(zero_point, factor))
        return Parameters(offset, given.multipliers, given.result)

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the sum, of the operands' shape."""
        p = primitives
        total = parameters.offset
        for codes, factor in zip(operands, parameters.multipliers, strict=True):
            total = p.add(total, p.mul(p.widen(codes), factor))
        return (requantize.finish(p, parameters.finish, total),)

    def flash(self) -> Iterator[FlashItem]:
        """Nothing beside what its stage stores."""
        return iter(())

    def proofs(self) -> Iterator[Proof]:
        """Range of the weighted sum."""
        low = high = 0
        for boundary, scale in zip(
            self.operands, self.output.requantization.multipliers, strict=True
        ):
            q = boundary.quantization
            low -= q.zero_point * int(scale)
            high += (q.type.maximum - q.zero_point) * int(scale)
        yield Proof(self.output.name, low, high)

    @property
    def work(self) -> Iterator[Work]:
        """An element a channel."""
        yield Work(self.kind, self.output.channels, self.operand_bits)

    @property
    def scratch(self) -> int:
        """An int32 and a code a channel."""
        return 5 * self.output.channels
