"""IREE: compiled by LLVM for the processor at hand."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def version(_job: Mapping[str, Any]) -> str:
    """The installed version of the compiler."""
    from importlib.metadata import PackageNotFoundError, version

    import iree.compiler
    import iree.runtime

    assert iree.compiler and iree.runtime
    try:
        return version("iree-base-compiler")
    except PackageNotFoundError:
        return ""


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Import and compile a model of fixed shapes."""
    import numpy as np
    from iree import compiler, runtime

    work = Path(job["work"])
    (work / "iree.onnx").write_bytes(model)
    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx", "iree.onnx"]
    done = subprocess.run(
        [*importer, "-o", "iree.mlir"], cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"its importer fails: {done.stderr.strip()[-300:]}")
    compiled = compiler.compile_file(
        str(work / "iree.mlir"),
        target_backends=["llvm-cpu"],
        input_type="onnx",
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )
    loaded = runtime.load_vm_flatbuffer(compiled, driver="local-sync")
    names = [n for n in loaded.vm_module.function_names if not n.endswith(("$async", "__init"))]
    function = loaded[names[0]]
    kinds = [np.dtype(kind) for kind in job["outputs"].values()]

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        results = function(*(np.ascontiguousarray(inputs[name]) for name in job["inputs"]))
        if not isinstance(results, tuple | list):
            results = [results]
        arrays = [np.array(r.to_host()) for r in results]  # else memory of the device, soon freed
        # IREE's integers have no sign: codes come back as int8.
        return {
            name: array.view(kind) if array.dtype.itemsize == kind.itemsize else array
            for name, array, kind in zip(job["outputs"], arrays, kinds, strict=True)
        }

    return run
