"""Symmetric quantisation of weights, with clipping that minimises the squared error.

::

    q_W = the code nearest to W / s                      from -m to m, see `WeightType`
    s   = argmin over f of sum (W - s_f q_W(s_f))^2,     s_f = f max|W| / m

over a grid of factors f; one scale per channel, gate or matrix. No scale of an operator is below a
64th of its largest, because all channels share one shift: without this bound, a dead channel with a
bias would cost the others their precision. A channel can still be rounded 64 times finer than the
largest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import TINY, Floats, WeightCodes, WeightType

FACTORS = np.linspace(0.2, 1.0, 81)
"""Factors f that are tried."""

SPREAD = 2**6
"""Largest ratio of two scales of one operator."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights of a linear operator as integers, with their scales and the bias.

    Parameters
    ----------
    codes : ndarray of int8, or int16 for 16 bits, shape (outputs, inputs)
        q_W, of the `WeightType` of their width.
    scales : ndarray of float32, shape (outputs,)
        s, one per channel.
    bias : ndarray of float32, shape (outputs,)
        The operator's bias, or one that corrects the mean error of rounding.
    """

    codes: WeightCodes
    scales: Floats
    bias: Floats

    @cached_property
    def sums(self) -> npt.NDArray[np.int64]:
        """Sums of every channel's positive and negative codes, shape (2, outputs)."""
        return sums(self.codes)


@dataclass(frozen=True, eq=False)
class Tuned:
    """Everything that fine-tuning changes in a model.

    Parameters
    ----------
    rounded : mapping of str to Rounded
        Integers of every linear operator, by name.
    weights : mapping of str to tuple of ndarray of float32
        By name of the operator: the weight (outputs, inputs) and bias (outputs,) that were rounded,
        or the vector (outputs,) of a product with a vector if it has changed.
    ranges : mapping of str to tuple of float
        Smallest and largest real value, by name of every value with a learned scale.
    initializers : mapping of str to ndarray of float32
        Weights of the float graph around the layers.
    """

    rounded: Mapping[str, Rounded]
    weights: Mapping[str, tuple[Floats, ...]]
    ranges: Mapping[str, tuple[float, float]]
    initializers: Mapping[str, Floats]


def sums(codes: WeightCodes) -> npt.NDArray[np.int64]:
    """See `Rounded.sums`."""
    whole = codes.sum(axis=1, dtype=np.int32)
    magnitude = np.abs(codes, dtype=np.int16).sum(axis=1, dtype=np.int32)
    return np.stack([(magnitude + whole) // 2, (whole - magnitude) // 2]).astype(np.int64)


def clipping(rows: Floats, bits: int) -> npt.NDArray[np.float64]:
    """Magnitude at which to clip every row, so that its squared error is least.

    Parameters
    ----------
    rows : ndarray of float32, shape (N, K)
        Weights; each row gets one scale.
    bits : int
        Width, 2 to 8, or 16.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    kind = WeightType(bits)
    wide = rows.astype(np.float64)
    largest = np.abs(wide).max(axis=1)
    best, lowest = largest.copy(), np.full(len(rows), np.inf)
    for factor in FACTORS[::-1]:  # the widest of equals wins
        limit = factor * largest
        scale = np.where(limit > 0, limit / kind.maximum, 1.0)[:, None]
        error = ((wide - scale * kind.nearest(wide / scale)) ** 2).sum(axis=1)
        better = error < lowest
        best, lowest = np.where(better, limit, best), np.where(better, error, lowest)
    return np.asarray(best)


def scales(limits: npt.NDArray[np.float64], least: npt.NDArray[np.float64], bits: int) -> Floats:
    """Scales of the channels of one operator.

    Parameters
    ----------
    limits : ndarray of float64, shape (outputs,)
        Magnitudes at which weights are clipped, see `clipping`.
    least : ndarray of float64, shape (outputs,)
        Lower bounds of the scales, which keep the bias of a dead channel within int32.
    bits : int
        Width, 2 to 8, or 16.

    Returns
    -------
    ndarray of float32, shape (outputs,)
    """
    wanted = np.maximum(limits / WeightType(bits).maximum, least)
    lowest = max(float(wanted.max()) / SPREAD, TINY)
    return np.asarray(np.maximum(wanted, lowest).astype(np.float32))


def quantize(
    weight: Floats, limits: npt.NDArray[np.float64], least: npt.NDArray[np.float64], bits: int
) -> tuple[WeightCodes, Floats]:
    """Round a matrix to the nearest codes.

    Parameters
    ----------
    weight : ndarray of float32, shape (outputs, inputs)
        The matrix.
    limits, least : ndarray of float64, shape (outputs,)
        See `scales`.
    bits : int
        Width, 2 to 8, or 16.

    Returns
    -------
    codes : ndarray of int8, or int16 for 16 bits, shape (outputs, inputs)
    scales : ndarray of float32, shape (outputs,)
    """
    steps = scales(limits, least, bits)
    kind = WeightType(bits)
    codes = kind.nearest(weight / steps[:, None].astype(np.float64))
    return codes.astype(kind.container), steps
