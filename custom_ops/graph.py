"""ONNX back end of the primitives: standard operators on integers of 8, 16 and 32 bits.

The choice of operators follows what was measured on onnxruntime, OpenVINO and onnx.reference:

- MatMulInteger of uint8 by uint8 with zero points is the only pairing that is exact everywhere
  (uint8 by int8 saturates in 16 bits on x86 CPUs without VNNI), while sums stay below 2**24, for
  OpenVINO computes them in float32;
- a floor shift is ``Div(v - (v & (2^s - 1)), 2^s)``: BitShift takes no signed integers, and Div
  truncates toward zero;
- Max and Min have bounds of at most 2**24, which OpenVINO's detour through float32 keeps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.fixedpoint import MAXIMUM_SHIFT
from onnxgru.core.integers import BYTE, BYTE_BITS, IntegerType
from onnxgru.core.metadata import BITS
from onnxgru.core.primitives import WEIGHT_OFFSET, Shift
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.planes import joined


class GraphPrimitives:
    """Primitives that record nodes on a tape, under short names.

    Parameters
    ----------
    tape : Tape
        Where nodes go.
    """

    general = False

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def _op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        return self._tape.op(op_type, *inputs, **attributes)

    def _stored(self, name: str, values: npt.NDArray[np.generic], bits: int) -> ir.Value:
        """Initializer that packing stores at `bits` per element."""
        value = self._tape.constant(name, values)
        value.metadata_props[BITS] = str(bits)
        return value

    def weights(self, name: str, codes: npt.NDArray[np.int8], bits: int) -> ir.Value:
        """Initializer (inputs, outputs), uint8 with zero point 128; packing makes it `bits`.

        Equal weights of equal width are one initializer, as equal biases are.
        """
        shifted = (codes.T.astype(np.int16) + WEIGHT_OFFSET).astype(np.uint8)
        value = self._tape.shared(name, np.ascontiguousarray(shifted), bits)
        value.metadata_props[BITS] = str(bits)
        return value

    def biases(self, name: str, values: npt.NDArray[np.int32]) -> ir.Value:
        """Initializer."""
        return self._tape.shared(name, values)

    def table(self, name: str, entries: npt.NDArray[np.uint8]) -> ir.Value:
        """Initializer."""
        return self._tape.shared(name, entries)

    def bytes(self, name: str, values: npt.NDArray[np.uint8]) -> ir.Value:
        """Initializer, cast to int32."""
        return self.widen(self._tape.constant(name, values))

    def byte(self, name: str, values: npt.NDArray[np.uint8], position: int) -> ir.Value:
        """Gather with a scalar index."""
        stored = self._tape.constant(name, values)
        return self._op("Gather", stored, self._tape.scalar(position))

    def words(self, name: str, values: npt.NDArray[np.int16 | np.uint16]) -> ir.Value:
        """Initializer of int32, which packing stores as two bytes each."""
        return self._stored(name, values.astype(np.int32), 16)

    def constant(self, value: int) -> ir.Value:
        """Shared initializer."""
        return self._tape.scalar(value)

    def numbers(self, values: Sequence[int]) -> ir.Value:
        """Shared initializer."""
        name = f"onnxgru/numbers/{'_'.join(map(str, values))}"
        return self._tape.constant(name, np.asarray(values, np.int32))

    def concatenate(self, values: Sequence[ir.Value]) -> ir.Value:
        """Concat along the last axis."""
        return self._op("Concat", *values, axis=-1)

    def columns(self, values: ir.Value, positions: Sequence[int], count: int) -> ir.Value:
        """Gather, then Expand."""
        label = "_".join(map(str, positions))
        picked = self._tape.constant(
            f"onnxgru/column/{label}", np.asarray(positions, np.int32).reshape(-1, 1)
        )
        wide = self._op(
            "Expand", self._op("Gather", values, picked), self._tape.axes(len(positions), count)
        )
        return self._op("Reshape", wide, self._tape.axes(-1))

    def power(self, exponent: ir.Value) -> ir.Value:
        """Gather in the powers of two."""
        powers = self._tape.constant(
            "onnxgru/powers", (1 << np.arange(MAXIMUM_SHIFT + 1)).astype(np.int32)
        )
        return self._op("Gather", powers, exponent)

    def shift(self, exponent: ir.Value) -> Shift[ir.Value]:
        """Power, Sub of 1, and Div by 2, of positive values."""
        power = self.power(exponent)
        mask = self.sub(power, self._tape.scalar(1))
        return Shift(power, mask, self._op("Div", power, self._tape.scalar(2)))

    def split(self, value: ir.Value, sizes: Sequence[int]) -> Sequence[ir.Value]:
        """Split along the last axis."""
        return self._split(value, sizes, -1)

    def rows(self, value: ir.Value, sizes: Sequence[int]) -> Sequence[ir.Value]:
        """Split along the first axis."""
        return self._split(value, sizes, 0)

    def _split(self, value: ir.Value, sizes: Sequence[int], axis: int) -> Sequence[ir.Value]:
        if len(sizes) == 1:
            return [value]
        names = [None] * len(sizes)
        if len(set(sizes)) == 1:
            return self._tape.multiple("Split", [value], names, axis=axis, num_outputs=len(sizes))
        return self._tape.multiple("Split", [value, self._tape.axes(*sizes)], names, axis=axis)

    def widen(self, value: ir.Value) -> ir.Value:
        """Cast to int32."""
        return self._op("Cast", value, to=ir.DataType.INT32)

    def narrow(self, value: ir.Value, kind: IntegerType) -> ir.Value:
        """Cast to the container."""
        return self._op("Cast", value, to=ir.DataType.from_numpy(kind.container))

    def matmul(self, codes: ir.Value, zero_point: ir.Value, weights: ir.Value) -> ir.Value:
        """MatMulInteger."""
        offset = self._tape.constant(
            "onnxgru/weight_zero_point", np.asarray(WEIGHT_OFFSET, np.uint8)
        )
        return self._op("MatMulInteger", codes, weights, zero_point, offset)

    def matmul_words(
        self, codes: ir.Value, zero_points: Sequence[ir.Value], weights: ir.Value
    ) -> ir.Value:
        """Two MatMulInteger, of the bytes."""
        wide, power = self.widen(codes), self._tape.scalar(BYTE + 1)
        low = self._op("BitwiseAnd", wide, self._tape.scalar(BYTE))
        high = self._op("Div", self.sub(wide, low), power)
        upper, lower = (
            self.matmul(self.narrow(part, IntegerType(BYTE_BITS)), zero_point, weights)
            for part, zero_point in zip((high, low), zero_points, strict=True)
        )
        return self.add(self.mul(upper, power), lower)

    def joined(
        self, product: ir.Value, byte: Shift[ir.Value], count: int, dropped: int
    ) -> ir.Value:
        """As `onnxgru.custom_ops.planes` does."""
        return joined(self, product, byte, count, dropped)

    def add(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Add."""
        return self._op("Add", left, right)

    def sub(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Sub."""
        return self._op("Sub", left, right)

    def mul(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Mul."""
        return self._op("Mul", left, right)

    def floor_shift(self, value: ir.Value, shift: Shift[ir.Value]) -> ir.Value:
        """Subtract the remainder, then an exact Div."""
        remainder = self._op("BitwiseAnd", value, shift.mask)
        return self._op("Div", self._op("Sub", value, remainder), shift.power)

    def clip(self, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """Clip takes numbers; bounds a column need Max and Min."""
        if low.shape == high.shape == ir.Shape([]):
            return self._op("Clip", value, low, high)
        return self._op("Min", self._op("Max", value, low), high)

    def gather(self, table: ir.Value, codes: ir.Value) -> ir.Value:
        """Gather with int32 indices."""
        return self._op("Gather", table, self.widen(codes), axis=0)

    def pick(self, numbers: ir.Value, index: ir.Value) -> ir.Value:
        """Gather."""
        return self._op("Gather", numbers, index, axis=0)
