"""Encode: terms that standard ONNX operators compute.

A floor shift becomes a division. Division truncates toward zero, and OpenVINO computes it in
float32:

1. if a clip with a lower limit of 0 or more follows, truncation gives the same result as a floor,
   and the zero point is added before the division;
2. if the value is an index of a table, an offset makes it non-negative, and the table is extended
   at both ends, so that no clip is needed;
3. elsewhere an offset makes it non-negative too, and is subtracted later, together with another
   constant if there is one.

Each of these needs a dividend below 2^24. For larger dividends, ``v & -2^s`` removes the remainder
first, which makes them exact in float32 if s is 7 or more.

OpenVINO computes a product with weights in float32, and also all operators that it fuses with it,
so that a division would leave a fraction. It does not fuse a Concat of products, nor a Max that
changes nothing.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from onnxgru.core.fixedpoint import EXACT_IN_FLOAT32, INT32_MAXIMUM
from onnxgru.custom_ops.integer_graph.constants import Constant
from onnxgru.custom_ops.integer_graph.terms import Pair, Term, Terms, below
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary

LONGEST = 2048
"""Most entries of an extended table."""


class Encoding:
    """Rewrites terms.

    Parameters
    ----------
    terms : Terms
        Makes terms.
    wanted : sequence of Term
        The terms that must be computed.
    vocabulary : Vocabulary
        Which operators are used.
    """

    def __init__(self, terms: Terms, wanted: Sequence[Term], vocabulary: Vocabulary) -> None:
        self._solid = vocabulary.float_division
        self._exact = EXACT_IN_FLOAT32 if vocabulary.float_division else INT32_MAXIMUM
        self._terms, self._constants = terms, terms.constants
        self._users = Counter(o for term in below(wanted) for o in term.operands)
        self._users.update(wanted)
        self._plain: dict[Term, Term] = {}
        self._moved: dict[Term, tuple[Term, Constant | None]] = {}

    def __call__(self, term: Term) -> Term:
        """A term that nodes compute."""
        if term not in self._plain:
            before, self._terms.label = self._terms.label, term.label
            self._plain[term] = self._encoded(term)
            self._terms.label = before
        return self._plain[term]

    def _encoded(self, term: Term) -> Term:
        match term.operation:
            case "floor":
                return self._quotient(term.operands[0], _power(term), exact=True)
            case "clip":
                found, offset = self._clipped(term, moved=False)
                if offset is not None:
                    raise ValueError("a limit that stands alone has no offset")
                return found
            case "look":
                line = self._line(term)
                return self._looked(term, None, None) if line is None else self(line)
            case "sum":
                return self._summed(term)
        if term.operation == "join" and all(o.operation == "matmul" for o in term.operands):
            return self._products(term)
        operands = [self(operand) for operand in term.operands]
        found = self._terms.make(
            term.operation, operands, term.low, term.high, term.width, term.constants, term.key,
            early=term.early,
        )  # fmt: skip
        return self._terms.solid(found) if term.operation == "matmul" and self._solid else found

    def _products(self, term: Term) -> Term:
        """Products side by side: a Concat, behind which no runtime goes on in float32."""
        encoded = [self(operand) for operand in term.operands]
        return self._terms.join([e.operands[0] if e.operation == "solid" else e for e in encoded])

    def _shifted(self, term: Term) -> tuple[Term, Constant | None]:
        """A term as another term plus a constant."""
        if term not in self._moved:
            before, self._terms.label = self._terms.label, term.label
            self._moved[term] = self._apart(term)
            self._terms.label = before
        return self._moved[term]

    def _apart(self, term: Term) -> tuple[Term, Constant | None]:
        if term.operation == "clip":
            return self._clipped(term, moved=True)
        if term.operation == "look" and (line := self._line(term)) is not None:
            (pair,) = line.pairs
            if pair[1] is None:
                return self(pair[0]), line.offset
        if term.operation != "floor":
            return self(term), None
        (value,), power = term.operands, _power(term)
        lowest = int(term.low.min())
        if lowest >= 0:
            return self._quotient(value, power, exact=True), None
        offset = self._constants.number(-lowest)
        dividend = self._added(value, self._constants.arithmetic("Mul", offset, power))
        if dividend is None or int(dividend.high.max()) >= self._exact:
            return self._quotient(value, power, exact=True), None
        return self._quotient(dividend, power, exact=True), self._constants.number(lowest)

    def _quotient(self, dividend: Term, power: Constant, *, exact: bool) -> Term:
        """Floor of dividend / power; without `exact`, the truncated quotient may do."""
        low, high = int(dividend.low.min()), int(dividend.high.max())
        by = power.columns
        value = self(dividend)
        before, self._terms.label = self._terms.label, dividend.label
        largest = max(-low, high)
        if largest >= self._exact or (exact and low < 0):
            mask = self._constants.arithmetic("Mul", power, self._constants.number(-1))
            ends = dividend.low // by * by, dividend.high // by * by
            value = self._terms.make("and", (value,), *ends, value.width, (mask,))
        ends = dividend.low // by, dividend.high // by
        found = self._terms.make("quotient", (value,), *ends, value.width, (power,))
        self._terms.label = before
        return found

    def _added(self, value: Term, constant: Constant | None) -> Term | None:
        """A term plus a constant; None if it is not proved to fit int32."""
        if constant is None or constant.all(0):
            return value
        before, self._terms.label = self._terms.label, value.label
        found = self._terms.added(value, constant)
        self._terms.label = before
        if isinstance(found, Constant) or not self._terms.safe(found) or not found.fits:
            return None
        return found

    def _floor_below(self, term: Term) -> tuple[Term, Constant, Constant | None] | None:
        """Dividend, power and added constant of a term that is a floor plus at most a constant."""
        ((found, factor), *more) = term.pairs
        if more or factor is not None or found.operation != "floor":
            return None
        return found.operands[0], _power(found), term.offset

    def _clipped(self, term: Term, *, moved: bool) -> tuple[Term, Constant | None]:
        (value,), (low, high) = term.operands, term.constants
        c = self._constants
        if low is None or high is None:
            raise ValueError("a limit has two ends")
        if (below := self._floor_below(value)) is None:
            return self._limited(self(value), low, high), None
        dividend, power, extra = below
        offset: Constant | None = None
        if moved and int(low.value.min()) < 0:
            offset = c.uniform(low) or low
            extra = c.arithmetic("Sub", extra or c.number(0), offset)
            low, high = c.number(0), c.arithmetic("Sub", high, offset)
        shift = None if extra is None else c.arithmetic("Mul", extra, power)
        exact = int(low.value.min()) < 0
        if (whole := self._added(dividend, shift)) is not None:
            return self._limited(self._quotient(whole, power, exact=exact), low, high), offset
        low, high = term.constants
        return self._limited(self(value), low, high), None

    def _limited(self, value: Term, low: Constant | None, high: Constant | None) -> Term:
        if low is None or high is None:
            raise ValueError("a limit has two ends")
        return self._terms.clip(value, low, high)

    def _looked(self, term: Term, factor: Constant | None, offset: Constant | None) -> Term:
        """Entries of tables; factor and offset become part of the tables."""
        (index,), tables, sizes = term.operands, list(_known(term.constants)), term.key
        c, terms = self._constants, self._terms
        terms.label = term.label
        found: Term | None = None
        if index.operation == "clip":
            found, tables = self._unlimited(index, tables, sizes)
        if found is None:
            starts = np.cumsum([0, *(table.value.size for table in tables)])[:-1]
            base = c.pack([c.number(int(n)) for n in starts], sizes) if sizes else c.number(0)
            moved = terms.added(index, base)
            if isinstance(moved, Constant):
                raise ValueError("an index must depend on something")
            found = self(moved)
        less = None if offset is None else c.negated(offset)
        last = ("Add", offset) if less is None else ("Sub", less)
        for operation, constant in (("Mul", factor), last):
            if constant is not None:
                tables = [
                    c.arithmetic(operation, table, c.member(constant, place))
                    for place, table in enumerate(tables)
                ]
        return terms.look(tables, found, sizes)

    def _line(self, term: Term) -> Term | None:
        """A table with steps of 1 or -1, such as that of 1 - z, as a sum; None for others."""
        (index,), c = term.operands, self._constants
        tables = _known(term.constants)
        steps = {int(d) for table in tables for d in np.diff(table.value)}
        if steps not in ({1}, {-1}):
            return None
        first = c.pack([c.entry(table, 0) for table in tables], term.key or (term.width,))
        pairs = [(index, c.number(steps.pop()))]
        found = self._terms.sum(pairs, first)
        return None if isinstance(found, Constant) else found

    def _unlimited(
        self, codes: Term, tables: list[Constant], sizes: tuple[int, ...]
    ) -> tuple[Term | None, list[Constant]]:
        """The index without limits, and extended tables."""
        c = self._constants
        (value,), (low, high) = codes.operands, _known(codes.constants)
        below = self._floor_below(value)
        tops = np.repeat([t.value.size - 1 for t in tables], sizes or (codes.width,))
        if below is None or not low.all(0) or (high.columns != tops).any():
            return None, tables
        dividend, power, extra = below
        first, last = int(value.low.min()) // 64 * 64, int(value.high.max())
        first = min(first, -64) if c.alike else first  # a base of 0 would be left out
        size = -(-(last - first + 1) // 128) * 128  # tables of equal size share their indices
        if size > LONGEST:
            return None, tables
        bases = [place * size - first for place in range(len(tables))]
        base = c.pack([c.number(n) for n in bases], sizes) if sizes else c.number(bases[0])
        total = base if extra is None else c.arithmetic("Add", extra, base)
        whole = self._added(dividend, c.arithmetic("Mul", total, power))
        if whole is None:
            return None, tables
        found = self._quotient(whole, power, exact=True)
        return found, [c.extended(table, first, size) for table in tables]

    def _summed(self, term: Term) -> Term:
        pairs, offset = term.pairs, term.offset
        below = self._floor_below(term)
        if below is not None and int(term.low.min()) >= 0:
            dividend, power, extra = below
            shift = None if extra is None else self._constants.arithmetic("Mul", extra, power)
            if (whole := self._added(dividend, shift)) is not None:
                return self._quotient(whole, power, exact=True)
        if len(pairs) == 1:
            ((one, factor),) = pairs
            if one.operation == "look" and self._users[one] == 1 and not _many(factor, offset, one):
                return self._looked(one, factor, offset)
        pairs = tuple(self._held(*pair) for pair in pairs)
        for moved in (True, False):
            found = self._with_offsets(pairs, offset, moved=moved)
            if found is not None:
                return found
        raise ValueError("a sum does not fit int32")

    def _held(self, one: Term, factor: Constant | None) -> Pair:
        """A product times a factor, as a product that has the factor in a table that it reads."""
        if factor is None or one.operation != "product" or self._users[one] > 1:
            return one, factor
        left, right = one.operands
        for held, other in ((right, left), (left, right)):
            (look, _), *more = held.pairs
            if more or look.operation != "look" or self._users[look] > 1 or self._users[held] > 1:
                continue
            scaled = self._terms.scaled(held, factor)
            if _many(factor, None, look) or self._line(look) or isinstance(scaled, Constant):
                continue
            product = self._terms.product(other, scaled)
            if scaled.fits and product.fits:
                return product, None
        return one, factor

    def _with_offsets(
        self, pairs: Sequence[Pair], offset: Constant | None, *, moved: bool
    ) -> Term | None:
        """The sum of encoded terms, with their offsets in the offset of the sum."""
        c, made = self._constants, list[Pair]()
        for one, factor in pairs:
            other, extra = self._shifted(one) if moved else (self(one), None)
            made.append((other, factor))
            if extra is not None:
                more = extra if factor is None else c.arithmetic("Mul", extra, factor)
                offset = more if offset is None else c.arithmetic("Add", offset, more)
        found = self._terms.sum(made, offset)
        if isinstance(found, Constant):
            raise ValueError("a sum must depend on something")
        if moved and not self._terms.safe(found):
            return None
        return found


def _power(term: Term) -> Constant:
    (power,) = _known(term.constants)
    return power


def _known(constants: Sequence[Constant | None]) -> tuple[Constant, ...]:
    return tuple(constant for constant in constants if constant is not None)


def _many(factor: Constant | None, offset: Constant | None, look: Term) -> bool:
    """Whether a constant differs by column, so that it cannot be a part of tables."""
    sizes = look.key
    return any(
        constant is not None and constant.value.ndim and constant.sizes != sizes
        for constant in (factor, offset)
    )
