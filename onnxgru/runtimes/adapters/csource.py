"""Programs that write C source: emx-onnx-cgen and onnx2c, with the system's compiler behind them.

``variant`` is the program's name. onnx2c is a program on the PATH; emx-onnx-cgen too, or a package.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]

EMX = "emx-onnx-cgen"


def _program(job: Mapping[str, Any]) -> list[str]:
    """Command that starts the generator."""
    name = job["variant"]
    found = job["where"] or shutil.which(name)
    if found and not Path(found).name.startswith("python"):
        return [found]
    if name == EMX:
        import emx_onnx_cgen

        return [sys.executable, "-m", emx_onnx_cgen.__name__]
    raise FileNotFoundError(f"needs {name} on the PATH")


def version(job: Mapping[str, Any]) -> str:
    """The installed version where it is known, and that of the compiler."""
    from importlib.metadata import PackageNotFoundError, version

    _program(job)
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("needs a C compiler called cc on the PATH")
    told = subprocess.run(
        [compiler, "-dumpfullversion"], capture_output=True, text=True, check=True
    )
    try:
        found = version(job["variant"]) + ", "
    except PackageNotFoundError:
        found = ""
    return f"{found}cc {told.stdout.strip()}"


def load(model: bytes, job: Mapping[str, Any]) -> Run:
    """Write, compile and load the C source of a model of fixed shapes."""
    import ctypes

    import numpy as np

    work = Path(job["work"])
    (work / "model.onnx").write_bytes(model)
    source = work / "model.c"
    if job["variant"] == EMX:
        compile_ = ["compile", "--large-weight-threshold", "0", "model.onnx", "model.c"]
        _call([*_program(job), *compile_], work)
        name = "model"
    else:
        source.write_text(_call([*_program(job), "model.onnx"], work), "utf-8")
        name = "entry"
    shapes = _shapes(source.read_text("utf-8"), name, job)
    _call(["cc", "-O1", "-w", "-shared", "-fPIC", "model.c", "-o", "model.so", "-lm"], work)
    function = getattr(ctypes.CDLL(str(work / "model.so")), name)

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = [np.ascontiguousarray(inputs[name]) for name in job["inputs"]]
        found = {name: np.empty(shapes[name], kind) for name, kind in job["outputs"].items()}
        function(*(array.ctypes.data_as(ctypes.c_void_p) for array in (*given, *found.values())))
        return found

    return run


def _call(command: Sequence[str], work: Path) -> str:
    """What a program prints."""
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reason = next((line for line in told if "rror" in line), told[-1] if told else "")
        name = Path(command[0]).name
        raise RuntimeError(f"{name} ends with exit code {done.returncode}: {reason}")
    return done.stdout


def _shapes(source: str, name: str, job: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the outputs, as the parameters of the generated function have them."""
    found = re.search(rf"^void {name}\((.*?)\)\s*\{{", source, re.MULTILINE | re.DOTALL)
    if found is None:
        raise RuntimeError("the source that it wrote has no function for fixed shapes")
    parameters = found[1].split(",")
    if len(parameters) != len(job["inputs"]) + len(job["outputs"]):
        raise RuntimeError(f"the function that it wrote takes {len(parameters)} parameters")
    # [2][1][8], or [restrict 2][1][8]
    shapes = [tuple(map(int, re.findall(r"\[[^\]\d]*(\d+)\s*\]", text))) for text in parameters]
    return dict(zip(job["outputs"], shapes[len(job["inputs"]) :], strict=True))
