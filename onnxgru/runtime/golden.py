"""Test data sets in ONNX's own convention: ``test_data_set_0/input_0.pb``, ``output_0.pb``.

Each set is one call of the graph. If the graph has states, the output state of a set is the input
state of the next one, until a recording ends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxgru.core.errors import DataError
from onnxgru.core.folder import GOLDEN as PREFIX
from onnxgru.data.dataset import Recorded
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.runtime.sessions import onnxruntime_session

Array = npt.NDArray[Any]

SEQUENCES = 2
"""Sequences per set, where a graph takes any number."""


@dataclass(frozen=True, eq=False)
class Golden:
    """One test data set.

    Parameters
    ----------
    name : str
        Name of its folder.
    inputs, outputs : mapping of str to array
        By name, in the order of the graph.
    """

    name: str
    inputs: dict[str, Array]
    outputs: dict[str, Array]


def write(
    model: onnx.ModelProto,
    data: Recorded,
    *,
    count: int = 1,
    batch: int | None = None,
    time_axes: Mapping[str, int] | None = None,
    states: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """Inputs and outputs of an emitted graph as files.

    Parameters
    ----------
    model : onnx.ModelProto
        The emitted graph.
    data : Dataset or Corpus
        Sequences.
    count : int
        Number of sets; fewer are written if the data have fewer calls.
    batch : int, optional
        Sequences that the graph takes per call, if it takes a fixed number.
    time_axes : mapping of str to int, optional
        In step form, the time axis of every input that has one.
    states : mapping of str to str, optional
        Outputs of the model by the name of the input that each is at the next call.
    """
    run = onnxruntime_session(model)
    made = recorded(model)
    handed = {state["input"]: state["output"] for state in made} | dict(states or {})
    contents = {}
    left: dict[str, Array] = {}
    calls = islice(_calls(data, batch, time_axes or {}), count)
    for index, (inputs, size, begins) in enumerate(calls):
        first = {**inputs, **first_values(made, size)}
        given = first if begins else first | left
        found = run(given)
        left = {taken: found[output] for taken, output in handed.items()}
        for kind, values, arrays in (
            ("input", model.graph.input, given),
            ("output", model.graph.output, found),
        ):
            for number, value in enumerate(values):
                array = np.ascontiguousarray(arrays[value.name])
                tensor = numpy_helper.from_array(array, value.name)
                name = f"{PREFIX}{index}/{kind}_{number}.pb"
                contents[name] = tensor.SerializeToString()
    return contents


def _calls(
    data: Recorded, batch: int | None, time_axes: Mapping[str, int]
) -> Iterator[tuple[dict[str, Array], int, bool]]:
    """Inputs of every call, its number of sequences, and whether it begins with first states."""
    for part in data.parts:
        firsts = set(accumulate(part.streams, initial=0)) if part.streams else None
        for index, (call, _) in enumerate(part.calls(batch, SEQUENCES)):
            begins = firsts is None or index in firsts
            steps = min((call.inputs[n].shape[axis] for n, axis in time_axes.items()), default=1)
            for t in range(steps):
                inputs = {
                    name: np.take(array, [t], axis=time_axes[name]) if name in time_axes else array
                    for name, array in call.inputs.items()
                }
                yield inputs, call.size, begins and t == 0


def read(folder: Path, model: onnx.ModelProto) -> list[Golden]:
    """Test data sets in a folder, in the order of their numbers; nothing where there are none.

    Parameters
    ----------
    folder : Path
        The folder that holds ``test_data_set_0``.
    model : onnx.ModelProto
        The graph that the sets belong to.

    Raises
    ------
    DataError
        If a set does not fit the graph, or cannot be read.
    """
    found = []
    for place in sorted(folder.glob(f"{PREFIX}*"), key=lambda p: (len(p.name), p.name)):
        if place.is_dir():
            arrays = [
                dict(_arrays(place, kind, values))
                for kind, values in (("input", model.graph.input), ("output", model.graph.output))
            ]
            found.append(Golden(place.name, *arrays))
    return found


def _arrays(place: Path, kind: str, values: Any) -> Iterator[tuple[str, Array]]:
    files = len(list(place.glob(f"{kind}_*.pb")))
    if files != len(values):
        raise DataError(
            f"{place}: must have one file per {kind} of the graph, {len(values)}, has {files}; "
            "remove it, or quantize again with --force"
        )
    for index, value in enumerate(values):
        path = place / f"{kind}_{index}.pb"
        try:
            tensor = onnx.TensorProto.FromString(path.read_bytes())
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # protobuf and NumPy raise classes of their own
            raise DataError(
                f"{path}: cannot be read as a tensor ({' '.join(str(error).split())[:100]}); "
                "remove its folder, or quantize again with --force"
            ) from error
        if tensor.name and tensor.name != value.name:
            raise DataError(
                f"{path}: must hold {kind} {value.name!r} of the graph, holds {tensor.name!r}; "
                "remove its folder, or quantize again with --force"
            )
        yield value.name, array
