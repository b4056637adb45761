"""tract, through its Python package."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]

NAMES = {"float32": "f32", "uint8": "u8", "uint16": "u16", "int8": "i8", "int16": "i16"}
NAMES |= {"int32": "i32", "int64": "i64", "bool": "bool"}


def version(_job: Mapping[str, Any]) -> str:
    """The installed version."""
    import tract

    return str(tract.version())


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Load a model of fixed shapes."""
    import numpy as np
    import tract

    path = Path(job["work"]) / "tract.onnx"
    path.write_bytes(model)
    read = tract.onnx().load(str(path))
    for index, (kind, shape) in enumerate(job["inputs"].values()):
        read.set_input_fact(index, ",".join([*map(str, shape), NAMES[kind]]))
    runnable = read.into_model().into_runnable()

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        results = runnable.run([np.ascontiguousarray(inputs[name]) for name in job["inputs"]])
        return {n: r.to_numpy() for n, r in zip(job["outputs"], results, strict=True)}

    return run
