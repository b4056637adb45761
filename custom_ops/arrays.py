"""NumPy back end of the primitives: the plain evaluator's arithmetic."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.fixedpoint import EXACT_IN_FLOAT32
from onnxgru.core.integers import BYTE, BYTE_BITS, IntegerType
from onnxgru.core.primitives import Shift
from onnxgru.custom_ops.kinds.planes import joined

Array = npt.NDArray[Any]
CODE_PRODUCT = 255 * 128
"""Largest magnitude of one product of a code and a weight."""


class ArrayPrimitives:
    """Primitives on NumPy arrays, exact.

    Products use float BLAS: float32 where every partial sum stays below 2**24, else float64, which
    is exact up to 2**53.

    Parameters
    ----------
    general : bool
        Also prepare parameters of operations without effect, for kernels that serve every scheme.
    """

    def __init__(self, *, general: bool = False) -> None:
        self.general = general

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Array:
        """Weights (inputs, outputs), signed, as the float type in which their product is exact."""
        exact = codes.shape[1] * CODE_PRODUCT < EXACT_IN_FLOAT32
        return np.ascontiguousarray(codes.T, np.float32 if exact else np.float64)

    def biases(self, name: str, values: npt.NDArray[np.signedinteger[Any]]) -> Array:
        """To int32."""
        return values.astype(np.int32)

    def table(self, name: str, entries: npt.NDArray[np.uint8]) -> Array:
        """The table itself."""
        return entries

    def bytes(self, name: str, values: npt.NDArray[np.uint8]) -> Array:
        """To int32."""
        return values.astype(np.int32)

    def byte(self, name: str, values: npt.NDArray[np.uint8], position: int) -> Array:
        """One byte, shape ()."""
        return values[position, ...]

    def words(self, name: str, values: npt.NDArray[np.int16 | np.uint16]) -> Array:
        """To int32."""
        return values.astype(np.int32)

    def constant(self, value: int) -> Array:
        """int32, shape ()."""
        return np.asarray(value, np.int32)

    def numbers(self, values: Sequence[int]) -> Array:
        """int32."""
        return np.asarray(values, np.int32)

    def concatenate(self, values: Sequence[Array]) -> Array:
        """Along the last axis."""
        return np.concatenate(values, axis=-1)

    def columns(self, values: Array, positions: Sequence[int], count: int) -> Array:
        """Repeat what is picked."""
        return np.asarray(np.repeat(values[list(positions)], count))

    def power(self, exponent: Array) -> Array:
        """2**exponent."""
        return np.left_shift(np.int32(1), exponent)

    def shift(self, exponent: Array) -> Shift[Array]:
        """Powers, masks and halves."""
        power = self.power(exponent)
        return Shift(power, power - np.int32(1), np.right_shift(power, 1))

    def split(self, value: Array, sizes: Sequence[int]) -> Sequence[Array]:
        """Along the last axis."""
        stops = list(accumulate(sizes))  # np.split takes ten times as long
        return [value[..., stop - size : stop] for stop, size in zip(stops, sizes, strict=True)]

    def rows(self, value: Array, sizes: Sequence[int]) -> Sequence[Array]:
        """Along the first axis."""
        return np.split(value, np.cumsum(sizes)[:-1], axis=0)

    def widen(self, value: Array) -> Array:
        """To int32."""
        return value.astype(np.int32)

    def narrow(self, value: Array, kind: IntegerType) -> Array:
        """To the container."""
        return value.astype(kind.container)

    def matmul(self, codes: Array, zero_point: Array, weights: Array) -> Array:
        """Product as integers in float BLAS."""
        steps = codes.astype(weights.dtype) - zero_point.astype(weights.dtype)
        product: Array = np.matmul(steps, weights).astype(np.int32)
        return product

    def matmul_words(self, codes: Array, zero_points: Sequence[Array], weights: Array) -> Array:
        """The products of both bytes."""
        upper, lower = (
            self.matmul(part, zero_point, weights)
            for part, zero_point in zip(
                (codes >> BYTE_BITS, codes & BYTE), zero_points, strict=True
            )
        )
        return upper * np.int32(BYTE + 1) + lower

    def joined(self, product: Array, byte: Shift[Array], count: int, dropped: int) -> Array:
        """As `onnxgru.custom_ops.kinds.planes` does."""
        return joined(self, product, byte, count, dropped)

    def add(self, left: Array, right: Array) -> Array:
        """Sum."""
        return np.add(left, right)

    def sub(self, left: Array, right: Array) -> Array:
        """Difference."""
        return np.subtract(left, right)

    def mul(self, left: Array, right: Array) -> Array:
        """Product."""
        return np.multiply(left, right)

    def floor_shift(self, value: Array, shift: Shift[Array]) -> Array:
        """Arithmetic shift to the right, by as many bits as the mask has."""
        return np.right_shift(value, np.bitwise_count(shift.mask))

    def clip(self, value: Array, low: Array, high: Array) -> Array:
        """Limit."""
        return np.minimum(np.maximum(value, low), high)

    def gather(self, table: Array, codes: Array) -> Array:
        """Look up."""
        return table[codes]

    def pick(self, numbers: Array, index: Array) -> Array:
        """Look up."""
        return numbers[index]
