"""Retune: put other weights into the recurrent nodes and the float graph around them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer

_INPUTS = {"W": 1, "R": 2, "B": 3}


class Retune:
    """Writes the weights of linear operators where recognition reads them.

    Parameters
    ----------
    layers : sequence of Layer
        Of the model, as recognised.
    weights : mapping of str to tuple of ndarray of float32
        Weight (outputs, inputs) and bias (outputs,) by linear operator, of all of them.
    initializers : mapping of str to ndarray
        Of the graph around the layers, by name.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Mapping[str, tuple[Floats, Floats]],
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
            node.resize_inputs(max(len(node.inputs), 1 + len(_INPUTS)))
            for letter, array in self._stacked(layer).items():
                name = f"{layer.node}/{letter}/tuned"
                value = graph.initializers.get(name)  # there if it has been retuned before
                if value is None:
                    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
                    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.FLOAT
                    graph.register_initializer(value)
                value.const_value = ir.tensor(array, name=name)
                node.replace_input_with(_INPUTS[letter], value)
        for name in [n for n, v in graph.initializers.items() if not v.uses()]:
            if not graph.initializers[name].is_graph_output():
                del graph.initializers[name]

    def _stacked(self, layer: Layer) -> dict[str, Floats]:
        """W (D, 3 H, I), R (D, 3 H, H) and B (D, 6 H) of the ONNX operator."""
        directions, gates, hidden = len(layer.recurrences), layer.cell.gates, layer.hidden_size
        height = len(gates) * hidden
        matrices = {
            "W": np.zeros((directions, height, layer.input_size), np.float32),
            "R": np.zeros((directions, height, hidden), np.float32),
        }
        biases = np.zeros((directions, 2, height), np.float32)
        parameters = {row.name: row.parameter for row in layer.cell.rows}
        for index, recurrence in enumerate(layer.recurrences):
            for operator in recurrence.operators:
                if operator.kind != "linear":
                    continue
                letter, gate = parameters[operator.row].split(".")
                start = gates.index(gate) * hidden
                place = slice(start, start + hidden)
                weight, bias = self._weights[operator.name]
                matrices[letter][index, place] = weight
                biases[index, "WR".index(letter), place] = bias
        return matrices | {"B": biases.reshape(directions, 2 * height)}
