"""Rounding to the nearest code, with scales that clip where the squared error is least."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnxgru.core import weights
from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer, LinearOperator, Recurrence
from onnxgru.core.weights import Rounded

Limits = npt.NDArray[np.float64]


class Rounding(Protocol):
    """A method of rounding weights; its result must depend on its arguments only."""

    def __call__(
        self,
        recurrence: Recurrence,
        operator: LinearOperator,
        granularity: str,
        bits: int,
        least: Limits | None = None,
    ) -> Rounded:
        """Codes, scales and bias of a linear operator; see `Nearest`."""


class Nearest:
    """Rounds every weight by itself, as plain post-training quantisation does.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._matrices = {
            (recurrence.name, matrix): np.concatenate(
                [o.weight for o in recurrence.linears if o.matrix == matrix]
            )
            for layer in layers
            for recurrence in layer.recurrences
            for matrix in {o.matrix for o in recurrence.linears}
        }

    def __call__(
        self,
        recurrence: Recurrence,
        operator: LinearOperator,
        granularity: str,
        bits: int,
        least: Limits | None = None,
    ) -> Rounded:
        """Codes, scales and bias of a linear operator.

        Parameters
        ----------
        recurrence : Recurrence
            The direction that has the operator.
        operator : LinearOperator
            The operator.
        granularity : {"channel", "gate", "tensor"}
            Which weights share one scale.
        bits : int
            Width, 2 to 8, or 16.
        least : ndarray of float64, shape (outputs,), optional
            Lower bound of the scales.
        """
        weight, bias = operator.weight, operator.bias
        limits = self.limits(recurrence, operator, granularity, bits)
        if least is None:
            least = np.zeros(len(limits))
        codes, scales = weights.quantize(weight, limits, least, bits)
        return Rounded(codes, scales, bias)

    def limits(
        self, recurrence: Recurrence, operator: LinearOperator, granularity: str, bits: int
    ) -> Limits:
        """Magnitude at which every channel is clipped, shape (outputs,)."""
        weight = operator.weight
        if granularity == "channel":
            return weights.clipping(weight, bits)
        whole: Floats = weight
        if granularity == "tensor":
            whole = self._matrices[recurrence.name, operator.matrix]
        return np.repeat(weights.clipping(whole.reshape(1, -1), bits), weight.shape[0])
