"""Lookup: y = f(x) for any function of one code, as a table of 2**b entries.

Sigmoid, tanh and the other activations, the complement 1 - z, and rescaling to another width are
all tables::

    q_y = T[q_x]        T[q] = clip(round(f(S_x (q - Z_x)) / S_y) + Z_y, 0, 2^b_y - 1)

The table is computed in float64 when the program is made; the arithmetic is a gather. Wide results
have two bytes per entry. For operands with wide codes see `onnxgru.custom_ops.kinds.interpolation`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic

import numpy as np
import onnx_ir as ir

from onnxgru.core.activations import Activation, Reals
from onnxgru.core.flash import FlashItem
from onnxgru.core.integers import Codes, Quantization
from onnxgru.core.network import LookupOperator
from onnxgru.core.primitives import Computing, Prepared, Storing, Value
from onnxgru.core.program import Boundary
from onnxgru.core.tape import Tape, digest
from onnxgru.custom_ops.kinds.single import Looked


def equation(tape: Tape, operator: LookupOperator, x: ir.Value) -> ir.Value:
    """Float nodes of the function, after a Clip if its argument is limited."""
    function = operator.function
    name = operator.name

    def scalar(role: str, value: float) -> ir.Value:
        return tape.constant(f"{name}/{role}", np.asarray(value, np.float32))

    if function.clip is not None:
        limits = scalar("low", -function.clip), scalar("high", function.clip)
        x = tape.op("Clip", x, *limits, name=f"{name}/clip")
    match function.name:
        case "Complement":
            return tape.op("Sub", scalar("one", 1.0), x, name=name)
        case "Affine":
            product = tape.op("Mul", x, scalar("alpha", function.alpha), name=f"{name}/product")
            return tape.op("Add", product, scalar("beta", function.beta), name=name)
        case "ScaledTanh":
            inner = tape.op("Mul", x, scalar("beta", function.beta), name=f"{name}/inner")
            tanh = tape.op("Tanh", inner, name=f"{name}/tanh")
            return tape.op("Mul", tanh, scalar("alpha", function.alpha), name=name)
        case "HardSigmoid":
            return tape.op("HardSigmoid", x, name=name, alpha=function.alpha, beta=function.beta)
        case "LeakyRelu" | "ThresholdedRelu" | "Elu":
            return tape.op(function.name, x, name=name, alpha=function.alpha)
        case plain:
            return tape.op(plain, x, name=name)


def codes(function: Activation, x: Reals, result: Quantization) -> Codes:
    """Codes of the function at real values `x`, of the same shape."""
    found = np.rint(function(x) / result.scale) + result.zero_point
    limited: Codes = np.clip(found, 0, result.type.maximum).astype(result.type.container)
    return limited


def entries(function: Activation, operand: Quantization, result: Quantization) -> Codes:
    """The table: codes (2**bits of the operand) of the function at every code."""
    steps = np.arange(operand.type.levels, dtype=np.float64) - operand.zero_point
    return codes(function, steps * operand.scale, result)


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Lookup.compute` takes: T, as one of two fields.

    Parameters
    ----------
    table : Value, optional
        T with entries of bytes.
    curve : Value, optional
        T with wide entries.
    """

    table: Value | None = None
    curve: Value | None = None


@dataclass(frozen=True, eq=False)
class Lookup(Looked):
    """A function of one narrow code.

    Parameters
    ----------
    name, operands, inputs, channels, result
        See `onnxgru.custom_ops.kinds.single.Looked`.
    table : ndarray of uint8 or uint16, shape (2**bits of the operand,)
        T.
    """

    table: Codes

    @classmethod
    def derive(
        cls,
        operator: LookupOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Lookup":
        """Table of the operator's function between two quantisations."""
        table = entries(operator.function, operands[0].quantization, result.quantization)
        return cls(operator.name, operands, inputs, operator.width, result.quantization, table)

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """The table."""
        name = f"{self.name}/table"
        if self.result.type.wide:
            return Parameters(curve=primitives.words(name, self.table.astype(np.uint16)))
        return Parameters(primitives.table(name, self.table.astype(np.uint8, copy=False)))

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the function, of the operand's shape."""
        p = primitives
        if parameters.table is not None:
            return (p.gather(parameters.table, operands[0]),)
        if parameters.curve is None:
            raise ValueError("a lookup must have a table")
        found = p.pick(parameters.curve, p.widen(operands[0]))
        return (p.narrow(found, self.result.type),)

    def flash(self) -> Iterator[FlashItem]:
        """One byte per entry, two of wide codes."""
        yield FlashItem(f"{self.name}/table", "table", self.table.nbytes, content=self.content)

    @cached_property
    def content(self) -> bytes:
        """Digest of a table of bytes, by which equal tables are stored once."""
        return b"" if self.result.type.wide else digest(self.table)
