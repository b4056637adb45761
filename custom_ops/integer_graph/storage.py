"""Storage: nodes that compute the constants of the integer graph from its initializers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxgru.core.fixedpoint import MAXIMUM_SHIFT
from onnxgru.core.integers import BYTE_BITS
from onnxgru.core.metadata import BITS
from onnxgru.core.primitives import WEIGHT_OFFSET
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.integer_graph.constants import Constant


class Storage:
    """Records constants on one tape, each when it is first asked for.

    Parameters
    ----------
    tape : Tape
        Records the nodes: the tape of a body, or the outermost one.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._values: dict[Constant, ir.Value] = {}
        self._parts: dict[tuple[object, ...], list[ir.Value]] = {}

    def __call__(self, constant: Constant) -> ir.Value:
        """The value of a constant, with a shape that runtimes broadcast over columns."""
        if constant not in self._values:
            operation = "number" if constant.written else constant.operation.lower()
            record: Callable[[Constant], ir.Value] = getattr(self, f"_{operation}")
            self._values[constant] = record(constant)
        return self._values[constant]

    def _op(self, operation: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        return self._tape.op(operation, *inputs, **attributes)

    def _number(self, constant: Constant) -> ir.Value:
        values = constant.value.astype(np.int32)
        if not values.ndim:
            return self._tape.byte(int(values)) if constant.byte else self._tape.scalar(int(values))
        name = f"onnxgru/{'_'.join(map(str, values))}"
        if not constant.sizes:
            return self._tape.constant(name, values)
        return self._tape.constant(f"{name}/column", values.reshape(-1, 1))

    def _stored(self, constant: Constant) -> ir.Value:
        name, held, bits, *how = constant.key
        tape, array = self._tape, held.array
        if "weights" in how:
            codes = array.T.astype(np.int16) + WEIGHT_OFFSET
            shifted = np.ascontiguousarray(codes).astype(np.uint8)
            value = tape.shared(name, shifted, bits)
            value.metadata_props[BITS] = str(bits)
            return value
        if bits > BYTE_BITS:
            value = tape.constant(name, array.astype(np.int32))
            value.metadata_props[BITS] = str(bits)
            return value
        return tape.shared(name, array) if "shared" in how else tape.constant(name, array)

    def _int32(self, constant: Constant) -> ir.Value:
        return self._op("Cast", self(constant.operands[0]), to=ir.DataType.INT32)

    def _narrow(self, constant: Constant) -> ir.Value:
        return self._op("Cast", self(constant.operands[0]), to=ir.DataType.UINT8)

    def _byte(self, constant: Constant) -> ir.Value:
        return self._op("Gather", self(constant.operands[0]), self._tape.scalar(constant.key[0]))

    _entry = _byte

    def _same(self, constant: Constant) -> ir.Value:
        return self(constant.operands[0])

    def _scalar(self, constant: Constant) -> ir.Value:
        return self._op("Squeeze", self(constant.operands[0]))

    def _pick(self, constant: Constant) -> ir.Value:
        (vector,), (place,) = constant.operands, constant.key
        return self._op("Gather", self(vector), self._tape.scalar(place))

    def _part(self, constant: Constant) -> ir.Value:
        sizes, index, axis = constant.key
        (whole,) = constant.operands
        if whole.value.ndim == 1 and 1 in sizes:  # a part of one number is a number, not a vector
            start = sum(sizes[:index])
            ends = self._tape.axes(start), self._tape.axes(start + sizes[index])
            return self._op("Slice", self(whole), *ends)
        return self._split(constant.operands[0], sizes, -1 if axis else 0)[int(index)]

    def _split(self, constant: Constant, sizes: tuple[int, ...], axis: int) -> list[ir.Value]:
        """All parts, made by one node."""
        key = (constant, sizes, axis)
        if key not in self._parts:
            tape, whole, names = self._tape, self(constant), [None] * len(sizes)
            count: dict[str, Any] = {"num_outputs": len(sizes)} if len(set(sizes)) == 1 else {}
            inputs = [whole] if count else [whole, tape.axes(*sizes)]
            self._parts[key] = tape.multiple("Split", inputs, names, axis=axis, **count)
        return self._parts[key]

    def _members(self, constant: Constant) -> ir.Value:
        label = "_".join(map(str, constant.key))
        places = np.asarray(constant.key, np.int32).reshape(-1, 1)
        index = self._tape.constant(f"onnxgru/at/{label}", places)
        return self._op("Gather", self(constant.operands[0]), index)

    def _gathered(self, constant: Constant) -> ir.Value:
        parts = [self(operand) for operand in constant.operands]
        flat = [
            self._op("Reshape", part, self._tape.axes(1)) if not operand.value.ndim else part
            for part, operand in zip(parts, constant.operands, strict=True)
        ]
        joined = self._op("Concat", *flat, axis=0)
        return self._op("Reshape", joined, self._tape.axes(-1, 1))

    def _concatenate(self, constant: Constant) -> ir.Value:
        axis = constant.value.ndim - 1
        return self._op("Concat", *map(self, constant.operands), axis=axis)

    def _spread(self, constant: Constant) -> ir.Value:
        (members,), sizes = constant.operands, constant.key
        if len(set(sizes)) == 1:
            wide = self._op("Expand", self(members), self._tape.axes(len(sizes), sizes[0]))
            return self._op("Reshape", wide, self._tape.axes(-1))
        rows = self._split(members, (1,) * len(sizes), 0)
        expanded = [
            self._op("Expand", row, self._tape.axes(1, size))
            for row, size in zip(rows, sizes, strict=True)
        ]
        joined = self._op("Concat", *expanded, axis=1)
        return self._op("Reshape", joined, self._tape.axes(-1))

    def _wide(self, constant: Constant) -> ir.Value:
        return self._op("Expand", self(constant.operands[0]), self._tape.axes(constant.key[0]))

    def _arithmetic(self, constant: Constant) -> ir.Value:
        kind = {"add": "Add", "sub": "Sub", "mul": "Mul"}[constant.operation.lower()]
        return self._op(kind, *map(self, constant.operands))

    _add = _sub = _mul = _arithmetic

    def _negative(self, constant: Constant) -> ir.Value:
        return self._op("Neg", self(constant.operands[0]))

    def _power(self, constant: Constant) -> ir.Value:
        powers = (1 << np.arange(MAXIMUM_SHIFT + 1)).astype(np.int32)
        table = self._tape.constant("onnxgru/powers", powers)
        return self._op("Gather", table, self(constant.operands[0]))

    def _half(self, constant: Constant) -> ir.Value:
        return self._op("Div", self(constant.operands[0]), self._tape.scalar(2))

    def _floor(self, constant: Constant) -> ir.Value:
        return self._op("Div", *map(self, constant.operands))

    def _clip(self, constant: Constant) -> ir.Value:
        value, low, high = constant.operands
        if low.value.ndim or high.value.ndim:
            return self._op("Min", self._op("Max", self(value), self(low)), self(high))
        return self._op("Clip", *map(self, constant.operands))

    def _range(self, constant: Constant) -> ir.Value:
        return self._op("Range", *map(self, constant.operands))

    def _entries(self, constant: Constant) -> ir.Value:
        return self._op("Gather", *map(self, constant.operands))
