"""Affine: a value is multiplied by constants before it is split, instead of its parts.

For a value w that is split into parts::

    a w[0] + ..., b w[1] + ... + c   ->   w' = (a, b) w + (0, c),   w'[0] + ...,  w'[1] + ...

This applies if one sum alone reads each part; the constants of these sums move along. Parts without
a factor get the factor 1. Values that are computed once, before the steps, stay as they are: saving
a product there gains little time, and its constants would make the file larger.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxgru.custom_ops.integer_graph.constants import Constant
from onnxgru.custom_ops.integer_graph.terms import Pair, Term, Terms, below


@dataclass(frozen=True)
class _Cut:
    """A part of a value, and the sum that multiplies it."""

    part: Term
    sum: Term | None
    factor: Constant | None


def gathered(terms: Terms, wanted: Sequence[Term]) -> list[Term]:
    """Terms in which one product of the whole replaces the products of its parts.

    Parameters
    ----------
    terms : Terms
        Makes terms.
    wanted : sequence of Term
        The terms that must be computed; the result has their replacements in the same order.
    """
    order = list(below(wanted))
    users: dict[Term, list[Term]] = {term: [] for term in order}
    for term in order:
        for operand in term.operands:
            users[operand].append(term)
    found: dict[Term, Term] = {}
    moved: dict[Term, Term] = {}
    multiplied: set[Term] = set()
    free: set[Term] = set()
    for term in order:
        terms.label = term.label
        made = moved.get(term) or _rebuilt(terms, term, found, multiplied, free)
        found[term] = made
        cuts = [] if term.early else _cuts(term, users, wanted)
        if sum(cut.factor is not None for cut in cuts) < 2:
            continue
        offsets = {cut.sum for cut in cuts if cut.sum is not None and cut.sum.offset is not None}
        offsets -= free
        taken = offsets if len(offsets) > 1 else set()
        whole = _product(terms, made, cuts, taken)
        if whole is None:
            continue
        free |= taken
        multiplied.update(cut.part for cut in cuts if cut.factor is not None)
        for cut in cuts:
            moved[cut.part] = terms.part(whole, *cut.part.key[:2])
    return [found[term] for term in wanted]


def _cuts(whole: Term, users: Mapping[Term, Sequence[Term]], wanted: Sequence[Term]) -> list[_Cut]:
    """All parts of a value in order; none if anything else reads the value."""
    parts = [term for term in users[whole] if term.operation == "part"]
    if not parts or len(parts) < len(users[whole]) or whole.operation == "leaf" or whole in wanted:
        return []
    parts.sort(key=lambda part: part.key[:2])
    stops = [0, *(part.key[1] for part in parts)]
    if stops[:-1] != [part.key[0] for part in parts] or stops[-1] != whole.width:
        return []
    return [_Cut(part, *_scaled(part, users[part], part in wanted)) for part in parts]


def _scaled(
    part: Term, readers: Sequence[Term], given: bool
) -> tuple[Term | None, Constant | None]:
    """The only sum that reads a part, and its factor; None if there is no such sum or factor."""
    if given or len(readers) != 1 or readers[0].operation != "sum":
        return None, None
    for term, factor in readers[0].pairs:
        if term is part and factor is not None and not factor.all(-1):
            return readers[0], factor
    return None, None


def _product(terms: Terms, whole: Term, cuts: Sequence[_Cut], taken: set[Term]) -> Term | None:
    """The whole times the factors of its parts, plus constants of their sums."""
    c = terms.constants
    sizes = tuple(cut.part.width for cut in cuts)
    factor = c.pack([cut.factor or c.number(1) for cut in cuts], sizes)
    offset = c.pack(list(_offsets(terms, cuts, set(taken))), sizes) if taken else None
    found = terms.sum([(whole, factor)], offset)
    if isinstance(found, Constant) or not terms.safe(found):
        return None
    return found


def _offsets(terms: Terms, cuts: Sequence[_Cut], left: set[Term]) -> Iterator[Constant]:
    """The constant that moves along with every part."""
    for cut in cuts:
        if cut.sum is not None and cut.sum in left and cut.sum.offset is not None:
            left.discard(cut.sum)
            yield cut.sum.offset
        else:
            yield terms.constants.number(0)


def _rebuilt(
    terms: Terms,
    term: Term,
    found: Mapping[Term, Term],
    multiplied: set[Term],
    free: set[Term],
) -> Term:
    """The same term with replaced operands; parts that are multiplied already have no factor."""
    operands = [found[operand] for operand in term.operands]
    if term.operation == "sum":
        pairs: list[Pair] = [
            (found[one], None if one in multiplied else factor) for one, factor in term.pairs
        ]
        made = terms.sum(pairs, None if term in free else term.offset)
        return term if isinstance(made, Constant) else made
    return terms.make(
        term.operation, operands, term.low, term.high, term.width, term.constants, term.key,
        early=term.early,
    )  # fmt: skip
