"""Native: narrow weights in ONNX's own types of 2 and 4 bits.

Weights of 2 bits are stored as int2 (opset 25), those of 3 and 4 bits as int4 (opset 21). Wider
ones keep a byte. 16-bit parameters are stored as int16 or uint16. The graph converts them to the
types that the arithmetic reads::

    code  = d value + o         d is 2 and o 1 at 2 bits, whose codes are -3, -1, 1 and 3
    byte  = code + 128          uint8
"""

import numpy as np
import onnx_ir as ir

from onnxgru.core.integers import WeightType
from onnxgru.core.metadata import BITS
from onnxgru.core.primitives import WEIGHT_OFFSET
from onnxgru.core.tape import Tape
from onnxgru.passes.emission.pack import PACKED
from onnxgru.passes.graph.values import uses_by_graph

INT2, INT4 = (25, 13), (21, 10)
"""First opset and first IR version that have the type."""


def versions(widths: set[int]) -> tuple[int, int] | None:
    """Opset and IR version that weights of these widths need; None where any will do."""
    if 2 in widths:
        return INT2
    return INT4 if widths & {3, 4} else None


class Native(ir.passes.InPlacePass):
    """Store every initializer whose metadata ``onnxgru.bits`` is narrow in a type of its own."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace the initializers, and record their conversion in every graph that reads them."""
        graph = model.graph
        root = Tape(graph=graph)
        modified = False
        for value in list(graph.initializers.values()):
            bits = int(value.metadata_props.get(BITS, 64))
            tensor = value.const_value
            if tensor is None or not (bits <= 4 or bits == 16 < 8 * tensor.dtype.itemsize):
                continue
            modified = True
            self._replace(graph, root, value, bits)
        root.register(graph)
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _replace(graph: ir.Graph, root: Tape, value: ir.Value, bits: int) -> None:
        name = str(value.name)
        assert value.const_value is not None
        array = value.const_value.numpy()
        spacing = offset = None
        if bits == 16:
            kind = np.uint16 if array.min() >= 0 else np.int16
            tensor: ir.TensorProtocol = ir.tensor(array.astype(kind), name=name)
        else:
            spacing = WeightType(bits).spacing
            offset = spacing - 1
            codes = array.astype(np.int16) - WEIGHT_OFFSET
            element = ir.DataType.INT2 if bits == 2 else ir.DataType.INT4
            small = ((codes - offset) // spacing).astype(np.int8)
            tensor = ir.tensor(small, dtype=element, name=name)
        stored = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
            metadata_props={PACKED: str(bits)},
        )
        for place, uses in uses_by_graph(value).items():
            tape = Tape(root)
            found = tape.op("Cast", stored, to=ir.DataType.INT32)
            if spacing is not None and offset is not None:
                if spacing > 1:
                    found = tape.op("Mul", found, tape.scalar(spacing))
                found = tape.op("Add", found, tape.scalar(offset + WEIGHT_OFFSET))
                found = tape.op("Cast", found, to=ir.DataType.UINT8)
            for node, index in uses:
                node.replace_input_with(index, found)
            place.insert_before(place[0], tape.nodes)
        del graph.initializers[name]
        graph.register_initializer(stored)
