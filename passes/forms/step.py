"""Step: the model reads a fixed number of time steps per call: one in step form.

This pass sets the time axis of the graph inputs that the recurrences read, and infers the other
shapes. The recurrence itself takes its form when it is expanded.
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxgru.core.errors import ModelError
from onnxgru.core.network import Layer
from onnxgru.passes.graph.axes import origin
from onnxgru.passes.graph.sizes import resize
from onnxgru.passes.graph.values import named


def time_axes(graph: ir.Graph, layers: Sequence[Layer]) -> dict[str, int]:
    """Time axis of every graph input that a layer's sequence comes from, by name.

    Layers whose sequence has one step already are left out.

    Raises
    ------
    ModelError
        If a layer's time axis cannot be followed to a graph input, or two layers run along
        different axes of one.
    """
    nodes = {layer.node for layer in layers}
    values = named(graph)
    axes: dict[str, int] = {}
    for layer in layers:
        if not layer.recurrent:
            continue
        value = values.get(layer.ports.x)
        if value is not None and value.shape is not None and value.shape[0] == 1:
            continue
        found = origin(value, 0)
        if found is not None:
            name, axis = found
            if axes.setdefault(name, axis) != axis:
                raise ModelError(
                    f"{layer.name} runs along axis {axis} of input {name!r}, but another layer "
                    f"along axis {axes[name]}, so that no axis of it is time, which the step form "
                    "needs; use --recurrence scan or unrolled"
                )
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
    """Set the time axis of a normalised model's inputs.

    Parameters
    ----------
    layers : sequence of Layer
        Its layers.
    steps : int, optional
        The length, 1 for the step form. None leaves the model as it is, and so does a length above
        1 if the time axis cannot be followed to an input.
    """

    def __init__(self, layers: Sequence[Layer], steps: int | None = 1) -> None:
        super().__init__()
        self._layers, self._steps = tuple(layers), steps

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the shapes of inputs, and the shapes that depend on them."""
        wanted = [
            (value, axis, value.shape)
            for value, axis in self._axes(model.graph)
            if value.shape is not None and value.shape[axis] != self._steps
        ]
        if not wanted:
            return ir.passes.PassResult(model, modified=False)
        resize(model, [(value, axis, self._steps) for value, axis, _ in wanted])
        return ir.passes.PassResult(model, modified=True)

    def _axes(self, graph: ir.Graph) -> list[tuple[ir.Value, int]]:
        if self._steps is None:
            return []
        try:
            axes = time_axes(graph, self._layers)
        except ModelError:
            if self._steps == 1:
                raise
            return []
        return [(value, axes[str(value.name)]) for value in graph.inputs if value.name in axes]
