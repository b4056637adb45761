"""What a written graph is given to verify it: recordings, call by call, or random numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper

from onnxgru.core.errors import DataError
from onnxgru.data import sources
from onnxgru.data.dataset import InputSpec
from onnxgru.data.reading import Source
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.runtime.host import Host
from onnxgru.session import recordings
from onnxgru.session.notes import noted

Array = npt.NDArray[Any]
Given = dict[str, Array]

RECORDINGS = 8
"""Most recordings that are run."""

STEPS = 64
"""Most steps of each recording that the step form is called with."""

SIZES = (2, 8)
"""Sizes of free axes of random inputs: of the first name of an axis (the batch), and of others."""


def from_data(
    model: onnx.ModelProto, data: Source
) -> tuple[list[Given], frozenset[int], dict[str, str]]:
    """Calls that recordings make.

    Parameters
    ----------
    model : onnx.ModelProto
        A graph that onnxgru wrote.
    data : str, path or object
        As for `quantize`.

    Returns
    -------
    inputs : list of dict of str to array
        What each call is given.
    anew : frozenset of int
        Calls that begin with the states of `inputs`.
    states : dict of str to str
        Outputs by the name of the input that each is at the next call.

    Raises
    ------
    DataError
        If the data do not fit the graph.
    """
    declared = noted({entry.key: entry.value for entry in model.metadata_props})
    if states := recorded(model):
        return _steps(model, data, declared.batch_axes if declared else {}, states)
    host = Host(ir.from_proto(model), (), declared)
    loaded = recordings.recorded(host, data).parts[0]
    taken = loaded.take(STEPS if loaded.streams else RECORDINGS)
    calls = [_ordered(model, c.inputs) for c, _ in taken.calls(host.batch, RECORDINGS)]
    return calls, frozenset(range(len(calls))), {}


def _steps(
    model: onnx.ModelProto, data: Source, axes: Mapping[str, int | None], states: Sequence[Any]
) -> tuple[list[Given], frozenset[int], dict[str, str]]:
    """Calls of the step form: one per step of the recordings."""
    handed = {state["input"]: state["output"] for state in states}
    specs = []
    for value in model.graph.input:
        if value.name not in handed:
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            batch = axes.get(value.name, 0)
            shape = [
                size if axis == batch or size != 1 else None
                for axis, size in enumerate(_shape(value))
            ]
            specs.append(InputSpec(value.name, kind, tuple(shape), batch))
    loaded = sources.load(data, tuple(specs)).parts[0].take(RECORDINGS)
    batch = next((s.batch for s in specs if s.batch is not None), None)
    shapes = {value.name: _shape(value) for value in model.graph.input}
    calls: list[Given] = []
    anew = set()
    for part, _ in loaded.calls(batch, RECORDINGS):
        places = {
            name: axis
            for name, array in part.inputs.items()
            for axis, size in enumerate(array.shape)
            if shapes[name][axis] == 1 and size > 1 and axis != axes.get(name, 0)
        }
        counts = {part.inputs[name].shape[axis] for name, axis in places.items()}
        if len(counts) > 1:
            raise DataError(
                f"{loaded.source}: all inputs must have the same number of steps, they have "
                f"{', '.join(map(str, sorted(counts)))}"
            )
        anew.add(len(calls))
        for t in range(min(STEPS, max(counts, default=1))):
            inputs = {
                name: np.take(array, [t], axis=places[name]) if name in places else array
                for name, array in part.inputs.items()
            }
            calls.append(_ordered(model, inputs | first_values(states, part.size)))
    return calls, frozenset(anew), handed


def invented(model: onnx.ModelProto) -> tuple[list[Given], frozenset[int], dict[str, str]]:
    """Calls with random numbers: four that hand states on, or one."""
    states = recorded(model)
    generator = np.random.default_rng(0)
    sizes: dict[str, int] = {}
    stored = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in stored]
    calls = []
    for _ in range(4 if states else 1):
        inputs: Given = {}
        for value in values:
            shape = [
                size if isinstance(size, int) else sizes.setdefault(
                    str(size), SIZES[min(len(sizes), 1)]
                )
                for size in _shape(value)
            ]  # fmt: skip
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            if kind.kind == "f":
                inputs[value.name] = generator.standard_normal(shape).astype(kind)
            else:  # lengths of sequences: all steps that there are
                inputs[value.name] = np.full(shape, SIZES[1], kind)
        batch = next((inputs[s["input"]].shape[0] for s in states), 1)
        calls.append(_ordered(model, inputs | first_values(states, batch)))
    return calls, frozenset(), {state["input"]: state["output"] for state in states}


def _ordered(model: onnx.ModelProto, inputs: Given | Any) -> Given:
    """Inputs in the order of the graph."""
    return {
        value.name: np.asarray(inputs[value.name])
        for value in model.graph.input
        if value.name in inputs
    }


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}/{axis}"
        for axis, d in enumerate(value.type.tensor_type.shape.dim)
    )
