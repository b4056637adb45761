"""Naming: readable names for the rows of a table that comes from a body.

A function of a sum of products is a *gate*. It is called ``update`` if something reads 1 - x of it,
``new`` if its values are not bounded by 0 and 1, else ``gate``, with a number where there are
several. Its matrix products are ``<gate>.input`` and ``<gate>.hidden``, its sums ``<gate>.sum``,
its value ``<gate>.gate``, and its complement ``<gate>.complement``. Other rows are named after the
carry that they lead to: ``<carry>.keep`` is a product with the old value, ``<carry>.new`` any other
product, ``<carry>.sum`` a sum. A function of the carry has the function's name, such as
``cell.tanh``.
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

from onnxgru.core.cells import INPUT, STATE, Carry, Cell, Row
from onnxgru.passes.bodies.terms import AFFINE, ONE, Term

_CARRIES = (STATE, "cell")
_LINE = "line"


def cell(rows: Sequence[Row], carries: Sequence[tuple[str, str]], emits: str) -> Cell:
    """A new table. Its name is a digest of its rows, so that equal tables have equal names."""
    found = tuple(Carry(*carry) for carry in carries)
    text = repr((tuple(rows), found, emits))
    return Cell(f"body.{crc32(text.encode()):08x}", tuple(rows), found, emits)


def names(
    source: Term, carries: Mapping[Term, Term], emits: Term, terms: Sequence[Term]
) -> dict[Term, str]:
    """Names of the rows and of the values that they read, by term.

    Parameters
    ----------
    source : Term
        The sequence.
    carries : mapping of Term to Term
        Next value by old value.
    emits : Term
        The output.
    terms : sequence of Term
        The rows, in order.
    """
    return _Names(source, carries, emits, terms).found


class _Names:
    """The steps of `names`."""

    def __init__(
        self, source: Term, carries: Mapping[Term, Term], emits: Term, terms: Sequence[Term]
    ) -> None:
        self.found = {source: INPUT}
        first = [s for s, following in carries.items() if following is emits]
        for place, carry in enumerate([*first, *(s for s in carries if s not in first)]):
            self.found[carry] = _CARRIES[place] if place < len(_CARRIES) else f"carry_{place}"
        self._taken = set(self.found.values())
        self._carries = set(carries)
        self._written = {following: self.found[carry] for carry, following in carries.items()}
        ones = {term.operands[0] for term in terms if term.function == ONE}
        for term in terms:
            if _is_gate(term):
                bounded = term.function is not None and term.function.codomain() == "unit"
                self._gate(term, "update" if term in ones else "gate" if bounded else "new")
        for end in [*carries.values(), emits]:
            self._rest(end, self._written.get(end, "output"))

    def _free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}{count}"
        self._taken.add(name)
        return name

    def _gate(self, term: Term, kind: str) -> None:
        gate = self._free(kind)
        self.found[term] = self._free(f"{gate}.gate")
        pending = list(term.operands)
        while pending:
            each = pending.pop(0)
            if each in self.found or each in self._written or _is_gate(each):
                continue
            words = {"add": "sum", "mul": "product", "scale": "memory"}
            word = words.get(each.kind, _LINE)
            if each.kind == "linear":
                word = "hidden" if self._depends(each) else "input"
            if each.function == ONE and each.operands[0] in self.found:
                continue
            self.found[each] = self._free(f"{gate}.{word}")
            pending += each.operands

    def _depends(self, term: Term) -> bool:
        """Whether a term depends on a carry."""
        return term in self._carries or any(map(self._depends, term.operands))

    def _rest(self, end: Term, owner: str) -> None:
        pending = [(end, owner)]
        while pending:
            each, owned = pending.pop(0)
            if each.kind == "source":
                continue
            below = self._written.get(each, owned)
            if each not in self.found:
                self.found[each] = self._free(self._word(each, below))
            pending += [(operand, below) for operand in each.operands]

    def _word(self, term: Term, owner: str) -> str:
        if term.function is None:
            keeps = bool(self._carries & set(term.operands))
            words = {"add": "sum", "mul": "keep" if keeps else "new"}
            return f"{owner}.{words.get(term.kind, 'product')}"
        (operand,) = term.operands
        if term.function == ONE and operand in self.found:
            return f"{self.found[operand].rpartition('.')[0] or owner}.complement"
        if operand in self._carries:
            owner = self.found[operand]
        name = term.function.name
        return f"{self._written.get(operand, owner)}.{_LINE if name == AFFINE else name.lower()}"


def _is_gate(term: Term) -> bool:
    """Whether a term is a function of a product with a matrix, alone or in a sum."""
    if term.function is None or term.function.name == AFFINE:
        return False
    pending = list(term.operands)
    while pending:
        each = pending.pop()
        if each.kind == "linear":
            return True
        if each.kind == "add":
            pending += each.operands
    return False
