"""Constants: what a GRU is given as a constant is an initializer.

1. Constant nodes become initializers, those that hold numbers or strings too;
2. W, R, B and initial_h become initializers where they are constant, whatever Unsqueeze, Concat
   or Identity nodes they came through;
3. an initial_h that is zero for every batch (Expand or ConstantOfShape of 0, as exporters write
   it) is left out.
"""

import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.passes.values import (
    INITIAL,
    INPUTS,
    constant,
    constant_value,
    is_zero,
    recurrent_nodes,
    unique,
    value_names,
)


class Constants(ir.passes.InPlacePass):
    """Turn Constant nodes into initializers."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Tensors by onnx_ir's own pass, numbers and strings here."""
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
    """Give every GRU of the main graph its constants as initializers, zero states left out."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold the weights, the biases and the initial state of every node."""
        modified = False
        for node in list(recurrent_nodes(model.graph)):
            modified |= self._fold(model.graph, node)
            if len(node.inputs) > INITIAL and is_zero(node.inputs[INITIAL]):
                node.replace_input_with(INITIAL, None)
                modified = True
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _fold(graph: ir.Graph, node: ir.Node) -> bool:
        modified = False
        for index, role in enumerate(INPUTS):
            value = node.inputs[index] if index < len(node.inputs) else None
            if role in ("X", "sequence_lens") or value is None or value.is_initializer():
                continue
            array = constant_value(value)
            if array is None:
                continue
            folded = constant(unique(f"{node.name}/{role}", value_names(graph)), array)
            graph.register_initializer(folded)
            node.replace_input_with(index, folded)
            modified = True
        return modified
