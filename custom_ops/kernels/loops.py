"""Loops over units: a neutral record of a stage, from which kernels in any language are printed.

A stage is cut into segments of one width, and at every product. The product is computed for all
rows together. The other operators of the segment run row by row, with one loop over the units each.
The loops are recorded from the operators' own `compute` over expressions of one element.

They depend only on the cell's table. All numbers of a scheme (shifts, multipliers, zero points,
bounds, tables) are arguments, so that one kernel serves every candidate and every layer width. So
operators are recorded in their general form: `general` is True.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import Shift, mapped
from onnxgru.core.program import IntegerOperator, Stage
from onnxgru.custom_ops.kinds.linear import Linear

FIRST_BLOCK = "weights.0"

_STORES = {"table": "tables", "curve": "curves"}
"""Stores of parameters that are looked up, by their place in the record."""


@dataclass(frozen=True)
class Argument:
    """Where one of a kernel's numbers, vectors or tables comes from.

    Parameters
    ----------
    operator : int
        Position in the stage.
    path : str
        Place in the operator's record of parameters, as `onnxgru.core.primitives.leaves` has it.
    part : int
        Part of a group of linear operators.
    vector : bool
        Whether it differs by unit.
    """

    operator: int
    path: str
    part: int
    vector: bool

    @property
    def store(self) -> str:
        """Which array holds it: ``numbers``, ``vectors``, ``tables`` or ``curves``."""
        return _STORES.get(self.path, "vectors" if self.vector else "numbers")


@dataclass(frozen=True)
class Accumulator:
    """An element of the segment's product."""


@dataclass(frozen=True)
class Element:
    """An element of a value, by name."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A number."""

    value: int


@dataclass(frozen=True)
class Call:
    """An operation of `onnxgru.core.primitives.Computing` on expressions."""

    operation: str
    operands: "tuple[Expression, ...]"


Expression = Accumulator | Element | Literal | Argument | Call


@dataclass(frozen=True)
class Loop:
    """One operator for all units of a row.

    Parameters
    ----------
    target : str
        The value that it writes.
    container : str
        Type of its codes: ``uint8`` or ``uint16``.
    expression : Expression
        Of one element.
    part : int, optional
        Where the expression reads the product: which part of it.
    """

    target: str
    container: str
    expression: Expression
    part: int | None = None


@dataclass(frozen=True)
class Segment:
    """A product, where there is one, and what follows it.

    Parameters
    ----------
    start : int
        Position in the stage of the first operator: the one that makes the product, if any does.
    loops : tuple of Loop
        What is computed of each row, in order.
    arguments : tuple of Argument
        Parameters, in the order of their first use.
    """

    start: int
    loops: tuple[Loop, ...]
    arguments: tuple[Argument, ...]


def segments(stage: Stage, prepared: Mapping[tuple[str, ...], Any]) -> tuple[Segment, ...]:
    """Cut a stage into segments.

    Parameters
    ----------
    stage : Stage
        The stage.
    prepared : mapping
        Parameters by the operators' outputs, of any back end that has the general form.
    """
    if not stage.operators:
        return ()
    starts, result = cuts(stage), []
    for start, stop in pairwise((*starts, len(stage.operators))):
        loops = tuple(
            loop
            for index in range(start, stop)
            for loop in _recorded(index, stage.operators[index], prepared)
        )
        used = (leaf for loop in loops for leaf in _leaves(loop.expression))
        arguments = dict.fromkeys(leaf for leaf in used if isinstance(leaf, Argument))
        result.append(Segment(start, loops, tuple(arguments)))
    return tuple(result)


def cuts(stage: Stage) -> tuple[int, ...]:
    """Positions of the operators that segments begin with: products, and those of another width."""
    widths = [operator.widths[0] for operator in stage.operators]
    return tuple(
        index
        for index, operator in enumerate(stage.operators)
        if isinstance(operator, Linear) or not index or widths[index] != widths[index - 1]
    )


def _recorded(
    index: int, operator: IntegerOperator, prepared: Mapping[tuple[str, ...], Any]
) -> Iterator[Loop]:
    linear = isinstance(operator, Linear)
    for part, (name, kind) in enumerate(zip(operator.outputs, operator.types, strict=True)):

        def argument(path: str, _value: Any, part: int = part) -> Argument:
            return Argument(index, path, part, path in operator.vectors)

        parameters = mapped(prepared[operator.outputs], argument)
        operands: list[Expression] = [Element(value) for value in operator.inputs]
        found = operator.compute(Expressions(), parameters, *operands)[part]
        yield Loop(name, kind.container.name, found, part if linear else None)


def _leaves(expression: Expression) -> Iterator[Expression]:
    """Leaves of an expression in order, without the operand of a product."""
    if isinstance(expression, Call):
        for operand in expression.operands:
            yield from _leaves(operand)
    else:
        yield expression


class Expressions:
    """Primitives on expressions of one element."""

    general = True

    def widen(self, value: Expression) -> Expression:
        """To int32."""
        return Call("widen", (value,))

    def narrow(self, value: Expression, kind: IntegerType) -> Expression:
        """To the container."""
        return Call(f"narrow_{kind.container.name}", (value,))

    def split(self, value: Expression, sizes: Sequence[int]) -> Sequence[Expression]:
        """Parts are recorded one at a time."""
        return [value] * len(sizes)

    def matmul(self, codes: Expression, zero_point: Expression, weights: Expression) -> Expression:
        """The product of the segment, all blocks of it."""
        first = isinstance(weights, Argument) and weights.path == FIRST_BLOCK
        return Accumulator() if first else Literal(0)

    def matmul_words(
        self, codes: Expression, zero_points: Sequence[Expression], weights: Expression
    ) -> Expression:
        """The product of the segment too: it is made of both bytes."""
        return self.matmul(codes, zero_points[0], weights)

    def joined(
        self, product: Expression, byte: Shift[Expression], count: int, dropped: int
    ) -> Expression:
        """The product of the segment too: it is made of both planes."""
        return product

    def add(self, left: Expression, right: Expression) -> Expression:
        """Sum."""
        return Call("add", (left, right))

    def sub(self, left: Expression, right: Expression) -> Expression:
        """Difference."""
        return Call("sub", (left, right))

    def mul(self, left: Expression, right: Expression) -> Expression:
        """Product."""
        return Call("mul", (left, right))

    def floor_shift(self, value: Expression, shift: Shift[Expression]) -> Expression:
        """Arithmetic shift by the number of bits that the mask has."""
        return Call("floor_shift", (value, shift.mask))

    def clip(self, value: Expression, low: Expression, high: Expression) -> Expression:
        """Limit."""
        return Call("clip", (value, low, high))

    def gather(self, table: Expression, codes: Expression) -> Expression:
        """Look up; for a whole row at once."""
        return Call("gather", (table, codes))

    def pick(self, numbers: Expression, index: Expression) -> Expression:
        """Look up."""
        return Call("pick", (numbers, index))
