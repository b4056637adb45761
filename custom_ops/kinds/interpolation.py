"""Interpolation: y = f(x) for wide codes, as a table with straight lines between its entries.

A table of all codes would have 2^16 entries. This one has 2^n + 2, for segments of 2^g codes::

    u = clip(q_x - L, 0, (2^n + 1) 2^g - 1)      j = u >> g,  r = u - 2^g j
    q_y = (2^g T[j] + r (T[j+1] - T[j]) + 2^(F+g-1)) >> (F + g)
    T[j] = clip(round(2^F (f(S_x (L + 2^g j - Z_x)) / S_y + Z_y)), 0, 2^F (2^b_y - 1))

where entries have F = 16 - b_y fractional bits. n is 8, or 9 for wide results. L and the least g
are chosen so that the function stays within a 16th of a code of its end values outside the table.
L - Z_x is a multiple of 2^g, so that a bend at zero, as Relu has one, is an entry. All values are
below 2^24 and not negative. With h = 2^g S_x, and t the value before rounding to a code::

    |q_y - t| <= 1/2 + 2^-(F+1) + max(1/16, h^2 / 8 max|f''| / S_y)

where f is smooth. At a bend inside a segment, h / 4 |jump of f'| / S_y takes the place of the last
term. For tanh, sigmoid and other functions that level off, the last term is at most a 16th of a
code for results of 8 bits, and below 6 of 65,536 codes for wide ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic

import numpy as np
import numpy.typing as npt

from onnxgru.core.activations import Activation, Reals
from onnxgru.core.choices import WIDE_BITS
from onnxgru.core.flash import FlashItem
from onnxgru.core.integers import IntegerType, Quantization
from onnxgru.core.network import LookupOperator
from onnxgru.core.primitives import Computing, Prepared, Shift, Storing, Value
from onnxgru.core.program import Boundary
from onnxgru.custom_ops.kinds.single import Looked

FLAT = 1 / 16
"""Largest change of the function outside the table, in codes."""

ORIGIN_BYTES = 3
"""Bytes of the start of a table and of the length of its segments."""

SEGMENTS, WIDE_SEGMENTS = 2**8, 2**9
"""2^n for narrow and for wide results."""


def table_bytes(bits: int) -> int:
    """Bytes of the table of a function with results in bytes, by the width of what it reads."""
    return 2 * (SEGMENTS + 2) + ORIGIN_BYTES if IntegerType(bits).wide else 1 << bits


@dataclass(frozen=True, eq=False)
class Curve:
    """A table whose entries are joined by lines.

    Parameters
    ----------
    start : int
        L, above -2^g.
    segment : int
        g.
    entries : ndarray of uint16, shape (2^n + 2,)
        T.
    """

    start: int
    segment: int
    entries: npt.NDArray[np.uint16]


def exact(function: Activation, codes: Reals, operand: Quantization, result: Quantization) -> Reals:
    """Values of the function at codes, in unrounded codes of the result."""
    x = (codes - operand.zero_point) * operand.scale
    found = function(x) / result.scale + result.zero_point
    return np.asarray(np.clip(found, 0, result.type.maximum))


@lru_cache(maxsize=256)
def curve(function: Activation, operand: Quantization, result: Quantization) -> Curve:
    """The table of a function between two quantisations."""
    levels = operand.type.levels
    values = exact(function, np.arange(levels, dtype=np.float64), operand, result)
    moved = [np.abs(values - end) > FLAT for end in (values[0], values[-1])]
    first = int(moved[0].argmax()) - 1 if moved[0].any() else 0
    last = levels - int(moved[1][::-1].argmax()) if moved[1].any() else 0
    segments = WIDE_SEGMENTS if result.type.wide else SEGMENTS
    segment = max(0, (max(1, last - first) - 1).bit_length() - (segments - 1).bit_length())
    step = 1 << segment
    start = first - (first - operand.zero_point) % step
    nodes = start + step * np.arange(segments + 2, dtype=np.float64)
    behind = 2.0 ** (WIDE_BITS - result.bits)
    entries = np.rint(exact(function, nodes, operand, result) * behind)
    return Curve(start, segment, entries.astype(np.uint16))


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Interpolation.compute` takes.

    Parameters
    ----------
    offset, top : Value
        -L, and the largest u.
    segment, finish : Shift
        By g, and by F + g.
    zero, one : Value
        0 and 1.
    curve : Value
        T.
    """

    offset: Value
    top: Value
    segment: Shift[Value]
    finish: Shift[Value]
    zero: Value
    one: Value
    curve: Value


@dataclass(frozen=True, eq=False)
class Interpolation(Looked):
    """A function of one wide code.

    Parameters
    ----------
    name, operands, inputs, channels, result
        See `onnxgru.custom_ops.kinds.single.Looked`.
    curve : Curve
        The table.
    """

    curve: Curve

    @classmethod
    def derive(
        cls,
        operator: LookupOperator,
        inputs: tuple[str, ...],
        operands: tuple[Boundary, ...],
        result: Boundary,
    ) -> "Interpolation":
        """Table of the operator's function between two quantisations."""
        made = curve(operator.function, operands[0].quantization, result.quantization)
        return cls(operator.name, operands, inputs, operator.width, result.quantization, made)

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """The table, its first value, and the length of a segment."""
        p, made = primitives, self.curve
        size = p.bytes(f"{self.name}/segment", np.asarray([made.segment], np.uint8))
        segment = p.shift(size)
        origin = p.words(f"{self.name}/origin", self._origin)
        offset = p.sub(segment.power, origin)
        top = p.sub(p.mul(p.constant(made.entries.size - 1), segment.power), p.constant(1))
        finish = p.shift(p.add(size, p.constant(WIDE_BITS - self.result.bits)))
        entries = p.words(f"{self.name}/table", made.entries)
        return Parameters(offset, top, segment, finish, p.constant(0), p.constant(1), entries)

    @property
    def _origin(self) -> npt.NDArray[np.uint16]:
        """L + 2^g, which is not negative."""
        return np.asarray([self.curve.start + (1 << self.curve.segment)], np.uint16)

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of the function, of the operand's shape."""
        p, segment = primitives, parameters.segment
        place = p.add(p.widen(operands[0]), parameters.offset)
        place = p.clip(place, parameters.zero, parameters.top)
        index = p.floor_shift(place, segment)
        rest = p.sub(place, p.mul(index, segment.power))
        left = p.pick(parameters.curve, index)
        right = p.pick(parameters.curve, p.add(index, parameters.one))
        total = p.add(p.mul(left, segment.power), p.mul(rest, p.sub(right, left)))
        found = p.floor_shift(p.add(total, parameters.finish.half), parameters.finish)
        return (p.narrow(found, self.result.type),)

    def flash(self) -> Iterator[FlashItem]:
        """Two bytes per entry, two for the origin and one for the segment."""
        yield FlashItem(f"{self.name}/table", "table", self.curve.entries.nbytes)
        yield FlashItem(f"{self.name}/origin", "table", self._origin.nbytes)
        yield FlashItem(f"{self.name}/segment", "table", 1)
