"""Nodes of the integer graph, recorded from encoded terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from onnxgru.core.primitives import WEIGHT_OFFSET
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.integer_graph.constants import Constant, Constants
from onnxgru.custom_ops.integer_graph.storage import Storage
from onnxgru.custom_ops.integer_graph.terms import BYTES, CodeTerm, Term, Terms, below
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary

_WITH = {
    "and": ("BitwiseAnd", "floor"),
    "quotient": ("Div", "shift"),
    "solid": ("Max", "integer"),
}
"""Operators and roles of terms of one value and a constant."""

_OF_VALUES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "product": ("Mul", "product", {}),
    "join": ("Concat", "joined", {"axis": -1}),
}
"""Operators, roles and attributes of terms of values alone."""


def separated(terms: Terms, wanted: Sequence[Term]) -> list[Term]:
    """Terms that separate the parts that depend on no carry, which are computed before the steps.

    A sum is split into the terms that depend on no carry, with the constant, and the others.
    """
    found: dict[Term, Term] = {}
    for term in below(wanted):
        if term.early:
            found[term] = term
            continue
        terms.label = term.label
        operands = [found[operand] for operand in term.operands]
        early = [pair for pair in term.pairs if pair[0].early]
        if term.operation == "sum" and early and terms.safe(term):
            known = terms.sum(early, term.offset)
            late = [(found[t], factor) for t, factor in term.pairs if not t.early]
            late += [] if isinstance(known, Constant) else [(known, None)]
            made = terms.sum(late, known if isinstance(known, Constant) else None)
            found[term] = term if isinstance(made, Constant) else made
            continue
        found[term] = terms.make(
            term.operation, operands, term.low, term.high, term.width, term.constants, term.key,
            early=term.early,
        )  # fmt: skip
    return [found[term] for term in wanted]


def frontier(wanted: Sequence[Term]) -> list[Term]:
    """Terms that depend on no carry and that steps or their results need."""
    found = dict.fromkeys(term for term in wanted if term.early)
    for term in below(wanted):
        if not term.early:
            found.update(dict.fromkeys(operand for operand in term.operands if operand.early))
    return list(found)


class Recorder:
    """Records terms on one tape.

    Parameters
    ----------
    tape : Tape
        Records the nodes.
    storage : Storage
        Records their constants.
    constants : Constants
        Made these constants.
    known : mapping of Term to onnx_ir.Value
        Leaves, and terms that have been computed before. Raw leaves are in their container.
    wanted : sequence of Term
        All terms that will be asked for.
    vocabulary : Vocabulary
        Which operators are used.
    step : bool
        Whether values have two axes.
    """

    def __init__(
        self,
        tape: Tape,
        storage: Storage,
        constants: Constants,
        known: Mapping[Term, ir.Value],
        wanted: Sequence[Term],
        vocabulary: Vocabulary,
        *,
        step: bool = True,
    ) -> None:
        self._vocabulary = vocabulary
        self._tape, self._storage, self._constants, self._step = tape, storage, constants, step
        self._known = dict(known)
        self._values: dict[Term, ir.Value] = {}
        self._cuts: dict[Term, list[tuple[int, int]]] = {}
        self._pieces: dict[Term, dict[tuple[int, int], ir.Value]] = {}
        self._raw_pieces: dict[Term, dict[tuple[int, int], ir.Value]] = {}
        self._columns: dict[tuple[ir.Value, int], ir.Value] = {}
        self.shaped: dict[ir.Value, int] = {}
        for term in self._inner(wanted):
            if term.operation == "part":
                self._cuts.setdefault(term.operands[0], []).append(term.key[:2])

    def _inner(self, wanted: Sequence[Term]) -> list[Term]:
        """Terms that must be recorded: those below known ones are left out."""
        seen: dict[Term, None] = {}
        pending = list(wanted)
        while pending:
            term = pending.pop()
            if term not in seen and term not in self._known:
                seen[term] = None
                pending += term.operands
        return list(seen)

    def __call__(self, term: Term) -> ir.Value:
        """The value of a term, int32."""
        if term not in self._values:
            self._values[term] = self._recorded(term)
        return self._values[term]

    def codes(self, codes: CodeTerm, name: str | None = None) -> ir.Value:
        """The value of codes in their container."""
        raw = self._raw(codes.term)
        if raw is not None:
            return raw
        kind = self._vocabulary.element(codes.kind)
        found = self(codes.term)
        if kind == ir.DataType.INT32:
            return self._op(codes.term, "Identity", "codes", found, value=name) if name else found
        return self._op(codes.term, "Cast", "codes", found, value=name, to=kind)

    def _raw(self, term: Term) -> ir.Value | None:
        """The value of a leaf in its container, or a part of it; None for other terms."""
        if term in self._known:
            return self._known[term] if _is_raw(term) else None
        if term.operation == "part":
            (whole,) = term.operands
            value = self._raw(whole)
            return None if value is None else self._cut(whole, value, term, self._raw_pieces)
        return None

    def _op(
        self,
        term: Term,
        operation: str,
        role: str,
        *inputs: ir.Value,
        value: str | None = None,
        **attributes: Any,
    ) -> ir.Value:
        label = f"{term.label}/{role}" if term.label else role
        return self._tape.op(operation, *inputs, name=value, label=label, **attributes)

    def _constant(self, constant: Constant) -> ir.Value:
        c = self._constants
        return self._storage(c.uniform(constant) or c.spread(constant))

    def _factor(self, constant: Constant, width: int) -> ir.Value:
        """A constant by which a value of this width is multiplied or divided."""
        c = self._constants
        stored = c.uniform(constant) or c.spread(constant)
        value = self._storage(stored)
        if self._vocabulary.numbers or stored.value.size > 1:
            return value
        if (value, width) not in self._columns:
            columns = self._tape.op("Expand", value, self._tape.axes(width))
            self._columns[value, width] = columns
        return self._columns[value, width]

    def _scalar(self, constant: Constant) -> ir.Value | None:
        """A constant of shape (), if it is one number; else None."""
        one = self._constants.uniform(constant)
        return None if one is None else self._storage(self._constants.scalar(one))

    def _recorded(self, term: Term) -> ir.Value:
        if term in self._known:
            given = self._known[term]
            if not _is_raw(term) or self._vocabulary.element(term.key[1]) == ir.DataType.INT32:
                return given
            label = f"{term.key[0]}/wide"
            return self._tape.op("Cast", given, label=label, to=ir.DataType.INT32)
        match term.operation:
            case "sum":
                return self._sum(term)
            case "clip":
                return self._clip(term)
            case "look":
                return self._look(term)
            case "matmul":
                return self._matmul(term)
            case "rest":
                return self._rest(term)
            case "part":
                (whole,) = term.operands
                return self._cut(whole, self(whole), term, self._pieces)
        if term.operation in _WITH:
            return self._with(term, *_WITH[term.operation], term.constants[0])
        operation, role, attributes = _OF_VALUES[term.operation]
        return self._op(term, operation, role, *map(self, term.operands), **attributes)

    def _rest(self, term: Term) -> ir.Value:
        (power,) = term.constants
        mask = self._constants.arithmetic("Sub", _known(power), self._constants.number(1))
        return self._with(term, "BitwiseAnd", "rest", mask)

    def _with(self, term: Term, operation: str, role: str, constant: Constant | None) -> ir.Value:
        (value,) = term.operands
        given = self(value)
        number = _known(constant)
        other = self._factor(number, term.width) if operation == "Div" else self._constant(number)
        return self._op(term, operation, role, given, other)

    def _sum(self, term: Term) -> ir.Value:
        total: ir.Value | None = None
        offset = term.offset
        # Terms that depend on the input come first. In the first step of an unrolled graph the
        # others may be constant, and OpenVINO would write the sum into the constant's memory, from
        # which the next call would start.
        pairs = sorted(
            term.pairs,
            key=lambda pair: (pair[1] is not None and pair[1].all(-1), not pair[0].early),
        )
        for one, factor in pairs:
            value = self(one)
            if factor is not None and factor.all(-1):
                if total is not None:
                    total = self._op(term, "Sub", "difference", total, value)
                elif offset is not None:
                    total, offset = (
                        self._op(term, "Sub", "difference", self._constant(offset), value),
                        None,
                    )
                else:
                    total = self._op(term, "Neg", "negative", value)
                continue
            if factor is not None:
                value = self._op(term, "Mul", "scaled", value, self._factor(factor, term.width))
            total = value if total is None else self._op(term, "Add", "sum", total, value)
        if total is None:
            raise ValueError("a sum must have a term")
        if offset is not None:
            added = self._constants.negated(offset)
            kind, constant = ("Add", offset) if added is None else ("Sub", added)
            total = self._op(term, kind, "offset", total, self._constant(constant))
        return total

    def _clip(self, term: Term) -> ir.Value:
        (value,), (low, high) = term.operands, map(_known, term.constants)
        found = self(value)
        ends = self._scalar(low), self._scalar(high)
        if ends[0] is not None and ends[1] is not None:
            return self._op(term, "Clip", "limit", found, ends[0], ends[1])
        alike = self._constants.alike
        if alike or (value.low < low.columns).any():
            found = self._op(term, "Max", "least", found, self._constant(low))
        if alike or (value.high > high.columns).any():
            found = self._op(term, "Min", "most", found, self._constant(high))
        return found

    def _look(self, term: Term) -> ir.Value:
        (index,), tables = term.operands, [_known(t) for t in term.constants]
        table = self._storage(self._constants.concatenate(tables))
        places, axes = self(index), self._tape.axes
        if self._vocabulary.lookup == "Gather":
            return self._op(term, "Gather", "table", table, places)
        shape = axes(-1, term.width) if self._step else self._op(term, "Shape", "shape", places)
        flat = self._op(term, "Reshape", "flat", places, axes(-1))
        found = self._op(term, "GatherElements", "table", table, flat, axis=0)
        value = self._op(term, "Reshape", "entries", found, shape)
        self.shaped[value] = term.width
        return value

    def _matmul(self, term: Term) -> ir.Value:
        zero_point, weights = map(_known, term.constants)
        (codes,) = term.operands
        offset = self._tape.byte(WEIGHT_OFFSET)
        given, stored = self.codes(CodeTerm(codes, BYTES)), self._storage(weights)
        zero = self._storage(zero_point)
        return self._op(term, "MatMulInteger", "product", given, stored, zero, offset)

    def _cut(
        self,
        whole: Term,
        value: ir.Value,
        part: Term,
        pieces: dict[Term, dict[tuple[int, int], ir.Value]],
    ) -> ir.Value:
        """A part of a value: one Split for all parts, or a Slice for each if they overlap."""
        wanted: tuple[int, int] = part.key[:2]
        if whole not in pieces:
            found = pieces[whole] = {}
            ends = _tiled(sorted(set(self._cuts.get(whole, [wanted]))), whole.width)
            if ends is not None:
                sizes = [stop - start for start, stop in ends]
                count: dict[str, Any] = {"num_outputs": len(sizes)} if len(set(sizes)) == 1 else {}
                inputs = [value] if count else [value, self._tape.axes(*sizes)]
                label = f"{whole.label}/parts"
                values = self._tape.multiple(
                    "Split", inputs, [None] * len(sizes), label=label, axis=-1, **count
                )
                found.update(zip(ends, values, strict=True))
        if wanted not in pieces[whole]:
            ends_of = (self._tape.axes(n) for n in (*wanted, -1))
            pieces[whole][wanted] = self._op(part, "Slice", "part", value, *ends_of)
        return pieces[whole][wanted]


def _tiled(cuts: list[tuple[int, int]], width: int) -> list[tuple[int, int]] | None:
    """All parts of a value in order, including those that nothing reads; None if they overlap."""
    found: list[tuple[int, int]] = []
    place = 0
    for start, stop in cuts:
        if start < place:
            return None
        if start > place:
            found.append((place, start))
        found.append((start, stop))
        place = stop
    if place < width:
        found.append((place, width))
    return found


def _is_raw(term: Term) -> bool:
    return term.operation == "leaf" and bool(term.key[1])


def _known(constant: Constant | None) -> Constant:
    if constant is None:
        raise ValueError("the constant is missing")
    return constant
