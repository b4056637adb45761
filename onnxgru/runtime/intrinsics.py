"""Building blocks of fused kernels: int32 arithmetic that Numba does not widen, and table look-up.

Arithmetic primitives are one LLVM instruction each. Tables of up to 256 bytes are looked up 64
codes at a time where the processor permutes bytes across registers (AVX-512 VBMI), and one at a
time elsewhere; both give the same codes.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import njit, types
from numba.core import config
from numba.extending import intrinsic

LANES = 64
TABLE = 256
"""Entries of a padded table."""

_BYTES = ir.VectorType(ir.IntType(8), LANES)


def _binary(emit: Any) -> Any:
    def typed(_context: Any, left: Any, right: Any) -> Any:
        def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
            return emit(builder, *values)

        return types.int32(types.int32, types.int32), generate

    return intrinsic(typed)


def _extreme(comparison: str) -> Any:
    def emit(builder: ir.IRBuilder, left: Any, right: Any) -> Any:
        return builder.select(builder.icmp_signed(comparison, left, right), left, right)

    return emit


add = _binary(lambda builder, left, right: builder.add(left, right))
sub = _binary(lambda builder, left, right: builder.sub(left, right))
mul = _binary(lambda builder, left, right: builder.mul(left, right))
shift = _binary(lambda builder, left, right: builder.ashr(left, right))
most = _binary(_extreme(">"))
least = _binary(_extreme("<"))


@intrinsic
def place(_context: Any, address: Any) -> Any:
    """An address (int64) as a pointer."""

    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def wide(_context: Any, code: Any) -> Any:
    """uint8 or uint16 as int32."""

    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.zext(values[0], ir.IntType(32))

    return types.int32(code), generate


@intrinsic
def narrow(_context: Any, value: Any) -> Any:
    """int32 within 0 .. 255 as uint8."""

    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.trunc(values[0], ir.IntType(8))

    return types.uint8(types.int32), generate


@intrinsic
def halve(_context: Any, value: Any) -> Any:
    """int32 within 0 .. 65535 as uint16."""

    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.trunc(values[0], ir.IntType(16))

    return types.uint16(types.int32), generate


@intrinsic
def _permute(_context: Any, table: Any, codes: Any, target: Any, start: Any) -> Any:
    """target[start : start + 64] = table[codes[start : start + 64]]."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        def pointer(index: int, offset: Any) -> Any:
            data = context.make_array(signature.args[index])(context, builder, values[index]).data
            moved = builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [offset])
            return builder.bitcast(moved, _BYTES.as_pointer())

        def load(index: int, offset: Any) -> Any:
            instruction = builder.load(pointer(index, offset))
            instruction.align = 1
            return instruction

        quarters = [load(0, ir.Constant(ir.IntType(64), LANES * k)) for k in range(4)]
        wanted = load(1, values[3])
        permute = builder.module.declare_intrinsic(
            "llvm.x86.avx512.vpermi2var.qi.512",
            fnty=ir.FunctionType(_BYTES, [_BYTES, _BYTES, _BYTES]),
        )
        low = builder.call(permute, [quarters[0], wanted, quarters[1]])
        high = builder.call(permute, [quarters[2], wanted, quarters[3]])
        upper = builder.icmp_signed("<", wanted, ir.Constant(_BYTES, [0] * LANES))
        store = builder.store(builder.select(upper, high, low), pointer(2, values[3]))
        store.align = 1
        return context.get_dummy_value()

    return types.void(table, codes, target, types.intp), generate


@njit(nogil=True, error_model="numpy", boundscheck=False)
def look_up_plain(table: Any, codes: Any, target: Any) -> None:
    """target[:] = table[codes], one at a time."""
    for j in range(codes.shape[0]):
        target[j] = table[codes[j]]


@njit(nogil=True, error_model="numpy", boundscheck=False)
def look_up_permuted(table: Any, codes: Any, target: Any) -> None:
    """target[:] = table[codes], 64 at a time; the table has 256 entries."""
    whole = codes.shape[0] // LANES * LANES
    for start in range(0, whole, LANES):
        _permute(table, codes, target, start)
    for j in range(whole, codes.shape[0]):
        target[j] = table[codes[j]]


def has(feature: str) -> bool:
    """Whether kernels are compiled for a processor with a feature, as LLVM names it."""
    if config.CPU_NAME or config.CPU_FEATURES is not None:
        return f"+{feature}" in (config.CPU_FEATURES or "")
    return bool(llvmlite.binding.get_host_cpu_features().get(feature, False))


def permutes() -> bool:
    """Whether kernels are compiled for a processor with AVX-512 VBMI."""
    return has("avx512vbmi")


look_up = look_up_permuted if permutes() else look_up_plain
