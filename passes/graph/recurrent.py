"""Recurrent nodes: the roles of their inputs and outputs.

These are the recurrent operators of ONNX, and the canonical nodes that stand for cells in the body
of a ``Scan`` or ``Loop`` (`onnxgru.passes.bodies.canonical`).

Source: ONNX operator specification, ``GRU``, ``LSTM`` and ``RNN``. Only normalisation and
recognition use roles; a recognised layer has the names of its values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.passes.graph import description


@dataclass(frozen=True)
class Signature:
    """Roles of an operator's inputs and outputs, in order.

    Parameters
    ----------
    inputs, outputs : tuple of str
        Roles.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h")

SIGNATURES = {
    "GRU": Signature(_INPUTS, ("Y", "Y_h")),
    "LSTM": Signature((*_INPUTS, "initial_c", "P"), ("Y", "Y_h", "Y_c")),
    "RNN": Signature(_INPUTS, ("Y", "Y_h")),
}
"""Signatures by operator of the domain ``""``."""

LENGTHS = "sequence_lens"
INITIAL = ("initial_h", "initial_c")
"""Roles of the initial values, (D, B, H)."""
LAST = ("Y_h", "Y_c")
"""Roles of last values, (D, B, H)."""


def signature(node: ir.Node) -> Signature | None:
    """Roles of a node's inputs and outputs; None where it is no recurrent node."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if (found := description.description(node)) is not None:
        names = [carry.name for carry in found.cell.carries]
        more = (LENGTHS, "step") if found.lengths else ()
        return Signature((*map(first, names), *more, "X"), (*map(last, names), *more, "Y"))
    return SIGNATURES.get(node.op_type)


def first(carry: str) -> str:
    """Role of the initial value of a canonical node's carry."""
    return f"first {carry}"


def last(carry: str) -> str:
    """Role of the last value of a canonical node's carry."""
    return f"last {carry}"


def recurrent_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Recurrent nodes of a graph itself, in graph order."""
    return (node for node in graph if signature(node) is not None)


def initial(node: ir.Node) -> tuple[str, ...]:
    """Roles of a node's initial values, (D, B, H)."""
    found = description.description(node)
    return INITIAL if found is None else tuple(first(c.name) for c in found.cell.carries)


def final(node: ir.Node) -> tuple[str, ...]:
    """Roles of a node's last values, (D, B, H)."""
    found = description.description(node)
    return LAST if found is None else tuple(last(c.name) for c in found.cell.carries)


def inputs(node: ir.Node) -> dict[str, ir.Value]:
    """Inputs of a recurrent node that are given, by role."""
    found = signature(node)
    roles = found.inputs if found is not None else ()
    return {r: v for r, v in zip(roles, node.inputs, strict=False) if v is not None}


def outputs(node: ir.Node) -> dict[str, ir.Value]:
    """Outputs of a recurrent node that have a name, by role."""
    found = signature(node)
    roles = found.outputs if found is not None else ()
    return {r: v for r, v in zip(roles, node.outputs, strict=False) if v.name}


def read(node: ir.Node) -> dict[str, ir.Value]:
    """Outputs of a recurrent node that something reads, by role."""
    made = outputs(node)
    return {role: v for role, v in made.items() if v.uses() or v.is_graph_output()}


def connect(node: ir.Node, role: str, value: ir.Value | None) -> None:
    """Give a recurrent node another value for a role."""
    found = signature(node)
    if found is None:
        raise ValueError(f"{node.name} is {node.op_type}, no recurrent operator")
    place = found.inputs.index(role)
    node.resize_inputs(max(len(node.inputs), place + 1))
    node.replace_input_with(place, value)


def batch_first(node: ir.Node) -> bool:
    """Whether a recurrent node has ``layout=1``."""
    return bool(node.attributes.get_int("layout", 0))
