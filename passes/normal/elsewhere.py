"""Elsewhere: recurrences that are left in float, with the reason.

onnxgru quantises recurrent nodes of the main graph. Users are told of other recurrences:

1. nodes of other recurrent operators, or of other domains;
2. recurrent nodes in subgraphs (``If``, ``Loop``, ``Scan``) at any depth;
3. a ``Loop`` or ``Scan`` with a matrix product in its body that is no cell;
4. a cell as elementary operators in the main graph. Of unrolled steps, the same weights multiply a
   value that already depends on them through a sigmoid or tanh. Of a single step, a sigmoid
   multiplies a graph input and a tanh is added.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.passes.graph.values import graphs, subgraphs
from onnxgru.passes.normal.canonicalize import is_iteration, reason

_PRODUCTS = frozenset({"MatMul", "Gemm"})
_GATES = frozenset({"Sigmoid", "Tanh", "HardSigmoid"})
_RECURRENT = re.compile("GRU|LSTM|RNN")
_MOVING = frozenset(
    {"Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
_MIXING = frozenset({"Add", "Mul", "Sub"}) | _MOVING
CURE = ": export the model with its layer as one operator (torch.nn.GRU, not GRUCell)"
"""Advice for a cell that is written out step by step."""
LOOP_CURE = (
    ": export the layer as one operator, such as torch.nn.GRU or torch.nn.LSTM, or write the loop "
    "without this"
)
"""Advice for a loop that is no cell."""


@dataclass(frozen=True)
class Refusal:
    """A recurrence that is left in float, with the reason."""

    node: str
    reason: str


def elsewhere(model: ir.Model, quantized: frozenset[str]) -> Iterator[Refusal]:
    """Recurrences of a normalised model that are not quantised.

    Parameters
    ----------
    model : onnx_ir.Model
        Normalised.
    quantized : frozenset of str
        Recurrent operators of ONNX that are quantised.
    """
    *others, last = sorted(quantized)
    words = f"{', '.join(others)} and {last}" if others else last
    later = f"onnxgru quantises {words} nodes, and cells in the body of a Scan or Loop"
    yield from _nodes(model.graph, "", quantized, later)
    unrolled = list(_unrolled(model.graph, later))
    yield from unrolled or _single(model.graph, later)


def _nodes(graph: ir.Graph, place: str, quantized: frozenset[str], later: str) -> Iterator[Refusal]:
    """Recurrent nodes and loops, at any depth."""
    for node in graph:
        name = str(node.name or node.op_type)
        own = node.domain == ""
        if _RECURRENT.search(node.op_type) and not (
            own and node.op_type in quantized and not place
        ):
            kind = node.op_type if own else f"{node.op_type} of domain {node.domain}"
            if place:
                yield Refusal(name, f"{kind} lies in {place}; {later}, all in the main graph")
            else:
                yield Refusal(name, f"{kind} is not supported yet; {later}")
        found = False
        for inner in subgraphs(node):
            where = f"a subgraph of {node.op_type} node {name!r}"
            found |= any(_RECURRENT.search(n.op_type) for s in graphs(inner) for n in s)
            yield from _nodes(inner, where + (f" in {place}" if place else ""), quantized, later)
        if own and not found and is_iteration(node) and _multiplies(node):
            why = f"it lies in {place}" if place else reason(node) or later
            yield Refusal(name, f"the body of this {node.op_type} is no cell; {why}{LOOP_CURE}")


def _multiplies(node: ir.Node) -> bool:
    """Whether the body of a loop has a matrix product; other loops are no recurrent layers."""
    kinds = {n.op_type for body in subgraphs(node) for s in graphs(body) for n in s}
    return bool(kinds & _PRODUCTS)


def _unrolled(graph: ir.Graph, later: str) -> Iterator[Refusal]:
    """Cells whose steps follow each other in the main graph."""
    uses: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node.op_type in _PRODUCTS:
            for value in node.inputs[:2]:
                if (weight := _weights(value)) is not None:
                    uses.setdefault(weight, []).append(node)
    products = {node: weight for weight, nodes in uses.items() if len(nodes) > 1 for node in nodes}
    made: dict[ir.Value, set[ir.Value]] = {}  # weights that a value depends on
    gated: dict[ir.Value, set[ir.Value]] = {}  # weights that it depends on through a gate
    repeated: dict[ir.Value, int] = {}
    for node in graph if products else ():
        inputs = [value for value in node.inputs if value is not None]
        weights = {w for value in inputs for w in made.get(value, ())}
        behind = {w for value in inputs for w in gated.get(value, ())}
        own = products.get(node)
        if own is not None:
            weights.add(own)
            if own in behind:
                repeated[own] = repeated.get(own, 1) + 1
        if node.op_type in _GATES:
            behind |= weights
        for value in node.outputs:
            made[value], gated[value] = weights, behind
    cells: dict[int, ir.Value] = {}
    for weight, count in repeated.items():
        cells.setdefault(count, weight)
    for count, weight in cells.items():
        yield Refusal(
            str(uses[weight][0].name),
            f"{weight.name} multiplies {count} times what came out of it through a sigmoid or "
            "tanh: a recurrent cell written out as elementary operators, step by step; "
            f"{later}{CURE}",
        )


def _weights(value: ir.Value | None) -> ir.Value | None:
    """The initializer that a value is, or is moved from."""
    while value is not None and not value.is_initializer():
        node = value.producer()
        if node is None or node.op_type not in _MOVING or node.op_type == "Gather":
            return None
        value = node.inputs[0]
    return value


def _single(graph: ir.Graph, later: str) -> Iterator[Refusal]:
    """Cells that the graph computes for one step; the state is a graph input."""
    for node in graph:
        if node.op_type != "Add" or node.domain != "":
            continue
        terms = [value.producer() if value is not None else None for value in node.inputs]
        gated = [term for term in terms if term is not None and _gated(term)]
        if gated and any(_reaches(term, "Tanh", _MIXING) for term in terms if term not in gated):
            yield Refusal(
                str(node.name),
                "a sigmoid weighs a graph input and a tanh is added: one step of a recurrent cell "
                f"written out as elementary operators; {later}{CURE}",
            )


def _gated(node: ir.Node) -> bool:
    """Whether a node is ``z h``, or ``z (h - n)`` as torch writes it.

    z is a sigmoid and h a graph input, which may be moved.
    """
    if node.op_type != "Mul":
        return False
    states = [value for value in node.inputs if _is_state(value) or _differs(value)]
    gates = [v.producer() for v in node.inputs if v is not None and v not in states]
    return bool(states) and any(_reaches(gate, "Sigmoid", _MOVING) for gate in gates)


def _differs(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "Sub" and any(map(_is_state, node.inputs))


def _is_state(value: ir.Value | None) -> bool:
    while value is not None and not value.is_graph_input():
        node = value.producer()
        if node is None or node.op_type not in _MOVING:
            return False
        value = node.inputs[0]
    return value is not None


def _reaches(node: ir.Node | None, kind: str, through: frozenset[str]) -> bool:
    """Whether a node depends on an operator `kind` through operators in `through` only."""
    pending, seen = [node], set()
    while pending:
        current = pending.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        if current.op_type == kind:
            return True
        if current.op_type in through:
            pending += [value.producer() for value in current.inputs if value is not None]
    return False
