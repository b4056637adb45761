"""Tables: the number of values that an integer input may take, where the graph tells it.

An input is followed forwards through operators that only move values, up to a ``Gather`` from a
table of constant size (an embedding) or a ``OneHot`` of constant depth.
"""

from collections.abc import Iterator

import onnx_ir as ir

_MOVING = frozenset(
    {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Slice"}
    | {"Gather", "Concat", "Split", "Expand", "Tile"}
)
_DATA, _INDICES, _DEPTH = 0, 1, 1


def sizes(graph: ir.Graph) -> dict[str, int]:
    """Sizes n of the tables that integer inputs index, by name; the inputs may be 0 .. n - 1.

    An input of several tables has the size of the smallest.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Normalised.
    """
    found = {}
    for value in graph.inputs:
        if value.dtype is not None and value.dtype.is_integer():
            known = list(_tables(value, set()))
            if known:
                found[str(value.name)] = min(known)
    return found


def _tables(value: ir.Value, seen: set[ir.Value]) -> Iterator[int]:
    """Sizes of the tables that a value is looked up in."""
    if value in seen:
        return
    seen.add(value)
    for use in value.uses():
        node, place = use.node, use.idx
        if node.op_type == "Gather" and place == _INDICES:
            table, axis = node.inputs[_DATA], node.attributes.get_int("axis", 0)
            if table is not None and table.shape is not None:
                size = table.shape[axis]
                if isinstance(size, int):
                    yield size
        elif node.op_type == "OneHot" and place == _DATA:
            depth = node.inputs[_DEPTH]
            if depth is not None and depth.const_value is not None:
                yield int(depth.const_value.numpy().reshape(-1)[0])
        elif node.op_type in _MOVING and (place == _DATA or node.op_type == "Concat"):
            for output in node.outputs:
                yield from _tables(output, seen)
