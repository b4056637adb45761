"""Shapes: types and shapes of inner values are inferred; graph outputs keep the declared ones.

Inference puts numbers and names of its own, such as ``unk__0``, in the place of the names that a
file gives to the axes of its outputs. Callers read those.
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
