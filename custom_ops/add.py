"""Add: y = a + b, element by element.

Integer, with the example of Miccini et al. 2024 (arXiv 2402.12263) in fixed point::

    q_y = clip(Z_y + ((M_a (q_a - Z_a) + M_b (q_b - Z_b) + 2^(s-1)) >> s), 0, 2^b - 1)
    M_i = round(S_i / S_y 2^s), at most 15 bits, one shift for both

Both products are below 2^23, so the sum is exact in every runtime whatever the shift. Error::

    |q_y - exact| <= 1/2 + sum_i |q_i - Z_i| |S_i / S_y - M_i 2^-s|
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import Integers, multiplier
from onnxgru.core.network import Operator
from onnxgru.core.primitives import Primitives, Value
from onnxgru.core.program import Boundary, FlashItem, IntegerOperator, Proof
from onnxgru.core.tape import Tape
from onnxgru.custom_ops import requantize


def equation(tape: Tape, operator: Operator, left: ir.Value, right: ir.Value) -> ir.Value:
    """Float node: Add."""
    return tape.op("Add", left, right, name=operator.name)


@dataclass(frozen=True, eq=False)
class Add(IntegerOperator):
    """Sum of two values.

    Parameters
    ----------
    operands : tuple of Boundary
        What is added.
    inputs : tuple of str
        Names of the operands as values.
    result : Boundary
        The sum; its name is the operator's, or its layer's state.
    name : str
        Operator.
    channels : int
        Features: H.
    multipliers : ndarray of int64, shape (2,)
        M.
    shift : int
        s.
    """

    kind: ClassVar[str] = "add"
    name: str
    operands: tuple[Boundary, Boundary]
    inputs: tuple[str, ...]
    result: Boundary
    channels: int
    multipliers: Integers
    shift: int

    @classmethod
    def derive(
        cls,
        operator: Operator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, Boundary],
        result: Boundary,
    ) -> "Add":
        """Integer parameters from the scales of both operands and of the sum."""
        ratios = np.asarray([o.quantization.scale / result.quantization.scale for o in operands])
        multipliers, shift = multiplier(ratios, lowest_shift=0)
        return cls(operator.name, operands, inputs, result, operator.width, multipliers, shift)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The sum."""
        return (self.name,)

    def prepare(self, primitives: Primitives[Value]) -> Mapping[str, Value]:
        """Multipliers, zero points and the power of the shift."""
        p = primitives
        pair = p.widen(p.parameter(f"{self.name}/multiplier", self.multipliers.astype(np.int16)))
        left, right = p.split(pair, (1, 1))
        power = p.power(
            p.widen(p.parameter(f"{self.name}/shift", np.asarray(self.shift, np.uint8)))
        )
        zero_points = [
            p.widen(
                p.parameter(f"{b.name}/zero_point", np.asarray(b.quantization.zero_point, np.uint8))
            )
            for b in (*self.operands, self.result)
        ]
        return {
            "left_multiplier": left,
            "right_multiplier": right,
            "left_zero_point": zero_points[0],
            "right_zero_point": zero_points[1],
            "zero_point": zero_points[2],
            "power": power,
            "mask": p.sub(power, p.constant(1)),
            "half": p.halve(power),
            "zero": p.constant(0),
            "top": p.constant(self.result.quantization.type.maximum),
        }

    def compute(
        self, primitives: Primitives[Value], parameters: Mapping[str, Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the sum, of the operands' shape."""
        p = primitives
        terms = [
            p.mul(
                p.sub(p.widen(codes), parameters[f"{side}_zero_point"]),
                parameters[f"{side}_multiplier"],
            )
            for side, codes in zip(("left", "right"), operands, strict=True)
        ]
        return (requantize.finish(p, parameters, p.add(*terms)),)

    def flash(self) -> Iterator[FlashItem]:
        """Two multipliers, a shift, a zero point."""
        yield FlashItem(f"{self.name}/multiplier", "multiplier", 4)
        yield FlashItem(f"{self.name}/shift", "shift", 1)
        yield from requantize.zero_point_item(self.name, f"{self.result.name}/zero_point")

    def proofs(self) -> Iterator[Proof]:
        """Range of the weighted sum."""
        low = high = 0
        for boundary, scale in zip(self.operands, self.multipliers, strict=True):
            q = boundary.quantization
            low -= q.zero_point * int(scale)
            high += (q.type.maximum - q.zero_point) * int(scale)
        yield Proof(self.name, low, high)

    @property
    def scratch(self) -> int:
        """An int32 and a code a channel."""
        return 5 * self.channels
