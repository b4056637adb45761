"""Integer types and affine quantisation as value objects: nobody else computes ``2**b - 1``.

An affine quantisation maps a real number to an integer code and back::

    q = clip(round(x * (1 / s)) + z, 0, 2**b - 1)        x = s * (q - z)

with scale ``s`` (a float32 value), zero point ``z`` and width ``b``. Rounding is half to even,
as in ONNX QuantizeLinear. Codes of weights have no zero point, see `WeightType`.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxgru.core.choices import MAXIMUM_BITS, MINIMUM_BITS, WIDE_BITS
from onnxgru.core.errors import UsageError

BYTE_BITS = 8
"""Width of the bytes that wide codes are split into."""
BYTE = (1 << BYTE_BITS) - 1

TINY = float(np.finfo(np.float32).tiny)

Codes = npt.NDArray[np.unsignedinteger[Any]]
"""uint8 up to 8 bits, uint16 for 16: the container of their `IntegerType`."""
WeightCodes = npt.NDArray[np.signedinteger[Any]]
"""int8 up to 8 bits, int16 for 16: the container of their `WeightType`."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, order=True)
class Width:
    """Bits of an integer.

    Parameters
    ----------
    bits : int
        2 to 8, or 16 where the type has wide codes.

    Raises
    ------
    UsageError
        If the width is not supported.
    """

    bits: int
    widest: ClassVar[int] = MAXIMUM_BITS
    called: ClassVar[str] = "a bit-width"

    def __post_init__(self) -> None:
        whole = type(self.bits) is int
        if whole and (MINIMUM_BITS <= self.bits <= MAXIMUM_BITS or self.bits == self.widest):
            return
        more = "" if self.widest == MAXIMUM_BITS else f", or {self.widest}"
        raise UsageError(
            f"{self.called} must be a whole number from {MINIMUM_BITS} to {MAXIMUM_BITS}{more}, "
            f"got {self.bits!r}"
        )

    @property
    def wide(self) -> bool:
        """Whether a code needs two bytes."""
        return self.bits > MAXIMUM_BITS

    def size(self, elements: int) -> int:
        """Bytes of `elements` codes packed at their true width, the last byte padded."""
        return (elements * self.bits + 7) // 8


class IntegerType(Width):
    """Codes of activations: unsigned, 0 and up."""

    widest = WIDE_BITS

    @property
    def container(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Type of arrays that hold the codes: uint8, or uint16 for wide ones."""
        return np.dtype(np.uint16 if self.wide else np.uint8)

    @property
    def maximum(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    @property
    def levels(self) -> int:
        """Number of codes: the length of a table over them."""
        return 1 << self.bits

    @property
    def middle(self) -> int:
        """Code halfway up, 2**(b - 1)."""
        return 1 << self.bits - 1


class WeightType(Width):
    """Codes of weights: signed, symmetric about zero.

    The most negative code of two's complement is left out: 3 bits hold -3 .. 3. Of 2 bits that
    would leave three levels of four, and 2 dB less of a normal distribution's signal to noise (Max
    1960, "Quantizing for minimum distortion"), so they hold the odd codes -3, -1, 1 and 3 and no
    zero, as a mid-rise quantiser has.

    16 bits hold -32639 .. 32639. Such a code is 2^8 u + v with u in -127 .. 127 and v in
    -128 .. 127, so that both are weights of 8 bits in a product.
    """

    widest = WIDE_BITS
    called = "weight_bits"

    @property
    def container(self) -> np.dtype[np.signedinteger[Any]]:
        """Type of arrays that hold the codes: int8, or int16 for wide ones."""
        return np.dtype(np.int16 if self.wide else np.int8)

    @property
    def spacing(self) -> int:
        """Difference of neighbouring codes."""
        return 2 if self.bits == MINIMUM_BITS else 1

    @property
    def maximum(self) -> int:
        """Largest code; the smallest is its negative."""
        if self.wide:
            return (1 << self.bits - 1) - 1 - (1 << BYTE_BITS - 1)
        return (self.spacing << self.bits - 1) - 1

    @property
    def rounding(self) -> float:
        """Largest rounding error of a weight, half a step, as a share of the largest weight."""
        return 0.5 * self.spacing / self.maximum

    def nearest(self, ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Codes nearest to weights over their scale, as float64; 0 becomes 1 at 2 bits."""
        offset = self.spacing - 1
        codes = np.rint((ratios - offset) / self.spacing) * self.spacing + offset
        return np.asarray(np.clip(codes, -self.maximum, self.maximum), np.float64)


def narrowest(values: npt.NDArray[np.signedinteger[Any]]) -> np.dtype[np.signedinteger[Any]]:
    """The narrowest of int8, int16 and int32 that holds all of some numbers.

    Parameters
    ----------
    values : ndarray of int32 or int64
        At least one.
    """
    low, high = int(values.min()), int(values.max())
    for kind in (np.int8, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.int32)


@dataclass(frozen=True)
class Quantization:
    """Affine quantisation of a tensor with one scale: real value = scale * (code - zero_point).

    Parameters
    ----------
    scale : float
        Positive and exactly representable in float32.
    zero_point : int
        Code of 0.0, within the codes of `bits`.
    bits : int
        Width of the unsigned codes, 2 to 8, or 16.
    """

    scale: float
    zero_point: int
    bits: int

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise UsageError(f"a scale must be a positive number, got {self.scale!r}")
        if float(np.float32(self.scale)) != self.scale:
            raise UsageError(f"a scale must be a float32 value, got {self.scale!r}")
        if not 0 <= self.zero_point <= self.type.maximum:
            raise UsageError(
                f"a zero point must lie in 0..{self.type.maximum}, got {self.zero_point!r}"
            )

    @property
    def type(self) -> IntegerType:
        """The unsigned integer type of the codes."""
        return IntegerType(self.bits)

    @property
    def zero(self) -> np.unsignedinteger[Any]:
        """The zero point as a code: uint8, or uint16 where codes are wide."""
        found: np.unsignedinteger[Any] = self.type.container.type(self.zero_point)
        return found

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value that has a code."""
        return (
            -self.zero_point * self.scale,
            (self.type.maximum - self.zero_point) * self.scale,
        )

    @property
    def reciprocal(self) -> float:
        """1 / scale rounded to float32, by which values are multiplied to quantise them.

        A product is the same in every runtime; OpenVINO's quotient may differ in the last place.
        """
        return float(np.float32(1.0) / np.float32(self.scale))

    @classmethod
    def of_range(cls, low: float, high: float, bits: int) -> "Quantization":
        """Quantisation whose codes span ``[low, high]``, widened so that 0.0 has a code.

        Parameters
        ----------
        low, high : float
            Finite bounds, low <= high. An empty range, [0, 0], gets the scale 1.
        bits : int
            Width, 2 to 8, or 16.
        """
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        top = IntegerType(bits).maximum
        scale = float(np.float32((high - low) / top))
        if scale < TINY:  # a dead or subnormal range: any scale will do
            return cls(1.0, 0, bits)
        return cls(scale, min(max(round(-low / scale), 0), top), bits)

    def quantize(self, values: npt.NDArray[np.floating]) -> Codes:
        """Codes of real values, computed in float32 as the emitted graph does."""
        scaled = np.multiply(values, np.float32(self.reciprocal), dtype=np.float32)
        codes = np.rint(scaled) + np.float32(self.zero_point)
        limited: Codes = np.clip(codes, 0, self.type.maximum).astype(self.type.container)
        return limited

    def dequantize(self, codes: Codes) -> Floats:
        """Real values (float32) of codes."""
        steps = codes.astype(np.int32) - np.int32(self.zero_point)
        return steps.astype(np.float32) * np.float32(self.scale)
