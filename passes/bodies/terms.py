"""Terms: the equations of one step, with the kinds of operators that cells have.

A term is a vector of features per sequence. `Terms` makes equal terms once, and brings the writings
of different exporters into one form:

1. a slice of stacked gates becomes a slice of the weights, so that each gate has its own product;
2. a product with a concatenation becomes a sum of products;
3. constants that are added to a product, or that scale it, become part of its bias and weights;
4. ``n + z (h - n)`` is ``(1 - z) n + z h``;
5. a clipped line becomes a hard sigmoid, followed by a line where its limits are not 0 and 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from onnxgru.core.activations import Activation
from onnxgru.core.integers import Floats

AFFINE = "Affine"
ONE = Activation(AFFINE, -1.0, 1.0)
"""1 - x."""
MINUS = Activation(AFFINE, -1.0, 0.0)
"""-x."""

ROUNDING = 1e-6
"""Distance up to which a line counts as x: 6 times the float32 nearest to 1/6 is not exactly 1."""


class UnknownError(Exception):
    """A body is no cell; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Term:
    """One equation.

    Parameters
    ----------
    kind : {"source", "linear", "scale", "add", "mul", "lookup", "part", "concat"}
        Kind of operator; `Terms.settled` removes "part" and "concat".
    width : int
        Features.
    operands : tuple of Term
        Terms that it reads.
    name : str
        Of a source.
    weight, bias : ndarray of float32, optional
        Of "linear", shapes (outputs, inputs) and (outputs,).
    vector : ndarray of float32, optional
        Of "scale", shape (outputs,).
    function : Activation, optional
        Of "lookup".
    start : int
        Of "part": its first feature in the operand.
    """

    kind: str
    width: int
    operands: tuple["Term", ...] = ()
    name: str = ""
    weight: Floats | None = None
    bias: Floats | None = None
    vector: Floats | None = None
    function: Activation | None = None
    start: int = 0


class Terms:
    """Makes the terms of one body."""

    def __init__(self) -> None:
        self._known: dict[Any, Term] = {}

    def _made(self, kind: str, width: int, *operands: Term, **fields: Any) -> Term:
        contents = tuple(
            (name, value.tobytes() if isinstance(value, np.ndarray) else value)
            for name, value in fields.items()
        )
        key = kind, width, operands, contents
        if key not in self._known:
            self._known[key] = Term(kind, width, operands, **fields)
        return self._known[key]

    def source(self, name: str, width: int) -> Term:
        """A value that the step is given."""
        return self._made("source", width, name=name)

    def linear(self, operand: Term, weight: Floats, bias: Floats) -> Term:
        """A product with a matrix (outputs, inputs), and a bias (outputs,)."""
        weight, bias = (np.ascontiguousarray(a, np.float32) for a in (weight, bias))
        if weight.shape[1] != operand.width:
            raise UnknownError(
                f"{operand.width} features are multiplied by a weight for {weight.shape[1]}"
            )
        if operand.kind == "concat":
            ends = np.cumsum([0, *(part.width for part in operand.operands)])
            products = [
                self.linear(part, weight[:, start:stop], np.zeros_like(bias) if start else bias)
                for part, (start, stop) in zip(operand.operands, pairwise(ends), strict=True)
            ]
            return reduce(self.add, products)
        if operand.kind == "part":
            (whole,) = operand.operands
            spread = np.zeros((len(weight), whole.width), np.float32)
            spread[:, operand.start : operand.start + operand.width] = weight
            return self.linear(whole, spread, bias)
        return self._made("linear", len(weight), operand, weight=weight, bias=bias)

    def scale(self, operand: Term, factor: Floats) -> Term:
        """A product with a constant, one number or one for every feature."""
        factor = np.asarray(factor, np.float32).reshape(-1)
        if np.unique(factor).size == 1:
            return self._affine(operand, float(factor[0]), 0.0)
        if operand.kind == "concat":
            return self._by_parts(self.scale, operand, factor)
        if operand.kind == "linear" and operand.weight is not None and operand.bias is not None:
            weight, bias = operand.weight * factor[:, None], operand.bias * factor
            return self.linear(operand.operands[0], weight, bias)
        if operand.kind == "part":
            return self.linear(operand, np.diag(factor), np.zeros_like(factor))
        return self._made("scale", operand.width, operand, vector=factor)

    def shift(self, operand: Term, offset: Floats) -> Term:
        """A sum with a constant, one number or one for every feature."""
        offset = np.asarray(offset, np.float32).reshape(-1)
        if not offset.any():
            return operand
        whole = np.broadcast_to(offset, (operand.width,))
        if operand.kind == "linear" and operand.weight is not None and operand.bias is not None:
            return self.linear(operand.operands[0], operand.weight, operand.bias + whole)
        if operand.kind == "concat":
            return self._by_parts(self.shift, operand, whole)
        if operand.kind == "add" and _biased(operand):
            first, second = operand.operands
            if _biased(first):
                return self.add(self.shift(first, whole), second)
            return self.add(first, self.shift(second, whole))
        if np.unique(offset).size == 1:
            return self._affine(operand, 1.0, float(offset[0]))
        raise UnknownError("its body adds a constant vector to what is no product with a matrix")

    def _by_parts(
        self, make: Callable[[Term, Floats], Term], operand: Term, numbers: Floats
    ) -> Term:
        ends = np.cumsum([0, *(part.width for part in operand.operands)])
        return self.concat(
            [
                make(part, numbers[start:stop])
                for part, (start, stop) in zip(operand.operands, pairwise(ends), strict=True)
            ]
        )

    def _affine(self, operand: Term, alpha: float, beta: float) -> Term:
        """The line alpha x + beta."""
        if abs(alpha - 1.0) < ROUNDING and abs(beta) < ROUNDING:
            return operand
        if operand.kind == "concat":
            return self.concat([self._affine(part, alpha, beta) for part in operand.operands])
        if operand.kind == "linear" and operand.weight is not None and operand.bias is not None:
            weight, bias = alpha * operand.weight, alpha * operand.bias + np.float32(beta)
            return self.linear(operand.operands[0], weight, bias)
        before = operand.function
        if before is not None and before.name == AFFINE:
            line = alpha * before.alpha, alpha * before.beta + beta
            return self._affine(operand.operands[0], *line)
        return self.lookup(operand, Activation(AFFINE, alpha, beta))

    def negative(self, operand: Term) -> Term:
        """-x."""
        return self._affine(operand, MINUS.alpha, MINUS.beta)

    def clip(self, operand: Term, low: float, high: float) -> Term:
        """A value between two limits, of which the upper one may be infinite."""
        if low == 0.0 and np.isinf(high):
            return self.lookup(operand, Activation("Relu"))
        if not np.isfinite([low, high]).all() or high <= low:
            raise UnknownError(f"its body has a Clip between {low:g} and {high:g}")
        alpha, beta = 1.0 / (high - low), -low / (high - low)
        before = operand.function
        if before is not None and before.name == AFFINE:
            alpha, beta = alpha * before.alpha, alpha * before.beta + beta
            (operand,) = operand.operands
        unit = self.lookup(operand, Activation("HardSigmoid", alpha, beta))
        return self._affine(unit, high - low, low)

    def lookup(self, operand: Term, function: Activation) -> Term:
        """A function of every feature."""
        if operand.kind == "concat":
            return self.concat([self.lookup(part, function) for part in operand.operands])
        return self._made("lookup", operand.width, operand, function=function)

    def add(self, left: Term, right: Term) -> Term:
        """A sum."""
        for one, other in ((left, right), (right, left)):
            if (mixed := self._interpolated(one, other)) is not None:
                return mixed
        return self._pairwise("add", left, right)

    def mul(self, left: Term, right: Term) -> Term:
        """A product, feature by feature."""
        return self._pairwise("mul", left, right)

    def _interpolated(self, new: Term, product: Term) -> Term | None:
        """``n + z (h - n)`` as ``(1 - z) n + z h``."""
        if product.kind != "mul":
            return None
        minus = self.negative(new)
        for gate, difference in (product.operands, product.operands[::-1]):
            if difference.kind != "add" or minus not in difference.operands:
                continue
            (kept,) = [term for term in difference.operands if term is not minus] or [minus]
            return self.add(self.mul(self._affine(gate, -1.0, 1.0), new), self.mul(gate, kept))
        return None

    def _pairwise(self, kind: str, left: Term, right: Term) -> Term:
        if left.width != right.width:
            raise UnknownError(
                f"{left.width} and {right.width} features meet in one operator of its body"
            )
        if "concat" in (left.kind, right.kind):
            both = {*_ends(left), *_ends(right)}
            places = sorted(both)
            parts = [
                self._pairwise(kind, self.part(left, start, stop), self.part(right, start, stop))
                for start, stop in pairwise([0, *places])
            ]
            return self.concat(parts)
        return self._made(kind, left.width, left, right)

    def concat(self, parts: Sequence[Term]) -> Term:
        """Features side by side."""
        flat = [p for part in parts for p in (part.operands if part.kind == "concat" else (part,))]
        if len(flat) == 1:
            return flat[0]
        if all(p.kind == "part" for p in flat) and _adjoin(flat):
            return flat[0].operands[0]
        return self._made("concat", sum(p.width for p in flat), *flat)

    def part(self, operand: Term, start: int, stop: int) -> Term:
        """Features from `start` to before `stop`."""
        if (start, stop) == (0, operand.width):
            return operand
        if not 0 <= start < stop <= operand.width:
            raise UnknownError(f"its body takes features {start} to {stop} of {operand.width}")

        def below(term: Term) -> Term:
            return self.part(term, start, stop)

        match operand.kind:
            case "linear" if operand.weight is not None and operand.bias is not None:
                rows = operand.weight[start:stop], operand.bias[start:stop]
                return self.linear(operand.operands[0], *rows)
            case "scale" if operand.vector is not None:
                return self.scale(below(operand.operands[0]), operand.vector[start:stop])
            case "add" | "mul":
                return self._pairwise(operand.kind, *map(below, operand.operands))
            case "lookup" if operand.function is not None:
                return self.lookup(below(operand.operands[0]), operand.function)
            case "concat":
                found, place = [], 0
                for each in operand.operands:
                    first, last = max(start, place), min(stop, place + each.width)
                    if first < last:
                        found.append(self.part(each, first - place, last - place))
                    place += each.width
                return self.concat(found)
            case "part":
                whole, offset = operand.operands[0], operand.start
                return self.part(whole, offset + start, offset + stop)
        return self._made("part", stop - start, operand, start=start)

    def settled(self, term: Term, replaced: Mapping[Term, Term]) -> Term:
        """The term without parts and concatenations; a part becomes a matrix product.

        Parameters
        ----------
        term : Term
            The term.
        replaced : mapping of Term to Term
            Terms that replace sources first.
        """
        return self._rebuilt(self._rebuilt(term, dict(replaced), whole=False), {}, whole=True)

    def _rebuilt(self, term: Term, done: dict[Term, Term], *, whole: bool) -> Term:
        if term not in done:
            operands = tuple(self._rebuilt(each, done, whole=whole) for each in term.operands)
            done[term] = self._made_of(term, operands, whole=whole)
        return done[term]

    def _made_of(self, term: Term, operands: tuple[Term, ...], *, whole: bool) -> Term:
        """The same operation on other operands."""
        match term.kind:
            case "part" if not whole:
                return self.part(operands[0], term.start, term.start + term.width)
            case "concat" if not whole:
                return self.concat(operands)
            case "part":
                numbers = np.eye(term.width, dtype=np.float32)
                return self.linear(term, numbers, np.zeros(term.width, np.float32))
            case "concat":
                raise UnknownError("its body has a Concat that no product with a matrix reads")
            case "linear" if term.weight is not None and term.bias is not None:
                return self.linear(operands[0], term.weight, term.bias)
            case "scale" if term.vector is not None:
                return self.scale(operands[0], term.vector)
            case "lookup" if term.function is not None:
                return self.lookup(operands[0], term.function)
            case "add" | "mul":
                return self._pairwise(term.kind, *operands)
        return term


def _biased(term: Term) -> bool:
    """Whether a term is a matrix product, or a sum with one."""
    return term.kind == "linear" or (term.kind == "add" and any(map(_biased, term.operands)))


def _ends(term: Term) -> list[int]:
    parts = term.operands if term.kind == "concat" else (term,)
    return [int(end) for end in np.cumsum([part.width for part in parts])]


def _adjoin(parts: Sequence[Term]) -> bool:
    """Whether parts cover one term in its order."""
    whole, place = parts[0].operands[0], 0
    for each in parts:
        if each.operands[0] is not whole or each.start != place:
            return False
        place += each.width
    return place == whole.width
