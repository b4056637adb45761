"""Merge: operators of one kind that do not depend on each other are computed side by side.

Their codes are columns of one value, and each keeps its own numbers, the *members* of a constant
(see `onnxgru.custom_ops.integer_graph.constants`). The arithmetic is that of one operator, so that
no kind needs a rule of its own. Only operators that do the same to their columns are merged. Linear
operators are merged after their products, because the columns of a product read all features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import leaves, mapped, taken
from onnxgru.core.program import IntegerOperator
from onnxgru.custom_ops.integer_graph.constants import Constant, Constants
from onnxgru.custom_ops.integer_graph.primitives import GraphPrimitives, Value
from onnxgru.custom_ops.integer_graph.terms import CodeTerm, Term
from onnxgru.custom_ops.kinds.linear import Linear

PRODUCT = ("weights.", "zero_points.", "byte.")
"""Places of what a linear operator's product takes in its record."""

TABLES = ("table", "curve")
"""Places of what is looked up in records of parameters."""


def groups(
    operators: Sequence[IntegerOperator], prepared: Mapping[tuple[str, ...], Any]
) -> Iterator[tuple[IntegerOperator, ...]]:
    """Operators in an order in which all can be computed, those side by side that can be.

    Parameters
    ----------
    operators : sequence of IntegerOperator
        In an order of their own.
    prepared : mapping
        Parameters by the operators' outputs.
    """
    pending = list(operators)
    places: dict[str, tuple[int, int]] = {}
    while pending:
        awaited = {name for operator in pending for name in operator.outputs}
        ready = [o for o in pending if not awaited.intersection(o.inputs)]
        group = [ready[0]]
        wanted = _does(ready[0], prepared)
        for operator in ready[1:]:
            if _does(operator, prepared) == wanted and _pays(group[-1], operator, places):
                group.append(operator)
        yield tuple(group)
        names = [name for operator in group for name in operator.outputs]
        places |= {name: (len(places), index) for index, name in enumerate(names)}
        pending = [o for o in pending if o not in group]


def _pays(
    last: IntegerOperator, operator: IntegerOperator, places: Mapping[str, tuple[int, int]]
) -> bool:
    """Whether nodes are saved: a lookup is few, and its operand must not have to be moved."""
    if operator.results:
        return True
    pairs = zip(last.inputs, operator.inputs, strict=True)
    found = [(places.get(one), places.get(other)) for one, other in pairs]
    return all(one is not None and other == (one[0], one[1] + 1) for one, other in found)


def _does(operator: IntegerOperator, prepared: Mapping[tuple[str, ...], Any]) -> tuple[object, ...]:
    """What an operator does to its columns, but for numbers."""
    paths = [path for path, _ in leaves(prepared[operator.outputs])]
    made = *sorted({str(kind.container) for kind in operator.types}), *paths
    if isinstance(operator, Linear):
        behind = [path for path in made if not path.startswith(PRODUCT)]
        return type(operator), *behind
    read = tuple(operand.quantization.type.container for operand in operator.operands)
    return type(operator), read, *made


@dataclass(frozen=True)
class Merger:
    """Computes groups of operators.

    Parameters
    ----------
    primitives : GraphPrimitives
        What they are computed with.
    prepared : mapping
        Parameters by the operators' outputs.
    """

    primitives: GraphPrimitives
    prepared: Mapping[tuple[str, ...], Any]

    def __call__(
        self, group: Sequence[IntegerOperator], values: Mapping[str, CodeTerm]
    ) -> dict[str, CodeTerm]:
        """Codes of every operator of a group."""
        p, first = self.primitives, group[0]
        p.terms.label = label(group)
        sizes = tuple(operator.widths[0] for operator in group)
        parameters = self.prepared[first.outputs]
        operands: list[Value] = [values[name] for name in first.inputs]
        if len(group) == 1:
            results: Sequence[Value] = first.compute(p, parameters, *operands)
            return dict(zip(first.outputs, map(_codes, results), strict=True))
        if isinstance(first, Linear):
            return self._linear(group, values)
        records = [self.prepared[operator.outputs] for operator in group]
        parameters = self._packed(first, records, sizes)
        operands = [
            self._joined([values[operator.inputs[place]] for operator in group])
            for place in range(len(first.inputs))
        ]
        merged: Sequence[Value] = first.compute(p, parameters, *operands)
        (result,) = merged
        parts = p.split(result, sizes)
        names = [operator.outputs[0] for operator in group]
        kinds = [operator.types[0] for operator in group]
        return {
            name: CodeTerm(_codes(part).term, kind)
            for name, part, kind in zip(names, parts, kinds, strict=True)
        }

    def _linear(
        self, group: Sequence[IntegerOperator], values: Mapping[str, CodeTerm]
    ) -> dict[str, CodeTerm]:
        """Linear operators of several operands: products one by one, all that follows at once."""
        p, records, products = self.primitives, [], []
        made = [operator for operator in group if isinstance(operator, Linear)]
        for operator in made:
            record = self.prepared[operator.outputs]
            p.terms.label = label([operator])
            codes: Value = values[operator.inputs[0]]
            product = operator.accumulate(p, record, codes)
            products.append(_term(product))
            records.append(replace(record, weights=(), zero_points=(), byte=None))
        p.terms.label = label(group)
        sizes = tuple(sum(operator.widths) for operator in made)
        parameters = self._packed(made[0], records, sizes)
        whole: Value = p.terms.join(products)
        found = made[0].finish(p, parameters, whole)
        names = [name for operator in made for name in operator.outputs]
        kinds = [kind for operator in made for kind in operator.types]
        parts = p.split(found, [width for operator in made for width in operator.widths])
        return {
            name: CodeTerm(_codes(part).term, kind)
            for name, part, kind in zip(names, parts, kinds, strict=True)
        }

    def _packed(
        self, first: IntegerOperator, records: Sequence[Any], sizes: tuple[int, ...]
    ) -> Any:
        """The records of a group as one."""
        c: Constants = self.primitives.constants
        places = [path for path, _ in leaves(records[0])]
        if any([path for path, _ in leaves(record)] != places for record in records):
            raise ValueError(f"{first.outputs[0]} and others have records of different forms")

        def packed(path: str, _value: Any) -> Constant:
            members = [taken(record, path) for record in records]
            if path in TABLES:
                return c.tables(members, sizes)
            return c.pack(members, sizes)

        return mapped(records[0], packed)

    def _joined(self, values: Sequence[CodeTerm]) -> CodeTerm:
        terms = [value.term for value in values]
        return CodeTerm(self.primitives.terms.join(terms), values[0].kind)


def label(group: Sequence[IntegerOperator]) -> str:
    """What was merged, with what names have in common once: ``/gru/forward/reset+update.gate``."""
    names = [name for operator in group for name in operator.outputs]
    common = names[0].rsplit("/", 1)[0] + "/"
    found: list[str] = []
    for name in names:
        stem, dot, end = name.removeprefix(common).rpartition(".")
        if found and dot and found[-1].endswith(dot + end):
            found[-1] = f"{found[-1].removesuffix(dot + end)}+{stem}{dot}{end}"
        else:
            found.append(name.removeprefix(common))
    joined: dict[str, list[str]] = {}
    for each in found:
        stems, _, end = each.rpartition(".")
        joined.setdefault(stems, []).append(end)
    return common + "+".join(
        f"{stems}.{'+'.join(ends)}" if stems else "+".join(ends) for stems, ends in joined.items()
    )


def _term(value: Value) -> Term:
    if not isinstance(value, Term):
        raise TypeError("a product must be a term")
    return value


def _codes(value: Any) -> CodeTerm:
    if not isinstance(value, CodeTerm):
        raise TypeError("an operator must compute codes")
    return value


def leaf(
    primitives: GraphPrimitives, name: str, kind: IntegerType, width: int, *, early: bool
) -> CodeTerm:
    """Codes that are given, in their container."""
    term: Term = primitives.terms.leaf(name, 0, kind.maximum, width, early=early, kind=kind)
    return CodeTerm(term, kind)
