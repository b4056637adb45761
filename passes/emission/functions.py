"""Functions: every direction of a recurrent layer becomes one node that calls a local function.

The body of the function is the portable recurrence::

    sequence, last... = onnxgru.Recurrence<recurrence>(x, mask?, first..., parameters...)

Directions whose bodies differ in numbers alone share one function. Stored parameters are inputs of
the function, and so are the other numbers in which the directions differ. Numbers that are equal in
all of them are constants of the body. A runtime without an operator of this name computes the body.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.core.metadata import DOMAIN, RECURRENCE
from onnxgru.core.tape import SHARED, digest
from onnxgru.passes.forms.regions import REGIONS, Region, marked
from onnxgru.passes.graph.cancel import Cancel
from onnxgru.passes.graph.upgrade import IR_VERSION
from onnxgru.passes.graph.values import drop_unused, named, reads, take_place, unique

NAME = "Recurrence"
"""Name of the first function. A number follows it in the names of further ones."""
NUMBER = "number"
"""Name of a parameter that is a number of the arithmetic."""
UP = "../"
"""Prefix of a name in a function that belongs to the layer and not to one direction of it."""


@dataclass(frozen=True, eq=False)
class _Body:
    """The nodes of a region, and the values that they read.

    Parameters
    ----------
    region : Region
        The region.
    inputs, outputs : tuple of onnx_ir.Value
        Values that enter and leave the region.
    nodes : tuple of onnx_ir.Node
        Nodes of the region. Their order depends only on what they compute.
    stored : list of onnx_ir.Value
        Initializers that the nodes read, once for each use, in the order of the uses.
    key : tuple
        Describes the nodes except for the numbers in initializers. Equal for equal structures.
    """

    region: Region
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]
    stored: list[ir.Value]
    key: tuple[Any, ...]

    @classmethod
    def of(cls, region: Region, values: Mapping[str, ir.Value]) -> "_Body":
        """The body of a region of a graph with these values."""
        inputs = tuple(values[name] for name in region.inputs)
        outputs = tuple(values[name] for name in region.outputs)
        nodes = tuple(_below(outputs, set(inputs)))
        look = _Look({value: place for place, value in enumerate(inputs)})
        found = [look.node(node) for node in nodes]
        ends = [look.places[value] for value in outputs]
        return cls(region, inputs, outputs, nodes, look.stored, (len(inputs), *found, *ends))


@dataclass(frozen=True, eq=False)
class _Look:
    """Describes nodes so that nodes of the same structure have equal descriptions."""

    places: dict[ir.Value, int]
    stored: list[ir.Value] = field(default_factory=list)

    def node(self, node: ir.Node) -> tuple[Any, ...]:
        """The description of a node with its subgraphs."""
        cast = node.op_type == "Cast"  # a cast takes any type
        read = [None if v is None else self._operand(v, typed=not cast) for v in node.inputs]
        attributes = sorted(node.attributes.values(), key=lambda attribute: attribute.name)
        values = [(attribute.name, self._attribute(attribute)) for attribute in attributes]
        for value in node.outputs:
            self.places[value] = len(self.places)
        return (node.domain, node.op_type, *read, *values, len(node.outputs))

    def _operand(self, value: ir.Value, *, typed: bool) -> object:
        if not value.is_initializer():
            return self.places[value]
        self.stored.append(value)
        return str(value.dtype) if typed else "", str(value.shape)

    def _attribute(self, attribute: ir.Attr) -> object:
        if attribute.type is not ir.AttributeType.GRAPH:
            return str(attribute.value)
        graph = attribute.as_graph()
        for value in graph.inputs:
            self.places[value] = len(self.places)
        nodes = [self.node(node) for node in graph]
        ends = [self.places[value] for value in graph.outputs]
        kinds = [(str(v.dtype), str(v.shape)) for v in (*graph.inputs, *graph.outputs)]
        return (*nodes, *ends, *kinds)


def _below(outputs: Sequence[ir.Value], given: set[ir.Value]) -> Iterator[ir.Node]:
    """The nodes that compute `outputs` from `given`, each after its operands."""
    seen: set[ir.Node] = set()
    pending = [(value.producer(), False) for value in reversed(outputs) if value not in given]
    while pending:
        node, done = pending.pop()
        if node is None:
            continue
        if done:
            yield node
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            operands = [value for value in reads(node) if value not in given]
            pending += [(value.producer(), False) for value in reversed(operands)]


class _Copy:
    """Copies the nodes of a region, with names for the inside of a function.

    Parameters
    ----------
    place : str
        Name of the recurrence. Names are made relative to it.
    stored : sequence of onnx_ir.Value
        Values that replace the initializers, one for each use, in the order of `_Body.stored`.
    """

    def __init__(self, place: str, stored: Sequence[ir.Value]) -> None:
        self._place, self._stored = place, iter(stored)
        self._names = {str(value.name) for value in stored}
        self.values: dict[ir.Value, ir.Value] = {}

    def value(self, old: ir.Value, wanted: str | None = None) -> ir.Value:
        """A new value for the output of a node or the input of a graph, without its shape."""
        base = wanted or _relative(str(old.name), self._place)
        name, count = base, 0
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        made = self.values[old] = ir.Value(name=name)
        return made

    def node(self, node: ir.Node) -> ir.Node:
        """A copy of a node with its subgraphs."""
        read = [None if value is None else self._operand(value) for value in node.inputs]
        attributes = [
            self._graph(attribute) if attribute.type is ir.AttributeType.GRAPH else attribute
            for attribute in sorted(node.attributes.values(), key=lambda each: each.name)
        ]
        outputs = [self.value(value) for value in node.outputs]
        name = _relative(str(node.name or ""), self._place)
        return ir.Node(node.domain, node.op_type, read, attributes, outputs=outputs, name=name)

    def _operand(self, value: ir.Value) -> ir.Value:
        return next(self._stored) if value.is_initializer() else self.values[value]

    def _graph(self, attribute: ir.Attr) -> ir.Attr:
        graph = attribute.as_graph()
        inputs = [self.value(value) for value in graph.inputs]
        nodes = [self.node(node) for node in graph]
        outputs = [self.values[value] for value in graph.outputs]
        for old in (*graph.inputs, *graph.outputs):
            self.values[old].shape, self.values[old].type = old.shape, old.type
        name = _relative(str(graph.name or ""), self._place)
        return ir.AttrGraph(attribute.name, ir.Graph(inputs, outputs, nodes=nodes, name=name))


def _relative(name: str, place: str) -> str:
    """A name relative to a recurrence. Names of the layer around it begin with ``../``."""
    layer = place.rpartition("/")[0]
    for prefix, left in ((f"{place}/", ""), (f"{layer}/", UP)):
        if name.startswith(prefix):
            return left + name.removeprefix(prefix)
    return name


def _absolute(name: str, place: str) -> str:
    """The inverse of `_relative`."""
    layer = place.rpartition("/")[0]
    inside = name.removeprefix(UP)
    return f"{place}/{name}" if inside == name else f"{layer}/{inside}"


class _Sharing:
    """One function for bodies of equal structure.

    Parameters
    ----------
    bodies : sequence of _Body
        At least one. They differ in numbers alone.
    """

    def __init__(self, bodies: Sequence[_Body]) -> None:
        self._bodies = bodies
        together = zip(*(body.stored for body in bodies), strict=True)
        slots: dict[tuple[ir.Value, ...], ir.Value] = {}
        self._uses: list[ir.Value] = []
        self.parameters: list[tuple[ir.Value, ...]] = []
        self._constants: list[ir.Node] = []
        self._inputs: list[ir.Value] = []
        taken: set[str] = set()
        for used in together:
            if used not in slots:
                name = self._named(used)
                slots[used] = ir.Value(name=unique(name, taken))
                if name.startswith(SHARED):
                    self._constants.append(_constant(used[0], slots[used]))
                else:
                    self._inputs.append(slots[used])
                    self.parameters.append(used)
            self._uses.append(slots[used])

    def _named(self, used: Sequence[ir.Value]) -> str:
        """The name of a parameter or constant, from the initializers that the bodies read."""
        name = str(used[0].name)
        if name.startswith(SHARED):
            return name if _alike(used) else NUMBER
        places = [body.region.name for body in self._bodies]
        names = [_relative(str(v.name), p) for v, p in zip(used, places, strict=True)]
        return min(names, key=lambda each: each.startswith("/")).removeprefix(UP)

    def function(self, name: str, opset: int) -> ir.Function:
        """The function, called `name`."""
        body = self._bodies[0]
        copy = _Copy(body.region.name, self._uses)
        carries = len(body.outputs) - 1
        roles = ["x", *["mask"] * (len(body.inputs) - 1 - carries)]
        roles += [f"first_{place}" for place in range(carries)]
        inputs = [copy.value(v, role) for v, role in zip(body.inputs, roles, strict=True)]
        nodes = [*self._constants, *(copy.node(node) for node in body.nodes)]
        outputs: list[ir.Value] = []
        for old in body.outputs:
            value = copy.values[old]
            if value in outputs or value in inputs:  # every output needs its own node
                nodes.append(ir.Node("", "Identity", [value], outputs=[copy.value(old)]))
                value = copy.values[old]
            outputs.append(value)
        graph = ir.Graph(
            [*inputs, *self._inputs], outputs, nodes=nodes, opset_imports={"": opset}, name=name
        )
        recurrence = ir.Attr(RECURRENCE, ir.AttributeType.STRING, None)
        return ir.Function(DOMAIN, name, graph=graph, attributes=[recurrence])

    def calls(self, name: str) -> Iterator[tuple[_Body, ir.Node]]:
        """Every direction's body, with the node that calls the function for it."""
        for place, body in enumerate(self._bodies):
            own = [used[place] for used in self.parameters]
            told = ir.AttrString(RECURRENCE, body.region.name)
            outputs = [ir.Value(name=value.name) for value in body.outputs]
            yield (
                body,
                ir.Node(
                    DOMAIN, name, [*body.inputs, *own], [told], outputs=outputs,
                    name=body.region.name,
                ),
            )  # fmt: skip


def _constant(value: ir.Value, made: ir.Value) -> ir.Node:
    """The node that makes a stored number a constant of a function."""
    assert value.const_value is not None
    tensor = ir.tensor(value.const_value.numpy())
    return ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[made], name="")


def _alike(values: Sequence[ir.Value]) -> bool:
    """Whether initializers hold the same numbers."""
    if all(value is values[0] for value in values):
        return True
    arrays = [v.const_value.numpy() for v in values if v.const_value is not None]
    return len({digest(array) for array in arrays}) == 1


class Functions(ir.passes.InPlacePass):
    """Turn the marked regions of a graph into functions."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Move the nodes of every region into a function, and put a call in their place."""
        graph = model.graph
        values, alike = named(graph), dict[tuple[Any, ...], list[_Body]]()
        for region in marked(graph):
            body = _Body.of(region, values)
            alike.setdefault(body.key, []).append(body)
        if not alike:
            return ir.passes.PassResult(model, modified=False)
        for place, bodies in enumerate(alike.values()):
            name = f"{NAME}_{place + 1}" if place else NAME
            sharing = _Sharing(bodies)
            function = sharing.function(name, model.opset_imports[""])
            model.functions[function.identifier()] = function
            for body, node in sharing.calls(name):
                _replace(graph, body, node)
        graph.meta.pop(REGIONS)
        model.opset_imports[DOMAIN] = 1
        model.ir_version = max(model.ir_version, IR_VERSION)
        Cancel()(model)
        common.RemoveUnusedNodesPass()(model)
        drop_unused(graph, graph.initializers.values())
        return ir.passes.PassResult(model, modified=True)


def _replace(graph: ir.Graph, body: _Body, node: ir.Node) -> None:
    """Put the call of a function in the place of the nodes of a body."""
    made = {value.producer() for value in body.outputs}
    graph.insert_before(next(each for each in graph if each in made), node)
    for old, new in zip(body.outputs, node.outputs, strict=True):
        take_place(old, new)


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which the bodies of its functions replace the calls.

    Values have the same names as in a graph that was written without functions.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    functions = {
        function.name: function for function in model.functions if function.domain == DOMAIN
    }
    del result.graph.node[:]
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type not in functions:
            result.graph.node.append(node)
            continue
        function = functions[node.op_type]
        (place,) = (a.s.decode() for a in node.attribute if a.name == RECURRENCE)
        names = {"": ""} | dict(zip(function.input, node.input, strict=True))
        names |= dict(zip(function.output, node.output, strict=True))
        _rename(function.node, names, place, result.graph.node)
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del result.functions[:]
    result.functions.extend(kept)
    return result


def _rename(
    nodes: Sequence[onnx.NodeProto], names: dict[str, str], place: str, target: Any
) -> None:
    """Append copies of nodes to `target`, with their names in the graph around a function."""

    def found(name: str) -> str:
        return names.setdefault(name, _absolute(name, place))

    for node in nodes:
        copy = target.add()
        copy.CopyFrom(node)
        copy.name = _absolute(node.name, place) if node.name else ""
        copy.input[:] = map(found, node.input)
        copy.output[:] = map(found, node.output)
        for attribute in copy.attribute:
            if attribute.HasField("g"):
                inner = list(attribute.g.node)
                del attribute.g.node[:]
                _rename(inner, names, place, attribute.g.node)
                for value in (*attribute.g.input, *attribute.g.output):
                    value.name = found(value.name)
