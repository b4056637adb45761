"""Constants of the integer graph: numbers, with the nodes that compute them from stored ones.

A device stores weights, biases, multipliers, shifts, reaches, zero points and tables. All other
numbers of a graph are computed from these: powers of two, offsets, limits, larger tables. Both the
value and the computation of a constant are known here. So a node is left out if its numbers have no
effect. The graph stores tables and arrays with one number per column, and nodes compute more from
them. It stores other numbers as they are, because the nodes that compute them would be larger.

A constant is one number, or has one number per column of a value. If several operators are computed
side by side, a constant may have `members`: one number per operator, for all of its columns. They
are repeated over the columns as late as possible.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.fixedpoint import INT32_MAXIMUM

Integers = npt.NDArray[np.int64]

MEMBERS = 16
"""Most members of a constant whose members of different sizes are split into equal ones."""


class Constant:
    """A constant; `Constants` makes it once for all equal computations.

    It is no dataclass, because `onnxgru.core.primitives.leaves` takes dataclasses for records.

    Parameters
    ----------
    value : ndarray of int64
        Shape () or (N,); (inputs, outputs) for weights.
    operation : str
        The operation that computes it, or ``number`` or ``stored``.
    operands : tuple of Constant
        Operands of the operation.
    key : tuple
        Further parameters of the operation.
    sizes : tuple of int
        Columns of every member, if the value is (members,); else empty.
    opened : bool
        Whether its numbers may differ in another layer of the same function, so that no choice may
        depend on them.
    """

    def __init__(
        self,
        value: Integers,
        operation: str,
        operands: "tuple[Constant, ...]",
        key: tuple[Any, ...],
        sizes: tuple[int, ...],
        *,
        opened: bool = False,
    ) -> None:
        self.opened = opened
        self.value, self.operation, self.operands = value, operation, operands
        self.key, self.sizes = key, sizes
        self._held: bool = any(o._held for o in operands) or (
            operation == "stored" and "bias" in key
        )
        self._tabled: bool = any(o._tabled for o in operands) or operation == "entry"

    @property
    def columns(self) -> Integers:
        """Its numbers by column."""
        return np.repeat(self.value, self.sizes) if self.sizes else self.value

    def all(self, number: int) -> bool:
        """Whether it is certainly this number everywhere."""
        return not self.opened and bool((self.value == number).all())

    def idle(self, number: int) -> bool:
        """Whether it is this number everywhere and can be left out; biases are always kept."""
        return self.all(number) and not self._held

    @property
    def written(self) -> bool:
        """Whether the graph stores its numbers instead of computing them."""
        few = not self.value.ndim or bool(self.sizes)
        return few and not (self.opened or self._tabled) and self.fits

    @property
    def byte(self) -> bool:
        """Whether it is uint8 in the graph, and not int32."""
        return self.operation in ("byte", "narrow")

    @property
    def fits(self) -> bool:
        """Whether it fits int32."""
        return bool((np.abs(self.value) <= INT32_MAXIMUM).all())


_ARITHMETIC: dict[str, Callable[[Integers, Integers], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
}


class Constants:
    """Makes constants; equal computations give the same object.

    Parameters
    ----------
    agreed : mapping of str to ndarray of bool, optional
        If layers must have the same nodes: by name of an initializer, which of its entries are
        equal in all layers.
    """

    def __init__(self, agreed: Mapping[str, npt.NDArray[np.bool_]] | None = None) -> None:
        self.alike, self._agreed = agreed is not None, agreed or {}
        self._made: dict[Hashable, Constant] = {}

    def make(
        self,
        value: Any,
        operation: str,
        operands: Sequence[Constant] = (),
        key: tuple[Any, ...] = (),
        sizes: tuple[int, ...] = (),
    ) -> Constant:
        """A constant from its value and its computation."""
        identity = (operation, tuple(map(id, operands)), key, sizes)
        if identity not in self._made:
            array = np.asarray(value, np.int64)
            opened = self.alike and self._opened(operation, operands, key)
            self._made[identity] = Constant(
                array, operation, tuple(operands), key, sizes, opened=opened
            )
        return self._made[identity]

    def _opened(self, operation: str, operands: Sequence[Constant], key: tuple[Any, ...]) -> bool:
        """Whether the numbers of a constant may differ in another layer."""
        if operation in _ENTRIES:
            places = list(key[:1] if operation != "members" else key)
            return not self._mask(operands[0])[places].all()
        return operation == "stored" or any(o.opened for o in operands)

    def _mask(self, vector: Constant) -> npt.NDArray[np.bool_]:
        """Which entries of a vector are the same in all layers."""
        if vector.opened and vector.operation in _EACH_ENTRY:
            masks = [self._mask(operand) for operand in vector.operands]
            both: npt.NDArray[np.bool_] = np.logical_and.reduce(np.broadcast_arrays(*masks))
            return both
        found = self._agreed.get(vector.key[0]) if vector.operation == "stored" else None
        return np.full(vector.value.shape, not vector.opened) if found is None else found

    def number(self, value: int) -> Constant:
        """A number of the arithmetic itself."""
        return self.make(value, "number", key=(int(value),))

    def numbers(self, values: Sequence[int]) -> Constant:
        """Several such numbers, one per entry."""
        key = tuple(map(int, values))
        return self.number(key[0]) if len(set(key)) == 1 else self.make(key, "number", key=key)

    @property
    def vectors(self) -> dict[str, Integers]:
        """The vectors that were stored, by name of the initializer."""
        made = self._made.values()
        return {c.key[0]: c.value for c in made if c.operation == "stored" and c.value.ndim == 1}

    def stored(self, name: str, array: npt.NDArray[Any], bits: int, *how: str) -> Constant:
        """An array that a device stores, under the name of its initializer."""
        signed = array.astype(np.int64)
        if "weights" in how:
            signed = signed.T
        return self.make(signed, "stored", key=(name, _Array(array), bits, *how))

    def arithmetic(self, operation: str, left: Constant, right: Constant) -> Constant:
        """Sum, difference or product."""
        left, right = self._alike(left, right)
        if (members := self._members_of(left, right)) is not None:
            return self.spread(self.arithmetic(operation, *members))
        if operation == left.operation == "Add":
            vector, added = left.operands
            if added.operation == right.operation == "spread":
                return self.arithmetic("Add", vector, self.arithmetic("Add", added, right))
        value = np.asarray(_ARITHMETIC[operation](left.value, right.value))
        opened = left.opened or right.opened
        if not (value.any() or opened or left._held or right._held):
            return self.number(0)
        if left.operation == right.operation == "number" and value.ndim == 0:
            return self.number(int(value))
        if operation in ("Add", "Sub") and right.idle(0) and left.value.shape == value.shape:
            return left
        if operation == "Add" and left.idle(0) and right.value.shape == value.shape:
            return right
        for one, other in ((left, right), (right, left)):
            if operation == "Mul" and one.idle(1) and other.value.shape == value.shape:
                return other
        return self.make(value, operation, (left, right), sizes=left.sizes or right.sizes)

    @staticmethod
    def _members_of(left: Constant, right: Constant) -> tuple[Constant, Constant] | None:
        """The members of both, if both are spread alike or one is a number for all; else None."""
        spread = [one for one in (left, right) if one.operation == "spread"]
        if not spread or any(one.key != spread[0].key for one in spread):
            return None
        if len(spread) == 1 and any(one.value.ndim for one in (left, right) if one not in spread):
            return None
        one, other = (o.operands[0] if o.operation == "spread" else o for o in (left, right))
        return one, other

    def _alike(self, left: Constant, right: Constant) -> tuple[Constant, Constant]:
        """Both constants, spread over the columns if their shapes do not match otherwise."""
        if left.sizes and right.value.ndim and left.sizes != right.sizes:
            left = self.spread(left)
        if right.sizes and left.value.ndim and left.sizes != right.sizes:
            right = self.spread(right)
        return left, right

    def negated(self, constant: Constant) -> Constant | None:
        """The operand of a constant that is computed as -1 times another one; else None."""
        if constant.operation == "Mul":
            value, factor = constant.operands
            if factor.operation == "number" and factor.all(-1) and not factor.value.ndim:
                return value
        return None

    def power(self, exponent: Constant) -> Constant:
        """2**exponent."""
        if exponent.operation == "number" and not exponent.value.ndim:
            return self.number(1 << int(exponent.value))
        return self.make(1 << exponent.value, "power", (exponent,), sizes=exponent.sizes)

    def half(self, power: Constant) -> Constant:
        """Half of a power of two, 0 for 1."""
        if power.operation == "number" and not power.value.ndim:
            return self.number(int(power.value) >> 1)
        return self.make(power.value >> 1, "half", (power,), sizes=power.sizes)

    def floor(self, value: Constant, power: Constant) -> Constant:
        """Floor of value / power, for values that are not negative."""
        if value.value.min() < 0:
            raise ValueError("a constant that is shifted must not be negative")
        value, power = self._alike(value, power)
        found = value.value // power.value
        if value.operation == power.operation == "number" and not found.ndim:
            return self.number(int(found))
        return self.make(found, "floor", (value, power), sizes=value.sizes or power.sizes)

    def clip(self, value: Constant, low: Constant, high: Constant) -> Constant:
        """Value limited to low .. high."""
        found = np.clip(value.value, low.value, high.value)
        return self.make(found, "clip", (value, low, high))

    def int32(self, stored: Constant) -> Constant:
        """Stored bytes, widened."""
        return self.make(stored.value, "int32", (stored,))

    def narrow(self, constant: Constant) -> Constant:
        """A computed number as a byte."""
        return self.make(constant.value, "narrow", (constant,))

    def byte(self, vector: Constant, place: int) -> Constant:
        """One of stored bytes, not widened."""
        return self.make(vector.value[place], "byte", (vector,), (place,))

    def entry(self, table: Constant, place: int) -> Constant:
        """One entry of a table."""
        return self.make(table.value[place], "entry", (table,), (place,))

    def scalar(self, constant: Constant) -> Constant:
        """One number, with shape () in the graph too."""
        if constant.operation == "number":
            return constant
        return self.make(constant.value, "scalar", (constant,))

    def extended(self, table: Constant, first: int, size: int) -> Constant:
        """A table of `size` entries from index `first` on, which repeats its end entries."""
        last = table.value.size - 1
        ends = [self.number(n) for n in (first, first + size, 1)]
        own = (id(table),) if self.alike else ()  # another layer's tables begin elsewhere
        places = self.make(np.arange(first, first + size), "range", ends, own)
        limited = self.clip(places, self.number(0), self.number(last))
        if table.operation == "int32":
            return self.int32(self._entries(table.operands[0], limited))
        return self._entries(table, limited)

    def _entries(self, table: Constant, places: Constant) -> Constant:
        return self.make(table.value[places.value], "entries", (table, places))

    def pick(self, vector: Constant, place: int) -> Constant:
        """One entry."""
        if vector.operation == "number":
            return self.number(int(vector.value[place] if vector.value.ndim else vector.value))
        if vector.value.size == 1:
            return self.make(vector.value.reshape(()), "same", (vector,))
        return self.make(vector.value[place], "pick", (vector,), (place,))

    def members(self, vector: Constant, places: Sequence[int], sizes: tuple[int, ...]) -> Constant:
        """Entries of a vector, one for every member."""
        if len(places) == 1 or len(set(places)) == 1:
            return self.pick(vector, places[0])
        value = vector.value[list(places)] if vector.value.ndim else vector.value
        if vector.operation == "number" and len(set(value.ravel().tolist())) == 1:
            return self.number(int(value.flat[0]))
        return self.make(value, "members", (vector,), tuple(places), sizes)

    def part(self, vector: Constant, sizes: tuple[int, ...], index: int, axis: int) -> Constant:
        """A part of the columns of a vector, or of the first axis of weights."""
        if len(sizes) == 1:
            return vector
        stop = sum(sizes[: index + 1])
        place = slice(stop - sizes[index], stop)
        value = vector.value[place] if axis == 0 else vector.value[..., place]
        return self.make(value, "part", (vector,), (sizes, index, axis))

    def concatenate(self, parts: Sequence[Constant]) -> Constant:
        """Side by side along the last axis; stored arrays of one type before they are widened."""
        if len(parts) == 1:
            return parts[0]
        if not self.alike and all(part.operation == "int32" for part in parts):
            narrow = [part.operands[0] for part in parts]
            if len({_element(part) for part in narrow}) == 1:
                return self.int32(self.concatenate(narrow))
        return self.make(np.concatenate([p.value for p in parts], axis=-1), "concatenate", parts)

    def spread(self, constant: Constant) -> Constant:
        """One number per column, from one per member."""
        if not constant.sizes:
            return constant
        if (one := self.uniform(constant)) is not None:
            return one
        if not constant.written and (value := self.negated(constant)) is not None:
            return self.make(-value.columns, "negative", (self.spread(value),))
        if constant.written and len(set(constant.sizes)) > 1:
            constant = self._even(constant)
        return self.make(constant.columns, "spread", (constant,), constant.sizes)

    def _even(self, constant: Constant) -> Constant:
        """Members of equal sizes, if there are at most `MEMBERS` of them."""
        size = math.gcd(*constant.sizes)
        counts = [columns // size for columns in constant.sizes]
        if sum(counts) > MEMBERS:
            return constant
        places = np.repeat(np.arange(len(counts)), counts).tolist()
        members = [self.member(constant, place) for place in places]
        return self.make(constant.value[places], "gathered", members, sizes=(size,) * len(members))

    def uniform(self, constant: Constant) -> Constant | None:
        """One number, if it is the same for all members, computed from those of one member."""
        if not constant.sizes:
            return constant if not constant.value.ndim else None
        if constant.opened or not constant.all(int(constant.value.flat[0])):
            return None
        if constant.operation == "members":
            return self.pick(constant.operands[0], constant.key[0])
        if constant.operation == "number":
            return self.number(int(constant.value.flat[0]))
        if constant.operation == "gathered":
            return constant.operands[0]
        operands = [self.uniform(operand) for operand in constant.operands]
        known = [operand for operand in operands if operand is not None]
        if len(known) < len(operands) or not operands:
            return None
        value = constant.value.flat[0]
        return self.make(value, constant.operation, known, constant.key)

    def member(self, constant: Constant, place: int) -> Constant:
        """The number of one member of a constant."""
        if not constant.sizes:
            return constant
        match constant.operation:
            case "number":
                return self.number(int(constant.value[place]))
            case "members":
                return self.pick(constant.operands[0], constant.key[place])
            case "gathered":
                return constant.operands[place]
        operands = [self.member(operand, place) for operand in constant.operands]
        return self.make(constant.value[place], constant.operation, operands, constant.key)

    def tables(self, tables: Sequence[Constant], sizes: tuple[int, ...]) -> Constant:
        """Tables of operators that are computed side by side."""
        return self.make(0, "tables", tables, sizes=sizes)

    def wide(self, constant: Constant, sizes: tuple[int, ...]) -> Constant:
        """One number per column, from one for all or one per member."""
        if constant.value.ndim:
            found = self.spread(constant)
            if found.value.ndim:
                return found
            return self.wide(found, (constant.columns.size,))
        return self.make(np.repeat(constant.value, sum(sizes)), "wide", (constant,), (sum(sizes),))

    def pack(self, constants: Sequence[Constant], sizes: tuple[int, ...]) -> Constant:
        """Constants of operators that are computed side by side as one constant with members."""
        first = constants[0]
        if all(one is first for one in constants) and not first.value.ndim:
            return first
        same = {(one.operation, len(one.operands)) for one in constants}
        if not any(one.value.ndim for one in constants):
            if same == {("number", 0)}:
                values = tuple(int(one.value) for one in constants)
                return self.make(values, "number", key=values, sizes=sizes)
            sources = {id(one.operands[0]) for one in constants if one.operands}
            if same == {("pick", 1)} and len(sources) == 1:
                return self.members(first.operands[0], [one.key[0] for one in constants], sizes)
        if all(one.written for one in constants):
            return self._side_by_side(constants, sizes)
        if same == {("spread", 1)}:
            return self.spread(self.pack([one.operands[0] for one in constants], sizes))
        if len(same) == 1 and (first.operation in _ARITHMETIC or first.operation in _EACH):
            columns = zip(*(one.operands for one in constants), strict=True)
            packed = [self.pack(column, sizes) for column in columns]
            if first.operation == "floor":
                return self.floor(packed[0], packed[1])
            if first.operation in _ARITHMETIC:
                return self.arithmetic(first.operation, packed[0], packed[1])
            return self.power(packed[0]) if first.operation == "power" else self.half(packed[0])
        if any(one.sizes for one in constants):
            return self._stacked(constants, sizes)
        if not any(one.value.ndim for one in constants):
            value = np.stack([one.value for one in constants])
            return self.make(value, "gathered", constants, sizes=sizes)
        pairs = zip(constants, sizes, strict=True)
        return self.concatenate([self.wide(one, (size,)) for one, size in pairs])

    def _side_by_side(self, constants: Sequence[Constant], sizes: tuple[int, ...]) -> Constant:
        """Numbers of several operators or groups that the graph stores as they are."""
        pairs = list(zip(constants, sizes, strict=True))
        whole = tuple(n for one, size in pairs for n in (one.sizes or (size,)))
        members = [self.member(o, n) for o in constants for n in range(len(o.sizes) or 1)]
        values = [int(member.value) for member in members]
        if all(member.operation == "number" for member in members):
            return self.make(values, "number", key=tuple(values), sizes=whole)
        return self.make(values, "gathered", members, sizes=whole)

    def _stacked(self, constants: Sequence[Constant], sizes: tuple[int, ...]) -> Constant:
        """Members of several groups as those of one."""
        pairs = list(zip(constants, sizes, strict=True))
        whole = tuple(n for one, size in pairs for n in (one.sizes or (size,)))
        kinds = {one.operation for one in constants}
        values = [int(n) for one in constants for n in one.value.ravel()]
        if kinds == {"number"}:
            return self.make(values, "number", key=tuple(values), sizes=whole)
        if kinds == {"members"} and len({one.operands for one in constants}) == 1:
            places = [place for one in constants for place in one.key]
            return self.members(constants[0].operands[0], places, whole)
        return self.concatenate([self.wide(one, (size,)) for one, size in pairs])


def _element(narrow: Constant) -> np.dtype[Any]:
    """Element type of a stored array, or of the array that entries are taken from."""
    while narrow.operation != "stored":
        narrow = narrow.operands[0]
    element: np.dtype[Any] = narrow.key[1].array.dtype
    return element


_EACH = ("power", "half", "floor")
_ENTRIES = ("pick", "members", "byte", "entry")
"""Operations that take entries of a vector, by their places in the key."""
_EACH_ENTRY = ("int32", "clip", *_EACH, *_ARITHMETIC)
"""Operations on vectors that are done entry by entry."""


class _Array:
    """An array as a part of a key, compared by its content."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Array) and np.array_equal(self.array, other.array)
