"""The vocabulary that integer operators are written in, and that back ends implement.

Values are opaque to the operators: arrays in one back end, graph values in another. Codes are
uint8; everything else is int32. All arithmetic is exact: operators are derived so that no
intermediate leaves int32.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value")

WEIGHT_OFFSET = 128
"""Zero point of weights in a product: uint8 x uint8 is the pairing that every runtime computes
exactly, and fast."""


class Primitives(Protocol[Value]):
    """One back end of the integer arithmetic."""

    general: bool
    """Whether what is computed must serve every scheme: if so, no operation is left out because
    its numbers make it idle."""

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> Value:
        """Stored weights (outputs, inputs) of `bits`, as uint8 (inputs, outputs) + 128."""

    def biases(self, name: str, values: npt.NDArray[np.int32]) -> Value:
        """Stored int32 biases (N,)."""

    def table(self, name: str, entries: npt.NDArray[np.uint8]) -> Value:
        """Stored table (2**b,) of codes, uint8."""

    def bytes(self, name: str, values: npt.NDArray[np.uint8]) -> Value:
        """Stored bytes (N,), as int32."""

    def byte(self, name: str, values: npt.NDArray[np.uint8], position: int) -> Value:
        """One of stored bytes, uint8, shape ()."""

    def words(self, name: str, values: npt.NDArray[np.int16]) -> Value:
        """Stored 16-bit numbers (N,), as int32."""

    def constant(self, value: int) -> Value:
        """A number that belongs to the arithmetic itself: int32, shape ()."""

    def numbers(self, values: Sequence[int]) -> Value:
        """Several such numbers: int32, shape (N,)."""

    def concatenate(self, values: Sequence[Value]) -> Value:
        """Side by side along the last axis."""

    def columns(self, values: Value, positions: Sequence[int], count: int) -> Value:
        """values[positions], each repeated `count` times: (len(positions) * count,)."""

    def power(self, exponent: Value) -> Value:
        """2**exponent, int32; exponents are 0 .. 30."""

    def halve(self, power: Value) -> Value:
        """Half of a power of two, 0 for 1: what rounding adds before a floor shift."""

    def split(self, value: Value, sizes: Sequence[int]) -> Sequence[Value]:
        """Parts along the last axis, of the given sizes."""

    def rows(self, value: Value, sizes: Sequence[int]) -> Sequence[Value]:
        """Parts along the first axis, of the given sizes."""

    def widen(self, value: Value) -> Value:
        """Codes as int32."""

    def narrow(self, value: Value) -> Value:
        """int32 values within 0 .. 255 as uint8."""

    def matmul(self, codes: Value, zero_point: Value, weights: Value) -> Value:
        """(codes - zero_point) @ (weights - 128): (..., I) x (I, N) -> (..., N), int32.

        Sums must stay below 2**24 in magnitude: OpenVINO computes them in float32.
        """

    def add(self, left: Value, right: Value) -> Value:
        """Sum, int32."""

    def sub(self, left: Value, right: Value) -> Value:
        """Difference, int32."""

    def mul(self, left: Value, right: Value) -> Value:
        """Product, int32."""

    def floor_shift(self, value: Value, power: Value, mask: Value) -> Value:
        """Floor of value / power, an arithmetic shift to the right; mask is power - 1."""

    def clip(self, value: Value, low: Value, high: Value) -> Value:
        """Value limited to low .. high, whose magnitudes are at most 2**24."""

    def gather(self, table: Value, codes: Value) -> Value:
        """Entry of the table (2**b,) at every code, uint8."""
