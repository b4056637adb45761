"""OpenVINO on the CPU, its float operators in float32."""

from collections.abc import Callable, Mapping
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def version(_job: Mapping[str, Any]) -> str:
    """The installed version."""
    import openvino

    return str(openvino.__version__).partition("-")[0]


def load(model: bytes, _job: Mapping[str, Any]) -> Run:
    """Load a model."""
    import numpy as np
    import openvino

    core = openvino.Core()
    read = core.read_model(model, b"")
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [one.get_any_name() for one in read.outputs]
    wanted = [name for one in read.inputs for name in one.get_names()]

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        results = compiled({name: inputs[name] for name in wanted if name in inputs})
        return {name: np.asarray(results[name]) for name in names}

    return run
