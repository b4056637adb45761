"""Delta: the last propagated value of an operand, element by element (Neil et al. 2017).

A linear operator of a delta network reads the last propagated value of its operand instead of the
operand itself::

    y = x    where |x - h| > t,    else h

h is y of the step before, and 0.0 before the first step. Where y = h, a device that keeps its
accumulators multiplies nothing. On codes, with a whole number t::

    d = q_x - q_h       s = clip(d - clip(d, -t, t), -1, 1)       q_y = q_h + s^2 d

s^2 is 1 where d is outside -t .. t, else 0. All values have the quantisation of x, so that nothing
is rounded, and t = 0 gives q_y = q_x. The float graph compares with (t + 1/2) S_x, halfway between
t and t + 1 codes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.flash import FlashItem
from onnxgru.core.integers import IntegerType
from onnxgru.core.network import DeltaOperator
from onnxgru.core.primitives import Computing, Prepared, Storing, Value
from onnxgru.core.program import Boundary, Work
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.kinds.single import Chosen


def equation(tape: Tape, operator: DeltaOperator, x: ir.Value, held: ir.Value) -> ir.Value:
    """Float nodes: Where, with a distance greater than the threshold as its condition."""
    name = operator.name
    limit = np.asarray((operator.threshold + 0.5) * operator.step, np.float32)
    distance = tape.op("Abs", tape.op("Sub", x, held, name=f"{name}/difference"))
    stored = tape.constant(f"{name}/threshold", limit)
    moved = tape.op("Greater", distance, stored, name=f"{name}/moved")
    return tape.op("Where", moved, x, held, name=name)


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Delta.compute` takes.

    Parameters
    ----------
    low, high : Value
        -t and t.
    minus, one : Value
        -1 and 1.
    """

    low: Value
    high: Value
    minus: Value
    one: Value


@dataclass(frozen=True, eq=False)
class Delta(Chosen):
    """The last propagated codes of an operand.

    Parameters
    ----------
    name : str
        Operator.
    operands : tuple of Boundary
        Of the operand and of its last propagated value: the same.
    inputs : tuple of str
        Names of both as values.
    channels : int
        Features.
    threshold : int
        t, in codes.
    """

    kind: ClassVar[str] = "delta"
    threshold: int

    @classmethod
    def derive(
        cls,
        operator: DeltaOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Delta":
        """The operator; the result must have the quantisation of its operands."""
        if any(operand.quantization != result.quantization for operand in operands):
            raise ValueError(f"{operator.name} must keep the quantisation of its operand")
        return cls(operator.name, operands, inputs, operator.width, operator.threshold)

    @property
    def types(self) -> tuple[IntegerType, ...]:
        """Type of the operand."""
        return (self.operands[0].quantization.type,)

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """The threshold with both signs."""
        p = primitives
        (kind,), name = self.types, f"{self.name}/threshold"
        if kind.wide:
            high = p.words(name, np.asarray([self.threshold], np.uint16))
        else:
            high = p.bytes(name, np.asarray([self.threshold], np.uint8))
        return Parameters(p.sub(p.constant(0), high), high, p.constant(-1), p.constant(1))

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Last propagated codes, of the operands' shape."""
        p = primitives
        x, held = map(p.widen, operands)
        difference = p.sub(x, held)
        beyond = p.sub(difference, p.clip(difference, parameters.low, parameters.high))
        sign = p.clip(beyond, parameters.minus, parameters.one)
        found = p.add(held, p.mul(p.mul(sign, sign), difference))
        return (p.narrow(found, self.types[0]),)

    def flash(self) -> Iterator[FlashItem]:
        """The threshold, as long as a code."""
        yield FlashItem(f"{self.name}/threshold", "threshold", self.types[0].container.itemsize)

    @property
    def work(self) -> Iterator[Work]:
        """One comparison per element, which costs as much as an addition."""
        yield Work("add", self.channels, self.operand_bits)
