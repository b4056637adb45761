"""Kernel: loops over units as source text for Numba, and the arrays of their parameters.

All arithmetic is int32, which compilers vectorise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.primitives import taken
from onnxgru.core.program import Stage
from onnxgru.custom_ops.kernels.loops import (
    Accumulator,
    Argument,
    Call,
    Element,
    Expression,
    Literal,
    Loop,
    Segment,
)

Array = npt.NDArray[Any]

TABLE = 256
"""Entries that tables are padded to."""
CURVE = 2**9 + 2
"""Numbers that curves are padded to."""

ACCUMULATOR = "accumulator"
STORES = ("numbers", "vectors", "tables", "curves")

_FORMATS = {
    "widen": "wide({})",
    "narrow_uint8": "narrow({})",
    "narrow_uint16": "halve({})",
    "add": "add({}, {})",
    "sub": "sub({}, {})",
    "mul": "mul({}, {})",
    "floor_shift": "shift({}, {})",
    "clip": "least(most({}, {}), {})",
    "pick": "{}[{}]",
}


class Printer:
    """Prints loops over the units of a row.

    Parameters
    ----------
    rows : mapping of str to str
        A value's row of codes, by its name.
    symbols : mapping of Argument to str
        Names of the parameters.
    products : str
        The row of the product.
    width, span : str
        Units, and how far loops run: to the last unit, or over the padding behind it too.
    """

    def __init__(
        self,
        rows: Mapping[str, str],
        symbols: Mapping[Argument, str],
        products: str,
        width: str,
        span: str,
    ) -> None:
        self._rows, self._symbols = rows, symbols
        self._products, self._width, self._span = products, width, span

    def lines(self, loop: Loop) -> list[str]:
        """One operator for all units."""
        row, expression = self._rows[loop.target], loop.expression
        if isinstance(expression, Call) and expression.operation == "gather":
            table, codes = expression.operands
            source = self._expression(codes).removesuffix("[j]")
            return [f"look_up({self._expression(table)}, {source}, {row})"]
        lines = []
        if loop.part is not None:
            first = f"{loop.part} * {self._width}"
            lines.append(f"{ACCUMULATOR} = {self._products}[{first} : {first} + {self._span}]")
        found = self._expression(expression)
        return [*lines, f"for j in range({self._span}):", f"    {row}[j] = {found}"]

    def _expression(self, expression: Expression) -> str:
        match expression:
            case Call(operation, operands):
                return _FORMATS[operation].format(*map(self._expression, operands))
            case Argument():
                symbol = self._symbols[expression]
                return f"{symbol}[j]" if expression.vector else symbol
            case Element(name):
                return f"{self._rows[name]}[j]"
            case Accumulator():
                return f"{ACCUMULATOR}[j]"
            case Literal(value):
                return f"np.int32({value})"


def unpacked(
    segment: Segment, symbols: Mapping[Argument, str], stores: Mapping[str, str]
) -> list[str]:
    """Lines that assign the parameters of a segment from its stores.

    Parameters
    ----------
    segment : Segment
        The segment.
    symbols : mapping of Argument to str
        Names of the parameters.
    stores : mapping of str to str
        Names of the arrays by store, see `STORES`.
    """
    places = dict.fromkeys(STORES, 0)
    lines = []
    for argument in segment.arguments:
        lines.append(f"{symbols[argument]} = {stores[argument.store]}[{places[argument.store]}]")
        places[argument.store] += 1
    return lines


@dataclass(frozen=True, eq=False)
class Values:
    """Arrays of a kernel's parameters.

    Parameters
    ----------
    numbers : ndarray of int32, shape (N,)
        Parameters that are the same for all units.
    vectors : ndarray of int32, shape (V, H)
        Parameters that differ by unit.
    tables : ndarray of uint8, shape (K, 256)
        Tables, padded.
    curves : ndarray of int32, shape (C, 514)
        Numbers that are looked up one by one, padded.
    """

    numbers: Array
    vectors: Array
    tables: Array
    curves: Array


def values(
    segment: Segment, stage: Stage, prepared: Mapping[tuple[str, ...], Any], width: int
) -> Values:
    """Parameters of a segment's kernel for one program.

    Parameters
    ----------
    segment : Segment
        Made from a stage of the same cell.
    stage : Stage
        The program's.
    prepared : mapping
        By the operators' outputs, from `onnxgru.custom_ops.kernels.stage.prepare` over general
        array primitives.
    width : int
        Of the segment.
    """
    numbers: list[int] = []
    vectors: list[Array] = []
    tables: list[Array] = []
    curves: list[Array] = []
    for argument in segment.arguments:
        value = taken(prepared[stage.operators[argument.operator].outputs], argument.path)
        first = argument.part * width
        if argument.store == "tables":
            tables.append(value)
        elif argument.store == "curves":
            curves.append(value)
        elif argument.vector:
            vectors.append(value[first : first + width])
        else:
            number = value.item(first if value.size > 1 else 0)
            numbers.append(number.bit_count() if argument.path.endswith("mask") else number)
    return Values(
        np.asarray(numbers, np.int32),
        np.asarray(vectors, np.int32).reshape(-1, width),
        padded(tables, TABLE, np.uint8),
        padded(curves, CURVE, np.int32),
    )


def padded(arrays: Sequence[Array], size: int, kind: type[np.integer[Any]]) -> Array:
    """Arrays one below the other, (len(arrays), size), with zeros behind them."""
    found = np.zeros((len(arrays), size), kind)
    for row, array in zip(found, arrays, strict=True):
        row[: array.size] = array
    return found
