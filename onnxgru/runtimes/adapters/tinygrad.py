"""tinygrad on the CPU, which it compiles for with clang."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def version(_job: Mapping[str, Any]) -> str:
    """The installed version."""
    from importlib.metadata import PackageNotFoundError, version

    os.environ["DEV"] = "CPU"  # read when tinygrad is imported
    import tinygrad

    assert tinygrad
    if shutil.which("clang") is None:
        raise FileNotFoundError("tinygrad needs clang on the PATH")
    try:
        return version("tinygrad")
    except PackageNotFoundError:
        return ""


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Load a model."""
    from tinygrad import Tensor
    from tinygrad.nn.onnx import OnnxRunner

    path = Path(job["work"]) / "tinygrad.onnx"
    path.write_bytes(model)
    runner = OnnxRunner(str(path))

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        results = runner({name: Tensor(inputs[name]) for name in job["inputs"]})
        return {name: results[name].numpy() for name in job["outputs"]}

    return run
