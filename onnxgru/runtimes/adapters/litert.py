"""LiteRT (TensorFlow Lite): converted by onnx2tf, run with TensorFlow's Flex operators."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def version(_job: Mapping[str, Any]) -> str:
    """The installed versions of the converter and of TensorFlow."""
    from importlib.metadata import version

    import onnx2tf

    assert onnx2tf
    return f"onnx2tf {version('onnx2tf')}, TensorFlow {version('tensorflow')}"


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Convert a model of fixed shapes."""
    import onnx
    import tensorflow

    work = Path(job["work"])
    proto = onnx.load_from_string(model)
    names = {name: f"given{index}" for index, name in enumerate(job["inputs"])}
    names |= {name: f"found{index}" for index, name in enumerate(job["outputs"])}
    onnx.save(_renamed(proto, names), work / "lite.onnx")
    given = [names[name] for name in job["inputs"]]
    command = [sys.executable, "-m", "onnx2tf", "-i", "lite.onnx", "-o", "lite", "-n", "-kat"]
    done = subprocess.run([*command, *given], cwd=work, capture_output=True, text=True, check=False)
    path = work / "lite" / "lite_float32.tflite"
    if done.returncode or not path.is_file():
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(f"onnx2tf fails: {told[-1] if told else ''}")
    runner = tensorflow.lite.Interpreter(str(path)).get_signature_runner()

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        results = runner(**{names[name]: inputs[name] for name in job["inputs"]})
        return {name: results[names[name]] for name in job["outputs"]}

    return run


def _renamed(proto: Any, names: Mapping[str, str]) -> Any:
    """The same graph; onnx2tf changes names that TensorFlow does not take."""
    for values in (proto.graph.input, proto.graph.output, proto.graph.value_info):
        for value in values:
            value.name = names.get(value.name, value.name)
    for node in proto.graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    return proto
