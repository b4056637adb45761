"""Terms: the computations of a step of the integer graph, as expressions with proved ranges.

Equal terms are one object. A sum is a list of terms with constant factors and one offset. So a
bias, a rounding term and a zero point become one number, if all intermediate results are proved to
fit int32. Ranges are intervals per column.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxgru.core.fixedpoint import EXACT_IN_FLOAT32, INT32_MAXIMUM
from onnxgru.core.integers import BYTE_BITS, IntegerType
from onnxgru.custom_ops.integer_graph.constants import Constant, Constants, Integers

BYTES = IntegerType(BYTE_BITS)
LOWEST = -INT32_MAXIMUM - 1
Pair = tuple["Term", Constant | None]


@dataclass(frozen=True, eq=False)
class Term:
    """An int32 value of shape (..., N); `Terms` makes it once for all equal computations.

    Parameters
    ----------
    operation : str
        ``leaf``, ``sum``, ``product``, ``floor`` and others; see `Terms`.
    operands : tuple of Term
        Operands of the operation.
    constants : tuple of Constant or None
        Numbers of the operation.
    key : tuple
        Further parameters.
    low, high : ndarray of int64, shape () or (N,)
        Proved bounds of its numbers.
    width : int
        N.
    early : bool
        Whether it depends on no carry.
    label : str
        The operator for which it was made.
    """

    operation: str
    operands: "tuple[Term, ...]"
    constants: tuple[Constant | None, ...]
    key: tuple[Any, ...]
    low: Integers
    high: Integers
    width: int
    early: bool
    label: str

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Terms and factors of a sum; of any other term, the term itself without a factor."""
        if self.operation != "sum":
            return ((self, None),)
        return tuple(zip(self.operands, self.constants[:-1], strict=True))

    @property
    def offset(self) -> Constant | None:
        """The constant of a sum, or None."""
        return self.constants[-1] if self.operation == "sum" else None

    @property
    def fits(self) -> bool:
        """Whether its range is within int32."""
        return bool(self.low.min() >= LOWEST and self.high.max() <= INT32_MAXIMUM)


@dataclass(frozen=True, eq=False)
class CodeTerm:
    """A term in the container of its codes."""

    term: Term
    kind: IntegerType


def interval(low: Integers, high: Integers, factor: Integers) -> tuple[Integers, Integers]:
    """Range of a product with constants."""
    one, other = low * factor, high * factor
    return np.minimum(one, other), np.maximum(one, other)


class Terms:
    """Makes terms.

    Parameters
    ----------
    constants : Constants
        Makes their constants.
    """

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.label = ""
        self._made: dict[Hashable, Term] = {}

    def make(
        self,
        operation: str,
        operands: Sequence[Term],
        low: Integers,
        high: Integers,
        width: int,
        constants: Sequence[Constant | None] = (),
        key: tuple[Any, ...] = (),
        *,
        early: bool | None = None,
    ) -> Term:
        """A term of any operation."""
        identity = (operation, tuple(map(id, operands)), tuple(map(id, constants)), key)
        if identity not in self._made:
            self._made[identity] = Term(
                operation,
                tuple(operands),
                tuple(constants),
                key,
                np.asarray(low, np.int64),
                np.asarray(high, np.int64),
                width,
                all(o.early for o in operands) if early is None else early,
                self.label,
            )
        return self._made[identity]

    def leaf(
        self,
        name: str,
        low: int,
        high: int,
        width: int,
        *,
        early: bool,
        kind: IntegerType | None = None,
    ) -> Term:
        """A value that is given; `kind` where it is in the container of codes."""
        return self.make(
            "leaf", (), np.asarray(low), np.asarray(high), width, (), (name, kind), early=early
        )

    def sum(self, pairs: Sequence[Pair], offset: Constant | None) -> Term | Constant:
        """A sum of terms times constants, and a constant; terms that cancel are left out."""
        c, merged = self.constants, dict[Term, Constant | None]()
        for term, factor in pairs:
            total = factor
            if term in merged:
                one, other = merged[term] or c.number(1), factor or c.number(1)
                total = c.arithmetic("Add", one, other)
            merged[term] = None if total is not None and total.idle(1) else total
        kept = [(t, f) for t, f in merged.items() if f is None or not f.idle(0)]
        offset = None if offset is not None and offset.idle(0) else offset
        if not kept:
            return offset or c.number(0)
        if len(kept) == 1 and offset is None and kept[0][1] is None:
            return kept[0][0]
        low = high = np.asarray(0 if offset is None else offset.columns, np.int64)
        for term, factor in kept:
            ends = (term.low, term.high)
            if factor is not None:
                ends = interval(*ends, factor.columns)
            low, high = low + ends[0], high + ends[1]
        terms, factors = zip(*kept, strict=True)
        width = max(term.width for term in terms)
        return self.make("sum", terms, low, high, width, (*factors, offset))

    def scaled(self, term: Term, factor: Constant) -> Term | Constant:
        """A term times a constant, distributed over its sum if that is proved to fit."""
        c = self.constants
        if factor.all(0) and factor.operation != "number":  # of a vector of zeros
            none = np.zeros_like(factor.columns)
            return self.make("sum", (term,), none, none, term.width, (factor, None))
        pairs = [
            (t, factor if f is None else c.arithmetic("Mul", f, factor)) for t, f in term.pairs
        ]
        offset = None if term.offset is None else c.arithmetic("Mul", term.offset, factor)
        found = self.sum(pairs, offset)
        if isinstance(found, Constant) or self.safe(found):
            return found
        return self.sum([(term, factor)], None)

    def added(self, left: Term, right: Term | Constant, sign: int = 1) -> Term | Constant:
        """Left plus or minus right, as one sum if that is proved to fit."""
        c = self.constants
        minus = c.number(-1)
        if isinstance(right, Constant):
            more: list[Pair] = []
            extra: Constant | None = right if sign > 0 else c.arithmetic("Mul", right, minus)
        else:
            extra, more = right.offset, list(right.pairs)
            if sign < 0:
                extra = None if extra is None else c.arithmetic("Mul", extra, minus)
                more = [(t, minus if f is None else c.arithmetic("Mul", f, minus)) for t, f in more]
        offset = left.offset
        if offset is None or extra is None:
            offset = offset or extra
        else:
            offset = c.arithmetic("Add", offset, extra)
        found = self.sum([*left.pairs, *more], offset)
        if isinstance(found, Constant) or self.safe(found):
            return found
        if isinstance(right, Constant):
            return self.sum([(left, None)], right if sign > 0 else extra)
        return self.sum([(left, None), (right, None if sign > 0 else minus)], None)

    @staticmethod
    def safe(term: Term) -> bool:
        """Whether every partial sum of a sum fits int32, in any order."""
        if term.operation != "sum":
            return True
        most = np.asarray(0, np.int64)
        low = high = most
        if term.offset is not None:
            low = high = term.offset.columns
            most = np.abs(low)
        ends = []
        for one, factor in term.pairs:
            if factor is not None and not factor.fits:
                return False
            found = (one.low, one.high)
            ends.append(found if factor is None else interval(*found, factor.columns))
        if len(ends) == 1:
            parts = [*ends[0], low + ends[0][0], high + ends[0][1], low]
            return all(int(p.min()) >= LOWEST and int(p.max()) <= INT32_MAXIMUM for p in parts)
        for below, above in ends:
            most = most + np.maximum(np.abs(below), np.abs(above))
        return int(most.max()) <= INT32_MAXIMUM

    def product(self, left: Term, right: Term) -> Term:
        """Element by element."""
        ends = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
        low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
        return self.make("product", (left, right), low, high, max(left.width, right.width))

    def floor(self, value: Term, power: Constant) -> Term:
        """Floor of value / power."""
        if power.all(1):
            return value
        by = power.columns
        return self.make(
            "floor", (value,), value.low // by, value.high // by, value.width, (power,)
        )

    def rest(self, value: Term, power: Constant) -> Term | Constant:
        """The remainder of a floor, 0 .. power - 1."""
        if power.all(1):
            return self.constants.number(0)
        low = np.zeros_like(power.columns)
        return self.make("rest", (value,), low, power.columns - 1, value.width, (power,))

    def clip(self, value: Term, low: Constant, high: Constant) -> Term:
        """Value limited to low .. high."""
        below, above = low.columns, high.columns
        idle = bool((value.low >= below).all() and (value.high <= above).all())
        if idle and not self.constants.alike:
            return value
        ends = np.clip(value.low, below, above), np.clip(value.high, below, above)
        return self.make("clip", (value,), *ends, value.width, (low, high))

    def look(self, tables: Sequence[Constant], index: Term, sizes: tuple[int, ...]) -> Term:
        """Entries of tables at indices, each member in its own."""
        wide = [size for size in (sizes or (1,))]
        low = np.repeat([int(t.value.min()) for t in tables], wide)
        high = np.repeat([int(t.value.max()) for t in tables], wide)
        if len(tables) == 1:
            low, high = low[0], high[0]
        return self.make("look", (index,), low, high, index.width, tables, sizes)

    def matmul(self, codes: CodeTerm, zero_point: Constant, weights: Constant) -> Term:
        """Product of codes and weights."""
        term, matrix = codes.term, weights.value
        below, above = (
            (np.broadcast_to(end, (matrix.shape[0],)) - zero_point.value)[:, None]
            for end in (term.low, term.high)
        )
        low = np.minimum(matrix * below, matrix * above).sum(axis=0)
        high = np.maximum(matrix * below, matrix * above).sum(axis=0)
        width = matrix.shape[1]
        return self.make("matmul", (term,), low, high, width, (zero_point, weights))

    def solid(self, product: Term) -> Term:
        """A product followed by an integer operator, so that no runtime goes on in float32."""
        least = self.constants.number(-EXACT_IN_FLOAT32)
        return self.make("solid", (product,), product.low, product.high, product.width, (least,))

    def part(self, value: Term, start: int, stop: int) -> Term:
        """Columns of a value."""
        if (start, stop) == (0, value.width):
            return value
        if value.operation == "part":
            (whole,), first = value.operands, value.key[0]
            return self.part(whole, first + start, first + stop)
        if value.operation == "join":
            place, inside = 0, []
            for operand in value.operands:
                if start < place + operand.width and stop > place:
                    ends = max(start - place, 0), min(stop - place, operand.width)
                    inside.append(self.part(operand, *ends))
                place += operand.width
            return self.join(inside)
        low, high = (e[start:stop] if e.ndim else e for e in (value.low, value.high))
        return self.make("part", (value,), low, high, stop - start, (), (start, stop))

    def join(self, values: Sequence[Term]) -> Term:
        """Values side by side; neighbouring parts of one value become one part."""
        found: list[Term] = []
        for value in values:
            last = found[-1] if found else None
            if (
                last is not None
                and last.operation == value.operation == "part"
                and last.operands == value.operands
                and last.key[1] == value.key[0]
            ):
                found[-1] = self.part(value.operands[0], last.key[0], value.key[1])
            else:
                found.append(value)
        if len(found) == 1:
            return found[0]
        low, high = (
            np.concatenate([np.broadcast_to(end, (v.width,)) for v, end in ends])
            for ends in ([(v, v.low) for v in found], [(v, v.high) for v in found])
        )
        return self.make("join", found, low, high, sum(v.width for v in found))


def below(terms: Sequence[Term]) -> Iterator[Term]:
    """Terms and all terms that they depend on, each once, operands first."""
    seen: set[Term] = set()
    pending = [(term, False) for term in reversed(terms)]
    while pending:
        term, done = pending.pop()
        if done:
            yield term
        elif term not in seen:
            seen.add(term)
            pending.append((term, True))
            pending += [(operand, False) for operand in reversed(term.operands)]
