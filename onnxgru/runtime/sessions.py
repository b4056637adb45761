"""The ONNX runtimes by name: how a model is loaded and run in each.

onnxruntime is a requirement; ``onnx.reference`` comes with onnx; OpenVINO is used where it is
installed.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxgru.core.errors import ModelError, VerificationError
from onnxgru.runtimes.adapters import onnxruntime as ort
from onnxgru.runtimes.adapters import openvino, reference
from onnxgru.runtimes.adapters.onnxruntime import OPTIMISATIONS

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def onnxruntime_session(model: onnx.ModelProto, optimisation: str = "all", threads: int = 0) -> Run:
    """Load a model in onnxruntime.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    optimisation : str
        One of `OPTIMISATIONS`.
    threads : int
        Threads of one operator; 0 for onnxruntime's choice.

    Returns
    -------
    callable
        ``run(inputs) -> outputs``, both by name.

    Raises
    ------
    ModelError
        If onnxruntime refuses the model.
    """
    try:
        session = ort.session(model.SerializeToString(), optimisation, threads)
    except Exception as error:  # onnxruntime raises a class of its own for every status
        raise ModelError(
            f"onnxruntime refuses the model ({' '.join(str(error).split())}); "
            "export it again or report this"
        ) from error

    wanted = {value.name for value in model.graph.input}

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {name: array for name, array in inputs.items() if name in wanted}
        try:
            return session(feeds)
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {feeds[name].shape}" for name in feeds)
            raise ModelError(
                f"the model cannot be run on inputs of shape {shapes} "
                f"({' '.join(str(error).split())[:300]}); give data of the shapes it takes"
            ) from error

    return run


def reference_session(model: onnx.ModelProto) -> Run:
    """Load a model in ``onnx.reference``; as `onnxruntime_session`."""
    return reference.load(model.SerializeToString(), {})


def openvino_session(model: onnx.ModelProto) -> Run:
    """Load a model in OpenVINO on the CPU; as `onnxruntime_session`."""
    return openvino.load(model.SerializeToString(), {})


def runtimes() -> dict[str, Callable[[onnx.ModelProto], Run]]:
    """Every runtime that is installed, by name."""

    def at(level: str) -> Callable[[onnx.ModelProto], Run]:
        return lambda model: onnxruntime_session(model, level)

    found = {f"onnxruntime ({level})": at(level) for level in OPTIMISATIONS}
    found["onnx.reference"] = reference_session
    if find_spec("openvino"):
        found["OpenVINO"] = openvino_session
    return found


def require_equal(
    expected: Mapping[str, Array], found: Mapping[str, Array], names: Iterable[str], where: str
) -> None:
    """Compare values exactly.

    Raises
    ------
    VerificationError
        If any differs; the message has the name, the place and both values.
    """
    for name in names:
        a, b = np.asarray(expected[name]), np.asarray(found[name])
        if a.shape != b.shape:
            raise VerificationError(
                f"{where}: {name} must have the oracle's shape {a.shape}, has {b.shape}; "
                "please report it"
            )
        different = np.argwhere(a != b)
        if len(different):
            place = tuple(int(i) for i in different[0])
            raise VerificationError(
                f"{where}: {name} must equal the oracle, but {len(different)} of {a.size} values "
                f"differ, first at {place}: {a[place]} expected, {b[place]} found; please report it"
            )
