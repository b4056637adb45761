"""Scales on the grid of a sum: the sum's own scale, or a whole multiple of it.

Codes with such scales are added without rounding. This matters where the sum is a recurrent state,
because a rounding error is added again at every step. Without alignment a step rounds three times:
both products, and their sum. With alignment it rounds twice, and a state that should not move stays
where it is. Scales that are only nearly equal let such a state drift.
"""

import math

import numpy as np

from onnxgru.core.integers import Quantization

LARGEST = float(np.finfo(np.float32).max)
CUT = 0.125
"""An operand's scale may shrink by this share of the sum's scale, and cut its range by as much."""
TOLERANCE = 1e-6
"""Largest relative distance from a whole multiple: scales are float32."""


def aligned(observed: Quantization, total: Quantization) -> Quantization:
    """Quantisation of an operand on the grid of the sum that it is added to.

    Parameters
    ----------
    observed : Quantization
        The operand's quantisation as an observer chose it.
    total : Quantization
        The sum's quantisation.

    Returns
    -------
    Quantization
        Width and zero point of `observed`, with the least multiple of the sum's scale that keeps
        the operand's range but for `CUT`. `observed` itself where its scale is finer than the sum's
        and it has more bits, because the sum is rounded anyway then, and where the multiple is too
        large for float32.
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
