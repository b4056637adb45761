"""Shorten: numbers of the arithmetic get short names, as every node that reads one repeats it.

``onnxgru/axes/3_16`` becomes ``#[3,16]``, and ``onnxgru/255`` becomes ``#255``.
"""

import onnx_ir as ir

from onnxgru.core.tape import SHARED
from onnxgru.passes.graph.values import move, unique, value_names

AXES = f"{SHARED}axes/"


def short(name: str) -> str:
    """The short name of a number."""
    if name.startswith(AXES):
        return f"#[{name.removeprefix(AXES).replace('_', ',')}]"
    return f"#{name.removeprefix(SHARED)}"


class Shorten(ir.passes.InPlacePass):
    """Rename numbers that belong to no operator, in functions too. This is the last pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rename initializers of the graph, and constants of functions."""
        graph = model.graph
        taken, modified = value_names(graph), False
        for name, value in list(graph.initializers.items()):
            if name.startswith(SHARED) and not (value.is_graph_input() or value.is_graph_output()):
                move(value, graph, graph, unique(short(name), taken))
                modified = True
        for function in model.functions.values():
            for node in function:
                if node.op_type == "Constant" and str(node.outputs[0].name).startswith(SHARED):
                    node.outputs[0].name = short(str(node.outputs[0].name))
                    modified = True
        return ir.passes.PassResult(model, modified)
