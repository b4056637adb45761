"""Biases of linear operators in few bytes.

They are stored in the narrowest of int8, int16 and int32 that holds all of an operator's, as
multiples of 2^e. Where weights or results have at most 4 bits, it is the narrowest that holds them
within a 16th of a code. Their unit is then the least with which they fit, so that nothing is lost
where they fit anyway (e = 0)::

    2^(e-1) S_x S_W,j / S_y <= 1/16

Where a product has one input, a channel has one weight, and its scale is that weight's magnitude.
Scales of channels differ by factors of hundreds then, and the biases of some channels are large
numbers in the accumulator's unit. So there biases are added after the multiplication, and their
unit is a part of the result's code, the same for all channels. At wider widths they may lose a
64th of a code. Codes, weights and results must be bytes.
"""

import math

import numpy as np
import numpy.typing as npt

from onnxgru.core.fixedpoint import MAXIMUM_SHIFT
from onnxgru.core.integers import narrowest

LOSS = 1 / 16
"""Codes that a bias may lose to be stored in fewer bytes, at narrow widths."""

SLIGHT_LOSS = 1 / 64
"""The same of biases that are added after the multiplication, at wider widths."""

NARROW = 4
"""Bits of narrow weights and results."""


def stored(
    exact: npt.NDArray[np.float64], ratios: npt.NDArray[np.float64], loss: float
) -> tuple[npt.NDArray[np.int64], int]:
    """Biases of an operator in the accumulator's units, and e.

    Parameters
    ----------
    exact : ndarray of float64, shape (outputs,)
        Biases before rounding.
    ratios : ndarray of float64, shape (outputs,)
        Codes of the result per unit of the accumulator.
    loss : float
        Codes that a bias may lose.
    """

    def codes(exponent: int) -> npt.NDArray[np.int64]:
        return np.rint(np.ldexp(exact, -exponent)).astype(np.int64)

    most = math.frexp(2 * loss / float(ratios.max()))[1] - 1
    most = min(max(most, 0), MAXIMUM_SHIFT)
    least = narrowest(codes(most))
    exponent = next(e for e in range(most + 1) if narrowest(codes(e)) == least)
    return codes(exponent) << exponent, exponent
