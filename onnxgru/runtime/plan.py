"""Plan: the order in which the float parts of a model and its integer layers run.

Every float node has a *level*: the number of layers on the longest path to it. The nodes of a level
are one segment, which runs in onnxruntime; then the layers of that level run. Each node runs once.
A value that is moved out of states (see `onnxgru.runtime.delays`) is composed between the segments,
for all calls of a recording together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxgru.core.network import Layer, Ports
from onnxgru.passes.graph.segment import carve, reads
from onnxgru.runtime.delays import Line
from onnxgru.runtime.sessions import Run, onnxruntime_session

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FloatSegment:
    """Float nodes that run together.

    Parameters
    ----------
    reads : tuple of str
        Its inputs.
    gives : tuple of str
        Its outputs.
    run : callable
        Runs it for one call.
    """

    reads: tuple[str, ...]
    gives: tuple[str, ...]
    run: Run


class LoopError(Exception):
    """Frames depend on each other through more than the layers' own states."""


class RunPlan:
    """The order of segments and layers for one model.

    Parameters
    ----------
    model : onnx.ModelProto
        Normalised, sorted, with shapes.
    layers : sequence of Layer
        Layers whose nodes are in no segment.
    outputs : sequence of str
        Outputs of the model that are wanted.
    lines : mapping of str to Line, optional
        Values that are moved out of states, if states pass from call to call.
    states : sequence of str
        State inputs, if states pass from call to call.

    Raises
    ------
    LoopError
        If calls depend on each other through more than the layers' own states.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Sequence[Layer],
        outputs: Sequence[str],
        lines: Mapping[str, Line] | None = None,
        states: Sequence[str] = (),
    ) -> None:
        self._model, self.states = model, tuple(states)
        self.ports = tuple(layer.ports for layer in layers)
        self.outputs, self.lines = tuple(outputs), dict(lines or {})
        self._places = {layer.node: place for place, layer in enumerate(layers)}
        self.constants = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if any(tensor.name in _given(port) for port in self.ports) or tensor.name in outputs
        }
        self.carried = frozenset(
            place for place, layer in enumerate(layers) if self._hands_on(layer)
        )
        """Places of the layers whose initial states are their last ones of the call before."""
        self.levels = self._levelled()
        count = 1 + max([*self._node_levels.values(), *self.levels], default=0)
        needed = self._needed()
        self.segments = tuple(self._segment(level, needed) for level in range(count))
        self.order = tuple(sorted(range(len(self.ports)), key=lambda place: self.levels[place]))
        """Places of the layers in the order in which they run."""

    def _hands_on(self, layer: Layer) -> bool:
        """Whether every carry of a layer begins with its last value of the call before."""
        port = layer.ports
        backwards = len(layer.recurrences) > 1 or layer.recurrences[0].reverse
        if backwards or port.lengths or set(port.initial) != set(layer.carries):
            return False
        for carry, grid in layer.carries.items():
            line = self.lines.get(port.initial[carry])
            if grid != layer.output:  # values of this carry between calls are not known
                return False
            names = {port.last.get(carry, "")} | (
                {port.sequence} if self._one_step(port) else set()
            )
            if line is None or not line.hands_on({name for name in names if name}):
                return False
        return True

    def _one_step(self, port: Ports) -> bool:
        typed = next((value for value in self._typed if value.name == port.sequence), None)
        if typed is None or not typed.type.tensor_type.shape.dim:
            return False
        return bool(typed.type.tensor_type.shape.dim[0].dim_value == 1)

    @property
    def _typed(self) -> list[onnx.ValueInfoProto]:
        graph = self._model.graph
        return [*graph.value_info, *graph.output]

    def _levelled(self) -> list[int]:
        """Level of every layer; it also notes the levels of nodes."""
        graph = self._model.graph
        ready: dict[str, int] = {}  # number of levels after which a value is known
        floats = {
            n for node in graph.node if node.name not in self._places for n in node.output if n
        }
        levels = [0] * len(self.ports)
        self._node_levels: dict[int, int] = {}
        limit = len(self.ports) + len(self.lines) + 2
        changed = True
        while changed:
            changed = False

            def put(name: str, level: int) -> None:
                nonlocal changed
                if name and ready.get(name, 0) < level:
                    if level > limit:
                        raise LoopError(name)
                    ready[name], changed = level, True

            for name, line in self.lines.items():
                sources = {tap.source for tap in line.taps}
                put(name, max((ready.get(s, 0) + (s in floats) for s in sources), default=0))
            for index, node in enumerate(graph.node):
                place = self._places.get(node.name)
                names = list(reads(node))
                if place is not None:
                    port = self.ports[place]
                    names = [port.x, port.lengths]
                    if place not in self.carried:
                        names += port.initial.values()
                level = max((ready.get(name, 0) for name in names), default=0)
                if place is not None:
                    levels[place] = level
                    level += 1
                else:
                    self._node_levels[index] = level
                for name in node.output:
                    if name not in self.lines:
                        put(name, level)
        return levels

    def _needed(self) -> dict[str, set[int]]:
        """Levels that need a value, by name of the value."""
        graph = self._model.graph
        last = 1 + max([*self._node_levels.values(), *self.levels], default=0)
        needed: dict[str, set[int]] = {}

        def need(name: str, level: int) -> None:
            if not name:
                return
            new = name not in needed
            needed.setdefault(name, set()).add(level)
            if new and name in self.lines:
                for tap in self.lines[name].taps:
                    need(tap.source, last)

        for name in self.outputs:
            need(name, last)
        for place, port in enumerate(self.ports):
            for name in _given(port):
                # The segment must output it, because a layer is no node of the segment.
                need(name, last if name not in self.lines else self.levels[place])
        self._kept_nodes: set[int] = set()
        grown = True
        while grown:
            grown = False
            for index in reversed(range(len(graph.node))):
                node = graph.node[index]
                if node.name in self._places or index in self._kept_nodes:
                    continue
                if any(n in needed and n not in self.lines for n in node.output if n):
                    self._kept_nodes.add(index)
                    grown = True
                    for name in reads(node):
                        need(name, self._node_levels[index])
        return needed

    def _segment(self, level: int, needed: Mapping[str, set[int]]) -> FloatSegment | None:
        graph = self._model.graph
        nodes = [
            graph.node[index]
            for index in sorted(self._kept_nodes)
            if self._node_levels[index] == level
        ]
        if not nodes:
            return None
        made = {name for node in nodes for name in node.output if name}
        gives = [
            name
            for node in nodes
            for name in node.output
            if name
            and name not in self.lines
            and any(user > level for user in needed.get(name, ()))
        ]
        constant = {tensor.name for tensor in graph.initializer}
        taken = list(
            dict.fromkeys(
                name
                for node in nodes
                for name in reads(node)
                if name in self.lines or (name not in made and name not in constant)
            )
        )
        if not gives:
            return None
        part = carve(self._model, nodes, taken, gives)
        return FloatSegment(tuple(taken), tuple(gives), onnxruntime_session(part, threads=1))


def _given(port: Ports) -> tuple[str, ...]:
    """Names of the values that a layer reads; empty for values that are not given."""
    return (port.x, port.lengths, *port.initial.values())
