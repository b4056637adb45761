"""Canonicalize: a recurrence written out in the body of a ``Scan`` or ``Loop`` becomes canonical.

See `onnxgru.passes.bodies.canonical`. A node whose body is no cell is left as it is, and
`onnxgru.passes.normal.elsewhere` gives the reason. Graphs that onnxgru wrote are left alone.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from onnxgru.core.metadata import VERSION
from onnxgru.core.tape import Tape
from onnxgru.passes.bodies import canonical, iteration, moving, tables
from onnxgru.passes.bodies.equations import Carried, Equations
from onnxgru.passes.bodies.lengths import turned
from onnxgru.passes.bodies.moving import Axes
from onnxgru.passes.bodies.tables import Bound
from onnxgru.passes.bodies.terms import UnknownError
from onnxgru.passes.graph import description
from onnxgru.passes.graph.description import Description
from onnxgru.passes.graph.shapes import Shapes
from onnxgru.passes.graph.values import constant_value, graphs, subgraphs, take_place


class Canonicalize(ir.passes.InPlacePass):
    """Rewrite every ``Scan`` and ``Loop`` of the main graph that is a recurrent layer."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite those that are not canonical yet."""
        nodes = [node for node in model.graph if is_iteration(node)]
        if not nodes or VERSION in model.metadata_props:
            return ir.passes.PassResult(model, modified=False)
        modified = Shapes()(model).modified
        for node in nodes:
            try:
                found = iteration.equations(node)
                bound = tables.bound(found)
            except UnknownError:
                continue
            _replace(model.graph, node, found, bound)
            modified = True
        return ir.passes.PassResult(model, modified)


def is_iteration(node: ir.Node) -> bool:
    """Whether a node is a ``Scan`` or ``Loop`` that is not canonical."""
    own = node.op_type in iteration.ITERATING and node.domain in ("", "ai.onnx")
    return own and description.CELL not in node.metadata_props


def reason(node: ir.Node) -> str:
    """Why a ``Scan`` or ``Loop`` is not rewritten; empty where it can be."""
    try:
        tables.bound(iteration.equations(node))
    except UnknownError as error:
        return str(error)
    return ""


def _replace(graph: ir.Graph, node: ir.Node, found: Equations, bound: Bound) -> None:
    name = str(node.name)
    tape = Tape(graph=graph)
    carried = {each.source: each for each in found.carried}
    order = [carried[term] for term in bound.carries]
    described = Description(
        node.op_type,
        bound.cell,
        bound.functions,
        found.source.width,
        order[0].source.width,
        found.reverse,
        found.mask is not None,
        canonical.free_place(graph, name),
    )
    inputs = [
        _first(tape, each, f"{name}/first/{carry.name}")
        for each, carry in zip(order, bound.cell.carries, strict=True)
    ]
    if found.mask is not None:
        lengths = tape.op("Cast", found.mask.lengths, to=ir.DataType.INT64, name=f"{name}/lengths")
        inputs += [lengths, tape.constant(f"{name}/step", np.asarray(0, np.int64))]
    inputs.append(_sequence(tape, found, name))
    made = canonical.write(tape, name, bound, described, inputs)
    emitted = made[-1]
    if found.holding is not None:
        last = made[bound.carries.index(found.holding)]
        emitted = canonical.held(tape, emitted, last, inputs[-1], lengths, f"{name}/held")
    results = [
        (each.last, value, each.axes, False, carry.name)
        for each, value, carry in zip(order, made, bound.cell.carries, strict=False)
    ]
    if found.emitted is not None:
        results.append((found.emitted.value, emitted, found.emitted.axes, True, "emitted"))
    for old, value, axes, sequence, label in results:
        if old is None:
            continue
        places = [(old, axes), *(_turned_again(old, axes) if sequence else ())]
        for each, letters in places:
            new = canonical.left(tape, value, letters, f"{name}/{label}", sequence=sequence)
            placed = tape.op("Identity", new) if new is value else new
            take_place(each, placed, tape.name(f"{each.name}/replaced"))
    for old, first in found.kept:
        ir.convenience.replace_all_uses_with(old, first, replace_graph_outputs=True)
    graph.insert_before(node, tape.nodes)
    for inner in (n for body in subgraphs(node) for scope in graphs(body) for n in scope):
        for place in range(len(inner.inputs)):
            inner.replace_input_with(place, None)  # else what it captured would count as used
    graph.remove(node, safe=True)
    scan = made[0].producer()
    if scan is not None:
        scan.name = name
    tape.register(graph)


def _first(tape: Tape, carried: Carried, name: str) -> ir.Value:
    """The value (1, B, H) before the first step: an initializer where it is constant."""
    value = canonical.entered(tape, carried.first, carried.axes, name, sequence=False)
    array = constant_value(value)
    return value if array is None else tape.constant(name, array)


def _turned_again(value: ir.Value, axes: Axes) -> Iterator[tuple[ir.Value, Axes]]:
    """Copies of a sequence that runs backwards with time turned around, and their axes."""
    pending = [(value, axes)] if moving.BACK in axes else []
    while pending:
        current, places = pending.pop()
        for node, _ in current.uses():
            result = node.outputs[0]
            if turned(node) == places.index(moving.BACK):
                yield result, moving.turned(places)
            elif node.op_type == "Transpose" and (order := node.attributes.get_ints("perm", ())):
                pending.append((result, tuple(places[place] for place in order)))


def _sequence(tape: Tape, found: Equations, name: str) -> ir.Value:
    """The sequence (T, B, I) that the layer reads: several side by side."""
    parts = [
        canonical.entered(tape, root.value, root.axes, f"{name}/x", sequence=True)
        for root in found.roots
    ]
    return parts[0] if len(parts) == 1 else tape.op("Concat", *parts, axis=2, name=f"{name}/x")
