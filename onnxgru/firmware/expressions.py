"""Expressions: the back end of the primitives from which C is printed.

`stage.prepare` and the operators' `compute` run over them as they do over arrays. What comes out
says how one element of a value is computed: from elements of its operands, from stored arrays and
from numbers. Nothing is evaluated but arithmetic on plain numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import Shift
from onnxgru.custom_ops.kinds.planes import joined


@dataclass(frozen=True)
class Number:
    """A number that belongs to the arithmetic itself."""

    value: int


@dataclass(frozen=True, eq=False)
class Stored:
    """Consecutive elements of a stored array; one element is the same for all units.

    Parameters
    ----------
    name : str
        Name of the array, as `onnxgru.core.flash.FlashItem` has it.
    values : ndarray of integers, shape (N,)
        The whole array.
    start, count : int
        Which elements.
    """

    name: str
    values: npt.NDArray[np.integer[Any]]
    start: int
    count: int


@dataclass(frozen=True, eq=False)
class Weights:
    """A stored matrix.

    Parameters
    ----------
    name : str
        Name of the array, as `onnxgru.core.flash.FlashItem` has it.
    codes : ndarray of int8, shape (outputs, inputs)
        q_W.
    bits : int
        Their width.
    """

    name: str
    codes: npt.NDArray[np.int8]
    bits: int


@dataclass(frozen=True)
class Beside:
    """Values side by side, with the columns that each has."""

    values: "tuple[Expression, ...]"
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Element:
    """An element of an operand, by the operand's name."""

    name: str


@dataclass(frozen=True)
class Product:
    """An element of a matrix product with an operand, zero point subtracted.

    Parameters
    ----------
    operand : str
        Name of the operand.
    weights : Weights or Beside
        The matrix, or several side by side.
    """

    operand: str
    weights: "Expression"


@dataclass(frozen=True)
class Parameter:
    """A value of an operator's record of parameters.

    Parameters
    ----------
    path : str
        Place in the record, as `onnxgru.core.primitives.leaves` has it.
    value : Expression
        What it is computed from.
    """

    path: str
    value: "Expression"


@dataclass(frozen=True)
class Call:
    """An operation on expressions."""

    operation: str
    operands: "tuple[Expression, ...]"


Expression = Number | Stored | Weights | Beside | Element | Product | Parameter | Call

ZERO = Number(0)
NUMBERS: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "clip": lambda value, low, high: min(max(value, low), high),
    "power": lambda exponent: 1 << exponent,
    "half": lambda exponent: 1 << exponent >> 1,
    "floor_shift": lambda value, bits: value >> bits,
}
"""Operations as far as they are carried out on plain numbers."""


def call(operation: str, *operands: Expression) -> Expression:
    """An operation, without what changes nothing."""
    if all(isinstance(operand, Number) for operand in operands) and operation in NUMBERS:
        return Number(NUMBERS[operation](*(o.value for o in operands if isinstance(o, Number))))
    if operation in ("add", "sub") and operands[1] == ZERO:
        return operands[0]
    if operation == "add" and operands[0] == ZERO:
        return operands[1]
    if operation == "floor_shift" and operands[1] == ZERO:
        return operands[0]
    return Call(operation, operands)


def columns(value: Expression, start: int, count: int) -> Expression:
    """Some columns of a value; what is the same for all units is the same for these."""
    match value:
        case Stored(name, values, first, size):
            return value if size == 1 else Stored(name, values, first + start, count)
        case Beside(values, counts):
            parts, widths = [], []
            for part, size in zip(values, counts, strict=True):
                first, last = max(start, 0), min(start + count, size)
                if first < last:
                    parts.append(columns(part, first, last - first))
                    widths.append(last - first)
                start -= size
            return parts[0] if len(parts) == 1 else Beside(tuple(parts), tuple(widths))
        case Product(operand, weights):
            return Product(operand, columns(weights, start, count))
        case Parameter(path, inner):
            return Parameter(path, columns(inner, start, count))
        case Call(operation, operands):
            return Call(operation, tuple(columns(o, start, count) for o in operands))
    return value


def parameters(record: Any, path: str = "") -> Any:
    """A record of parameters whose values know their places; plain numbers stay what they are.

    Expressions are dataclasses themselves, so that `onnxgru.core.primitives.mapped` would go on
    into them.
    """
    if record is None or isinstance(record, Number | Weights):
        return record
    if isinstance(record, Expression):
        return Parameter(path, record)
    before = f"{path}." if path else ""
    if isinstance(record, tuple):
        return tuple(parameters(part, f"{before}{place}") for place, part in enumerate(record))
    names = [one.name for one in fields(record)]
    return type(record)(*(parameters(getattr(record, n), f"{before}{n}") for n in names))


class Expressions:
    """Primitives on expressions."""

    general = False

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Expression:
        """The matrix."""
        return Weights(name, codes, bits)

    def biases(self, name: str, values: npt.NDArray[np.signedinteger[Any]]) -> Expression:
        """The stored array."""
        return _whole(name, values)

    def table(self, name: str, entries: npt.NDArray[np.uint8]) -> Expression:
        """The stored array."""
        return _whole(name, entries)

    def bytes(self, name: str, values: npt.NDArray[np.uint8]) -> Expression:
        """The stored array."""
        return _whole(name, values)

    def byte(self, name: str, values: npt.NDArray[np.uint8], position: int) -> Expression:
        """An element of it."""
        return Stored(name, values, position, 1)

    def words(self, name: str, values: npt.NDArray[np.int16 | np.uint16]) -> Expression:
        """The stored array."""
        return _whole(name, values)

    def constant(self, value: int) -> Expression:
        """A number."""
        return Number(value)

    def numbers(self, values: Sequence[int]) -> Expression:
        """Numbers side by side."""
        return Beside(tuple(map(Number, values)), (1,) * len(values))

    def concatenate(self, values: Sequence[Expression]) -> Expression:
        """Side by side."""
        return Beside(tuple(values), tuple(map(_count, values)))

    def columns(self, values: Expression, positions: Sequence[int], count: int) -> Expression:
        """Elements, each for so many columns."""
        picked = tuple(columns(values, position, 1) for position in positions)
        return picked[0] if len(picked) == 1 else Beside(picked, (count,) * len(picked))

    def power(self, exponent: Expression) -> Expression:
        """2**exponent."""
        return call("power", exponent)

    def shift(self, exponent: Expression) -> Shift[Expression]:
        """The mask stands for the number of bits, by which C shifts."""
        return Shift(call("power", exponent), exponent, call("half", exponent))

    def rows(self, value: Expression, sizes: Sequence[int]) -> Sequence[Expression]:
        """All of them, then nothing: C has sums of 32 bits and needs no blocks."""
        return [value, *(ZERO for _ in sizes[1:])]

    def split(self, value: Expression, sizes: Sequence[int]) -> Sequence[Expression]:
        """Columns; operands of products stay whole."""
        if isinstance(value, Element):
            return [value] * len(sizes)
        stops = np.cumsum(sizes)
        return [
            columns(value, int(stop - size), size) for stop, size in zip(stops, sizes, strict=True)
        ]

    def widen(self, value: Expression) -> Expression:
        """Codes are int32 in registers."""
        return value

    def narrow(self, value: Expression, kind: IntegerType) -> Expression:
        """Codes are int32 in registers, and narrow where they are kept."""
        return value

    def matmul(self, codes: Expression, zero_point: Expression, weights: Expression) -> Expression:
        """The product of all blocks stands for the first one."""
        if weights == ZERO:
            return ZERO
        assert isinstance(codes, Element)
        return Product(codes.name, weights.value if isinstance(weights, Parameter) else weights)

    def matmul_words(
        self, codes: Expression, zero_points: Sequence[Expression], weights: Expression
    ) -> Expression:
        """The same of wide codes."""
        return self.matmul(codes, zero_points[0], weights)

    def joined(
        self, product: Expression, byte: Shift[Expression], count: int, dropped: int
    ) -> Expression:
        """As `onnxgru.custom_ops.kinds.planes` does."""
        return joined(self, product, byte, count, dropped)

    def add(self, left: Expression, right: Expression) -> Expression:
        """Sum."""
        return call("add", left, right)

    def sub(self, left: Expression, right: Expression) -> Expression:
        """Difference."""
        return call("sub", left, right)

    def mul(self, left: Expression, right: Expression) -> Expression:
        """Product."""
        return call("mul", left, right)

    def floor_shift(self, value: Expression, shift: Shift[Expression]) -> Expression:
        """Shift by the number of bits that the mask stands for."""
        return call("floor_shift", value, shift.mask)

    def clip(self, value: Expression, low: Expression, high: Expression) -> Expression:
        """Limit."""
        return call("clip", value, low, high)

    def gather(self, table: Expression, codes: Expression) -> Expression:
        """Look up."""
        return Call("look_up", (table, codes))

    def pick(self, numbers: Expression, index: Expression) -> Expression:
        """Look up."""
        return Call("look_up", (numbers, index))


def _whole(name: str, values: npt.NDArray[np.integer[Any]]) -> Stored:
    return Stored(name, values, 0, values.size)


def _count(value: Expression) -> int:
    """Columns of a stored value."""
    match value:
        case Stored():
            return value.count
        case Weights():
            return int(value.codes.shape[0])
        case Beside():
            return sum(value.counts)
    raise ValueError("only stored values stand side by side")
