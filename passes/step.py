"""Step: the model reads one time step a call.

Sets the time axis of the graph inputs that the recurrences read to 1 and forgets the shapes that
followed from its former length. The recurrence itself takes the step form when it is expanded.
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxgru.core.errors import ModelError
from onnxgru.core.network import Layer
from onnxgru.passes.axes import origin


def time_axes(graph: ir.Graph, layers: Sequence[Layer]) -> dict[str, int]:
    """Time axis of every graph input that a layer's sequence comes from.

    Raises
    ------
    ModelError
        If a layer's time axis cannot be followed to a graph input.
    """
    nodes = {layer.node for layer in layers}
    axes: dict[str, int] = {}
    for layer in layers:
        value = graph.node(layer.node).inputs[0]
        found = origin(value, 0)
        if found is not None:
            axes[found[0]] = found[1]
        elif not _follows(value, nodes):
            raise ModelError(
                f"{layer.name}: its time axis cannot be followed to an input of the model, which "
                "the step form needs; use --recurrence scan"
            )
    return axes


def _follows(value: ir.Value | None, nodes: set[str]) -> bool:
    """Whether a value comes from another layer, whose time axis it shares."""
    pending, seen = [value], set()
    while pending:
        current = pending.pop()
        node = current.producer() if current is not None else None
        if node is None or node in seen:
            continue
        if node.name in nodes:
            return True
        seen.add(node)
        pending.extend(node.inputs)
    return False


class Step(ir.passes.InPlacePass):
    """Set the time axis of a normalised model's inputs to 1.

    Parameters
    ----------
    layers : sequence of Layer
        Its layers.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self._layers = tuple(layers)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the inputs' shapes."""
        axes = time_axes(model.graph, self._layers)
        modified = False
        for value in model.graph.inputs:
            axis = axes.get(str(value.name))
            if axis is None or value.shape is None or value.shape[axis] == 1:
                continue
            sizes = list(value.shape)
            sizes[axis] = 1
            value.shape = ir.Shape(sizes)
            modified = True
        if modified:
            inputs = set(model.graph.inputs)
            for node in model.graph:
                for value in node.outputs:
                    value.shape = None
            for value in model.graph.outputs:
                if value not in inputs:
                    value.shape = None
        return ir.passes.PassResult(model, modified)
