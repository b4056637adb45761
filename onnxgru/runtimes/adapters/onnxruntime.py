"""onnxruntime on the CPU, at one of its levels of graph optimisation."""

from collections.abc import Callable, Mapping
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]

OPTIMISATIONS = ("disabled", "basic", "extended", "all")
"""Levels of graph optimisation."""


def version(_job: Mapping[str, Any]) -> str:
    """The installed version."""
    import onnxruntime

    return str(onnxruntime.__version__)


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Load a model; ``variant`` is one of `OPTIMISATIONS`."""
    return session(model, job["variant"], 1)


def session(model: bytes, optimisation: str, threads: int) -> Run:
    """Load a model; `threads` of one operator, 0 for onnxruntime's choice."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[optimisation]
    found = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in found.get_outputs()]
    wanted = {i.name for i in found.get_inputs()}

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        feeds = {name: array for name, array in inputs.items() if name in wanted}
        return dict(zip(names, found.run(names, feeds), strict=True))

    return run
