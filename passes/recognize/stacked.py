"""Stacked: from an ONNX recurrent node, whose gates are stacked in one matrix, to a bound cell.

``GRU``, ``LSTM`` and ``RNN`` have in common::

    W (D, G H, I)    R (D, G H, H)    B (D, 2 G H): the biases of W, then those of R

and the attributes ``direction``, ``activations`` with alphas and betas, ``clip``, ``hidden_size``
and ``layout``. An `OnnxCell` says how an operator differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxgru.core.activations import ACTIVATIONS, FORMS, Activation
from onnxgru.core.cells import STATE, Cell, Row
from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer, Ports, Recurrence, bound
from onnxgru.passes.graph import recurrent
from onnxgru.passes.graph.values import constant_value

_ATTRIBUTES = {
    "activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size",
    "layout", "output_sequence",
}  # fmt: skip
_DIRECTIONS = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "bidirectional": ("forward", "reverse"),
}


class UnsuitableError(Exception):
    """A node cannot be quantised; its message is the reason."""


def _shows_nothing(_node: ir.Node) -> dict[str, str]:
    return {}


def _suspects_nothing(_node: ir.Node, _producer: str) -> str:
    return ""


@dataclass(frozen=True)
class OnnxCell:
    """What distinguishes one recurrent operator of ONNX.

    Parameters
    ----------
    operator : str
        Name of the operator.
    gates : tuple of str
        Order of the gates in W, R and B.
    functions : mapping of str to str
        Default activation by letter, in the order of the attribute ``activations``.
    cell : callable
        From a node to its table.
    attributes : tuple of str
        Attributes beside those that all have.
    shown : callable
        From a node to what `inspect` shows of these attributes.
    suspicion : callable
        From a node and the producer of its model to a warning; empty if there is none.
    carries : mapping of str to tuple of str
        Roles of the first and of the last value, by name of the carry.
    unclipped : tuple of str
        Letters of the functions whose argument the attribute ``clip`` does not limit.
    peepholes : tuple of str
        Order of the gates in P (D, G H), where the operator takes it.
    """

    operator: str
    gates: tuple[str, ...]
    functions: Mapping[str, str]
    cell: Callable[[ir.Node], Cell]
    attributes: tuple[str, ...] = ()
    shown: Callable[[ir.Node], dict[str, str]] = _shows_nothing
    suspicion: Callable[[ir.Node, str], str] = _suspects_nothing
    carries: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {STATE: ("initial_h", "Y_h")}
    )
    unclipped: tuple[str, ...] = ()
    peepholes: tuple[str, ...] = ()

    def layer(self, node: ir.Node, prefix: str) -> Layer:
        """The layer of a node.

        Parameters
        ----------
        node : onnx_ir.Node
            Of the operator, in a normalised graph.
        prefix : str
            Name of the layer.

        Raises
        ------
        UnsuitableError
            If the node cannot be quantised.
        """
        return _Binding(self, node, prefix).layer()

    def stacked(self, layer: Layer, weights: Mapping[str, tuple[Floats, ...]]) -> dict[str, Floats]:
        """W (D, G H, I), R (D, G H, H), B (D, 2 G H), and P (D, V H) where it is read.

        Parameters
        ----------
        layer : Layer
            A layer of this operator.
        weights : mapping of str to tuple of ndarray of float32
            Weight (outputs, inputs) and bias (outputs,), or vector (outputs,), by operator; the
            layer's own where an operator is left out.
        """
        directions, hidden = len(layer.recurrences), layer.hidden_size
        height = len(self.gates) * hidden
        matrices = {
            "W": np.zeros((directions, height, layer.input_size), np.float32),
            "R": np.zeros((directions, height, hidden), np.float32),
        }
        biases = np.zeros((directions, 2, height), np.float32)
        vectors = np.zeros((directions, len(self.peepholes), hidden), np.float32)
        parameters = {row.name: row.parameter for row in layer.cell.rows}
        for index, recurrence in enumerate(layer.recurrences):
            for operator in recurrence.operators:
                numbers = weights.get(operator.name, operator.numbers)
                if not numbers:
                    continue
                letter, gate = parameters[operator.row].split(".")
                if letter not in matrices:
                    (vectors[index, self.peepholes.index(gate)],) = numbers
                    continue
                place = self._rows(gate, hidden)
                matrices[letter][index, place], biases[index, "WR".index(letter), place] = numbers
        found = matrices | {"B": biases.reshape(directions, 2 * height)}
        if any(row.kind == "scale" for row in layer.cell.rows):
            found["P"] = vectors.reshape(directions, -1)
        return found

    def _rows(self, gate: str, hidden: int) -> slice:
        start = self.gates.index(gate) * hidden
        return slice(start, start + hidden)


class _Binding:
    """The steps of `OnnxCell.layer`."""

    def __init__(self, kind: OnnxCell, node: ir.Node, prefix: str) -> None:
        self._kind, self._node, self._prefix = kind, node, prefix
        self._inputs = recurrent.inputs(node)
        self._cell = kind.cell(node)

    def layer(self) -> Layer:
        kind, node = self._kind, self._node
        for attribute in node.attributes:
            if attribute not in _ATTRIBUTES and attribute not in kind.attributes:
                raise UnsuitableError(
                    f"its attribute {attribute!r} is not one of the ONNX operator {kind.operator}"
                )
        direction = node.attributes.get_string("direction", "forward").lower()
        if direction not in _DIRECTIONS:
            raise UnsuitableError(
                f"its direction is {direction!r}; it must be one of {', '.join(_DIRECTIONS)}"
            )
        names = _DIRECTIONS[direction]
        weights, states, bias, seen = self._parameters(len(names))
        functions = self._functions(len(names))
        hidden = states.shape[-1]
        height = len(kind.gates) * hidden
        letters = tuple(kind.functions)
        recurrences = []
        for index, name in enumerate(names):
            found = functions[index * len(letters) : (index + 1) * len(letters)]
            matrices = {
                "W": (weights[index], bias[index, :height]),
                "R": (states[index], bias[index, height:]),
            }
            vectors = dict(zip(kind.peepholes, seen[index], strict=True))
            named = dict(zip(letters, found, strict=True))
            recurrences.append(self._recurrence(name, hidden, matrices, vectors, named))
        shown = {
            "direction": direction,
            **kind.shown(node),
            "activations": ", ".join(function.name for function in functions),
        }
        if functions[0].clip is not None:
            shown["clip"] = f"{functions[0].clip:g}"
        return Layer(
            self._prefix,
            str(node.name),
            self._cell,
            tuple(recurrences),
            weights.shape[2],
            hidden,
            self._ports(hidden),
            shown,
        )

    def _parameters(self, directions: int) -> tuple[np.ndarray, ...]:
        """W, R, B and, with the gates as its second axis, P."""
        weights, states = self._array("W"), self._array("R")
        if weights is None or states is None:
            raise UnsuitableError("it has no W or no R")
        gates = len(self._kind.gates)
        hidden, given = states.shape[-1], self._node.attributes.get_int("hidden_size", 0)
        expected = (directions, gates * hidden)
        if (
            weights.ndim != 3
            or weights.shape[:2] != expected
            or states.shape != (*expected, hidden)
        ):
            height = f"{gates} H" if gates > 1 else "H"
            raise UnsuitableError(
                f"W has shape {list(weights.shape)} and R {list(states.shape)}; they must be "
                f"[{directions}, {height}, I] and [{directions}, {height}, H]"
            )
        if given not in (0, hidden) or ("hidden_size" in self._node.attributes and not given):
            raise UnsuitableError(f"its hidden_size is {given}, but R has {hidden}")
        bias = self._array("B")
        if bias is None:
            bias = np.zeros((directions, 2 * gates * hidden), np.float32)
        if bias.shape != (directions, 2 * gates * hidden):
            raise UnsuitableError(
                f"B has shape {list(bias.shape)}; it must be [{directions}, {2 * gates} H]"
            )
        seen, count = self._array("P"), len(self._kind.peepholes)
        if seen is None:
            seen = np.zeros((directions, count * hidden), np.float32)
        if seen.shape != (directions, count * hidden):
            raise UnsuitableError(
                f"P has shape {list(seen.shape)}; it must be [{directions}, {count} H]"
            )
        return weights, states, bias, seen.reshape(directions, count, hidden)

    def _array(self, role: str) -> np.ndarray | None:
        value = self._inputs.get(role)
        if value is None:
            return None
        array = constant_value(value)
        if array is None:
            raise UnsuitableError(
                f"its {role} ({value.name}) is not constant; weights must be initializers or "
                "computed from them"
            )
        if array.dtype != np.float32:
            raise UnsuitableError(f"its {role} is {array.dtype}; it must be float32")
        if not np.isfinite(array).all():
            raise UnsuitableError(f"its {role} holds NaN or infinity")
        return array

    def _functions(self, directions: int) -> list[Activation]:
        """The activations of all directions; alphas and betas go to those that take them."""
        attributes = self._node.attributes
        defaults = list(self._kind.functions.values())
        names = list(attributes.get_strings("activations", ())) or defaults * directions
        if len(names) != len(defaults) * directions:
            raise UnsuitableError(
                f"it has {len(names)} activations; it must have {len(defaults) * directions}"
            )
        alphas = iter(attributes.get_floats("activation_alpha", ()))
        betas = iter(attributes.get_floats("activation_beta", ()))
        clip = attributes.get_float("clip", 0.0) if "clip" in attributes else None
        known = {name.lower(): name for name in ACTIVATIONS}
        functions = []
        for letter, wanted in zip(list(self._kind.functions) * directions, names, strict=True):
            if wanted.lower() not in known:
                raise UnsuitableError(
                    f"its activation {wanted!r} is not one that ONNX lists for "
                    f"{self._kind.operator}"
                )
            name = known[wanted.lower()]
            form = FORMS[name]
            alpha = 0.0 if form.alpha is None else next(alphas, form.alpha)
            beta = 0.0 if form.beta is None else next(betas, form.beta)
            limit = None if letter in self._kind.unclipped else clip
            functions.append(Activation(name, alpha, beta, limit))
        return functions

    def _recurrence(
        self,
        direction: str,
        hidden: int,
        matrices: Mapping[str, tuple[Any, Any]],
        vectors: Mapping[str, Floats],
        functions: Mapping[str, Activation],
    ) -> Recurrence:
        name = f"{self._prefix}/{direction}"

        def numbers(row: Row) -> tuple[Floats, ...]:
            letter, _, gate = row.parameter.partition(".")
            if row.kind == "linear":
                place = self._kind._rows(gate, hidden)
                return tuple(array[place] for array in matrices[letter])
            return (vectors[gate],) if row.kind == "scale" else ()

        operators = tuple(
            bound(row, name, hidden, numbers(row), functions) for row in self._cell.rows
        )
        return Recurrence.of(self._cell, name, operators, reverse=direction == "reverse")

    def _ports(self, hidden: int) -> Ports:
        given, made = self._inputs, recurrent.read(self._node)

        def name(values: Mapping[str, ir.Value], role: str) -> str:
            value = values.get(role)
            return "" if value is None else str(value.name)

        for role in (first for first, _ in self._kind.carries.values() if first in given):
            shape = given[role].shape
            if shape is not None and isinstance(shape[-1], int) and shape[-1] != hidden:
                raise UnsuitableError(
                    f"its {role} has {shape[-1]} features, but R has {hidden}; a projection of the "
                    "state (torch's proj_size) has no form in ONNX"
                )
        initial = {c: name(given, first) for c, (first, _) in self._kind.carries.items()}
        last = {c: name(made, final) for c, (_, final) in self._kind.carries.items()}
        return Ports(
            name(given, "X"),
            name(given, recurrent.LENGTHS),
            {carry: value for carry, value in initial.items() if value},
            name(made, "Y"),
            {carry: value for carry, value in last.items() if value},
        )
