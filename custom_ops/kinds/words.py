"""Words: sums of products with wide codes, held in an upper and a lower word.

A difference q - Z of wide codes is split into bytes, 2^8 u + v with u = floor(q / 2^8) -
floor(Z / 2^8), so that products with multipliers of 15 bits stay below 2^24. The lower word sums
the products of v and the rounding term. It is shifted by 8 bits and added to the upper word, which
sums the products of u. Two floors in a row equal one floor of the whole sum, so that nothing is
rounded in between.
"""

from dataclasses import dataclass
from typing import Generic

from onnxgru.core.integers import BYTE_BITS
from onnxgru.core.primitives import Computing, Shift, Storing, Value


@dataclass(frozen=True)
class LowerWord(Generic[Value]):
    """Parameters of the lower word of a sum.

    Parameters
    ----------
    offset : Value
        Rounding and zero points.
    byte : Shift
        By 8 bits.
    """

    offset: Value
    byte: Shift[Value]


def byte_shift(p: Storing[Value]) -> Shift[Value]:
    """A shift by 8 bits."""
    return p.shift(p.constant(BYTE_BITS))


def split(p: Computing[Value], value: Value, byte: Shift[Value]) -> tuple[Value, Value]:
    """Upper and lower byte of an int32 value; the lower one is 0 .. 255."""
    upper = p.floor_shift(value, byte)
    return upper, p.sub(value, p.mul(upper, byte.power))
