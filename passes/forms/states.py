"""States: values that callers of the step form pass from one call to the next.

A layer's initial state is 0.0, a constant, or computed from constants and the size of the batch (a
learned value that is expanded). It becomes a graph input, and its first value is written into the
graph. If the model already has the state as an input and an output, both stay. Any other initial
state depends on the recording, and the layer has no step form.
"""

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxgru.core.cells import STATE
from onnxgru.core.errors import ModelError
from onnxgru.core.integers import Floats, Quantization
from onnxgru.core.network import Layer
from onnxgru.passes.graph import recurrent
from onnxgru.passes.graph.values import constant_value, named

STATES = "onnxgru.states"
"""Metadata key of a graph in step form: its states as JSON."""

_LISTED = 32
"""Most codes of a first state that a description lists."""

_MOVING = frozenset(
    {"Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)
_OTHER_FORMS = "use --recurrence scan or unrolled"


@dataclass(frozen=True, eq=False)
class State:
    """A state that the step form made a graph input and output.

    Parameters
    ----------
    input, output : str
        Names of the graph input and of the graph output that is its next value.
    layer : str
        The layer that keeps it.
    type : {"uint8", "uint16", "float32"}
        Element type of both.
    shape : tuple of int, str or None
        Shape of both: (B, H).
    quantization : Quantization or None
        Of the codes; for float32, of the codes that the graph rounds it to. None in a float graph.
    first : ndarray of that type, shape (1, H) or (B, H)
        Value at the first call; one row serves every sequence.
    carry : str
        Which of the layer's carries it is.
    holds : str
        In a delta network, the operand that it is the last propagated copy of; else empty.
    """

    input: str
    output: str
    layer: str
    type: str
    shape: tuple[int | str | None, ...]
    quantization: Quantization | None
    first: npt.NDArray[Any]
    carry: str
    holds: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The state as a JSON object; a first value with equal elements is one number."""
        rows = [[_number(value) for value in row] for row in self.first]
        alike = all(row == rows[0] for row in rows)
        same = alike and all(value == rows[0][0] for value in rows[0])
        first = rows[0][0] if same else rows[0] if alike else rows
        return {
            "input": self.input,
            "output": self.output,
            "layer": self.layer,
            **({} if self.carry == STATE else {"carry": self.carry}),
            **({"holds": self.holds} if self.holds else {}),
            "type": self.type,
            "shape": list(self.shape),
            **(
                {}
                if self.quantization is None
                else {
                    "scale": _number(np.float32(self.quantization.scale)),
                    "zero_point": self.quantization.zero_point,
                    "bits": self.quantization.bits,
                }
            ),
            "first": first,
        }

    def sentences(self) -> tuple[str, str]:
        """Descriptions of the graph input and of the graph output."""
        entry = self.to_dict()
        meaning = f"State of layer {self.layer}, {self.type}"
        if self.holds:
            meaning = f"What was last propagated of {self.holds}, {self.type}"
        if self.quantization is not None and self.type != "float32":
            meaning += f", scale {entry['scale']:.9g}, zero point {entry['zero_point']}"
        first = entry["first"]
        if isinstance(first, list) and self.first.size > _LISTED:
            text = f"as the metadata {STATES} list"
        elif isinstance(first, list):
            text = json.dumps(first)
        else:
            text = f"{first} everywhere"
        return (
            f"{meaning}. First call: {text}. Every later call: the output {self.output} of the "
            "call before.",
            f"{meaning}. Give it to the input {self.input} at the next call.",
        )


def _number(value: Any) -> int | float:
    return int(value) if np.issubdtype(np.asarray(value).dtype, np.integer) else float(value)


def record(model: ir.Model, states: Sequence[State]) -> None:
    """Write states into a graph: descriptions of its inputs and outputs, and metadata."""
    if not states:
        return
    values = {str(v.name): v for v in [*model.graph.inputs, *model.graph.outputs]}
    for state in states:
        for name, text in zip((state.input, state.output), state.sentences(), strict=True):
            values[name].doc_string = text
    document = [state.to_dict() for state in states]
    model.metadata_props[STATES] = json.dumps(document, separators=(",", ":"))


def recorded(model: onnx.ModelProto) -> list[dict[str, Any]]:
    """The states that `record` wrote into a graph; none in other forms."""
    for entry in model.metadata_props:
        if entry.key == STATES:
            found: list[dict[str, Any]] = json.loads(entry.value)
            return found
    return []


def first_values(states: Sequence[Mapping[str, Any]], batch: int) -> dict[str, npt.NDArray[Any]]:
    """Arrays (B, H) of recorded states for the first call, by name of the graph input."""
    return {
        state["input"]: np.array(
            np.broadcast_to(
                np.asarray(state["first"], np.dtype(state["type"])), (batch, state["shape"][1])
            )
        )
        for state in states
    }


def first_value(grid: str) -> str:
    """Name of the initializer that holds a carry's computed first value."""
    return f"{grid}/first"


def first_states(
    graph: ir.Graph, layers: Sequence[Layer], sequences: Mapping[str, int]
) -> dict[str, Floats]:
    """Initial values that the model gives, (1, H) or (B, H), by name of the carry's quantisation.

    States that callers already pass from call to call are left out.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Of a normalised model.
    layers : sequence of Layer
        Its layers.
    sequences : mapping of str to int
        Time axes of the graph inputs that are recordings; empty where the model already computes
        one step per call.

    Raises
    ------
    ModelError
        If the initial value depends on the recording, or callers cannot pass the state on.
    """
    values = named(graph)
    made = {
        name: layer
        for layer in layers
        for name in (layer.ports.sequence, *layer.ports.last.values())
        if name
    }
    found: dict[str, Floats] = {}
    for layer in layers:
        for carry, name in layer.ports.initial.items():
            value = values.get(name)
            if value is None:
                continue  # `Start` has made it a constant
            sources = list(_sources(value, made))
            if not sources:
                found[layer.carries[carry]] = _constant(layer, value)
            elif sequences:
                _require_handed_on(values, layer, carry, sources, made, sequences)
    return found


def _sources(value: ir.Value, made: Container[str]) -> Iterator[ir.Value]:
    """Varying values that an initial state depends on: graph inputs, states, random numbers."""
    pending, seen = [value], {value}
    while pending:
        current = pending.pop()
        if current.is_graph_input():
            yield current
            continue
        node = current.producer()
        if node is None:
            continue
        if current.name in made or recurrent.signature(node) or node.op_type in _RANDOM:
            yield current
            continue
        if node.op_type in ("Shape", "Size"):
            continue
        for operand in node.inputs:
            if operand is not None and operand not in seen:
                seen.add(operand)
                pending.append(operand)


def _require_handed_on(
    values: Mapping[str, ir.Value],
    layer: Layer,
    carry: str,
    sources: Sequence[ir.Value],
    made: Container[str],
    sequences: Mapping[str, int],
) -> None:
    """Refuse a state that callers do not have as an input and an output."""
    for source in sources:
        node = source.producer()
        if not source.is_graph_input() and node is not None:
            kind = "the last state of" if source.name in made else "what is drawn by"
            raise ModelError(
                f"{layer.name} starts from {kind} {node.name}, which is not known before the first "
                f"step, and has no step form; {_OTHER_FORMS}"
            )
    names = ", ".join(sorted(str(source.name) for source in sources))
    value = values[layer.ports.initial[carry]]
    if any(source.name in sequences for source in sources) or not _moved(value):
        raise ModelError(
            f"{layer.name} starts from a state that is computed from input {names}, so that no "
            "first value of it can be written into the graph, and has no step form; "
            f"{_OTHER_FORMS}, or export the model with the state itself as input and output"
        )
    outputs = (layer.ports.sequence, layer.ports.last.get(carry, ""))
    if not any(_leaves(values[name]) for name in outputs if name):
        raise ModelError(
            f"{layer.name} starts from input {names}, but no output of the model is its last "
            "state, so that the step form would lose it; export the model with its last state as "
            "an output, or use --recurrence scan or unrolled"
        )


def _moved(value: ir.Value) -> bool:
    """Whether a value is a graph input, or a part of one, that is only moved."""
    while not value.is_graph_input():
        node = value.producer()
        first = node.inputs[0] if node is not None and node.inputs else None
        if node is None or first is None or node.op_type not in _MOVING:
            return False
        value = first
    return True


def _leaves(value: ir.Value) -> bool:
    """Whether a value reaches a graph output by being moved only."""
    pending = [value]
    while pending:
        current = pending.pop()
        if current.is_graph_output():
            return True
        for node, index in current.uses():
            if node.op_type == "Concat" or (node.op_type in _MOVING and index == 0):
                pending.extend(node.outputs)
    return False


def _constant(layer: Layer, value: ir.Value) -> Floats:
    """An initial state (1, H) or (B, H) that depends only on constants and sizes."""
    sizes = (1, 2) if constant_value(value) is None else (1,)
    arrays = []
    for size in sizes:
        try:
            arrays.append(np.asarray(_evaluate(value, size, {}), np.float32)[0])
        except Exception as error:  # onnx.reference raises whatever its operators raise
            raise ModelError(
                f"{layer.name} starts from {value.name}, which must be computable without a "
                f"recording for the step form, but is not ({' '.join(str(error).split())[:200]}); "
                f"{_OTHER_FORMS}"
            ) from error
    rows: Floats = np.unique(np.concatenate(arrays), axis=0)
    if len(rows) == 1:
        return rows
    if len(arrays) > 1:
        raise ModelError(
            f"{layer.name} starts from {value.name}, which depends on the number of steps or of "
            f"sequences, and has no step form; {_OTHER_FORMS}"
        )
    values: Floats = arrays[0]
    return values


def _evaluate(value: ir.Value, size: int, known: dict[ir.Value, Any]) -> npt.NDArray[Any]:
    """The array of a value where every axis without a fixed size has `size` elements."""
    if value in known:
        array: npt.NDArray[Any] = known[value]
        return array
    node = value.producer()
    if node is None:
        if value.const_value is None:
            raise ValueError(f"{value.name} has no value")
        stored: npt.NDArray[Any] = value.const_value.numpy()
        return stored
    if node.op_type in ("Shape", "Size"):
        return _sizes(node, size)
    from onnx.reference import ReferenceEvaluator

    feeds = {str(v.name): _evaluate(v, size, known) for v in node.inputs if v is not None}
    results: Any = ReferenceEvaluator(ir.to_proto(node)).run(None, feeds)
    known |= {o: np.asarray(r) for o, r in zip(node.outputs, results, strict=False)}
    found: npt.NDArray[Any] = known[value]
    return found


def _sizes(node: ir.Node, size: int) -> npt.NDArray[np.int64]:
    """The result of Shape or Size."""
    operand = node.inputs[0]
    if operand is None or operand.shape is None:
        raise ValueError(f"the shape of {operand.name if operand else 'nothing'} is not known")
    sizes = np.asarray([n if isinstance(n, int) else size for n in operand.shape], np.int64)
    if node.op_type == "Size":
        return np.asarray(sizes.prod())
    ends: Callable[[str, int], int] = node.attributes.get_int
    end = ends("end", len(sizes)) if "end" in node.attributes else len(sizes)
    return sizes[ends("start", 0) : end]
