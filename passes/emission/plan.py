"""Plan: the terms that a recurrence computes in the integer graph, before and in its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import IntegerType
from onnxgru.core.program import IntegerLayer, IntegerRecurrence
from onnxgru.custom_ops.integer_graph import merge
from onnxgru.custom_ops.integer_graph.affine import gathered
from onnxgru.custom_ops.integer_graph.constants import Constants
from onnxgru.custom_ops.integer_graph.encode import Encoding
from onnxgru.custom_ops.integer_graph.primitives import GraphPrimitives
from onnxgru.custom_ops.integer_graph.record import frontier, separated
from onnxgru.custom_ops.integer_graph.terms import CodeTerm, Term
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.custom_ops.kernels import stage


@dataclass(frozen=True, eq=False)
class Plan:
    """Encoded terms of one direction of a layer.

    Parameters
    ----------
    constants : Constants
        Made the constants of the terms.
    input : Term
        The sequence, or its slice in a step, in its container.
    kind : IntegerType
        Type of the input.
    carried : mapping of str to Term
        The carries at the beginning of a step, by full name.
    results : mapping of str to CodeTerm
        Results of a step by name of the operator: next values of carries, and what leaves the step.
    entering : mapping of str to Term
        Terms that steps need and that depend on no carry, by name.
    early : mapping of str to CodeTerm
        Those of `entering` that are results, in their container.
    """

    constants: Constants
    input: Term
    kind: IntegerType
    carried: Mapping[str, Term]
    results: Mapping[str, CodeTerm]
    entering: Mapping[str, Term]
    early: Mapping[str, CodeTerm]

    @classmethod
    def of(
        cls,
        layer: IntegerLayer,
        recurrence: IntegerRecurrence,
        vocabulary: Vocabulary,
        *,
        whole: bool = False,
        traced: bool = False,
        agreed: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    ) -> "Plan":
        """The plan of a direction of a layer.

        If `whole`, a step reads its input itself and nothing is computed before the steps. So
        operators of the input can be merged with operators of the carries. If `traced`, every
        operator is a result. For `agreed` see `agreement`.
        """
        p = GraphPrimitives(agreed)
        kind = layer.input.quantization.type
        given = merge.leaf(p, recurrence.input, kind, layer.input_size, early=not whole)
        values = {recurrence.input: given}
        for carry, bound in recurrence.bound.items():
            held = layer.grids[layer.grid(recurrence, carry)].quantization.type
            width = recurrence.widths[bound.written_by]
            values[bound.name] = merge.leaf(p, bound.name, held, width, early=False)
        carried = {c.name: values[c.name].term for c in recurrence.carries}
        parameters: dict[tuple[str, ...], Any] = {}
        for part in recurrence.stages:
            parameters |= stage.prepare(p, part)
        merger = merge.Merger(p, parameters)
        parts = [recurrence.operators] if whole else [s.operators for s in recurrence.stages]
        for operators in parts:
            for group in merge.groups(operators, parameters):
                values |= merger(group, values)
        wanted = [*(c.written_by for c in recurrence.carries), recurrence.emits]
        wanted += list(recurrence.writers) if traced else []
        names = list(dict.fromkeys(wanted))
        found = [values[name].term for name in names]
        encode = Encoding(p.terms, found, vocabulary)
        apart = gathered(p.terms, separated(p.terms, [encode(term) for term in found]))
        kinds = [values[name].kind for name in names]
        results = {
            name: CodeTerm(term, kind) for name, term, kind in zip(names, apart, kinds, strict=True)
        }
        early = {name: codes for name, codes in results.items() if codes.term.early}
        entering = {name: codes.term for name, codes in early.items()}
        for term in [given.term] if whole else frontier(apart):
            if term not in entering.values():
                entering[cls._named(term, recurrence, entering)] = term
        return cls(p.constants, given.term, kind, carried, results, entering, early)

    @staticmethod
    def _named(term: Term, recurrence: IntegerRecurrence, taken: Mapping[str, Term]) -> str:
        """A free name for a term that enters steps."""
        base = name = recurrence.input if term.operation == "leaf" else f"{term.label}.before"
        count = 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        return name


def agreement(layers: Sequence[IntegerLayer]) -> dict[str, npt.NDArray[np.bool_]]:
    """Find the entries of stored vectors that are equal in all recurrences of one structure.

    Recurrences have the same structure where they store vectors of the same names and sizes.

    Returns
    -------
    dict of str to ndarray of bool
        True where an entry is equal in all of them, by name of the initializer.
    """
    alike: dict[tuple[tuple[str, int], ...], list[dict[str, str]]] = {}
    vectors: dict[str, npt.NDArray[np.int64]] = {}
    for layer in layers:
        for recurrence in layer.recurrences if layer.carries else ():
            p = GraphPrimitives()
            for part in recurrence.stages:
                stage.prepare(p, part)
            own = p.constants.vectors
            vectors |= own
            names = {_inner(name, layer.name, recurrence.name): name for name in own}
            sizes = sorted((inner, own[name].size) for inner, name in names.items())
            alike.setdefault(tuple(sizes), []).append(names)
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for group in alike.values():
        for inner in group[0]:
            together = [names[inner] for names in group]
            same = np.logical_and.reduce(
                [vectors[name] == vectors[together[0]] for name in together]
            )
            for name in together:
                found[name] = found.get(name, np.ones_like(same)) & same
    return found


def _inner(name: str, layer: str, recurrence: str) -> str:
    """A name without those of the recurrence and of the layer."""
    return name.removeprefix(f"{recurrence}/").removeprefix(f"{layer}/")
