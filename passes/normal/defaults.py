"""Defaults: graph inputs with a default value become initializers only.

IR version 3 demands that every initializer is also a graph input, so that callers may replace it.
onnxgru quantises the values in the file, so they become constants.
"""

import onnx_ir as ir


class Defaults(ir.passes.InPlacePass):
    """Remove graph inputs that have a value in the file."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Remove these inputs; their initializers stay."""
        graph = model.graph
        given = [value for value in graph.inputs if value.name in graph.initializers]
        for value in given:
            graph.inputs.remove(value)
        if given:
            model.ir_version = max(model.ir_version, 4)
        return ir.passes.PassResult(model, bool(given))
