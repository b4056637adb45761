"""Canonical nodes, which stand for cells in the body of a ``Scan`` or ``Loop``, and for heads."""

import onnx_ir as ir

from onnxgru.core.network import Layer, Ports, Recurrence
from onnxgru.passes.graph import description, recurrent
from onnxgru.passes.graph.values import is_zero


def layer(node: ir.Node, prefix: str) -> Layer | None:
    """The layer of a canonical node; None for any other.

    Parameters
    ----------
    node : onnx_ir.Node
        Of a normalised graph.
    prefix : str
        Name of the layer.
    """
    found, graph = description.description(node), node.graph
    if found is None or not isinstance(graph, ir.Graph):
        return None
    cell = found.cell
    direction = "reverse" if found.reverse else "forward"
    name = f"{prefix}/{direction}"
    operators = found.operators(name, found.numbers(graph))
    recurrence = Recurrence.of(cell, name, operators, reverse=found.reverse)
    given, made = recurrent.inputs(node), recurrent.read(node)
    first = {carry.name: given[recurrent.first(carry.name)] for carry in cell.carries}
    last = {carry.name: made.get(recurrent.last(carry.name)) for carry in cell.carries}
    ports = Ports(
        str(given["X"].name),
        str(given[recurrent.LENGTHS].name) if found.lengths else "",
        {carry: str(value.name) for carry, value in first.items() if not is_zero(value)},
        str(made["Y"].name) if "Y" in made else "",
        {carry: str(value.name) for carry, value in last.items() if value is not None},
    )
    shown = {
        "direction": direction,
        "operator": found.operator,
        "activations": ", ".join(function.name for function in found.functions.values()),
    }
    return Layer(
        prefix,
        str(node.name),
        cell,
        (recurrence,),
        found.input_size,
        found.hidden_size,
        ports,
        shown,
    )
