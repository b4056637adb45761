"""Columns: numbers of operators that are computed side by side are spread over columns at once.

Two operators of n columns each have numbers of their own, such as powers of two. A packed graph
spreads a pair of them by ``Reshape(Expand(numbers (2, 1), (2, n)), -1)``. This pass merges m such
constants into one::

    Split(Reshape(Expand(numbers (m, 2, 1), (m, 2, n)), -1), m)
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.tape import SHARED, Tape
from onnxgru.passes.graph.values import drop_unused, graphs


@dataclass(frozen=True, eq=False)
class _Spread:
    """One constant: its numbers, (k, 1) int32, and the two nodes that spread them."""

    numbers: npt.NDArray[np.int32]
    columns: int
    expand: ir.Node
    reshape: ir.Node


class Columns(ir.passes.InPlacePass):
    """Spread constants of equal shape together, separately in every graph and subgraph."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Merge the constants wherever two or more have the same shape."""
        root = Tape(graph=model.graph, small=True)
        read: list[ir.Value] = []
        for scope in graphs(model.graph):
            alike: dict[tuple[int, int], list[_Spread]] = {}
            for spread in filter(None, map(_spread, scope)):
                alike.setdefault((spread.numbers.size, spread.columns), []).append(spread)
            for spreads in alike.values():
                if len(spreads) > 1:
                    read += [value for s in spreads for value in s.expand.inputs if value]
                    _together(scope, root, spreads)
        root.register(model.graph)
        drop_unused(model.graph, dict.fromkeys(read))
        return ir.passes.PassResult(model, bool(read))


def _spread(expand: ir.Node) -> _Spread | None:
    """The constant that an Expand spreads, if a Reshape to one axis follows it."""
    if expand.op_type != "Expand" or len(expand.outputs[0].uses()) != 1:
        return None
    ((reshape, _),) = expand.outputs[0].uses()
    numbers, shape = map(_stored, expand.inputs)
    if numbers is None or shape is None or numbers.dtype != np.int32 or numbers.ndim != 2:
        return None
    if reshape.op_type != "Reshape" or numbers.shape != (shape[0], 1):
        return None
    flat = _stored(reshape.inputs[1])
    if flat is None or flat.tolist() != [-1]:
        return None
    return _Spread(numbers.astype(np.int32), int(shape[1]), expand, reshape)


def _stored(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer; None where a value is computed or a graph input."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def _together(scope: ir.Graph, root: Tape, spreads: list[_Spread]) -> None:
    """Spread several constants of a graph by one Expand, one Reshape and one Split."""
    tape, count = Tape(root), len(spreads)
    size, columns = spreads[0].numbers.size, spreads[0].columns
    numbers = np.stack([spread.numbers for spread in spreads])
    names = (f"{SHARED}columns/{place}" for place in itertools.count())
    name = next(name for name in names if name not in root.constants)
    stored = tape.shared(name, numbers)
    wide = tape.op("Expand", stored, tape.axes(count, size, columns))
    flat = tape.op("Reshape", wide, tape.axes(-1))
    parts = tape.multiple("Split", [flat], [None] * count, num_outputs=count)
    scope.insert_before(spreads[0].expand, tape.nodes)
    for spread, part in zip(spreads, parts, strict=True):
        ir.convenience.replace_all_uses_with(spread.reshape.outputs[0], part)
        for node in (spread.reshape, spread.expand):
            scope.remove(node, safe=True)
