"""GPTQ: rounding that corrects the error of each weight in the weights that are not yet rounded.

The error of a channel's output is ``e H e^T`` with e = W - S q_W and H = E[x x^T]. Frantar et al.
2022, "GPTQ: Accurate post-training quantization for generative pre-trained transformers" (arXiv
2210.17323): columns are rounded in turn, those of the largest H_ii first. The error of column i is
distributed to the others by the upper Cholesky factor U of the damped inverse, U^T U = H^-1::

    q_i = nearest code to W_i / S      d_i = (W_i - S q_i) / U_ii      W_j -= d_i U_ij,  j > i

Then ``e H e^T = sum d_i^2``. Scales come from the grid of plain rounding; the ones with the least
``e H e^T`` after rounding are chosen. With a diagonal H this is rounding to the nearest code.
"""

import math
from collections.abc import Mapping, Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

from onnxgru.core import weights
from onnxgru.core.integers import WeightType
from onnxgru.core.network import Layer, LinearOperator, Recurrence
from onnxgru.core.weights import Rounded

Doubles = npt.NDArray[np.float64]

DAMPING = 0.01
"""Share of the mean diagonal of H that is added to its diagonal, because dead inputs have a 0."""

ROWS = 2**12
"""Rows rounded together, over all factors of the grid."""


def factor(second: Doubles) -> tuple[npt.NDArray[np.intp], Doubles]:
    """Order of the columns, and the factor of their damped inverse.

    Parameters
    ----------
    second : ndarray of float64, shape (N, N)
        H = E[x x^T], symmetric; all zeros where no input was ever seen.

    Returns
    -------
    order : ndarray of int, shape (N,)
        Columns by descending H_ii.
    upper : ndarray of float64, shape (N, N)
        U, upper triangular, in that order.
    """
    from onnxgru.rounding import loops

    diagonal = np.diag(second)
    order = np.argsort(-diagonal, kind="stable")
    damped = second[np.ix_(order, order)]
    # Without any input every weight counts the same.
    mean = math.fsum(diagonal) / len(diagonal)
    damped[np.diag_indices_from(damped)] += DAMPING * mean or 1.0
    # H = L L^T with the columns reversed gives U^-1 without inverting H itself.
    lower = loops.cholesky(np.ascontiguousarray(damped[::-1, ::-1]))
    return order, np.ascontiguousarray(loops.inverse(lower)[::-1, ::-1])


def rounded(
    columns: Doubles, scales: Doubles, upper: Doubles, kind: WeightType
) -> tuple[Doubles, Doubles]:
    """Codes of a matrix whose columns are in the order of `factor`, and the errors of its rows.

    Parameters
    ----------
    columns : ndarray of float64, shape (N, rows)
        The matrix transposed, so that a column lies together; overwritten.
    scales : ndarray of float64, shape (rows,)
        Positive.
    upper : ndarray of float64, shape (N, N)
        U.
    kind : WeightType
        The codes.

    Returns
    -------
    codes : ndarray of float64, shape (N, rows)
        Whole numbers.
    errors : ndarray of float64, shape (rows,)
        ``e H e^T`` with the damped H.
    """
    from onnxgru.rounding import loops

    found: tuple[Doubles, Doubles] = loops.rounded(
        columns, scales, upper, float(kind.maximum), float(kind.spacing)
    )
    return found


class Gptq:
    """Rounds every operator's weights by the second moments of what it reads.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    seconds : mapping of str to ndarray of float64, shape (N, N)
        E[x x^T] of every operand of a linear operator, by name.
    """

    def __init__(self, layers: Sequence[Layer], seconds: Mapping[str, Doubles]) -> None:
        self._operators = {
            (recurrence.name, operator.matrix): [
                o for o in recurrence.linears if o.matrix == operator.matrix
            ]
            for layer in layers
            for recurrence in layer.recurrences
            for operator in recurrence.linears
        }
        self._factors = {name: factor(second) for name, second in seconds.items()}
        self._limits: dict[tuple[str, str, int], Doubles] = {}
        self._lock = Lock()

    def __call__(
        self,
        recurrence: Recurrence,
        operator: LinearOperator,
        granularity: str,
        bits: int,
        least: Doubles | None = None,
    ) -> Rounded:
        """Codes, scales and bias of a linear operator; see `onnxgru.rounding.nearest.Nearest`."""
        weight, bias = operator.weight, operator.bias
        limits = self.limits(recurrence, operator, granularity, bits)
        if least is None:
            least = np.zeros(len(limits))
        scales = weights.scales(limits, least, bits)
        order, upper = self._factors[operator.inputs[0]]
        columns = np.ascontiguousarray(weight.T[order], np.float64)
        kind = WeightType(bits)
        found, _ = rounded(columns, scales.astype(np.float64), upper, kind)
        codes = np.empty(weight.shape, kind.container)
        codes[:, order] = found.T
        return Rounded(codes, scales, bias)

    def limits(
        self, recurrence: Recurrence, operator: LinearOperator, granularity: str, bits: int
    ) -> Doubles:
        """Magnitude at which every channel is clipped, float64 (outputs,)."""
        whole = granularity == "tensor"
        owner = f"{recurrence.name}/{operator.matrix}" if whole else operator.name
        key = owner, granularity, bits
        with self._lock:  # threads of a search ask for the same ones at the same time
            if key not in self._limits:
                shared = self._operators[recurrence.name, operator.matrix] if whole else [operator]
                self._limits[key] = self._best(shared, bits, each=granularity == "channel")
            return np.broadcast_to(self._limits[key], len(operator.weight))

    def _best(self, operators: Sequence[LinearOperator], bits: int, *, each: bool) -> Doubles:
        """Limits of least error over the grid: one per row, or one for all operators together."""
        matrices = [operator.weight.astype(np.float64) for operator in operators]
        largest = [np.abs(matrix).max(axis=1) for matrix in matrices]
        if not each:
            common = max(float(rows.max()) for rows in largest)
            largest = [np.full(len(rows), common) for rows in largest]
        factors = weights.FACTORS[::-1]  # the widest of equals wins
        errors = [
            self._errors(operator, matrix, rows, factors, bits)
            for operator, matrix, rows in zip(operators, matrices, largest, strict=True)
        ]
        if each:
            return np.asarray(factors[errors[0].argmin(axis=0)] * largest[0])
        total = [math.fsum(row) for row in np.concatenate(errors, axis=1)]
        return np.asarray(factors[[np.argmin(total)]] * largest[0][0])

    def _errors(
        self,
        operator: LinearOperator,
        matrix: Doubles,
        largest: Doubles,
        factors: Doubles,
        bits: int,
    ) -> Doubles:
        """Errors after rounding, float64 (factors, rows)."""
        order, upper = self._factors[operator.inputs[0]]
        kind = WeightType(bits)
        scales = factors[:, None] * np.where(largest > 0, largest, 1.0) / kind.maximum
        step = max(1, ROWS // len(matrix))
        found = []
        for start in range(0, len(factors), step):
            part = scales[start : start + step]
            columns = np.tile(matrix.T[order], len(part))
            found.append(rounded(columns, part.reshape(-1), upper, kind)[1].reshape(part.shape))
        return np.concatenate(found)
