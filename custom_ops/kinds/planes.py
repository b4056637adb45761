"""Planes: weights of 16 bits as two matrices of bytes.

::

    q_W = 2^8 u + v        u = floor((q_W + 2^7) / 2^8)        u in -127 .. 127, v in -128 .. 127

A product with x is computed with both planes, h = sum u x and l = sum v x, each exact, and the
results are combined. Where x has codes of 8 bits, the result is exact::

    acc = 2^8 h + l

Where x has codes of 16 bits, the sum needs more than 32 bits. It is rounded half up to a multiple
of 2^8, so that one unit of the accumulator is 2^8 times a product of two codes::

    acc = h + ((l + 2^7) >> 8)        |2^8 acc - (2^8 h + l)| <= 2^7
"""

from onnxgru.core.integers import BYTE_BITS, WeightCodes
from onnxgru.core.primitives import Computing, Shift, Value

_UNIT = 1 << BYTE_BITS


def planes(codes: WeightCodes) -> tuple[WeightCodes, WeightCodes]:
    """Upper and lower plane, int8, of codes of 16 bits (int16)."""
    upper = (codes.astype("int32") + _UNIT // 2) >> BYTE_BITS
    return upper.astype("int8"), (codes - upper * _UNIT).astype("int8")


def joined(
    p: Computing[Value], product: Value, byte: Shift[Value], count: int, dropped: int
) -> Value:
    """Combine the products of both planes.

    Parameters
    ----------
    p : Computing
        A back end.
    product : Value
        (..., 2 count), int32: of the upper planes, then of the lower ones.
    byte : Shift
        By 8 bits.
    count : int
        Outputs.
    dropped : int
        Bits that the accumulator drops, 0 or 8.
    """
    high, low = p.split(product, (count, count))
    if dropped:
        return p.add(high, p.floor_shift(p.add(low, byte.half), byte))
    return p.add(p.mul(high, byte.power), low)
