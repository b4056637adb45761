"""The vocabulary that integer operators are written in, and that back ends implement.

Values are opaque to the operators: arrays in one back end, graph values in another. Codes are
uint8, or uint16 where they have 16 bits; everything else is int32. All arithmetic is exact:
operators are derived so that no intermediate leaves int32.

There are two halves. `Computing` has the operations of a step, and every back end has it. `Storing`
adds the operations that prepare stored parameters, once before the recurrence. A back end lacks it
if another one prepares its parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import IntegerType

Value = TypeVar("Value")
Other = TypeVar("Other")

WEIGHT_OFFSET = 128
"""Zero point of weights in a product: every runtime computes uint8 x uint8 exactly and fast."""


@dataclass(frozen=True)
class Shift(Generic[Value]):
    """A floor shift by S bits, in all forms that back ends need.

    Parameters
    ----------
    power : Value
        2**S.
    mask : Value
        2**S - 1.
    half : Value
        Half of the power, or 0 for a power of 1: the rounding term.
    """

    power: Value
    mask: Value
    half: Value


@dataclass(frozen=True)
class Finish(Generic[Value]):
    """The last part of a requantisation: shift, add the zero point, saturate.

    Parameters
    ----------
    shift : Shift
        By S bits.
    zero_point : Value
        Z of the result.
    zero, top : Value
        Smallest and largest code.
    """

    shift: Shift[Value]
    zero_point: Value
    zero: Value
    top: Value


@dataclass(frozen=True)
class Clip(Generic[Value]):
    """The first part of a requantisation: a rounded pre-shift and a limit.

    Parameters
    ----------
    shift : Shift
        By p bits.
    low, high : Value
        -2**c and 2**c.
    """

    shift: Shift[Value]
    low: Value
    high: Value


@dataclass(frozen=True)
class Words(Generic[Value]):
    """Shifts of a product of two words, see `onnxgru.core.fixedpoint`.

    Parameters
    ----------
    low : Shift
        By w bits.
    high : Shift
        By the rest of the whole shift, s - w bits.
    """

    low: Shift[Value]
    high: Shift[Value]


@dataclass(frozen=True)
class Prepared(Generic[Value]):
    """Parameters that a stage has prepared for an operator.

    Parameters
    ----------
    multipliers : tuple of Value
        As the operator's `multiplier_runs` ask for them.
    zero_points : tuple of Value
        Of its operands, int32.
    finish : Finish, optional
        For its results, where it has any.
    clip : Clip, optional
        For its results, where one needs it.
    words : Words, optional
        For its results, where they have wide codes.
    units : Value, optional
        Powers of two by which its stored biases are multiplied, where they are not 1.
    """

    multipliers: tuple[Value, ...]
    zero_points: tuple[Value, ...]
    finish: Finish[Value] | None = None
    clip: Clip[Value] | None = None
    words: Words[Value] | None = None
    units: Value | None = None

    @property
    def result(self) -> Finish[Value]:
        """`finish` of an operator that has results."""
        if self.finish is None:
            raise ValueError("the operator has no result that is requantised")
        return self.finish


class Computing(Protocol[Value]):
    """Operations of a step, in one back end."""

    general: bool
    """Whether the result must serve every scheme. If so, no operation is left out because its
    numbers have no effect."""

    def split(self, value: Value, sizes: Sequence[int]) -> Sequence[Value]:
        """Parts along the last axis, of the given sizes."""

    def widen(self, value: Value) -> Value:
        """Codes as int32."""

    def narrow(self, value: Value, kind: IntegerType) -> Value:
        """int32 values within the codes of a type, in its container."""

    def matmul(self, codes: Value, zero_point: Value, weights: Value) -> Value:
        """(codes - zero_point) @ (weights - 128): (..., I) x (I, N) -> (..., N), int32.

        Sums must stay below 2**24 in magnitude: OpenVINO computes them in float32.
        """

    def matmul_words(self, codes: Value, zero_points: Sequence[Value], weights: Value) -> Value:
        """The same for wide codes: 256 times the upper bytes' product, plus the lower bytes'.

        Zero points are the upper and the lower byte; sums of each product stay below 2**24.
        """

    def joined(self, product: Value, byte: Shift[Value], count: int, dropped: int) -> Value:
        """Combined products of both planes of 16-bit weights: (..., 2 count) -> (..., count)."""

    def add(self, left: Value, right: Value) -> Value:
        """Sum, int32."""

    def sub(self, left: Value, right: Value) -> Value:
        """Difference, int32."""

    def mul(self, left: Value, right: Value) -> Value:
        """Product, int32."""

    def floor_shift(self, value: Value, shift: Shift[Value]) -> Value:
        """Floor of value / 2**S, an arithmetic shift to the right."""

    def clip(self, value: Value, low: Value, high: Value) -> Value:
        """Value limited to low .. high, whose magnitudes are at most 2**24."""

    def gather(self, table: Value, codes: Value) -> Value:
        """Entry of the table (2**b,) at every code, uint8."""

    def pick(self, numbers: Value, index: Value) -> Value:
        """Number of (N,) at every index, int32."""


class Storing(Computing[Value], Protocol[Value]):
    """Operations that prepare stored parameters, in one back end."""

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Value:
        """Stored weights (outputs, inputs) of `bits`, as uint8 (inputs, outputs) + 128."""

    def biases(self, name: str, values: npt.NDArray[np.signedinteger[Any]]) -> Value:
        """Stored biases (N,) of int8, int16 or int32, as int32."""

    def table(self, name: str, entries: npt.NDArray[np.uint8]) -> Value:
        """Stored table (2**b,) of codes, uint8."""

    def bytes(self, name: str, values: npt.NDArray[np.uint8]) -> Value:
        """Stored bytes (N,), as int32."""

    def byte(self, name: str, values: npt.NDArray[np.uint8], position: int) -> Value:
        """One of stored bytes, uint8, shape ()."""

    def words(self, name: str, values: npt.NDArray[np.int16 | np.uint16]) -> Value:
        """Stored numbers of two bytes (N,), with a sign or without, as int32."""

    def constant(self, value: int) -> Value:
        """A number that is part of the arithmetic and not stored: int32, shape ()."""

    def numbers(self, values: Sequence[int]) -> Value:
        """Several such numbers: int32, shape (N,)."""

    def concatenate(self, values: Sequence[Value]) -> Value:
        """Side by side along the last axis."""

    def columns(self, values: Value, positions: Sequence[int], count: int) -> Value:
        """values[positions], each repeated `count` times: (len(positions) * count,)."""

    def power(self, exponent: Value) -> Value:
        """2**exponent, int32; exponents are 0 .. 30."""

    def shift(self, exponent: Value) -> Shift[Value]:
        """A floor shift by `exponent` bits."""

    def rows(self, value: Value, sizes: Sequence[int]) -> Sequence[Value]:
        """Parts along the first axis, of the given sizes."""


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    """Names of the fields of a class of records; none of other classes."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(one.name for one in fields(kind)) if is_dataclass(kind) else ()
    return _NAMES[kind]


def leaves(record: Any, path: str = "") -> list[tuple[str, Any]]:
    """Values of a record of parameters with their paths, such as ``finish.shift.mask``.

    Parameters
    ----------
    record : object
        A frozen dataclass of values, records and tuples of these; None is left out.
    path : str
        Path of the record itself.
    """
    if record is None:
        return []
    if names := _names(type(record)):
        parts = [(name, getattr(record, name)) for name in names]
    elif isinstance(record, tuple):
        parts = [(str(index), part) for index, part in enumerate(record)]
    else:
        return [(path, record)]
    return [leaf for name, part in parts for leaf in leaves(part, _below(path, name))]


def mapped(record: Any, change: Callable[[str, Any], Any], path: str = "") -> Any:
    """A record of the same structure whose values are ``change(path, value)``."""
    if record is None:
        return None
    kind = type(record)
    if names := _names(kind):
        return kind(*(mapped(getattr(record, n), change, _below(path, n)) for n in names))
    if kind is tuple:
        return tuple(mapped(p, change, _below(path, str(i))) for i, p in enumerate(record))
    return change(path, record)


def taken(record: Any, path: str) -> Any:
    """The value of a record at a path."""
    return _getter(path)(record)


@cache
def _getter(path: str) -> Callable[[Any], Any]:
    names = path.split(".")
    if not any(name.isdigit() for name in names):
        return attrgetter(path)

    def get(record: Any) -> Any:
        for name in names:
            record = record[int(name)] if name.isdigit() else getattr(record, name)
        return record

    return get


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
