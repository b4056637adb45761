"""Ranges on the grid of a sum: operands whose scale is the sum's, or a whole multiple of it.

Codes of such scales are added without rounding. Where the sum is a recurrent state, what is
rounded away comes back at every step, so that this matters: of three roundings a step (both
products, and their sum) two remain, and none of them moves a state that should stand, as scales of
nearly the same size do.
"""

import math

import numpy as np

from onnxgru.core.integers import Quantization

LARGEST = float(np.finfo(np.float32).max)
CUT = 0.125
"""Of the sum's scale: by so much an operand's may shrink to a multiple, and with it its range."""
TOLERANCE = 1e-6
"""Of a multiple, because scales are float32."""


def aligned(observed: Quantization, total: Quantization) -> Quantization:
    """Quantisation of an operand on the grid of the sum that it is added to.

    Parameters
    ----------
    observed : Quantization
        What an observer chose.
    total : Quantization
        Of the sum.

    Returns
    -------
    Quantization
        With the width and zero point of `observed`, and the least multiple of the sum's scale that
        keeps its range; `observed` itself where it is the finer one and has more bits, so that the
        sum has to be rounded anyway, or where float32 has no such scale.
    """
    ratio = observed.scale / total.scale
    scale = max(1, math.ceil(ratio - CUT)) * total.scale
    if (ratio < 1 and observed.bits > total.bits) or scale > LARGEST:
        return observed
    return Quantization(float(np.float32(scale)), observed.zero_point, observed.bits)


def is_aligned(scale: float, total: float) -> bool:
    """Whether a scale is a multiple of the sum's."""
    ratio = scale / total
    return round(ratio) >= 1 and abs(ratio / round(ratio) - 1) < TOLERANCE
