"""Defaults: initializers that are graph inputs too are initializers alone.

IR version 3 demands that every initializer is also an input, and lets the caller replace it. What
is quantised is the file as it stands, so these values are constants.
"""

import onnx_ir as ir


class Defaults(ir.passes.InPlacePass):
    """Remove graph inputs that have a value in the file."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Remove them from the graph's inputs; their values stay."""
        graph = model.graph
        given = [value for value in graph.inputs if value.name in graph.initializers]
        for value in given:
            graph.inputs.remove(value)
        if given:
            model.ir_version = max(model.ir_version, 4)
        return ir.passes.PassResult(model, bool(given))
