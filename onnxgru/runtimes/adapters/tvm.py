"""Apache TVM: Relax, compiled by LLVM for the processor at hand."""

from collections.abc import Callable, Mapping
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def version(_job: Mapping[str, Any]) -> str:
    """The installed version."""
    import tvm

    return str(tvm.__version__)


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Compile a model for the shapes of the first call."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    shapes = {name: shape for name, (_, shape) in job["inputs"].items()}
    module = from_onnx(onnx.load_from_string(model), shape_dict=shapes)
    module = relax.transform.DecomposeOpsForInference()(module)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        results = machine["main"](*(tvm.runtime.tensor(inputs[name]) for name in job["inputs"]))
        if hasattr(results, "numpy"):
            results = [results]
        return {n: r.numpy() for n, r in zip(job["outputs"], results, strict=True)}

    return run
