"""Products of parts of one value become one product before it is cut."""

import numpy as np

from onnxgru.custom_ops.integer_graph.affine import gathered
from onnxgru.custom_ops.integer_graph.constants import Constant, Constants
from onnxgru.custom_ops.integer_graph.terms import BYTES, Term, Terms


def made() -> tuple[Constants, Terms, Term, list[Term]]:
    c = Constants()
    terms = Terms(c)
    given = terms.leaf("given", 0, 255, 6, early=False, kind=BYTES)
    whole = terms.clip(given, c.number(0), c.number(200))
    return c, terms, whole, [terms.part(whole, start, start + 2) for start in (0, 2, 4)]


def total(terms: Terms, *pairs: tuple[Term, Constant | None], offset: Constant) -> Term:
    found = terms.sum(pairs, offset)
    assert isinstance(found, Term)
    return found


def test_factors_and_constants_go_to_the_whole() -> None:
    c, terms, whole, (a, b, rest) = made()
    one = total(terms, (a, c.number(3)), (rest, None), offset=c.number(7))
    two = total(terms, (b, c.number(5)), offset=c.number(-1))
    first, second = gathered(terms, [one, two])
    assert first.offset is None
    ((left, _), (right, _)) = first.pairs
    (scaled,) = {operand for part in (left, right, second) for operand in part.operands}
    assert scaled.operands == (whole,)
    factor, offset = scaled.constants
    assert factor is not None and factor.columns.tolist() == [3, 3, 5, 5, 1, 1]
    assert offset is not None and offset.columns.tolist() == [7, 7, -1, -1, 0, 0]
    assert np.array_equal(second.low, [-1, -1]) and np.array_equal(second.high, [999, 999])


def test_a_part_that_is_read_twice_keeps_its_factors() -> None:
    c, terms, _, (a, b, rest) = made()
    one = total(terms, (a, c.number(3)), (b, c.number(2)), offset=c.number(7))
    two = total(terms, (a, c.number(5)), (rest, c.number(4)), offset=c.number(1))
    first, second = gathered(terms, [one, two])
    for old, new in ((one, first), (two, second)):
        assert (old.low == new.low).all() and (old.high == new.high).all()
    factors = [
        [None if f is None else int(f.value) for _, f in new.pairs] for new in (first, second)
    ]
    assert factors == [[3, None], [5, None]]


def test_nothing_changes_where_one_part_alone_is_multiplied() -> None:
    c, terms, _, (a, b, rest) = made()
    one = total(terms, (a, c.number(3)), (b, None), (rest, None), offset=c.number(7))
    assert gathered(terms, [one]) == [one]


def test_nothing_changes_where_the_whole_would_not_fit() -> None:
    c, terms, _, (a, b, _) = made()
    big = c.number(2**31 // 150)
    found = [terms.sum([(part, big)], None) for part in (a, b)]
    wanted = [term for term in found if isinstance(term, Term)]
    assert gathered(terms, wanted) == wanted
