"""Bias correction: the bias corrects the mean error of rounded weights.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (arXiv
1906.04721), section 4.2, with means of calibration data::

    b' = b + (W - S q_W) E[x]
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnxgru.core.network import LinearOperator, Recurrence
from onnxgru.core.weights import Rounded
from onnxgru.rounding.nearest import Rounding

Doubles = npt.NDArray[np.float64]


class BiasCorrection:
    """Any rounding, with biases that correct its mean error.

    Parameters
    ----------
    rounding : Rounding
        The method that chooses codes and scales.
    means : mapping of str to ndarray of float64, shape (N,)
        E[x] of every operand of a linear operator, by name.
    """

    def __init__(self, rounding: Rounding, means: Mapping[str, Doubles]) -> None:
        self._rounding, self._means = rounding, means

    def __call__(
        self,
        recurrence: Recurrence,
        operator: LinearOperator,
        granularity: str,
        bits: int,
        least: Doubles | None = None,
    ) -> Rounded:
        """Codes, scales and bias of a linear operator; see `onnxgru.rounding.nearest.Nearest`."""
        found = self._rounding(recurrence, operator, granularity, bits, least)
        weight, bias = operator.weight, operator.bias
        error = weight - found.scales[:, None].astype(np.float64) * found.codes
        corrected = bias + error @ self._means[operator.inputs[0]]
        return replace(found, bias=corrected.astype(np.float32))
