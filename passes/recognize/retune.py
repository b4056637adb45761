"""Retune: write other weights into the recurrent nodes and the float graph around them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer
from onnxgru.passes.graph.description import Description, description
from onnxgru.passes.graph.recurrent import connect
from onnxgru.passes.recognize.layers import operators


class Retune:
    """Writes weights, biases and vectors of operators to where recognition reads them.

    Parameters
    ----------
    layers : sequence of Layer
        Recognised layers of the model.
    weights : mapping of str to tuple of ndarray of float32
        Weight (outputs, inputs) and bias (outputs,) of linear operators, and vectors (outputs,), by
        operator. Operators that are left out keep theirs.
    initializers : mapping of str to ndarray
        Other initializers of the graph, by name.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Mapping[str, tuple[Floats, ...]],
        initializers: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._layers, self._weights, self._initializers = layers, weights, initializers

    def __call__(self, model: ir.Model) -> None:
        """Change a normalised model in place."""
        graph = model.graph
        for name, array in self._initializers.items():
            graph.initializers[name].const_value = ir.tensor(array, name=name)
        for layer in self._layers:
            node = graph.node(layer.node)
            if (found := description(node)) is not None:
                self._written(graph, layer, found)
                continue
            for role, array in operators()[node.op_type].stacked(layer, self._weights).items():
                name = f"{layer.node}/{role}/tuned"
                value = graph.initializers.get(name)  # there if it has been retuned before
                if value is None:
                    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
                    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.FLOAT
                    graph.register_initializer(value)
                value.const_value = ir.tensor(array, name=name)
                connect(node, role, value)
        common.RemoveUnusedNodesPass()(model)

    def _written(self, graph: ir.Graph, layer: Layer, found: Description) -> None:
        """Write the initializers of a canonical node."""
        rows = {row.name: row for row in layer.cell.rows}
        for operator in layer.operators:
            arrays = self._weights.get(operator.name, operator.numbers)
            for name, array in zip(found.names(rows[operator.row]), arrays, strict=True):
                value = ir.tensor(np.ascontiguousarray(array.T), name=name)
                graph.initializers[name].const_value = value
