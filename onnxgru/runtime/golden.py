"""Test data sets in ONNX's own convention: ``test_data_set_0/input_0.pb``, ``output_0.pb``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxgru.core.errors import DataError

Array = npt.NDArray[Any]

PREFIX = "test_data_set_"


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


def read(folder: Path, model: onnx.ModelProto) -> list[Golden]:
    """Test data sets in a folder, in the order of their numbers; nothing where there are none.

    Parameters
    ----------
    folder : Path
        What has ``test_data_set_0`` in it.
    model : onnx.ModelProto
        The graph that they are of.

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
