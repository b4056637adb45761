"""The loops of GPTQ, compiled: the same bits on every processor.

BLAS and LAPACK add in an order that depends on the processor, and a sum that differs in its last
place may round a weight to another code. Here every sum has one order, and nothing is fused.
"""

import math

import numpy as np
import numpy.typing as npt

from onnxgru.core.compiled import compiled

Doubles = npt.NDArray[np.float64]

CHUNK = 64
"""Rows rounded together: with all their columns they stay in the processor's cache."""


@compiled
def cholesky(matrix: Doubles) -> Doubles:
    """Lower triangular L of a symmetric positive definite matrix, L L^T, float64 (N, N)."""
    size = len(matrix)
    lower = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i, j]
            for k in range(j):
                rest -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(rest) if i == j else rest / lower[j, j]
    return lower


@compiled
def inverse(lower: Doubles) -> Doubles:
    """Inverse of a lower triangular matrix, float64 (N, N)."""
    size = len(lower)
    found = np.zeros((size, size))
    for j in range(size):
        found[j, j] = 1.0 / lower[j, j]
        for i in range(j + 1, size):
            rest = 0.0
            for k in range(j, i):
                rest -= lower[i, k] * found[k, j]
            found[i, j] = rest / lower[i, i]
    return found


@compiled
def rounded(
    columns: Doubles, scales: Doubles, upper: Doubles, top: float, spacing: float
) -> tuple[Doubles, Doubles]:
    """See `onnxgru.rounding.gptq.rounded`."""
    size, rows = columns.shape
    offset = spacing - 1
    codes = np.empty((size, rows))
    errors = np.zeros(rows)
    for start in range(0, rows, CHUNK):
        stop = min(start + CHUNK, rows)
        for i in range(size):
            pivot = upper[i, i]
            for r in range(start, stop):
                place = np.rint((columns[i, r] / scales[r] - offset) / spacing)
                code = min(max(place * spacing + offset, -top), top)
                codes[i, r] = code
                left = (columns[i, r] - scales[r] * code) / pivot
                columns[i, r] = left  # from here on the column holds what is left over
                errors[r] += left * left
            for j in range(i + 1, size):
                share = upper[i, j]
                for r in range(start, stop):
                    columns[j, r] -= share * columns[i, r]
    return codes, errors
