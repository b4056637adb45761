"""Operators: what the functions of a graph take and give, and kernels that compute the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxgru.core.errors import OutputError
from onnxgru.core.folder import INTEGER
from onnxgru.core.metadata import DOMAIN, RECURRENCE
from onnxgru.core.program import IntegerLayer, IntegerProgram, IntegerRecurrence
from onnxgru.onnxruntime.entry import Entry, entry
from onnxgru.output.reopening import program_of

MOST_STATES, LONGEST = 12, 255
"""Most states of a direction and most bytes of its name that ``operator.c`` has place for."""
MASK = "mask"
"""Name of the function input that says which steps of each sequence count."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of a layer as a kernel.

    Parameters
    ----------
    layer : IntegerLayer
        The layer.
    recurrence : IntegerRecurrence
        The direction.
    """

    layer: IntegerLayer
    recurrence: IntegerRecurrence

    @property
    def inputs(self) -> list[np.dtype[Any]]:
        """Types of the codes of the input, and of the states."""
        return [self.layer.input.quantization.type.container, *self._states]

    @property
    def outputs(self) -> list[np.dtype[Any]]:
        """Types of the codes of the sequence, and of the states."""
        return [self.recurrence.types[self.recurrence.emits].container, *self._states]

    @property
    def _states(self) -> list[np.dtype[Any]]:
        types = self.recurrence.types
        return [types[carry.written_by].container for carry in self.recurrence.carries]

    @property
    def widths(self) -> list[int]:
        """Columns of the sequence, and of the states."""
        recurrence = self.recurrence
        names = [recurrence.emits, *(carry.written_by for carry in recurrence.carries)]
        return [recurrence.widths[name] for name in names]

    def entry(self, *, masked: bool) -> Entry:
        """The function that computes it."""
        states = list(zip(self._states, self.widths[1:], strict=True))
        return entry(self.layer, self.recurrence, states, masked=masked)


@dataclass(frozen=True, eq=False)
class CompiledOperator:
    """One function of a graph.

    Parameters
    ----------
    name : str
        Its name.
    inputs : int
        How many there are, with parameters.
    masked : bool
        Whether a mask stands behind the input.
    directions : mapping of str to Direction
        What its nodes compute, by name of the recurrence; of equal types and widths.
    """

    name: str
    inputs: int
    masked: bool
    directions: Mapping[str, Direction]


@dataclass(frozen=True, eq=False)
class Described:
    """The functions of a graph.

    Parameters
    ----------
    operators : tuple of CompiledOperator
        Those that kernels compute.
    left : tuple of str
        Why others are left to their bodies.
    """

    operators: tuple[CompiledOperator, ...]
    left: tuple[str, ...]


def described(place: Path, model: object = None) -> Described:
    """Operators for the functions of an output folder's graph.

    Raises
    ------
    OutputError
        If the folder holds no result, or a file of it is missing.
    ModelError
        If the float model is not there any more.
    """
    _, program = program_of(place, model)
    if not (place / INTEGER).is_file():
        raise OutputError(f"{place}: must hold {INTEGER}; quantise again")
    return matched(onnx.load(place / INTEGER, load_external_data=False), program)


def matched(graph: onnx.ModelProto, program: IntegerProgram) -> Described:
    """Operators for the functions of a graph that was written from a program."""
    functions = [function for function in graph.functions if function.domain == DOMAIN]
    if not functions:
        reason = "it has no functions that operators could replace; quantise with --functions"
        return Described((), (reason,))
    operators, left, typed = [], [], _types(graph)
    for function in functions:
        found = _operator(function, graph, program, typed)
        if isinstance(found, str):
            left.append(found)
        else:
            operators.append(found)
    return Described(tuple(operators), tuple(left))


def _types(graph: onnx.ModelProto) -> dict[str, np.dtype[Any]]:
    """Types of values, as far as they are known."""
    whole = onnx.shape_inference.infer_shapes(graph).graph
    return {
        value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in (*whole.input, *whole.value_info, *whole.output)
        if value.type.tensor_type.elem_type
    }


def _operator(
    function: onnx.FunctionProto,
    graph: onnx.ModelProto,
    program: IntegerProgram,
    typed: Mapping[str, np.dtype[Any]],
) -> CompiledOperator | str:
    """The operator in the place of a function, or why there is none."""
    known = {
        recurrence.name: Direction(layer, recurrence)
        for layer in program.layers
        for recurrence in layer.recurrences
    }
    directions = {}
    masked = MASK in function.input[1:2]
    for node in graph.graph.node:
        if node.domain != DOMAIN or node.op_type != function.name:
            continue
        (name,) = (a.s.decode() for a in node.attribute if a.name == RECURRENCE)
        direction = known.get(name)
        if direction is None or len(direction.outputs) != len(node.output):
            return f"{name} is no recurrence that kernels compute"
        states = direction.outputs[1:]
        first = node.input[1 + masked : 1 + masked + len(states)]
        for value, kind in zip([*node.output, *first], [*direction.outputs, *states], strict=True):
            if typed.get(value, kind) != kind:
                return f"{name} has codes of {typed[value]}, and kernels compute {kind}"
        if len(states) > MOST_STATES or len(name.encode()) > LONGEST:
            return f"{name} has more than {MOST_STATES} states, or more than {LONGEST} letters"
        directions[name] = direction
    return CompiledOperator(function.name, len(function.input), masked, directions)
