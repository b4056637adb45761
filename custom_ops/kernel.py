"""Fused-kernel back end of the primitives: source text for a compiler of loops over rows.

A stage is cut into segments that begin with a product; the product is computed for all rows at
once, and one kernel does everything else of the segment row by row. The kernel's text comes from
the operators' own `compute`, recorded over symbols: one loop over the units for every operator, in
int32 throughout, which compilers vectorise.

The text depends on the cell's table alone. Everything a scheme decides (shifts, multipliers, zero
points, bounds, tables) is an argument, so that one compilation serves every candidate and width of
layer. For that the operators are recorded in their general form: `general` is True.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.program import IntegerOperator, Stage
from onnxgru.custom_ops.linear import Linear
from onnxgru.custom_ops.lookup import Lookup

Array = npt.NDArray[Any]

VECTORS = ("bias", "multiplier")
"""Parameters of a linear operator that differ by column; the others are numbers."""

OTHERWISE = ("operand_zero_point", "power", "pre_power")
"""Parameters that products and shifts take in another form here."""

TABLE = 256
"""Entries that tables are padded to."""

ACCUMULATOR = "accumulator"
FIRST_BLOCK = "weight/0"


class KernelPrimitives:
    """Primitives on expressions of one element."""

    general = True

    def widen(self, value: str) -> str:
        """To int32."""
        return f"wide({value})"

    def narrow(self, value: str) -> str:
        """To uint8."""
        return f"narrow({value})"

    def split(self, value: str, sizes: Sequence[int]) -> Sequence[str]:
        """Parts are recorded one at a time."""
        return [value] * len(sizes)

    def matmul(self, codes: str, zero_point: str, weights: str) -> str:
        """The product of the segment, all blocks of it."""
        return f"{ACCUMULATOR}[j]" if weights == FIRST_BLOCK else "np.int32(0)"

    def add(self, left: str, right: str) -> str:
        """Sum."""
        return f"add({left}, {right})"

    def sub(self, left: str, right: str) -> str:
        """Difference."""
        return f"sub({left}, {right})"

    def mul(self, left: str, right: str) -> str:
        """Product."""
        return f"mul({left}, {right})"

    def floor_shift(self, value: str, power: str, mask: str) -> str:
        """Arithmetic shift by the number of bits that the mask has."""
        return f"shift({value}, {mask})"

    def clip(self, value: str, low: str, high: str) -> str:
        """Limit."""
        return f"least(most({value}, {low}), {high})"

    def gather(self, table: str, codes: str) -> str:
        """Look up; recorded for a whole row."""
        return f"{table}[{codes}]"


@dataclass(frozen=True)
class Argument:
    """Where one of a kernel's numbers, vectors or tables comes from.

    Parameters
    ----------
    operator : int
        Position in the stage.
    key : str
        Name among the operator's prepared parameters.
    part : int
        Part of a group of linear operators.
    vector : bool
        Whether it differs by unit.
    """

    operator: int
    key: str
    part: int
    vector: bool

    @property
    def store(self) -> str:
        """Which array of the kernel holds it."""
        return "tables" if self.key == "table" else "vectors" if self.vector else "numbers"


@dataclass(frozen=True)
class Segment:
    """A product and what follows it.

    Parameters
    ----------
    linear : int
        Position in the stage of the operator that makes the product.
    reads : tuple of str
        Values made elsewhere.
    writes : tuple of str
        Values used elsewhere.
    arguments : tuple of Argument
        Parameters, in the order of each of their arrays.
    text : str
        Source of ``kernel(products, width, *reads, *writes, numbers, vectors, tables)``.
    """

    linear: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    arguments: tuple[Argument, ...]
    text: str


def segments(stage: Stage, kept: frozenset[str]) -> tuple[Segment, ...]:
    """Cut a stage into segments.

    Parameters
    ----------
    stage : Stage
        Its first operator is linear.
    kept : frozenset of str
        Values that are used outside the stage.
    """
    starts = [i for i, operator in enumerate(stage.operators) if isinstance(operator, Linear)]
    result = []
    for start, stop in zip(starts, [*starts[1:], len(stage.operators)], strict=True):
        recorder = _Recorder()
        for index in range(start, stop):
            recorder.record(index, stage.operators[index])
        later = {name for operator in stage.operators[stop:] for name in operator.inputs}
        writes = tuple(name for name in recorder.rows if name in kept | later)
        result.append(
            Segment(
                start,
                tuple(recorder.reads),
                writes,
                tuple(recorder.arguments),
                recorder.text(writes),
            )
        )
    return tuple(result)


class _Recorder:
    """Writes the text of one kernel."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.reads: dict[str, str] = {}
        self.arguments: dict[Argument, str] = {}
        self._loops: list[str] = []
        self._primitives = KernelPrimitives()

    def record(self, index: int, operator: IntegerOperator) -> None:
        for part, name in enumerate(operator.outputs):
            operands = [ACCUMULATOR]
            setup: list[str] = []
            if isinstance(operator, Linear):
                setup.append(f"{ACCUMULATOR} = products[b, {part} * width : {part + 1} * width]")
            else:
                operands = [self._operand(value) for value in operator.inputs]
            parameters = _Parameters(self, operator, index, part)
            # These primitives have what `compute` uses; what `prepare` uses, arrays have.
            expressions = operator.compute(self._primitives, parameters, *operands)  # type: ignore[arg-type]
            expression = expressions[part]
            row = f"row{len(self.rows)}"
            self.rows[name] = row
            if isinstance(operator, Lookup):
                table, codes = parameters["table"], operands[0].removesuffix("[j]")
                assert expression == f"{table}[{codes}[j]]"
                self._loops.append(f"look_up({table}, {codes}, {row})")
            else:
                self._loops += [*setup, "for j in range(width):", f"    {row}[j] = {expression}"]

    def _operand(self, name: str) -> str:
        if name in self.rows:
            return f"{self.rows[name]}[j]"
        source = self.reads.setdefault(name, f"read{len(self.reads)}")
        return f"{source}[b][j]"

    def text(self, writes: Sequence[str]) -> str:
        names = [f"write{i}" for i in range(len(writes))]
        stores = ["numbers", "vectors", "tables"]
        signature = ", ".join(["products", "width", *self.reads.values(), *names, *stores])
        lines = [f"def kernel({signature}):"]
        counts = dict.fromkeys(stores, 0)
        for argument, symbol in self.arguments.items():
            lines.append(f"    {symbol} = {argument.store}[{counts[argument.store]}]")
            counts[argument.store] += 1
        lines += [f"    {row} = np.empty(width, np.uint8)" for row in self.rows.values()]
        lines.append("    for b in range(products.shape[0]):")
        lines += [f"        {line}" for line in self._loops]
        for target, name in zip(names, writes, strict=True):
            lines += [
                "        for j in range(width):",
                f"            {target}[b, j] = {self.rows[name]}[j]",
            ]
        return "\n".join(lines) + "\n"


class _Parameters(Mapping[str, str]):
    """Prepared parameters as symbols; those asked for become arguments."""

    def __init__(
        self, recorder: _Recorder, operator: IntegerOperator, index: int, part: int
    ) -> None:
        self._recorder, self._operator = recorder, operator
        self._index, self._part = index, part

    def __getitem__(self, key: str) -> str:
        if key.startswith("weight/") or key in OTHERWISE:
            return key
        vector = isinstance(self._operator, Linear) and key in VECTORS
        argument = Argument(self._index, key, self._part, vector)
        arguments = self._recorder.arguments
        symbol = arguments.setdefault(argument, f"p{len(arguments)}")
        return f"{symbol}[j]" if vector else symbol

    def __iter__(self) -> Any:
        raise TypeError("symbols cannot be listed")

    def __len__(self) -> int:
        raise TypeError("symbols cannot be counted")


@dataclass(frozen=True, eq=False)
class Values:
    """Arrays of a kernel's parameters.

    Parameters
    ----------
    numbers : ndarray of int32, shape (N,)
        Those that are the same for all units.
    vectors : ndarray of int32, shape (V, H)
        Those that differ by unit.
    tables : ndarray of uint8, shape (K, 256)
        Tables, padded.
    """

    numbers: Array
    vectors: Array
    tables: Array


def values(
    segment: Segment,
    stage: Stage,
    prepared: Mapping[tuple[str, ...], Mapping[str, Array]],
    width: int,
) -> Values:
    """Parameters of a segment's kernel for one program.

    Parameters
    ----------
    segment : Segment
        Made from a stage of the same cell.
    stage : Stage
        The program's.
    prepared : mapping
        By the operators' outputs, from `onnxgru.custom_ops.stage.prepare` over general array
        primitives.
    width : int
        H.
    """
    numbers: list[int] = []
    vectors: list[Array] = []
    tables: list[Array] = []
    for argument in segment.arguments:
        value = prepared[stage.operators[argument.operator].outputs][argument.key]
        first = argument.part * width
        if argument.key == "table":
            tables.append(value)
        elif argument.vector:
            vectors.append(value[first : first + width])
        else:
            number = value.item(first if value.size > 1 else 0)
            numbers.append(number.bit_count() if argument.key.endswith("mask") else number)
    padded = np.zeros((len(tables), TABLE), np.uint8)
    for row, table in zip(padded, tables, strict=True):
        row[: table.size] = table
    return Values(
        np.asarray(numbers, np.int32),
        np.asarray(vectors, np.int32).reshape(-1, width),
        padded,
    )
