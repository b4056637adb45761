"""Reach: which graph outputs depend on recurrent layers, and which operator makes each output.

The first is followed forwards from the layers' outputs, also through values that subgraphs capture.
The second is followed backwards from the graph's outputs, through operators that only move values.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.core.network import Layer, LookupOperator
from onnxgru.passes.graph.values import reads

SCORES = ("Softmax", "LogSoftmax", "Hardmax")
"""Operators whose results are scores of classes."""

_MOVING = frozenset(
    {"Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Cast", "Dropout"}
)
_TAKING = frozenset({"Gather", "Slice"})
"""Operators that take a part; followed where the last axis stays whole, as for the last step."""

_JOINING = frozenset({"Concat", "Split"})
RECURRENCE = "a recurrence"
"""`Maker.operator` of values that are states of layers."""
_SLICED = 3


@dataclass(frozen=True)
class Maker:
    """How an output is made.

    Parameters
    ----------
    operator : str
        The operator that computes its values, before others move them. Empty for a graph input or
        an initializer.
    features : int, optional
        Number of features of a dense layer that no function follows.
    last_state : bool
        Whether it consists of last states of layers only.
    """

    operator: str
    features: int | None = None
    last_state: bool = False


def reached(graph: ir.Graph, layers: Iterable[Layer]) -> frozenset[str]:
    """Names of the graph's outputs that depend on a layer.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Normalised: topologically sorted.
    layers : iterable of Layer
        Its recurrent nodes.
    """
    nodes = {layer.node for layer in layers}
    known: set[ir.Value] = set()
    for node in graph:
        if node.name in nodes or any(value in known for value in reads(node)):
            known.update(node.outputs)
    return frozenset(str(value.name) for value in graph.outputs if value in known)


def maker(graph: ir.Graph, name: str, layers: Collection[Layer]) -> Maker:
    """How an output of a graph is made."""
    last = {name for layer in layers for name in layer.ports.last.values()}
    value = next(output for output in graph.outputs if output.name == name)
    if _is_last_state(value, last):
        return Maker(RECURRENCE, last_state=True)
    node = _moved(value)
    if node is None:
        return Maker("")
    for layer in layers:
        if layer.node == node.name and not layer.recurrent:
            *_, end = layer.operators
            if isinstance(end, LookupOperator):
                return Maker(end.function.name)
            return Maker(layer.attributes["operator"], layer.hidden_size)
    return Maker(node.op_type, _features(node))


def _moved(value: ir.Value | None) -> ir.Node | None:
    """The node that computes a value, before others only move it."""
    while value is not None:
        node = value.producer()
        if node is None:
            return None
        if node.op_type not in _MOVING and not (node.op_type in _TAKING and _keeps_last(node)):
            return node
        value = node.inputs[0]
    return None


def _keeps_last(node: ir.Node) -> bool:
    """Whether a Gather or a Slice leaves the last axis whole."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return False
    rank = len(value.shape)
    if node.op_type == "Gather":
        return node.attributes.get_int("axis", 0) % rank != rank - 1
    given = node.inputs[_SLICED] if len(node.inputs) > _SLICED else None
    if given is None or given.const_value is None:
        return False
    return all(int(axis) % rank != rank - 1 for axis in given.const_value.numpy())


def _features(node: ir.Node) -> int | None:
    """Features of a dense layer: Gemm, or MatMul with constant weights, and a bias or none."""
    if node.op_type == "Add":
        products = [value for value in node.inputs if value is not None]
        dense = [value.producer() for value in products if value.const_value is None]
        if len(dense) != 1 or dense[0] is None or dense[0].op_type != "MatMul":
            return None
        node = dense[0]
    if node.op_type not in ("Gemm", "MatMul") or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 2:
        return None
    rows, columns = weight.const_value.numpy().shape
    turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
    return int(rows if turned else columns)


def _is_last_state(value: ir.Value | None, last: set[str]) -> bool:
    """Whether a value consists of last states of layers, moved, joined or split."""
    if value is None:
        return False
    if value.name in last:
        return True
    node = value.producer()
    if node is None:
        return False
    if node.op_type in _JOINING:
        parts = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        return all(_is_last_state(part, last) for part in parts)
    if node.op_type in _MOVING | _TAKING:
        return _is_last_state(node.inputs[0], last)
    return False
