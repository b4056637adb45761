"""Copy: y = x, a value of wide codes in narrow codes.

::

    q_y = clip(Z_y + requantize(q_x - Z_x, S_x / S_y), 0, 2^b - 1)

The error is that of the requantisation, see `onnxgru.core.fixedpoint`: within the copy's range, at
most half a code plus the rounding of the pre-shift, which is at most one step of q_x.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import Requantization
from onnxgru.core.network import CopyOperator
from onnxgru.core.primitives import Computing, Prepared, Storing, Value
from onnxgru.core.program import Boundary, Output, Proof, Work
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds import requantize
from onnxgru.custom_ops.kinds.single import Requantized


def equation(tape: Tape, operator: CopyOperator, x: ir.Value) -> ir.Value:
    """Float node: Identity."""
    return tape.op("Identity", x, name=operator.name)


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Copy.compute` takes.

    Parameters
    ----------
    zero_point : Value
        Of the operand.
    requantization : requantize.Parameters
        Of the steps from it.
    """

    zero_point: Value
    requantization: requantize.Parameters[Value]


@dataclass(frozen=True, eq=False)
class Copy(Requantized):
    """Narrow codes of a value."""

    kind: ClassVar[str] = "copy"

    @classmethod
    def derive(
        cls,
        operator: CopyOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Copy":
        """Integer parameters from both scales."""
        (operand,) = operands
        q = operand.quantization
        extreme = max(q.zero_point, q.type.maximum - q.zero_point)
        ratios = np.asarray([q.scale / result.quantization.scale])
        made = Requantization.derive(ratios, np.asarray([extreme]), result.quantization.bits)
        output = Output(operator.name, result, made, operator.width, extreme)
        return cls(operands, inputs, output)

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """The operand's zero point, and the requantisation."""
        (zero_point,) = given.zero_points
        return Parameters(zero_point, requantize.Parameters.of(given))

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the copy, of the operand's shape."""
        p = primitives
        steps = p.sub(p.widen(operands[0]), parameters.zero_point)
        return (requantize.compute(p, parameters.requantization, self.results, steps),)

    def proofs(self) -> Iterator[Proof]:
        """Steps from the operand's zero point."""
        q = self.operands[0].quantization
        yield Proof(self.output.name, -q.zero_point, q.type.maximum - q.zero_point)

    @property
    def work(self) -> Iterator[Work]:
        """One element per channel, which costs what an addition does."""
        yield Work("add", self.output.channels, self.operand_bits)
