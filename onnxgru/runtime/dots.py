"""Products of codes and weights inside kernels, and moves of rows, compiled by Numba.

A product keeps its sums in registers while it reads the weights, one panel of columns at a time,
for one row of codes or for `ROWS` rows. If the processor multiplies and adds four bytes in one
instruction (AVX-512 VNNI), this is used. Otherwise pairs of 16-bit numbers are, which most
processors multiply and add in one or two instructions. Both are exact: no sum saturates.
"""

from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from onnxgru.custom_ops.kernels.sequence import LANES, ROWS
from onnxgru.runtime.intrinsics import has

Array = npt.NDArray[Any]

_BYTE, _HALF, _WORD, _PLACE = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@dataclass(frozen=True)
class Way:
    """A way to multiply.

    Parameters
    ----------
    name : str
        Its name: ``multiply_<name>`` is the product.
    sums : int
        Sums in a register.
    registers : int
        Registers of sums per row: a panel has as many columns as they hold.
    group : int
        Codes that are multiplied at a time: they fill four bytes.
    factor : llvmlite type
        Type of a register of codes or weights.
    container : type
        Type of codes and weights in that register.
    """

    name: str
    sums: int
    registers: int
    group: int
    factor: ir.Type
    container: type[np.integer[Any]]

    @property
    def panel(self) -> int:
        """Columns."""
        return self.sums * self.registers

    @property
    def words(self) -> ir.Type:
        """Register of sums."""
        return ir.VectorType(_WORD, self.sums)

    def packed(self, weights: npt.NDArray[np.int8]) -> Array:
        """Weights (inputs, outputs) by panel, then by group of inputs; padded with zeros."""
        inputs, outputs = weights.shape
        groups, columns = -(-inputs // self.group), padded(outputs)
        found = np.zeros((groups * self.group, columns), self.container)
        found[:inputs, :outputs] = weights
        blocks = found.reshape(groups, self.group, columns // self.panel, self.panel)
        return np.ascontiguousarray(blocks.transpose(2, 0, 3, 1)).reshape(-1)

    def add(self, builder: ir.IRBuilder, sums: Any, codes: Any, weights: Any) -> Any:
        """Sums with the products of a group of codes and the weights of every column."""
        if self.group == 2:
            return _add_pairs(builder, self.sums, sums, codes, weights)
        kind = ir.FunctionType(self.words, [self.words, self.factor, self.factor])
        name = "llvm.x86.avx512.vpdpbusd.512"
        return builder.call(
            builder.module.declare_intrinsic(name, fnty=kind), [sums, codes, weights]
        )


def _add_pairs(builder: ir.IRBuilder, count: int, sums: Any, codes: Any, weights: Any) -> Any:
    """The same for pairs, written so that compilers recognise one instruction."""
    wide = ir.VectorType(_WORD, 2 * count)
    products = builder.mul(builder.sext(codes, wide), builder.sext(weights, wide))
    undefined = ir.Constant(wide, ir.Undefined)
    halves = (
        builder.shuffle_vector(
            products,
            undefined,
            ir.Constant(ir.VectorType(_WORD, count), list(range(first, 2 * count, 2))),
        )
        for first in (0, 1)
    )
    return builder.add(sums, builder.add(*halves))


BYTES = Way(
    name="bytes",
    sums=16,
    registers=4,
    group=4,
    factor=(
        ir.VectorType(_BYTE, 64)
        if llvmlite.binding.llvm_version_info[0] >= 22
        else ir.VectorType(_WORD, 16)
    ),
    container=np.int8,
)
"""Four bytes at a time; only where the processor has the instruction."""
PAIRS = Way(
    name="pairs", sums=8, registers=2, group=2, factor=ir.VectorType(_HALF, 16), container=np.int16
)
"""Two numbers of 16 bits at a time; everywhere."""


def _dots(way: Way, rows: int) -> Any:
    """products[first : first + rows] = begin + codes[first : first + rows] @ weights."""

    @intrinsic
    def multiply_rows(
        _context: Any, products: Any, codes: Any, weights: Any, begin: Any, first: Any
    ) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            arrays = [
                context.make_array(signature.args[place])(context, builder, values[place])
                for place in range(4)
            ]
            _multiply(way, rows, builder, arrays, values[4])
            return context.get_dummy_value()

        return types.void(products, codes, weights, begin, types.intp), generate

    return multiply_rows


def _multiply(way: Way, rows: int, builder: ir.IRBuilder, arrays: Any, first: Any) -> None:
    """Generate the code of the product."""
    bases = [builder.bitcast(array.data, _BYTE.as_pointer()) for array in arrays]
    strides = [cgutils.unpack_tuple(builder, array.strides)[0] for array in arrays[:2]]
    (size,) = cgutils.unpack_tuple(builder, arrays[2].shape)
    (columns,) = cgutils.unpack_tuple(builder, arrays[3].shape)
    register = 4 * way.sums  # bytes: of sums, and of the weights of a group for as many columns
    across = _place(register * way.registers)
    panels = builder.udiv(columns, _place(way.panel))
    width = np.dtype(way.container).itemsize
    panel_bytes = builder.udiv(builder.mul(size, _place(width)), panels)

    def at(place: int, *offsets: Any) -> Any:
        total = offsets[0]
        for offset in offsets[1:]:
            total = builder.add(total, offset)
        return builder.gep(bases[place], [total])

    def load(pointer: Any, kind: Any) -> Any:
        found = builder.load(builder.bitcast(pointer, kind.as_pointer()))
        found.align = 1
        return found

    starts = [
        [builder.mul(builder.add(first, _place(row)), stride) for row in range(rows)]
        for stride in strides
    ]
    sums = [
        [cgutils.alloca_once(builder, way.words) for _ in range(way.registers)] for _ in range(rows)
    ]
    with cgutils.for_range(builder, panels) as panel:
        column = builder.mul(panel.index, across)
        for place in range(way.registers):
            begun = load(at(3, column, _place(register * place)), way.words)
            for own in sums:
                builder.store(begun, own[place])
        origin = builder.mul(panel.index, panel_bytes)
        with cgutils.for_range(builder, builder.udiv(panel_bytes, across)) as group:
            here = builder.add(origin, builder.mul(group.index, across))
            weights = [
                load(at(2, here, _place(register * place)), way.factor)
                for place in range(way.registers)
            ]
            codes = builder.mul(group.index, _place(4))
            for start, own in zip(starts[1], sums, strict=True):
                factor = _spread(builder, way, load(at(1, start, codes), _WORD))
                for total, weight in zip(own, weights, strict=True):
                    found = way.add(builder, builder.load(total), factor, weight)
                    builder.store(found, total)
        for start, own in zip(starts[0], sums, strict=True):
            for place, total in enumerate(own):
                target = at(0, start, column, _place(register * place))
                pointer = builder.bitcast(target, way.words.as_pointer())
                builder.store(builder.load(total), pointer).align = 1


def _place(value: int) -> ir.Constant:
    return ir.Constant(_PLACE, value)


def _spread(builder: ir.IRBuilder, way: Way, four: Any) -> Any:
    """Four bytes of codes, repeated to fill a register."""
    undefined = ir.Constant(way.words, ir.Undefined)
    one = builder.insert_element(undefined, four, ir.Constant(_WORD, 0))
    zeros = ir.Constant(ir.VectorType(_WORD, way.sums), [0] * way.sums)
    return builder.bitcast(builder.shuffle_vector(one, undefined, zeros), way.factor)


_one_by_bytes, _all_by_bytes = _dots(BYTES, 1), _dots(BYTES, ROWS)
_one_by_pairs, _all_by_pairs = _dots(PAIRS, 1), _dots(PAIRS, ROWS)
_compile = njit(nogil=True, error_model="numpy", boundscheck=False)


@_compile
def multiply_bytes(
    products: Any, codes: Any, scratch: Any, weights: Any, begin: Any, rows: int
) -> None:
    """products[:rows] = begin + codes[:rows] @ weights, which are in the order of `BYTES`."""
    if rows == ROWS:
        _all_by_bytes(products, codes, weights, begin, 0)
    else:
        for r in range(rows):
            _one_by_bytes(products, codes, weights, begin, r)


@_compile
def multiply_pairs(
    products: Any, codes: Any, scratch: Any, weights: Any, begin: Any, rows: int
) -> None:
    """The same with weights in the order of `PAIRS`, and codes widened into ``scratch``."""
    move(scratch, 0, codes, 0, rows, codes.shape[1])
    if rows == ROWS:
        _all_by_pairs(products, scratch, weights, begin, 0)
    else:
        for r in range(rows):
            _one_by_pairs(products, scratch, weights, begin, r)


def padded(columns: int) -> int:
    """Columns of a product with its padding."""
    return -(-columns // LANES) * LANES


def begun(weights: npt.NDArray[np.int8], zero_point: int) -> npt.NDArray[np.int32]:
    """Initial values of sums of products, which subtract the operand's zero point."""
    found = np.zeros(padded(weights.shape[1]), np.int32)
    found[: weights.shape[1]] = -zero_point * weights.astype(np.int32).sum(axis=0)
    return found


FASTEST = BYTES if has("avx512vnni") else PAIRS
"""The fastest way on this processor."""


@_compile
def move(target: Any, to: int, source: Any, start: int, rows: int, columns: int) -> None:
    """target[to : to + rows, :columns] = source[start : start + rows, :columns]."""
    for r in range(rows):
        for j in range(columns):
            target[to + r, j] = source[start + r, j]


@_compile
def apart(codes: Any, upper: Any, lower: Any, rows: int) -> None:
    """Split wide codes into their upper and lower bytes."""
    for r in range(rows):
        for j in range(codes.shape[1]):
            upper[r, j] = codes[r, j] >> 8
            lower[r, j] = codes[r, j] & 255


@_compile
def join_planes(products: Any, rows: int, count: int) -> None:
    """Combine products of both planes of 16-bit weights, see `onnxgru.custom_ops.kinds.planes`."""
    for r in range(rows):
        for j in range(count):
            products[r, j] = np.int32(products[r, j] << 8) + products[r, count + j]


@_compile
def carry_planes(products: Any, rows: int, count: int) -> None:
    """The same for wide codes, without the last 8 bits."""
    for r in range(rows):
        for j in range(count):
            products[r, j] += np.int32(np.int32(products[r, count + j] + np.int32(128)) >> 8)


@_compile
def join(upper: Any, lower: Any, rows: int) -> None:
    """upper[:rows] = 256 * upper[:rows] + lower[:rows]."""
    for r in range(rows):
        for j in range(lower.shape[1]):
            upper[r, j] = np.int32(np.int32(upper[r, j] << 8) + lower[r, j])
