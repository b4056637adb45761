"""Graph back end of the primitives: terms, from which the nodes of the integer graph are recorded.

Nothing is recorded here: `onnxgru.custom_ops.integer_graph.encode` chooses the operators.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import BYTE, BYTE_BITS, IntegerType
from onnxgru.core.primitives import Shift
from onnxgru.custom_ops.integer_graph.constants import Constant, Constants
from onnxgru.custom_ops.integer_graph.terms import BYTES, CodeTerm, Term, Terms
from onnxgru.custom_ops.kinds.planes import joined

Value = Constant | Term | CodeTerm


class GraphPrimitives:
    """Primitives on constants and terms.

    Operators ask for all operations; an operation without effect makes no term.

    Parameters
    ----------
    agreed : mapping of str to ndarray of bool, optional
        See `onnxgru.custom_ops.integer_graph.constants.Constants`.
    """

    general = True

    def __init__(self, agreed: Mapping[str, npt.NDArray[np.bool_]] | None = None) -> None:
        self.constants = Constants(agreed)
        self.terms = Terms(self.constants)

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Constant:
        """Initializer (inputs, outputs), uint8 with zero point 128; packing makes it `bits`.

        Equal weights of equal width are one initializer, as equal biases are.
        """
        return self.constants.stored(name, codes, bits, "weights")

    def biases(self, name: str, values: npt.NDArray[np.signedinteger[Any]]) -> Constant:
        """Initializer, widened if it is narrow."""
        stored = self.constants.stored(name, values, 0, "shared", "bias")
        as_it_is = values.dtype == np.int32 and not self.constants.alike
        return stored if as_it_is else self.constants.int32(stored)

    def table(self, name: str, entries: npt.NDArray[np.uint8]) -> Constant:
        """Initializer, widened."""
        return self.constants.int32(self.constants.stored(name, entries, 0, "shared"))

    def bytes(self, name: str, values: npt.NDArray[np.uint8]) -> Constant:
        """Initializer, widened."""
        return self.constants.int32(self.constants.stored(name, values, 0))

    def byte(self, name: str, values: npt.NDArray[np.uint8], position: int) -> Constant:
        """One entry of an initializer, not widened."""
        return self.constants.byte(self.constants.stored(name, values, 0), position)

    def words(self, name: str, values: npt.NDArray[np.int16 | np.uint16]) -> Constant:
        """Initializer of int32, which packing stores as two bytes each."""
        return self.constants.stored(name, values, 2 * BYTE_BITS)

    def constant(self, value: int) -> Constant:
        """A number."""
        return self.constants.number(value)

    def numbers(self, values: Sequence[int]) -> Constant:
        """Numbers."""
        return self.constants.numbers(values)

    def concatenate(self, values: Sequence[Value]) -> Constant:
        """Side by side; a number takes one column."""
        found = [_constant(value) for value in values]
        wide = [c if c.value.ndim else self.constants.wide(c, (1,)) for c in found]
        return self.constants.concatenate(wide)

    def columns(self, values: Value, positions: Sequence[int], count: int) -> Constant:
        """Numbers of members, repeated over the columns where a term needs them."""
        return self.constants.members(_constant(values), positions, (count,) * len(positions))

    def power(self, exponent: Value) -> Constant:
        """Power of two."""
        return self.constants.power(_constant(exponent))

    def shift(self, exponent: Value) -> Shift[Value]:
        """Power, mask and half."""
        power = self.power(exponent)
        mask = self.constants.arithmetic("Sub", power, self.constant(1))
        return Shift(power, mask, self.constants.half(power))

    def rows(self, value: Value, sizes: Sequence[int]) -> Sequence[Constant]:
        """Along the first axis."""
        wanted = tuple(sizes)
        whole = _constant(value)
        return [self.constants.part(whole, wanted, i, 0) for i in range(len(wanted))]

    def split(self, value: Value, sizes: Sequence[int]) -> Sequence[Value]:
        """Parts of the columns; entries, if the value is a vector and all parts have one column."""
        wanted = tuple(sizes)
        if isinstance(value, CodeTerm):
            return [CodeTerm(part, value.kind) for part in self._parts(value.term, wanted)]
        if isinstance(value, Term):
            return self._parts(value, wanted)
        if all(size == 1 for size in wanted) and value.value.ndim:
            return [self.constants.pick(value, place) for place in range(len(wanted))]
        return [
            self.constants.pick(value, sum(wanted[:index]))
            if size == 1
            else self.constants.part(value, wanted, index, 1)
            for index, size in enumerate(wanted)
        ]

    def _parts(self, term: Term, sizes: tuple[int, ...]) -> list[Term]:
        stops = np.cumsum(sizes).tolist()
        pairs = zip(stops, sizes, strict=True)
        return [self.terms.part(term, stop - size, stop) for stop, size in pairs]

    def widen(self, value: Value) -> Value:
        """The term itself."""
        return value.term if isinstance(value, CodeTerm) else value

    def narrow(self, value: Value, kind: IntegerType) -> Value:
        """The term with its container."""
        if isinstance(value, Constant):
            if kind.wide:
                raise TypeError("a constant must be narrowed to a byte")
            return self.constants.narrow(value)
        return CodeTerm(_term(value), kind)

    def matmul(self, codes: Value, zero_point: Value, weights: Value) -> Value:
        """One product."""
        if not isinstance(codes, CodeTerm):
            raise TypeError("a product must read codes")
        return self.terms.matmul(codes, _constant(zero_point), _constant(weights))

    def matmul_words(self, codes: Value, zero_points: Sequence[Value], weights: Value) -> Value:
        """Two products, of the bytes."""
        wide, power = self.widen(codes), self.constant(BYTE + 1)
        high = self.floor_shift(wide, self.shift(self.constant(BYTE_BITS)))
        low = self.sub(wide, self.mul(high, power))
        upper, lower = (
            self.matmul(self.narrow(part, BYTES), zero_point, weights)
            for part, zero_point in zip((high, low), zero_points, strict=True)
        )
        return self.add(self.mul(upper, power), lower)

    def joined(self, product: Value, byte: Shift[Value], count: int, dropped: int) -> Value:
        """As `onnxgru.custom_ops.kinds.planes` does."""
        return joined(self, product, byte, count, dropped)

    def add(self, left: Value, right: Value) -> Value:
        """Sum."""
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self.constants.arithmetic("Add", left, right)
        if isinstance(left, Constant):
            return self.terms.added(_term(right), left)
        return self.terms.added(_term(left), _operand(right))

    def sub(self, left: Value, right: Value) -> Value:
        """Difference; the remainder of a floor is a term of its own."""
        c, minus = self.constants, self.constant(-1)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return c.arithmetic("Sub", left, right)
        if isinstance(left, Constant):
            return self.add(self.mul(right, minus), left)
        if isinstance(right, Constant):
            return self.terms.added(_term(left), right, -1)
        one, other = _term(left), _term(right)
        ((found, factor), *more) = other.pairs
        if not more and other.offset is None and found.operation == "floor":
            (power,) = found.constants
            if factor is not None and power is not None and found.operands == (one,):
                if np.array_equal(power.columns, factor.columns):
                    return self.terms.rest(one, power)
        return self.terms.added(one, other, -1)

    def mul(self, left: Value, right: Value) -> Value:
        """Product."""
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self.constants.arithmetic("Mul", left, right)
        if isinstance(left, Constant):
            return self.terms.scaled(_term(right), left)
        if isinstance(right, Constant):
            return self.terms.scaled(_term(left), right)
        return self.terms.product(_term(left), _term(right))

    def floor_shift(self, value: Value, shift: Shift[Value]) -> Value:
        """Floor of a quotient."""
        power = shift.power
        if not isinstance(power, Constant):
            raise TypeError("a shift must be constant")
        if power.all(1):
            return value
        if isinstance(value, Constant):
            return self.constants.floor(value, power)
        return self.terms.floor(_term(value), power)

    def clip(self, value: Value, low: Value, high: Value) -> Value:
        """Limited."""
        if not (isinstance(low, Constant) and isinstance(high, Constant)):
            raise TypeError("limits must be constant")
        if isinstance(value, Constant):
            limited = np.clip(value.value, low.value, high.value)
            return self.constants.numbers(limited.ravel().tolist())
        return self.terms.clip(_term(value), low, high)

    def gather(self, table: Value, codes: Value) -> Value:
        """Entries, as bytes."""
        found = self.pick(table, self.widen(codes))
        return self.narrow(found, BYTES)

    def pick(self, numbers: Value, index: Value) -> Value:
        """Entries."""
        table = _constant(numbers)
        tables = table.operands if table.operation == "tables" else (table,)
        return self.terms.look(tables, _term(index), table.sizes)


def _term(value: Value) -> Term:
    if not isinstance(value, Term):
        raise TypeError(f"{type(value).__name__} must be a term")
    return value


def _constant(value: Value) -> Constant:
    if not isinstance(value, Constant):
        raise TypeError(f"{type(value).__name__} must be constant")
    return value


def _operand(value: Value) -> Term | Constant:
    if isinstance(value, CodeTerm):
        raise TypeError("codes must be widened before they are added")
    return value
