r"""Requantisation of an int32 accumulator in int32 arithmetic, with a proved error bound.

A real ratio m > 0 per channel (the combined scales) maps an accumulator to codes::

    v = clip((acc + 2^(p-1)) >> p, -2^c, 2^c)          p = max(0, k - 15), c = min(k, 15)
    y = (v M + 2^(s-1)) >> s                           M <= 2^15 - 1, 7 <= s <= 30

with floor shifts: round half up. ``2^k`` is the least power of two beyond which every channel
is either saturated or out of reach, so the clip never changes a code; it keeps ``v M`` below
2^30. All channels of an operator share ``k`` and ``s``; each channel has its own ``M``.

For |acc| <= A, where A is the smaller of the proved extreme and the saturation point::

    |y - acc m| <= 1/2 + [p > 0] M 2^-(s+1) + A |m - M 2^-(s+p)|

The last term is at most A 2^-(s+p+1) by rounding of M. Constraints from measured behaviour of
runtimes: a floor shift of int32 values beyond 2^24 is exact everywhere only for s >= 7, so s has
that minimum (a ratio of 2^8 and more saturates at any non-zero accumulator either way), and
p >= 7 is forced where accumulators can exceed 2^24.

Wide results, of 16 bits, need more of the accumulator than 15 bits. They keep 23, and the product
is computed in two words of it, with no rounding between them::

    p = max(0, k - 23), c = min(k, 23)                 w = 8 if c > 15, else 0
    v = 2^w v1 + v0,    0 <= v0 < 2^w
    y = (v1 M + ((v0 M + 2^(s-1)) >> w)) >> (s - w)    = floor((v M + 2^(s-1)) / 2^s)

So the bound is the same, without the middle term where |acc| < 2^23. What is left is the rounding
of M: at most two of 65,536 codes, at the ends of the range. It is an error of the scale, below
2^-15 of the value, and adds no noise. Two words with a longer M would remove it, and were not
built: a step of an 8-bit weight or gate is a hundred times as large. v1 M stays below 2^30, and
v0 M below 2^23. Shifts below 7 are exact here too: where s < 7 + w, the ratio is so large that a
product of 2^24 is far beyond the largest code. p >= 7 is forced only where p > 0: a clip alone is
exact for all int32 values.

Small multipliers have 8 bits, M <= 2^8 - 1, and take one byte of flash instead of two. They serve
where the last term stays within a sixteenth of a code, or the ratio within a tolerance::

    A |m - M 2^-(s+p)| <= 1/16    or     |1 - M 2^-(s+p) / m| <= tolerance

Where a number of up to o codes is added to ``v M`` before the shift, a channel is saturated only
beyond o more codes. The shift is then small enough for the sum to fit int32: o 2^s <= 2^29.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import IntegerType

OPERAND_BITS = 15
"""Bits of the multiplier, and of the clipped accumulator's magnitude."""
SMALL_BITS = 8
"""Bits of a small multiplier."""
LEAST_LOSS = 1 / 16
"""Largest error, in codes, with which small multipliers are always used."""
WORD_BITS = 8
"""Bits of the lower word, where the clipped accumulator has two."""
WIDE_OPERAND_BITS = OPERAND_BITS + WORD_BITS
"""Bits of the clipped accumulator's magnitude where the result has wide codes."""

MINIMUM_SHIFT = 7
MAXIMUM_SHIFT = 30
MOST_CODES = 2**22
"""Of what is added before a shift: with the least shift it fits int32."""
EXACT_IN_FLOAT32 = 2**24
INT32_MAXIMUM = 2**31 - 1

Integers = npt.NDArray[np.int64]
Ratios = npt.NDArray[np.float64]


def multiplier(
    ratios: Ratios, lowest_shift: int, bits: int = OPERAND_BITS, most: int = MAXIMUM_SHIFT
) -> tuple[Integers, int]:
    """Fixed-point multipliers of up to 15 bits and the one shift they share.

    Parameters
    ----------
    ratios : ndarray of float64, shape (N,)
        Positive reals.
    lowest_shift : int
        The least shift allowed. Ratios that are too large for it get the largest multiplier.
    bits : int
        Width of the multipliers.
    most : int
        The largest shift allowed.

    Returns
    -------
    multipliers : ndarray of int64, shape (N,)
        round(ratio * 2**shift), within 1 .. 2**bits - 1.
    shift : int
        `lowest_shift` .. `most`.
    """
    top = 2**bits - 1
    largest = float(ratios.max())
    shift = bits - math.frexp(largest)[1]
    if round(math.ldexp(largest, shift)) > top:
        shift -= 1
    shift = min(max(shift, lowest_shift), most)
    rounded = np.rint(np.ldexp(ratios, shift))
    return np.minimum(np.maximum(rounded, 1), top).astype(np.int64), shift


def signed_multiplier(ratios: Ratios, most: int = MAXIMUM_SHIFT) -> tuple[Integers, int]:
    """Fixed-point multipliers of reals of any sign, of up to 15 bits, and the shift they share.

    Parameters
    ----------
    ratios : ndarray of float64, shape (N,)
        Finite reals.
    most : int
        The largest shift allowed.

    Returns
    -------
    multipliers : ndarray of int64, shape (N,)
        round(ratio * 2**shift), within -(2**15 - 1) .. 2**15 - 1.
    shift : int
        0 .. `most`.
    """
    magnitudes = np.abs(ratios)
    if not magnitudes.any():
        return np.zeros(ratios.shape, np.int64), 0
    shift = min(multiplier(magnitudes, lowest_shift=0)[1], most)
    top = 2**OPERAND_BITS - 1
    return np.clip(np.rint(np.ldexp(ratios, shift)), -top, top).astype(np.int64), shift


@dataclass(frozen=True, eq=False)
class Requantization:
    """Integer parameters of a requantisation.

    Parameters
    ----------
    multipliers : ndarray of int64, shape (N,)
        M, one per channel; N = 1 where all channels have one ratio.
    shift : int
        s.
    reach : int
        k.
    operand_bits : int
        Bits of the clipped accumulator's magnitude: 15, or 23 for wide results.
    small : bool
        Whether the multipliers have 8 bits instead of 15.
    """

    multipliers: Integers
    shift: int
    reach: int
    operand_bits: int = OPERAND_BITS
    small: bool = False

    @property
    def pre_shift(self) -> int:
        """Shift before the multiplication: p."""
        return max(0, self.reach - self.operand_bits)

    @property
    def limit(self) -> int:
        """Power of two that the pre-shifted accumulator is clipped to: c."""
        return min(self.reach, self.operand_bits)

    @property
    def word(self) -> int:
        """Bits of the lower word of the clipped accumulator, 0 where it has one word: w."""
        return WORD_BITS if self.limit > OPERAND_BITS else 0

    @classmethod
    def derive(
        cls,
        ratios: Ratios,
        extremes: Integers,
        bits: int,
        tolerance: float | None = None,
        offsets: Ratios | None = None,
    ) -> "Requantization":
        """Parameters from ratios and ranges of accumulators.

        Parameters
        ----------
        ratios : ndarray of float64, shape (N,)
            m, positive.
        extremes : ndarray of int64, shape (N,)
            Proved largest magnitude of the accumulator.
        bits : int
            Width of the output codes.
        tolerance : float, optional
            Largest relative error of a ratio with which small multipliers are used. Without it, and
            for wide codes, multipliers have 15 bits.
        offsets : ndarray of float64, shape (N,), optional
            Magnitude of what is added before the shift, in codes: below `MOST_CODES`.
        """
        needed, most = cls._needed(ratios, extremes, bits, offsets), MAXIMUM_SHIFT
        if offsets is not None:
            most -= 1 + math.ceil(float(offsets.max())).bit_length()
        reach = max(0, int(needed.max() - 1).bit_length())
        beyond = int(extremes.max()) >= EXACT_IN_FLOAT32
        operand_bits, lowest = OPERAND_BITS, MINIMUM_SHIFT
        if IntegerType(bits).wide:
            operand_bits, lowest = WIDE_OPERAND_BITS, WORD_BITS if reach > OPERAND_BITS else 0
            beyond = beyond and reach > operand_bits  # else it is clipped and not shifted
        if beyond:
            reach = max(reach, operand_bits + MINIMUM_SHIFT)
        shifted = np.ldexp(ratios, max(0, reach - operand_bits))
        if tolerance is not None and operand_bits == OPERAND_BITS:
            small = cls(*multiplier(shifted, lowest, SMALL_BITS, most), reach, small=True)
            off = np.abs(ratios - small._actual)
            if ((off <= tolerance * ratios) | (needed * off <= LEAST_LOSS)).all():
                return small
        return cls(*multiplier(shifted, lowest, most=most), reach, operand_bits)

    @property
    def _actual(self) -> Ratios:
        """Ratios that the multipliers and shifts represent."""
        actual = np.ldexp(self.multipliers.astype(np.float64), -self.shift - self.pre_shift)
        return np.asarray(actual)

    @staticmethod
    def _needed(
        ratios: Ratios, extremes: Integers, bits: int, offsets: Ratios | None = None
    ) -> Integers:
        """A of the module's docstring: the largest magnitude that matters, per channel."""
        codes = 2.0**bits if offsets is None else 2.0**bits + offsets
        saturation = np.ceil(np.minimum(codes / ratios, float(2**31)))
        return np.maximum(1, np.minimum(extremes, saturation.astype(np.int64)))

    def error_bound(
        self, ratios: Ratios, extremes: Integers, bits: int, offsets: Ratios | None = None
    ) -> npt.NDArray[np.float64]:
        """Largest distance of a code from ``acc * ratio``, in codes, where it does not saturate.

        Parameters
        ----------
        ratios, extremes, bits, offsets
            As given to `derive`.

        Returns
        -------
        ndarray of float64, shape (N,)
        """
        actual = self._actual
        bound = 0.5 + self._needed(ratios, extremes, bits, offsets) * np.abs(ratios - actual)
        if self.pre_shift:  # v is off by up to a half
            bound += 0.5 * np.ldexp(actual, self.pre_shift)
        return np.asarray(bound)
