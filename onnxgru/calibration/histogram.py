"""A streaming histogram of real values: bounded memory, and independent of order and batches.

Bin ``k`` holds the values with ``floor(x / 2**e) == k``::

    k = floor(x / 2**e)        [k 2**e, (k + 1) 2**e)        0.0 is an edge at every e

A histogram of the same values one exponent coarser is ``floor(k / 2)``: two bins become one,
nothing is split. The exponent is a function of the least and greatest value alone, the smallest
for which `BINS` bins reach over both of them and 0.0, so any order and any batching of the same
values ends in the same bins with the same counts.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import DataError, SchemeError

BINS = 2048

# Every float32 is a whole multiple of 2**-149: finer bins than that tell nothing apart.
FINEST_EXPONENT = -149
COARSEST_EXPONENT = 128

# Values binned at a time: the intermediate arrays stay in the processor's cache.
CHUNK = 1 << 15

Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class Histogram:
    """Counts of float32 values in at most `BINS` bins, with their exact extremes.

    Mutable: `update` and `merge` add values in place. Two histograms are equal when they saw the
    same values up to the bin each fell in, in whatever order and batches.
    """

    def __init__(self) -> None:
        self._minimum = math.inf
        self._maximum = -math.inf
        self._exponent = FINEST_EXPONENT
        # Bin k is at k + BINS. The bins in use contain 0.0, so k lies in -BINS .. BINS - 1.
        self._bins: Counts = np.zeros(2 * BINS, dtype=np.int64)

    @property
    def minimum(self) -> float:
        """Least value seen, exactly; 0.0 where none was."""
        return self._minimum if self.count else 0.0

    @property
    def maximum(self) -> float:
        """Greatest value seen, exactly; 0.0 where none was."""
        return self._maximum if self.count else 0.0

    @property
    def count(self) -> int:
        """Number of values seen."""
        return int(self._bins.sum())

    @property
    def exponent(self) -> int:
        """The bins are ``2**exponent`` wide."""
        return self._exponent

    @property
    def width(self) -> float:
        """Width of a bin, a power of two."""
        return math.ldexp(1.0, self._exponent)

    @property
    def first(self) -> int:
        """Number of the first bin of `counts`, 0 or negative: bin 0 starts at 0.0."""
        return _bin_of(min(self.minimum, 0.0), self._exponent)

    @property
    def counts(self) -> Counts:
        """Values in each bin, int64 (n,), n <= BINS, from the least value or 0.0 to the greatest.

        A copy. Bin 0, which starts at 0.0, is always among them, at index ``-first``.
        """
        last = _bin_of(max(self.maximum, 0.0), self._exponent)
        return self._bins[BINS + self.first : BINS + last + 1].copy()

    @property
    def centres(self) -> Doubles:
        """Middles of the bins of `counts`, float64 (n,), in the values' own unit."""
        numbers = self.first + np.arange(len(self.counts), dtype=np.float64)
        return (numbers + 0.5) * self.width

    def update(self, values: npt.ArrayLike) -> None:
        """Add values.

        Parameters
        ----------
        values : array_like
            Real numbers of any shape, taken as float32. An empty array adds nothing.

        Raises
        ------
        DataError
            If the values are not real numbers, or one is NaN or infinite as a float32; nothing
            is added then.
        """
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise DataError(
                f"calibration values must be real numbers, but their type is {array.dtype}: "
                "leave this tensor out of calibration"
            )
        with np.errstate(over="ignore"):  # a float64 too large for float32 is reported below
            flat = array.astype(np.float32, copy=False).reshape(-1)
        if not flat.size:
            return
        # Both are NaN if any value is. Which of -0.0 and 0.0 is the least depends on their order:
        # adding 0.0 makes both 0.0.
        minimum, maximum = float(flat.min()) + 0.0, float(flat.max()) + 0.0
        if not (math.isfinite(minimum) and math.isfinite(maximum)):
            wrong = int(np.count_nonzero(~np.isfinite(flat)))
            raise DataError(
                f"calibration values must be finite, but {wrong} of {flat.size} are NaN or "
                "infinite: check the recordings and the float model"
            )
        self._reach(minimum, maximum)
        scale = math.ldexp(1.0, -self._exponent)
        for start in range(0, flat.size, CHUNK):
            # In float64 the product with a power of two is exact for every float32.
            numbers = flat[start : start + CHUNK].astype(np.float64)
            np.multiply(numbers, scale, out=numbers)
            np.floor(numbers, out=numbers)
            np.add(numbers, BINS, out=numbers)
            self._bins += np.bincount(numbers.astype(np.intp), minlength=2 * BINS)

    def merge(self, other: "Histogram") -> None:
        """Add the values another histogram saw, as if they had come here.

        Parameters
        ----------
        other : Histogram
            Left as it is.
        """
        if not other.count:
            return
        self._reach(other.minimum, other.maximum)
        self._bins += _coarsened(other._bins, self._exponent - other._exponent)

    def to_dict(self) -> dict[str, Any]:
        """Describe the histogram in what JSON can hold.

        Returns
        -------
        dict
            ``minimum``, ``maximum``, ``count``, and ``histogram``: the ``exponent``, the number
            of the ``first`` occupied bin, and the ``counts`` from there to the last occupied one.
        """
        occupied = np.flatnonzero(self._bins)
        start, stop = (occupied[0], occupied[-1] + 1) if occupied.size else (BINS, BINS)
        return {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "count": self.count,
            "histogram": {
                "exponent": self._exponent,
                "first": int(start) - BINS,
                "counts": self._bins[start:stop].tolist(),
            },
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Histogram":
        """Make the histogram that `to_dict` described.

        Parameters
        ----------
        description : mapping
            As `to_dict` gives; other keys are left alone.

        Raises
        ------
        SchemeError
            If a part is missing or of the wrong kind, or the parts contradict each other.
        """
        minimum, maximum = (_number(description, key) for key in ("minimum", "maximum"))
        count = _whole(description, "count")
        bins = _part(description, "histogram")
        if not isinstance(bins, Mapping):
            raise SchemeError(
                f'"histogram" must hold "exponent", "first" and "counts", but is {bins!r}'
            )
        exponent, first = _whole(bins, "exponent"), _whole(bins, "first")
        counts = _part(bins, "counts")
        if not isinstance(counts, list) or not all(
            type(number) is int and 0 <= number <= count for number in counts
        ):
            raise SchemeError(
                '"counts" must be a list of whole numbers from 0 to "count": calibrate again'
            )
        if sum(counts) != count:
            raise SchemeError(
                f'"count" must be the sum of "counts", {sum(counts)}, but is {count}: '
                "calibrate again"
            )
        histogram = cls()
        if count:
            histogram._reach(minimum, maximum)
            start = BINS + first
            expected = histogram._exponent, _bin_of(minimum, exponent), _bin_of(maximum, exponent)
            last = first + len(counts) - 1
            ends = minimum <= maximum and counts[0] and counts[-1]
            if (exponent, first, last) != expected or not ends:
                raise SchemeError(
                    '"minimum" and "maximum" must lie in the first and last bin of "histogram", '
                    f"but they are {minimum!r} and {maximum!r}: to force a range, leave them and "
                    'edit "range"'
                )
            histogram._bins[start : start + len(counts)] = counts
        return histogram

    def _reach(self, minimum: float, maximum: float) -> None:
        """Take in new extremes, merging bins where the ones in use do not reach over them."""
        self._minimum = min(self._minimum, minimum)
        self._maximum = max(self._maximum, maximum)
        exponent = _exponent_over(self._minimum, self._maximum)
        self._bins = _coarsened(self._bins, exponent - self._exponent)
        self._exponent = exponent

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (
            (self.minimum, self.maximum, self._exponent)
            == (other.minimum, other.maximum, other._exponent)
        ) and bool(np.array_equal(self._bins, other._bins))

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return (
            f"Histogram(count={self.count}, minimum={self.minimum!r}, maximum={self.maximum!r}, "
            f"width={self.width!r})"
        )


def _bin_of(value: float, exponent: int) -> int:
    """Find the bin a value falls in: exact, since the product with 2**-exponent is."""
    return math.floor(math.ldexp(value, -exponent))


def _exponent_over(minimum: float, maximum: float) -> int:
    """Find the smallest exponent at which BINS bins reach over both values and 0.0."""
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    if low == high:
        return FINEST_EXPONENT
    # Bins this fine are too many for any span, unless they are the finest.
    exponent = max(FINEST_EXPONENT, math.frexp(high - low)[1] - BINS.bit_length() - 1)
    while _bin_of(high, exponent) - _bin_of(low, exponent) >= BINS:
        exponent += 1
    return exponent


def _coarsened(bins: Counts, steps: int) -> Counts:
    """Merge pairs of bins, held from number -BINS on, `steps` times."""
    if not steps:
        return bins
    occupied = np.flatnonzero(bins)
    # A shift is a floor: -1 stays -1, so no bin is ever merged over the edge at 0.0.
    numbers = (occupied - BINS) >> min(steps, BINS.bit_length())
    merged = np.zeros_like(bins)
    np.add.at(merged, numbers + BINS, bins[occupied])
    return merged


def _part(description: Mapping[str, Any], key: str) -> Any:
    """Value of a key that must be there."""
    if key not in description:
        raise SchemeError(f'"{key}" must be given, but is missing: calibrate again')
    return description[key]


def _number(description: Mapping[str, Any], key: str) -> float:
    """Value of a key that must be a finite float32 value."""
    value = _part(description, key)
    limit = float(np.finfo(np.float32).max)
    if type(value) not in (int, float) or not -limit <= value <= limit:
        raise SchemeError(f'"{key}" must be a finite float32 number, but is {value!r}')
    return float(value) + 0.0  # never -0.0


def _whole(description: Mapping[str, Any], key: str) -> int:
    """Value of a key that must be a whole number: of values, or of a bin or its exponent."""
    value = _part(description, key)
    least = {"count": 0, "exponent": FINEST_EXPONENT, "first": -BINS}[key]
    greatest = {"count": 2**63 - 1, "exponent": COARSEST_EXPONENT, "first": BINS - 1}[key]
    if type(value) is not int or not least <= value <= greatest:
        raise SchemeError(
            f'"{key}" must be a whole number from {least} to {greatest}, but is {value!r}'
        )
    return value
