"""Start: initial states that depend only on constants and sizes become constants.

The step form needs this, because it writes the state's first value into the graph: see
`onnxgru.passes.forms.states`.
"""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.core.network import Layer
from onnxgru.passes.forms.states import first_states, first_value
from onnxgru.passes.forms.step import time_axes
from onnxgru.passes.graph.values import constant, named


class Start(ir.passes.InPlacePass):
    """Give a constant initial state to every layer whose initial state can be computed.

    Parameters
    ----------
    layers : sequence of Layer
        Layers of a normalised model whose sequences still have their length.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self._layers = tuple(layers)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace initial states; one that is the same for all sequences has a single row.

        Raises
        ------
        ModelError
            If a layer has no step form.
        """
        graph = model.graph
        found = first_states(graph, self._layers, time_axes(graph, self._layers))
        modified = False
        for layer in self._layers:
            for carry, name in layer.ports.initial.items():
                grid, given = layer.carries[carry], named(graph).get(name)
                if grid not in found or given is None or given.const_value is not None:
                    continue
                first = constant(first_value(grid), found[grid][None])
                graph.register_initializer(first)
                node = graph.node(layer.node)
                for place, value in enumerate(node.inputs):
                    if value is given:
                        node.replace_input_with(place, first)
                modified = True
        if modified:
            common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)
