"""Ranges for operands of functions that saturate: the least squared error of the function's codes.

A value that only a sigmoid or tanh reads needs no codes where the function hardly changes. So the
scale s and zero point z of the operand x are those with the least error of the table's values T::

    argmin_{s, z} E[(f(x) - T[quantize(x)])**2]        T[q] = dequantize(quantize(f(s (q - z))))

The expectation runs over the middles of the histogram's bins. As in
`onnxgru.calibration.observers`, codes are numbered from 0.0 outwards: the values that round to
code j are the same for every zero point, and cost E[f^2] - 2 T_j E[f] + T_j^2 E[1] over them; the
outermost codes take what lies beyond as well. So running sums over bins and over codes give the
error of **every** zero point at once.

A gate d that scales a state of 16 bits, h' = d h + ..., is different: an error of d at one step
stays in the state. At d = 0.999, an error of 0.003 makes the state decay four times as fast. If the
errors of steps are independent, their variances add up to 1 / (1 - d**2) times that of one step. So
squared errors get this weight, limited by one code of d::

    E[(d(x) - T[quantize(x)])**2 / (1 - d(x) + S_d)]

States of fewer bits lose such small changes anyway, so their gates have no weights.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import (
    Range,
    is_constant,
    least_error,
    observe,
    scale_grid,
)
from onnxgru.core.activations import Activation
from onnxgru.core.integers import IntegerType, Quantization
from onnxgru.custom_ops.kinds import lookup

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reader:
    """A function that reads codes, and the quantisation of its values.

    Parameters
    ----------
    function : Activation
        The function.
    result : Quantization
        Quantisation of its values.
    decay : {"", "value", "complement"}
        Whether a state of 16 bits is multiplied by its value or by the complement at every step.
    """

    function: Activation
    result: Quantization
    decay: str = ""

    def weights(self, exact: Doubles) -> Doubles:
        """Weights of squared errors where the function has these values."""
        if not self.decay:
            return np.ones_like(exact)
        leak = 1.0 - exact if self.decay == "value" else exact
        return np.asarray(1.0 / (np.maximum(leak, 0.0) + self.result.scale))

    def table(self, values: Doubles) -> Doubles:
        """T at real values, of the same shape."""
        codes = lookup.codes(self.function, values, self.result)
        return self.result.dequantize(codes).astype(np.float64)


def observe_saturation(histogram: Histogram, reader: Reader, bits: int) -> Range:
    """Range of a function's operand with the least squared error of the function's codes.

    Parameters
    ----------
    histogram : Histogram
        Of the function's operand; at least one value.
    reader : Reader
        The function.
    bits : int
        Width of the operand's codes, 2 to 8.

    Returns
    -------
    tuple of float
        low <= 0.0 <= high, for `Quantization.of_range`.

    Raises
    ------
    UsageError
        If the width is not supported.
    DataError
        If the histogram is empty.
    """
    if not histogram.count or is_constant(histogram, bits):
        return observe(histogram, "minmax", bits)
    exact = reader.function(histogram.centres)
    shares = histogram.counts / float(histogram.count) * reader.weights(exact)
    sums = [np.append(0.0, np.cumsum(shares * exact**power)) for power in (0, 1, 2)]
    last = len(shares)
    top = IntegerType(bits).maximum
    numbers = np.arange(-top, top + 1)
    # Zero points 0 .. top: code numbers -z .. top - z, at top - z .. 2 top - z.
    low = top - np.arange(top + 1)
    high = low + top

    def errors(scales: Doubles) -> Doubles:
        thresholds = scales[:, None] * (np.arange(-top, top + 2) - 0.5)
        edges = np.clip(np.ceil(thresholds - 0.5 - histogram.first), 0, last).astype(np.intp)
        table = reader.table(scales[:, None] * numbers * histogram.width)

        def cost(start: Doubles, stop: Doubles) -> Doubles:
            mass, first, second = stop - start
            return np.asarray(second - 2.0 * table * first + table**2 * mass)

        reached = np.stack([total[edges] for total in sums])
        begins, ends = reached[..., :-1], reached[..., 1:]
        every = np.stack([total[-1] for total in sums])[:, None, None]
        inside = np.pad(np.cumsum(cost(begins, ends), axis=1), ((0, 0), (1, 0)))
        below, above = cost(np.zeros_like(ends), ends), cost(begins, every)
        return np.asarray(inside[:, high] - inside[:, low + 1] + below[:, low] + above[:, high])

    return least_error(histogram, scale_grid(histogram, bits), bits, errors)
