"""Unpacked: parameters are stored as runtimes use them, and no nodes compute them.

Each weight takes a byte. Everything that depends on parameters alone (multipliers spread over
columns, powers of two, zero points) becomes an initializer. The file is larger, but a runtime
needs no operators that unpack.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.tape import digest
from onnxgru.passes.graph.values import drop_unused, graphs

Array = npt.NDArray[Any]

_WHOLE = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16}
    | {ir.DataType.INT32, ir.DataType.INT64}
)


class Unpacked(ir.passes.InPlacePass):
    """Compute the nodes that depend on stored integers alone, in subgraphs too."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace the nodes by initializers with their results."""
        graph = model.graph
        known: dict[ir.Value, Array] = {
            value: value.const_value.numpy()
            for value in graph.initializers.values()
            if value.const_value is not None
            and value.const_value.dtype in _WHOLE
            and not value.is_graph_input()
        }
        folded: list[ir.Node] = []
        for place in graphs(graph):
            folded += [node for node in place if _fold(node, known)]
        if not folded:
            return ir.passes.PassResult(model, modified=False)
        gone = set(folded)
        stored: dict[bytes, ir.Value] = {}
        for node in folded:
            for value in node.outputs:
                uses = [(user, index) for user, index in value.uses() if user not in gone]
                if not uses:
                    continue
                array = np.ascontiguousarray(known[value])
                kept = stored.get(digest(array))
                if kept is None:
                    tensor = ir.tensor(array, name=value.name)
                    kept = stored[digest(array)] = ir.Value(
                        name=value.name,
                        shape=ir.Shape(array.shape),
                        type=ir.TensorType(tensor.dtype),
                        const_value=tensor,
                    )
                for user, index in uses:
                    user.replace_input_with(index, kept)
        for node in reversed(folded):
            scope = node.graph
            assert isinstance(scope, ir.Graph)
            scope.remove(node, safe=True)
        drop_unused(graph, [v for v in graph.initializers.values() if v in known])
        for value in stored.values():
            graph.register_initializer(value)
        return ir.passes.PassResult(model, modified=True)


def _fold(node: ir.Node, known: dict[ir.Value, Array]) -> bool:
    """Compute a node whose operands are known; False if they are not."""
    if not node.inputs or any(v is None or v not in known for v in node.inputs):
        return False
    if any(value.is_graph_output() for value in node.outputs):
        return False
    from onnx.reference import ReferenceEvaluator

    feeds = {str(value.name): known[value] for value in node.inputs if value is not None}
    results: Any = ReferenceEvaluator(ir.to_proto(node)).run(None, feeds)
    arrays = [np.asarray(result) for result in results]
    exact = node.op_type == "Cast" or all(array.dtype.kind in "iu" for array in arrays)
    if not exact:
        return False
    known.update(zip(node.outputs, arrays, strict=True))
    return True
