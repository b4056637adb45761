"""Tables: from equations to a cell, bound to its weights and functions.

Equations that match a cell of `onnxgru.core.cells` get that cell's table. Other equations get a new
table, see `onnxgru.passes.bodies.naming`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from onnxgru.core.activations import Activation
from onnxgru.core.cells import CELLS, COMPLEMENT, INPUT, Cell, Row
from onnxgru.core.integers import Floats
from onnxgru.passes.bodies import naming
from onnxgru.passes.bodies.equations import Equations
from onnxgru.passes.bodies.terms import ONE, Term, UnknownError
from onnxgru.passes.graph.description import Numbers

_LETTERS = "fghijklmnop"


@dataclass(frozen=True, eq=False)
class Bound:
    """A cell bound to weights and functions.

    Parameters
    ----------
    cell : Cell
        The table.
    numbers : mapping of str to tuple of ndarray of float32
        Weights, biases and vectors by row.
    functions : mapping of str to Activation
        By letter.
    carries : tuple of Term
        Sources of the cell's carries, in the order of the cell.
    """

    cell: Cell
    numbers: Numbers
    functions: Mapping[str, Activation]
    carries: tuple[Term, ...]


def bound(equations: Equations) -> Bound:
    """The cell of equations that read one sequence.

    Raises
    ------
    UnknownError
        If they are not those of a recurrent cell.
    """
    if not equations.carried:
        raise UnknownError("it carries nothing from step to step")
    carries = {c.source: equations.computed(c.following) for c in equations.carried}
    written = next(iter(carries.values()))
    emitted = None
    if equations.emitted is not None:
        emitted = equations.computed(equations.emitted.term)
    ends = [*carries.values(), *([emitted] if emitted is not None else [])]
    sizes = {term.width for term in ends}
    if len(sizes) > 1:
        raise UnknownError(
            f"what it carries and gives has {' and '.join(map(str, sorted(sizes)))} features, "
            "which must be as many"
        )
    if len(set(carries.values())) < len(carries):
        raise UnknownError("two of its carries have one value")
    terms = list(ordered(ends))
    recurrent = set(carries)
    for term in terms:
        if not recurrent.isdisjoint(term.operands):
            recurrent.add(term)
    if not recurrent.issuperset(ends):
        raise UnknownError("something that it carries or gives depends on the sequence alone")
    kinds = {term.kind for term in terms}
    if not {"linear", "lookup"} <= kinds:
        raise UnknownError("its body has no product with weights or no activation")
    for cell in CELLS.values():
        for found, order in _matches(cell, equations.source, carries, emitted, len(terms)):
            return _bound(cell, found, order)
    names = naming.names(equations.source, carries, emitted or written, terms)
    letters: dict[Activation, str] = {}
    rows = [_row(term, names, letters) for term in terms]
    cell = naming.cell(
        rows, [(names[s], names[f]) for s, f in carries.items()], names[emitted or written]
    )
    return _bound(cell, {names[term]: term for term in terms}, tuple(carries))


def ordered(ends: Sequence[Term]) -> Iterator[Term]:
    """The given terms and those that they depend on, operands first."""
    seen: set[Term] = set()

    def visit(term: Term) -> Iterator[Term]:
        if term in seen or term.kind == "source":
            return
        seen.add(term)
        for operand in term.operands:
            yield from visit(operand)
        yield term

    for end in ends:
        yield from visit(end)


def _row(term: Term, names: Mapping[Term, str], letters: dict[Activation, str]) -> Row:
    name, inputs = names[term], tuple(names[operand] for operand in term.operands)
    parameter = ""
    if term.kind == "linear":
        parameter = f"{_letter(term, inputs[0])}.{name}"
    elif term.kind == "scale":
        parameter = f"P.{name}"
    elif term.function is not None:
        parameter = COMPLEMENT
        if not _mirrors(term):
            parameter = letters.setdefault(term.function, _LETTERS[len(letters)])
    return Row(name, term.kind, inputs, parameter)


def _letter(term: Term, operand: str) -> str:
    """The matrix that a weight is a part of; all parts of one letter have equally many inputs."""
    if operand == INPUT:
        return "W"
    (read,) = term.operands
    return "R" if read.kind == "source" or read.width == term.width else f"V{read.width}"


def _mirrors(term: Term) -> bool:
    """Whether a term is 1 - x of a value between 0 and 1."""
    before = term.operands[0].function
    unit = before is not None and before.codomain() == "unit"
    return term.function == ONE and unit


def _bound(cell: Cell, names: Mapping[str, Term], carries: tuple[Term, ...]) -> Bound:
    numbers: dict[str, tuple[Floats, ...]] = {}
    functions = {}
    for row in cell.rows:
        term = names[row.name]
        if term.weight is not None and term.bias is not None:
            numbers[row.name] = term.weight, term.bias
        elif term.vector is not None:
            numbers[row.name] = (term.vector,)
        elif term.function is not None and row.parameter != COMPLEMENT:
            functions[row.parameter] = term.function
    return Bound(cell, numbers, dict(sorted(functions.items())), carries)


Pairs = dict[str, Term]


def _matches(
    cell: Cell,
    source: Term,
    carries: Mapping[Term, Term],
    emitted: Term | None,
    count: int,
) -> Iterator[tuple[Pairs, tuple[Term, ...]]]:
    """Matches of equations with a cell: terms by row, and carries in the cell's order."""
    if len(cell.rows) != count or len(cell.carries) != len(carries):
        return
    rows = {row.name: row for row in cell.rows}
    for order in permutations(carries):
        start: Pairs = {INPUT: source}
        start |= {carry.name: term for carry, term in zip(cell.carries, order, strict=True)}
        wanted = [
            (carry.written_by, carries[term])
            for carry, term in zip(cell.carries, order, strict=True)
        ]
        if emitted is not None:
            wanted.append((cell.emits, emitted))
        for found in _unified(rows, wanted, start):
            if _letters_agree(cell, found):
                yield found, order


def _unified(
    rows: Mapping[str, Row], wanted: Sequence[tuple[str, Term]], pairs: Pairs
) -> Iterator[Pairs]:
    """Matches of rows with terms that include the given pairs."""
    if not wanted:
        yield pairs
        return
    (name, term), *rest = wanted
    if name in pairs or term in pairs.values():
        if pairs.get(name) is term:
            yield from _unified(rows, rest, pairs)
        return
    row = rows.get(name)
    if row is None or row.kind != term.kind or len(row.inputs) != len(term.operands):
        return
    if row.kind == "lookup" and (row.parameter == COMPLEMENT) != _mirrors(term):
        return
    orders = permutations(term.operands) if len(term.operands) > 1 else [term.operands]
    for operands in orders:
        more = [*zip(row.inputs, operands, strict=True), *rest]
        yield from _unified(rows, more, {**pairs, name: term})


def _letters_agree(cell: Cell, pairs: Pairs) -> bool:
    """Whether all rows of a letter have the same function."""
    found: dict[str, Activation | None] = {}
    for row in cell.rows:
        if row.kind == "lookup" and row.parameter != COMPLEMENT:
            function = pairs[row.name].function
            if found.setdefault(row.parameter, function) != function:
                return False
    return True
