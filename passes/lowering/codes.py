"""Codes between layers: values that are codes of a layer and are only moved."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from onnxgru.core.network import Layer

MOVEMENTS = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Gather", "Slice"}
)
"""Operators that pass codes on: they move values and compute none."""


def code_source(value: ir.Value | None, layers: Sequence[Layer]) -> str | None:
    """Name of the layer that emitted the codes of a value, if they are only moved; else None."""
    sources = {name: layer.name for layer in layers for name in _emitted(layer)}
    while value is not None:
        if value.name in sources:
            return sources[str(value.name)]
        node = value.producer()
        if node is None or node.op_type not in MOVEMENTS:
            return None
        value = node.inputs[0]
    return None


def _emitted(layer: Layer) -> list[str]:
    """Names of the values that have the quantisation of a layer's output."""
    return [name for name, grid in made(layer).items() if grid == layer.output]


def made(layer: Layer) -> dict[str, str]:
    """Names of the quantisations of the values that a layer makes, by name of the value."""
    found = {layer.ports.sequence: layer.output} if layer.ports.sequence else {}
    return found | {name: layer.carries[carry] for carry, name in layer.ports.last.items()}


def dequantized(values: Mapping[str, ir.Value], layer: Layer, layers: Sequence[Layer]) -> set[str]:
    """Names of a layer's quantisations with codes that something reads as real numbers.

    Parameters
    ----------
    values : mapping of str to Value
        Of the graph, by name.
    layer : Layer
        The layer.
    layers : sequence of Layer
        All layers of the graph.
    """
    sequences = {(other.node, other.ports.x) for other in layers}
    found = set()
    for name, grid in made(layer).items():
        if _meets_floats(values[name], sequences):
            found.add(grid)
    return found


def _meets_floats(value: ir.Value, sequences: set[tuple[str, str]]) -> bool:
    pending = [value]
    while pending:
        current = pending.pop()
        if current.is_graph_output():
            return True
        for use, index in current.uses():
            if (use.name, current.name) in sequences and index == 0:
                continue
            if use.op_type not in MOVEMENTS or index != 0:
                return True
            pending.extend(use.outputs)
    return False
