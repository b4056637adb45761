"""Recognize: from the GRU nodes of a normalised model to layers of bound operators.

This is, with normalisation, the only place that knows the ONNX operator ``GRU``: its attributes
(direction, linear_before_reset, activations, clip), its stacked weights (gates z, r, h) and which
outputs are read. A node that cannot be quantised is left alone, with the reason.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import onnx_ir as ir

from onnxgru.core.activations import FORMS, Activation
from onnxgru.core.cells import GRU_RESET_AFTER, GRU_RESET_BEFORE, Cell, Row
from onnxgru.core.errors import ModelError, UsageError
from onnxgru.core.network import Layer, Operator, Recurrence
from onnxgru.passes.elsewhere import Refusal, elsewhere
from onnxgru.passes.values import constant_value, recurrent_nodes, value_names

MOVEMENTS = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"})
"""Operators that pass codes on: they move values and compute none."""

PARTS = frozenset(
    {"forward", "reverse", "input", "state", "zero_point", "initial", "mask", "nonempty", "y"}
    | {"y_h"}
)
"""What comes behind a layer's name in the names of its values."""
SHOWN = 5
"""Kinds of operators that a message names."""

_MATRICES = {"W": 1, "R": 2}
_BIAS = 3
_DIRECTIONS = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "bidirectional": ("forward", "reverse"),
}


@dataclass(frozen=True, eq=False)
class Recognition:
    """What was found in a model.

    Parameters
    ----------
    layers : tuple of Layer
        What will be quantised, in graph order.
    refusals : tuple of Refusal
        What will not.
    notes : tuple of str
        Warnings about what was found.
    written : str
        Version of onnxgru that wrote the model; empty for others.
    kinds : tuple of str
        Operators of the main graph, the most frequent first.
    """

    layers: tuple[Layer, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...] = field(default=())
    written: str = ""
    kinds: tuple[str, ...] = ()

    @property
    def nothing(self) -> str:
        """Why there is no layer, and what to do: the end of a sentence about the model."""
        if self.written:
            return (
                f"was written by onnxgru {self.written} and is quantised already; give the float "
                "model that it was made from"
            )
        if self.refusals:
            reasons = "; ".join(f"{r.node}: {r.reason}" for r in self.refusals)
            return f"holds no GRU that can be quantised, all of it stays in float ({reasons})"
        shown = ", ".join(self.kinds[:SHOWN]) + (", ..." if len(self.kinds) > SHOWN else "")
        return (
            "holds no GRU that can be quantised; it must have a node of the ONNX operator GRU, "
            f"but has only {shown or 'no operators'}"
        )


class UnsuitableError(Exception):
    """A node does not apply; its message is the reason."""


def recognize(
    model: ir.Model, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Recognition:
    """Find the GRU layers of a normalised model.

    Parameters
    ----------
    model : onnx_ir.Model
        In normal form.
    include, exclude : sequence of str
        Node names or shell patterns; without `include`, all nodes.

    Raises
    ------
    UsageError
        If a name matches no GRU node.
    """
    nodes = list(recurrent_nodes(model.graph))
    names = [str(node.name) for node in nodes]
    for option, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(_matches(name, pattern) for name in names):
                raise UsageError(
                    f"--{option} {pattern!r} must match a GRU node; "
                    f"the model has {', '.join(names) or 'none'}"
                )
    layers, refusals, notes = [], [], []
    prefixes = _prefixes(model.graph, names)
    for node, name in zip(nodes, names, strict=True):
        try:
            if include and not any(_matches(name, pattern) for pattern in include):
                raise UnsuitableError("it is not named by --include")
            if any(_matches(name, pattern) for pattern in exclude):
                raise UnsuitableError("it is named by --exclude")
            layers.append(_layer(node, prefixes[name]))
            if model.producer_name == "pytorch" and layers[-1].cell is GRU_RESET_BEFORE:
                notes.append(
                    f"{name}: linear_before_reset is 0 in a model from pytorch, whose GRUs have "
                    "1; torch 2.9 and 2.10 wrote it wrongly: compare the model with its source"
                )
        except UnsuitableError as reason:
            refusals.append(Refusal(name, str(reason)))
    refusals.extend(elsewhere(model))
    return Recognition(
        tuple(layers),
        tuple(refusals),
        tuple(notes),
        model.metadata_props.get("onnxgru.version", ""),
        tuple(kind for kind, _ in Counter(n.op_type for n in model.graph).most_common()),
    )


def _matches(name: str, pattern: str) -> bool:
    """Whether a name is a pattern's, or the pattern itself, brackets included."""
    return name == pattern or fnmatchcase(name, pattern)


def _prefixes(graph: ir.Graph, nodes: Sequence[str]) -> dict[str, str]:
    """Name of the layer of every GRU node: ``/<node>``, with a number where names would meet.

    A layer's own names begin with its name and one of `PARTS`. No name of the graph, and no other
    layer, may have such a name already.
    """
    names = value_names(graph) | {str(node.name) for node in graph.all_nodes()}
    used = {base for name in names for base in _bases(name)}
    prefixes: dict[str, str] = {}
    layers: set[str] = set()
    for node in nodes:
        wanted = "/" + (node.strip("/") or "gru")
        prefix, count = wanted, 0
        while prefix in used or not layers.isdisjoint(_bases(prefix)):
            count += 1
            prefix = f"{wanted}_{count}"
        prefixes[node] = prefix
        used |= {prefix, *_bases(prefix)}
        layers.add(prefix)
    return prefixes


def _bases(name: str) -> Iterator[str]:
    """Names of layers that could have a name of their own like this one."""
    words = name.split("/")
    for index, word in enumerate(words):
        if word in PARTS:
            yield "/".join(words[:index])


def require(recognition: Recognition, source: str) -> tuple[Layer, ...]:
    """The layers, of which there must be one.

    Raises
    ------
    ModelError
        If there is none; the message has every reason.
    """
    if recognition.layers:
        return recognition.layers
    raise ModelError(f"{source}: {recognition.nothing}")


def _array(node: ir.Node, index: int, role: str) -> np.ndarray | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    array = constant_value(value)
    if array is None:
        raise UnsuitableError(
            f"its {role} ({value.name}) is not constant; weights must be initializers or computed "
            "from them"
        )
    if array.dtype != np.float32:
        raise UnsuitableError(f"its {role} is {array.dtype}; it must be float32")
    if not np.isfinite(array).all():
        raise UnsuitableError(f"its {role} holds NaN or infinity")
    return array


def _functions(node: ir.Node, count: int) -> list[Activation]:
    """The activations, f and g a direction; alphas and betas go to those that take them."""
    names = list(node.attributes.get_strings("activations", ())) or ["Sigmoid", "Tanh"] * count
    if len(names) != 2 * count:
        raise UnsuitableError(f"it has {len(names)} activations; it must have {2 * count}")
    alphas = iter(node.attributes.get_floats("activation_alpha", ()))
    betas = iter(node.attributes.get_floats("activation_beta", ()))
    clip = node.attributes.get_float("clip", 0.0) if "clip" in node.attributes else None
    known = {name.lower(): name for name in FORMS if name != "Complement"}
    functions = []
    for wanted in names:
        if wanted.lower() not in known:
            raise UnsuitableError(f"its activation {wanted!r} is not one that ONNX lists for GRU")
        name = known[wanted.lower()]
        form = FORMS[name]
        alpha = 0.0 if form.alpha is None else next(alphas, form.alpha)
        beta = 0.0 if form.beta is None else next(betas, form.beta)
        functions.append(Activation(name, alpha, beta, clip))
    return functions


def _layer(node: ir.Node, prefix: str) -> Layer:
    known = {
        "activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size",
        "layout", "linear_before_reset", "output_sequence",
    }  # fmt: skip
    for attribute in node.attributes:
        if attribute not in known:
            raise UnsuitableError(
                f"its attribute {attribute!r} is not one of the ONNX operator GRU"
            )
    direction = node.attributes.get_string("direction", "forward").lower()
    if direction not in _DIRECTIONS:
        raise UnsuitableError(
            f"its direction is {direction!r}; it must be one of {', '.join(_DIRECTIONS)}"
        )
    weights, states = _array(node, 1, "W"), _array(node, 2, "R")
    if weights is None or states is None:
        raise UnsuitableError("it has no W or no R")
    names = _DIRECTIONS[direction]
    hidden = states.shape[-1]
    expected = (len(names), 3 * hidden)
    if weights.ndim != 3 or weights.shape[:2] != expected or states.shape != (*expected, hidden):
        raise UnsuitableError(
            f"W has shape {list(weights.shape)} and R {list(states.shape)}; they must be "
            f"[{len(names)}, 3 H, I] and [{len(names)}, 3 H, H]"
        )
    if node.attributes.get_int("hidden_size", hidden) != hidden:
        raise UnsuitableError(
            f"its hidden_size is {node.attributes.get_int('hidden_size', 0)}, but R has {hidden}"
        )
    bias = _array(node, _BIAS, "B")
    if bias is None:
        bias = np.zeros((len(names), 6 * hidden), np.float32)
    if bias.shape != (len(names), 6 * hidden):
        raise UnsuitableError(f"B has shape {list(bias.shape)}; it must be [{len(names)}, 6 H]")
    reset_after = bool(node.attributes.get_int("linear_before_reset", 0))
    cell = GRU_RESET_AFTER if reset_after else GRU_RESET_BEFORE
    functions = _functions(node, len(names))
    recurrences = []
    for index, name in enumerate(names):
        stacked = {"W": weights[index], "R": states[index]}
        halves = {"W": bias[index, : 3 * hidden], "R": bias[index, 3 * hidden :]}
        f, g = functions[2 * index : 2 * index + 2]
        operators = tuple(
            _bind(f"{prefix}/{name}", row, cell, hidden, stacked, halves, f, g) for row in cell.rows
        )
        recurrences.append(
            Recurrence(
                f"{prefix}/{name}", name == "reverse", operators, f"{prefix}/{name}/{cell.result}"
            )
        )
    attributes = {
        "direction": direction,
        "linear_before_reset": str(int(reset_after)),
        "activations": ", ".join(function.name for function in functions),
    }
    if functions[0].clip is not None:
        attributes["clip"] = f"{functions[0].clip:g}"
    return Layer(
        prefix,
        str(node.name),
        cell,
        tuple(recurrences),
        weights.shape[2],
        hidden,
        attributes,
    )


def _bind(
    prefix: str,
    row: Row,
    cell: Cell,
    hidden: int,
    stacked: dict[str, np.ndarray],
    halves: dict[str, np.ndarray],
    f: Activation,
    g: Activation,
) -> Operator:
    name = f"{prefix}/{row.name}"
    inputs = tuple(f"{prefix}/{i}" for i in row.inputs)
    if row.kind == "linear":
        matrix, gate = row.parameter.split(".")
        start = cell.gates.index(gate) * hidden
        part = slice(start, start + hidden)
        return Operator(
            name, row.name, row.kind, inputs, hidden,
            weight=stacked[matrix][part], bias=halves[matrix][part], matrix=matrix,
        )  # fmt: skip
    function = {"f": f, "g": g, "complement": Activation("Complement")}.get(row.parameter)
    return Operator(name, row.name, row.kind, inputs, hidden, function=function)


def code_source(value: ir.Value | None, layers: Iterable[Layer]) -> str | None:
    """Name of the layer whose codes a value is, moved but not computed with; else None."""
    by_node = {layer.node: layer.name for layer in layers}
    while value is not None:
        node = value.producer()
        if node is None:
            return None
        if node.name in by_node:
            return by_node[node.name]
        if node.op_type not in MOVEMENTS:
            return None
        value = node.inputs[0]
    return None


def given_state(graph: ir.Graph, layer: Layer) -> bool:
    """Whether a layer's states start from given ones."""
    inputs = graph.node(layer.node).inputs
    return len(inputs) > 5 and inputs[5] is not None


def meets_floats(graph: ir.Graph, layer: Layer, layers: Sequence[Layer]) -> bool:
    """Whether a layer's states are read as real numbers."""
    nodes = {layer.node for layer in layers}
    pending = list(graph.node(layer.node).outputs)
    while pending:
        value = pending.pop()
        if value.is_graph_output():
            return True
        for use, index in value.uses():
            if use.name in nodes and index == 0:
                continue
            if use.op_type not in MOVEMENTS or index != 0:
                return True
            pending.extend(use.outputs)
    return False
