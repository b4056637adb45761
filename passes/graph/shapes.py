"""Shapes: types and shapes of inner values are inferred; graph outputs keep the declared ones.

Inference replaces the names of axes in a file by numbers and by names such as ``unk__0``. Callers
read the file's names, so graph outputs keep them.
"""

import onnx_ir as ir
from onnx_ir.passes import common


class Shapes(ir.passes.InPlacePass):
    """Infer shapes, and keep what the file declares."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Infer; outputs without a declared shape get the inferred one."""
        before = _known(model)
        declared = [(value, value.shape) for value in model.graph.outputs]
        common.ShapeInferencePass()(model)
        for value, shape in declared:
            if shape is not None:
                value.shape = shape
        return ir.passes.PassResult(model, _known(model) != before)


def _known(model: ir.Model) -> list[tuple[ir.Shape | None, ir.DataType | None]]:
    return [
        (value.shape, value.dtype)
        for graph in model.graphs()
        for values in (graph.inputs, graph.outputs, *(node.outputs for node in graph))
        for value in values
    ]
