"""Constants: constant inputs of recurrent nodes become initializers.

1. Constant nodes become initializers, also those that hold numbers or strings;
2. weights, biases and initial values become initializers where they are constant, also behind
   Unsqueeze, Concat or Identity nodes;
3. an initial value that is zero for every batch (Expand or ConstantOfShape of 0, as exporters
   write it) is left out, unless its size differs from the state's, which recognition refuses.
"""

import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.passes.graph import recurrent
from onnxgru.passes.graph.values import constant, constant_value, is_zero, unique, value_names


class Constants(ir.passes.InPlacePass):
    """Turn Constant nodes into initializers."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lift tensors with onnx_ir's own pass, then numbers and strings."""
        modified = common.LiftConstantsToInitializersPass()(model).modified
        graph = model.graph
        for node in list(graph):
            if node.op_type != "Constant" or node.domain != "":
                continue
            value = node.outputs[0]
            array = constant_value(value)
            if array is None or value.is_graph_output():
                continue
            lifted = constant(str(value.name), array)
            ir.convenience.replace_all_uses_with(value, lifted)
            graph.remove(node, safe=True)
            graph.register_initializer(lifted)
            modified = True
        return ir.passes.PassResult(model, modified)


class Fold(ir.passes.InPlacePass):
    """Give every recurrent node its constants as initializers, zero states left out."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold the weights, the biases and the initial values of every node."""
        modified = False
        for node in list(recurrent.recurrent_nodes(model.graph)):
            modified |= self._fold(model.graph, node)
            for role, value in recurrent.inputs(node).items():
                if role in recurrent.INITIAL and is_zero(value) and _fits(node, value):
                    recurrent.connect(node, role, None)
                    modified = True
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _fold(graph: ir.Graph, node: ir.Node) -> bool:
        modified = False
        for role, value in recurrent.inputs(node).items():
            if role in ("X", recurrent.LENGTHS) or value.is_initializer():
                continue
            array = constant_value(value)
            if array is None:
                continue
            folded = constant(unique(f"{node.name}/{role}", value_names(graph)), array)
            graph.register_initializer(folded)
            recurrent.connect(node, role, folded)
            modified = True
        return modified


def _fits(node: ir.Node, value: ir.Value) -> bool:
    """Whether an initial value has as many features as the state, as far as shapes tell it."""
    hidden = node.attributes.get_int("hidden_size", 0)
    size = value.shape[-1] if value.shape is not None and len(value.shape) else hidden
    return not hidden or not isinstance(size, int) or size in (hidden, 1)
