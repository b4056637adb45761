"""Descriptions of graph inputs and outputs: what their numbers are, and on which grid.

Viewers such as Netron show them. States of the step form have their own
(`onnxgru.passes.forms.states`).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnxgru.core.integers import Quantization
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.passes.graph.values import named
from onnxgru.passes.lowering.codes import MOVEMENTS


def descriptions(graph: ir.Graph, program: IntegerProgram) -> dict[str, str]:
    """Descriptions of the inputs and outputs of a normalised graph, by name.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Of the normalised model, with its recurrent nodes.
    program : IntegerProgram
        The program that they become.
    """
    values = named(graph)
    read: dict[str, list[str]] = {}
    made: dict[str, str] = {}
    for layer in program.layers:
        for name, text in _read(layer):
            source = _moved_from(values.get(name))
            if source is not None and source.is_graph_input():
                read.setdefault(str(source.name), []).append(text)
        made |= dict(_made(layer))
    found = {}
    for value in graph.inputs:
        texts = read.get(str(value.name)) or ["Read outside of the quantised layers."]
        found[str(value.name)] = _joined(value.doc_string, texts)
    for value in graph.outputs:
        current: ir.Value | None = value
        while current is not None and current.name not in made:
            current = _before(current)
        text = "Computed outside of the quantised layers."
        if current is not None:
            text = made[str(current.name)]
        found.setdefault(str(value.name), _joined(value.doc_string, [text]))
    return found


def describe(model: ir.Model, texts: Mapping[str, str]) -> None:
    """Write descriptions into a graph."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in texts:
            value.doc_string = texts[str(value.name)]


def _read(layer: IntegerLayer) -> Iterator[tuple[str, str]]:
    """Names of the float values that a layer reads, with their descriptions."""
    if not layer.reads_codes:
        grid = _grid(layer.input.quantization)
        yield layer.ports.x, f"Layer {layer.name} rounds these numbers to {grid}."
    for carry, name in layer.ports.initial.items():
        grid = _grid(layer.grids[layer.carries[carry]].quantization)
        yield name, f"First value of the state of layer {layer.name}, rounded to {grid}."
    if layer.ports.lengths:
        yield layer.ports.lengths, f"Steps of each recording in layer {layer.name}."


def _made(layer: IntegerLayer) -> Iterator[tuple[str, str]]:
    """Names of the float values that a layer computes, with their descriptions."""
    ports = layer.ports
    given = {ports.sequence: layer.output}
    given |= {name: layer.carries[carry] for carry, name in ports.last.items()}
    for name, grid in given.items():
        if name:
            text = _grid(layer.grids[grid].quantization)
            yield name, f"Layer {layer.name} gives these numbers, from {text}."


def _grid(quantization: Quantization) -> str:
    """A grid in words."""
    scale = float(np.float32(quantization.scale))
    return (
        f"codes of {quantization.bits} bits, scale {scale:.9g}, "
        f"zero point {quantization.zero_point}"
    )


def _before(value: ir.Value) -> ir.Value | None:
    """The value that a movement made this one from; None where no movement made it."""
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type in MOVEMENTS else None


def _moved_from(value: ir.Value | None) -> ir.Value | None:
    """The value that all movements in front of a value start from."""
    while value is not None and (source := _before(value)) is not None:
        value = source
    return value


def _joined(before: str | None, texts: list[str]) -> str:
    return " ".join(filter(None, (before, *dict.fromkeys(texts))))
