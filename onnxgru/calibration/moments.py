"""First and second moments of the operands of linear operators: E[x] and E[x x^T].

Values are counted in whole quanta. A quantum is the power of two for which the largest value is
about 2^15 quanta::

    k = round(x / quantum)        count, sum k and sum k k^T are int64, and exact

A chunk's products are computed in float64, where sums of at most 2^23 of them are exact. So the
moments depend neither on the order of the values nor on the number of threads, and the same values
give the same bits.
"""

import io
import math
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import SchemeError
from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer

FORMAT = "onnxgru.moments/1"

MOMENTS = "moments.npz"
"""File beside ``calibration.json`` if the rounding of weights or biases needs moments."""

PRECISION = 15
"""Bits of the largest magnitude, in quanta."""

ROWS = 2**22
"""Values of a feature summed in float64 at a time."""

_MODEL = "model"
_FORMAT = "format"
_PARTS = ("count", "exponent", "sum", "product")

Whole = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass
class Moment:
    """Moments of one operand, mutable: `update` adds values in place.

    Parameters
    ----------
    features : int
        N.
    exponent : int
        The quantum is ``2**exponent``.
    """

    features: int
    exponent: int
    count: int = 0
    sum: Whole = field(init=False, repr=False)
    product: Whole = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.sum = np.zeros(self.features, np.int64)
        self.product = np.zeros((self.features, self.features), np.int64)

    @classmethod
    def of_extremes(cls, features: int, minimum: float, maximum: float) -> "Moment":
        """Empty moments for values between two extremes."""
        return cls(features, math.frexp(max(-minimum, maximum))[1] - PRECISION)

    def update(self, values: Floats) -> None:
        """Add values.

        Parameters
        ----------
        values : ndarray of float32, shape (..., N)
            Finite.
        """
        rows = values.reshape(-1, self.features)
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS].astype(np.float64)
            quanta = np.rint(np.ldexp(part, -self.exponent, out=part), out=part)
            self.count += len(quanta)
            self.sum += quanta.sum(axis=0).astype(np.int64)
            self.product += (quanta.T @ quanta).astype(np.int64)

    @property
    def mean(self) -> Doubles:
        """E[x], float64 (N,)."""
        return np.ldexp(self.sum / max(1, self.count), self.exponent)

    @property
    def second(self) -> Doubles:
        """E[x x^T], float64 (N, N)."""
        return np.ldexp(self.product / max(1, self.count), 2 * self.exponent)


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments by operand.

    Parameters
    ----------
    operands : mapping of str to Moment
        By name of the operand of linear operators.
    model : str
        SHA-256 of the source model.
    """

    operands: Mapping[str, Moment]
    model: str

    @property
    def means(self) -> dict[str, Doubles]:
        """E[x] of every operand."""
        return {name: moment.mean for name, moment in self.operands.items()}

    @property
    def seconds(self) -> dict[str, Doubles]:
        """E[x x^T] of every operand."""
        return {name: moment.second for name, moment in self.operands.items()}

    def require(self, layers: Iterable[Layer], model: str, source: str) -> None:
        """Check that these are the moments of a model.

        Raises
        ------
        SchemeError
            If they belong to another model.
        """
        wanted = {
            operator.inputs[0]: operator.weight.shape[1]
            for layer in layers
            for operator in layer.linears
        }
        found = {name: moment.features for name, moment in self.operands.items()}
        if self.model != model or any(found.get(name) != size for name, size in wanted.items()):
            raise SchemeError(
                f"{source}: must be the moments of this model (SHA-256 {model[:16]}...), but they "
                f"are another one's ({self.model[:16]}...); delete the file to measure them again"
            )

    def dumps(self) -> bytes:
        """Contents of an .npz file with the whole numbers; the same moments give the same bytes."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            _FORMAT: np.asarray(FORMAT),
            _MODEL: np.asarray(self.model),
        }
        for name, moment in self.operands.items():
            for part in _PARTS:
                arrays[f"{name}:{part}"] = np.asarray(getattr(moment, part))
        target = io.BytesIO()
        np.savez(target, **arrays)  # type: ignore[arg-type]  # a name may be allow_pickle
        return target.getvalue()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Moments":
        """Read a file that `dumps` made.

        Raises
        ------
        SchemeError
            If it cannot be read or is no such file.
        """
        where = os.fspath(path)
        try:
            with np.load(io.BytesIO(Path(path).read_bytes())) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if str(arrays[_FORMAT]) != FORMAT:
                raise ValueError(f"its format is {arrays[_FORMAT]}")
            operands = {}
            for key in arrays:
                name, _, part = key.rpartition(":")
                if part != _PARTS[0]:
                    continue
                parts = {p: arrays[f"{name}:{p}"] for p in _PARTS}
                moment = Moment(len(parts["sum"]), int(parts["exponent"]), int(parts["count"]))
                moment.sum += parts["sum"]
                moment.product += parts["product"]
                operands[name] = moment
            return cls(operands, str(arrays[_MODEL]))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise SchemeError(
                f"{where}: must be moments in the format {FORMAT}, but it cannot be read "
                f"({error}); quantise again from the calibration data"
            ) from error
