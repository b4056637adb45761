"""Heads: dense layers around recurrent layers become canonical, so that they are quantised too.

A dense layer is ``Gemm``, or ``MatMul`` and ``Add``, with constant weights, and an activation that
alone reads its result, if there is one. It becomes the canonical node
(`onnxgru.passes.bodies.canonical`) of a table without carries. Its sequence (T, B, I) is the input;
an input of two axes becomes (1, B, I). No step of such a node depends on another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxgru.core.activations import Activation
from onnxgru.core.cells import DENSE, DENSE_ACTIVATED, Cell
from onnxgru.core.integers import Floats
from onnxgru.core.tape import Tape
from onnxgru.passes.bodies import canonical
from onnxgru.passes.bodies.reading import FUNCTIONS, function
from onnxgru.passes.bodies.tables import Bound
from onnxgru.passes.graph.description import CELL, Description
from onnxgru.passes.graph.recurrent import recurrent_nodes
from onnxgru.passes.graph.values import constant_value, take_place

MATRIX, SEQUENCE = 2, 3
"""Axes that the input of a dense layer may have."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense layer as the nodes of a graph.

    Parameters
    ----------
    nodes : tuple of onnx_ir.Node
        Product, bias and activation, without those that are missing.
    x, y : onnx_ir.Value
        Its input and its output.
    weight : ndarray of float32, shape (outputs, inputs)
        Weights.
    bias : ndarray of float32, shape (outputs,)
        Biases.
    function : Activation, optional
        The activation.
    name : str
        Name of its weights in torch without ``.weight``, or of its first node.
    """

    nodes: tuple[ir.Node, ...]
    x: ir.Value
    y: ir.Value
    weight: Floats
    bias: Floats
    function: Activation | None
    name: str

    @property
    def cell(self) -> Cell:
        """Its table."""
        return DENSE if self.function is None else DENSE_ACTIVATED


class Heads(ir.passes.InPlacePass):
    """Rewrite the dense layers that are before or behind a recurrent layer."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite them; the graph must have shapes."""
        graph = model.graph
        near = _near(graph)
        modified = False
        for node in list(graph):
            if node in near and (found := dense(node)) is not None:
                _replace(graph, found)
                modified = True
        return ir.passes.PassResult(model, modified)


def dense(node: ir.Node) -> Dense | None:
    """The dense layer that begins with a node; None where none does."""
    if node.domain not in ("", "ai.onnx"):
        return None
    product = _PRODUCTS.get(node.op_type)
    found = None if product is None else product(node)
    if found is None:
        return None
    nodes, weight, bias = found
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) not in (MATRIX, SEQUENCE):
        return None
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return None
    y = nodes[-1].outputs[0]
    function = None
    follower = _only_reader(y)
    if follower is not None and (function := _function(follower)) is not None:
        nodes, y = (*nodes, follower), follower.outputs[0]
    stored = node.inputs[1]
    name = str(node.name)
    if stored is not None and str(stored.name).endswith(".weight"):
        name = str(stored.name).removesuffix(".weight")
    return Dense(nodes, x, y, weight, bias, function, name)


Product = tuple[tuple[ir.Node, ...], Floats, Floats]


def _gemm(node: ir.Node) -> Product | None:
    get = node.attributes.get_float
    weight = _matrix(node)
    if weight is None or node.attributes.get_int("transA", 0) != 0:
        return None
    if not node.attributes.get_int("transB", 0):
        weight = weight.T
    bias = np.zeros(len(weight), np.float32)
    if len(node.inputs) > MATRIX and node.inputs[MATRIX] is not None:
        added = _vector(node.inputs[MATRIX], len(weight))
        if added is None:
            return None
        bias = added
    return (node,), weight * np.float32(get("alpha", 1.0)), bias * np.float32(get("beta", 1.0))


def _matmul(node: ir.Node) -> Product | None:
    weight = _matrix(node)
    if weight is None:
        return None
    weight = weight.T
    follower = _only_reader(node.outputs[0])
    if follower is not None and follower.op_type == "Add" and follower.domain == "":
        others = [value for value in follower.inputs if value is not node.outputs[0]]
        if len(others) == 1 and (bias := _vector(others[0], len(weight))) is not None:
            return (node, follower), weight, bias
    return (node,), weight, np.zeros(len(weight), np.float32)


_PRODUCTS: dict[str, Callable[[ir.Node], Product | None]] = {"Gemm": _gemm, "MatMul": _matmul}


def _matrix(node: ir.Node) -> Floats | None:
    array = constant_value(node.inputs[1])
    if array is None or array.ndim != MATRIX or array.dtype != np.float32:
        return None
    return np.ascontiguousarray(array)


def _vector(value: ir.Value | None, size: int) -> Floats | None:
    """A constant that differs along the last axis only, as (size,)."""
    array = constant_value(value)
    if array is None or array.dtype != np.float32 or array.size not in (1, size):
        return None
    if array.ndim and array.shape[-1] != array.size:
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (size,)))


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0][0]


def _function(node: ir.Node) -> Activation | None:
    """The function that a node computes; None where it is none of one input."""
    if node.op_type not in FUNCTIONS or node.domain != "" or len(node.inputs) != 1:
        return None
    return function(node)


def _near(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that a recurrent node depends on, or that depend on one."""
    recurrent = list(recurrent_nodes(graph))

    def spread(step: Callable[[ir.Node], Iterator[ir.Node]]) -> set[ir.Node]:
        seen: set[ir.Node] = set()
        pending = list(recurrent)
        while pending:
            for other in step(pending.pop()):
                if other not in seen:
                    seen.add(other)
                    pending.append(other)
        return seen

    def before(node: ir.Node) -> Iterator[ir.Node]:
        for value in node.inputs:
            if value is not None and (maker := value.producer()) is not None:
                yield maker

    def behind(node: ir.Node) -> Iterator[ir.Node]:
        for value in node.outputs:
            yield from (user for user, _ in value.uses())

    return spread(before) | spread(behind)


def _replace(graph: ir.Graph, found: Dense) -> None:
    first, last = found.nodes[0], found.nodes[-1]
    taken = {str(node.name) for node in graph if node not in found.nodes}
    name = found.name if found.name not in taken else str(first.name)
    flat = len(found.x.shape or ()) == MATRIX
    functions = {} if found.function is None else {"f": found.function}
    outputs, inputs = found.weight.shape
    described = Description(
        first.op_type, found.cell, functions, inputs, outputs, reverse=False, lengths=False,
        place=canonical.free_place(graph, name),
    )  # fmt: skip
    bound = Bound(found.cell, {"product": (found.weight, found.bias)}, functions, ())
    tape = Tape(graph=graph)
    x = tape.op("Unsqueeze", found.x, tape.axes(0), name=f"{name}/x") if flat else found.x
    (made,) = canonical.write(tape, name, bound, described, [x])
    y = tape.op("Squeeze", made, tape.axes(*((0, 1) if flat else (1,))), name=f"{name}/result")
    take_place(found.y, y, tape.name(f"{found.y.name}/replaced"))
    graph.insert_before(last, tape.nodes)
    for node in reversed(found.nodes):
        graph.remove(node, safe=True)
    host = made.producer()
    if host is not None and CELL in host.metadata_props:
        host.name = name
    tape.register(graph)
