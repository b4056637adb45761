"""What a graph holds: values by name, names of every scope, readers, values that are constant."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_MOVING = frozenset(
    {"Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)


def named(graph: ir.Graph) -> dict[str, ir.Value]:
    """Values of a graph itself, by name."""
    found = {str(value.name): value for value in graph.inputs} | dict(graph.initializers)
    return found | {str(v.name): v for node in graph for v in node.outputs if v.name}


def graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """A graph and the subgraphs of its nodes, at any depth."""
    yield graph
    for node in graph:
        for inner in subgraphs(node):
            yield from graphs(inner)


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The subgraphs of a node itself, such as the branches of an ``If``."""
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Values of its graph that a node reads, those that its subgraphs capture included."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node):
        inside = {value for one in graph for value in one.outputs} | set(graph.inputs)
        captured = (*(value for one in graph for value in reads(one)), *graph.outputs)
        yield from (value for value in captured if value not in inside)


def uses_by_graph(value: ir.Value) -> dict[ir.Graph, list[tuple[ir.Node, int]]]:
    """Nodes that read a value, with the index of the input, by the graph that they are in."""
    found: dict[ir.Graph, list[tuple[ir.Node, int]]] = {}
    for node, index in value.uses():
        if isinstance(node.graph, ir.Graph):
            found.setdefault(node.graph, []).append((node, index))
    return found


def take_place(old: ir.Value, new: ir.Value, former: str | None = None) -> None:
    """Put a value into the place of another one: uses, name, shape and type.

    Parameters
    ----------
    old, new : onnx_ir.Value
        The values.
    former : str, optional
        Name of the old value from now on; none where its node is removed at once.
    """
    new.shape, new.type = old.shape, old.type
    kept = old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    old.name, new.name = former, kept


def value_names(graph: ir.Graph) -> set[str]:
    """Names of every value in a graph and its subgraphs."""
    names: set[str] = set()
    for scope in graphs(graph):
        names.update(str(value.name) for value in scope.inputs)
        names.update(scope.initializers)
        names.update(str(value.name) for node in scope for value in node.outputs if value.name)
    return names


def unique(wanted: str, taken: set[str]) -> str:
    """A name that is not taken: `wanted`, or that with a number. It is added to `taken`."""
    name, count = wanted, 0
    while not name or name in taken:
        name = f"{wanted}_{count}"
        count += 1
    taken.add(name)
    return name


def constant(name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """An initializer that holds an array."""
    if array.dtype.kind == "O":
        words = [word if isinstance(word, bytes) else str(word).encode() for word in array.flat]
        tensor: ir.TensorProtocol = ir.StringTensor(words, shape=ir.Shape(array.shape), name=name)
    else:
        tensor = ir.tensor(array, name=name)
    return ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )


def move(value: ir.Value, source: ir.Graph, target: ir.Graph, name: str) -> None:
    """Move an initializer to another graph or name.

    It becomes a new value: renaming the old one would rename its tensor too, which clones share.
    """
    del source.initializers[str(value.name)]
    if value.const_value is None:
        return
    moved = constant(name, value.const_value.numpy())
    moved.shape, moved.type = value.shape, value.type
    ir.convenience.replace_all_uses_with(value, moved, replace_graph_outputs=True)
    target.register_initializer(moved)


def constant_value(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of a constant value, computed through nodes if needed; None if it varies."""
    if value is None or value.is_graph_input():
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or not _computable(node):
        return None
    from onnx.reference import ReferenceEvaluator

    operands = [constant_value(operand) for operand in node.inputs]
    feeds = {str(v.name): a for v, a in zip(node.inputs, operands, strict=True) if v is not None}
    results: Any = ReferenceEvaluator(ir.to_proto(node)).run(None, feeds)
    return np.asarray(results[value.index() or 0])


def _computable(node: ir.Node) -> bool:
    """Whether everything that a node is computed from is constant."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if current.op_type.startswith("Random") or current.domain != "":
            return False
        if any(True for _ in subgraphs(current)):
            return False
        for value in current.inputs:
            if value is None or (value.const_value is not None and not value.is_graph_input()):
                continue
            producer = value.producer()
            if producer is None:
                return False
            if producer not in seen:
                seen.add(producer)
                pending.append(producer)
    return True


def is_zero(value: ir.Value | None) -> bool:
    """Whether a value is zero everywhere, whatever its shape."""
    array = constant_value(value)
    if array is not None:
        return not array.any()
    node = value.producer() if value is not None else None
    if node is None:
        return False
    if node.op_type == "ConstantOfShape":
        tensor = node.attributes.get_tensor("value", None)
        return tensor is None or not tensor.numpy().any()
    if node.op_type == "Concat":
        return all(is_zero(operand) for operand in node.inputs)
    return node.op_type in _MOVING and is_zero(node.inputs[0])


def drop_unused(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    """Remove initializers that no node of the graph or of its subgraphs reads.

    `onnx_ir.Value.uses` would not tell: it lists nodes that have been removed from a graph too.
    """
    read = {operand for scope in graphs(graph) for node in scope for operand in node.inputs}
    read.update(output for scope in graphs(graph) for output in scope.outputs)
    for value in list(values):
        if value not in read and not value.is_graph_input():
            del graph.initializers[str(value.name)]
