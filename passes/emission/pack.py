"""Pack: initializers narrower than their container are stored at their true width.

n weights of b bits become one bit stream of ``ceil(n b / 8)`` bytes, the least significant bit
first. The stream holds unsigned codes, 0 for the smallest weight. 16-bit parameters become two
bytes each, the low one first. The graph unpacks both with standard operators on 8-bit and 32-bit
integers, which runtimes fold when they load the graph::

    flag  = (stream[:, None] & [1, 2, 4, .. 128]) / [1, 2, 4, .. 128]      one bit an element
    code  = sum_k flag[n, k] d 2^k,  reshaped to (n, b) before             uint8, + 128 - m
    value = sum_k byte[n, k] 256^k                                         int32

d is the distance of neighbouring codes, and m the largest code.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.integers import Codes, WeightType
from onnxgru.core.metadata import BITS
from onnxgru.core.primitives import WEIGHT_OFFSET
from onnxgru.core.tape import SHARED, Tape
from onnxgru.passes.graph.values import graphs, uses_by_graph

PACKED = "onnxgru.packed"
"""Metadata key of a packed initializer. Its value is the number of bits of an element."""


def pack(codes: npt.NDArray[np.integer], bits: int) -> Codes:
    """Bit stream (uint8, ceil(n bits / 8)) of unsigned codes of any shape, in C order."""
    flat = codes.reshape(-1, 1).astype(np.uint8)
    unpacked = (flat >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(unpacked.reshape(-1).astype(np.uint8), bitorder="little")


class Pack(ir.passes.InPlacePass):
    """Pack every initializer whose metadata ``onnxgru.bits`` is less than its container's."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace the initializers and record their unpacking wherever they are used."""
        graph = model.graph
        root = Tape(graph=graph, small=True)
        packed = {
            value: _packed(value, value.const_value.numpy(), bits)
            for value in graph.initializers.values()
            if value.const_value is not None
            and (bits := int(value.metadata_props.get(BITS, 64)))
            < 8 * value.const_value.dtype.itemsize
        }
        for node in [n for scope in graphs(graph) for n in scope if n.op_type == "Concat"]:
            _unpack_together(node, packed, root)
        for value, stored in packed.items():
            _unpack(value, stored, root)
            del graph.initializers[str(value.name)]
            graph.register_initializer(stored)
        root.register(graph)
        return ir.passes.PassResult(model, bool(packed))


def _packed(value: ir.Value, array: npt.NDArray[np.generic], bits: int) -> ir.Value:
    """An initializer with the values of another one, stored at their true width."""
    if array.dtype == np.uint8:
        kind = WeightType(bits)
        codes = array.astype(np.int16) - WEIGHT_OFFSET
        stored = pack((codes + kind.maximum) // kind.spacing, bits).reshape(-1, 1)
    else:
        stored = array.reshape(-1).astype("<i2").view(np.uint8).reshape(-1, 2)
    tensor = ir.tensor(stored, name=value.name)
    return ir.Value(
        name=value.name,
        shape=ir.Shape(stored.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
        metadata_props={PACKED: str(bits)},
    )


def _unpack(value: ir.Value, packed: ir.Value, root: Tape) -> None:
    """Record the unpacking of an initializer in every graph that uses it."""
    if value.const_value is None:
        return
    array = value.const_value.numpy()
    for place, uses in uses_by_graph(value).items():
        unpacking = _Unpacking(Tape(root))
        if array.dtype == np.uint8:
            bits = int(packed.metadata_props[PACKED])
            result = unpacking.bits(packed, bits, array.shape)
        else:
            result = unpacking.words(packed, signed=bool(np.signbit(array).any()))
        for node, index in uses:
            node.replace_input_with(index, result)
        place.insert_before(place[0], unpacking.tape.nodes)


def _unpack_together(node: ir.Node, packed: Mapping[ir.Value, ir.Value], root: Tape) -> None:
    """Unpack matrices of equal width and size together, where a Concat joins them."""
    stored = [packed.get(value) for value in node.inputs if value is not None]
    streams = [value for value in stored if value is not None]
    widths = {int(value.metadata_props[PACKED]) for value in streams}
    if len(streams) < max(2, len(node.inputs)) or len(widths) > 1:
        return
    shapes = {value.shape.numpy() for value in node.inputs if value is not None and value.shape}
    if len(shapes) > 1:
        return
    (bits,), (shape,) = widths, shapes
    if len(shape) != 2 or shape[0] * shape[1] * bits % 8 or not isinstance(node.graph, ir.Graph):
        return
    rows, columns = shape
    unpacking = _Unpacking(Tape(root))
    joined = unpacking.tape.op("Concat", *streams, axis=0)
    codes = unpacking.bits(joined, bits, (len(streams), rows, columns))
    turned = unpacking.tape.op("Transpose", codes, perm=[1, 0, 2])
    whole = unpacking.tape.axes(rows, columns * len(streams))
    result = unpacking.tape.op("Reshape", turned, whole)
    node.graph.insert_before(node, unpacking.tape.nodes)
    ir.convenience.replace_all_uses_with(node.outputs[0], result)
    node.graph.remove(node, safe=True)


class _Unpacking:
    """Records the nodes that unpack one initializer."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def _op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        return self.tape.op(op_type, *inputs, **attributes)

    def _row(self, base: int, count: int, kind: type[np.generic], factor: int = 1) -> ir.Value:
        kept = "byte" if kind is np.uint8 else "number"
        return self.tape.constant(
            f"{SHARED}{kept}/{factor}*{base}^{count}",
            (factor * base ** np.arange(count)).astype(kind),
        )

    def _sum(self, digits: ir.Value, base: int, count: int, factor: int = 1) -> ir.Value:
        weighted = self._op("Mul", digits, self._row(base, count, np.int32, factor))
        return self._op("ReduceSum", weighted, self.tape.axes(1), keepdims=0)

    def words(self, packed: ir.Value, *, signed: bool) -> ir.Value:
        """int32 values (N,) from their two bytes each."""
        words = self._sum(self._op("Cast", packed, to=ir.DataType.INT32), 256, 2)
        if not signed:
            return words
        half, mask = self.tape.scalar(1 << 15), self.tape.scalar((1 << 16) - 1)
        raised = self._op("BitwiseAnd", self._op("Add", words, half), mask)
        return self._op("Sub", raised, half)

    def bits(self, packed: ir.Value, bits: int, shape: tuple[int, ...]) -> ir.Value:
        """uint8 codes of the given shape, zero point 128, from a bit stream."""
        count = int(np.prod(shape))
        flags = self._op("BitwiseAnd", packed, self._row(2, 8, np.uint8))
        flags = self._op(
            "Div", self._op("Cast", flags, to=ir.DataType.INT32), self._row(2, 8, np.int32)
        )
        axes = self.tape.axes
        if count * bits % 8:
            flags = self._op("Reshape", flags, axes(-1))
            flags = self._op("Slice", flags, axes(0), axes(count * bits), axes(0))
        kind = WeightType(bits)
        codes = self._sum(self._op("Reshape", flags, axes(count, bits)), 2, bits, kind.spacing)
        codes = self._op("Add", codes, self.tape.scalar(WEIGHT_OFFSET - kind.maximum))
        codes = self._op("Cast", codes, to=ir.DataType.UINT8)
        return self._op("Reshape", codes, axes(*shape))
