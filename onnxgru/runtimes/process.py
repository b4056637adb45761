"""Running a graph in a runtime, in a process of its own with a time limit.

tract and IREE can end the process that they run in, and some runtimes do not come back from a graph
that they cannot take.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.runtimes.table import Runtime

Array = npt.NDArray[Any]

RAN, REFUSED, MISSING = "ran", "refused", "missing"

REASON = 600
"""Letters of a reason that are kept."""
FOLDERS = re.compile(r"(?<![\w./:])/(?:[^\s/:'\"]+/)+")
"""The folders of an absolute path."""


@dataclass(frozen=True)
class Calls:
    """Calls of one graph, one after the other.

    Parameters
    ----------
    inputs : sequence of mapping of str to array
        What each call is given, by name, in the order of the graph inputs.
    outputs : mapping of str to str
        Element types of the graph outputs by name, in their order.
    states : mapping of str to str
        Outputs by the name of the input that each is at the next call.
    anew : frozenset of int
        Calls that begin with the states of `inputs`, besides the first.
    """

    inputs: Sequence[Mapping[str, Array]]
    outputs: Mapping[str, str]
    states: Mapping[str, str] = field(default_factory=dict)
    anew: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Ran:
    """The result of the calls.

    Parameters
    ----------
    state : {"ran", "refused", "missing"}
        Whether they ran.
    reason : str
        Why not.
    version : str
        Of the runtime, where it is known.
    outputs : tuple of mapping of str to array
        What each call gave.
    """

    state: str
    reason: str = ""
    version: str = ""
    outputs: tuple[Mapping[str, Array], ...] = ()


def run(
    runtime: Runtime, model: bytes, calls: Calls, *, seconds: float = 120.0, where: str = ""
) -> Ran:
    """Run all calls of a graph in a runtime.

    Parameters
    ----------
    runtime : Runtime
        The runtime.
    model : bytes
        An ONNX file.
    calls : Calls
        What it is given.
    seconds : float
        Time limit of loading and all calls together.
    where : str
        Where the runtime is, if it is not found by itself: a Python interpreter, a program, or the
        folder that has ``node_modules``.
    """
    if not where and (absent := lacking(runtime)):
        return Ran(MISSING, absent)
    interpreter = where if Path(where).name.startswith("python") else sys.executable
    here = Path(__file__).parent
    adapter = here / "adapters" / f"{runtime.adapter}.py"
    with tempfile.TemporaryDirectory(prefix="onnxgru-") as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model)
        first = calls.inputs[0]
        job = {
            "inputs": {n: [array.dtype.name, list(array.shape)] for n, array in first.items()},
            "outputs": dict(calls.outputs),
            "states": dict(calls.states),
            "anew": sorted(calls.anew),
            "calls": len(calls.inputs),
            "variant": runtime.variant,
            "where": where,
        }
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        arrays = {
            f"{call}/{index}": inputs[n]
            for call, inputs in enumerate(calls.inputs)
            for index, n in enumerate(first)
        }
        np.savez(folder / "calls.npz", **arrays)  # type: ignore[arg-type]  # names are no keywords
        ended = _spawned([interpreter, str(here / "child.py"), str(adapter), name], folder, seconds)
        told: dict[str, str] = {"state": "starting", "reason": "", "version": ""}
        if (folder / "told.json").is_file():
            told = json.loads((folder / "told.json").read_text("utf-8"))
        version = told["version"]
        if told["state"] == RAN:
            with np.load(folder / "results.npz") as found:
                outputs = tuple(
                    {n: found[f"{call}/{index}"] for index, n in enumerate(calls.outputs)}
                    for call in range(len(calls.inputs))
                )
            return Ran(RAN, "", version, outputs)
        if told["state"] in (REFUSED, MISSING):
            return Ran(told["state"], _short(told["reason"]), version)
        return Ran(REFUSED, _short(f"{ended} while {told['state']} it"), version)


def _short(reason: str) -> str:
    """A reason without the folders of files, which are temporary or of this machine only."""
    return FOLDERS.sub("", reason)[:REASON]


def lacking(runtime: Runtime) -> str:
    """What a runtime lacks on this machine, found without starting it; empty for nothing."""
    if runtime.module and find_spec(runtime.module) is None:
        return f"no Python module {runtime.module}"
    for program in runtime.programs:
        if shutil.which(program) is None:
            return f"no program {program} on the PATH"
    return ""


def _spawned(command: Sequence[str], folder: Path, seconds: float) -> str:
    """How a process ended. After the time limit it is killed with all processes that it started."""
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"has not ended within {seconds:g} seconds"
        finally:  # also where the user interrupts
            if os.name == "posix":
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            else:
                process.kill()
            process.wait()
    lines = (folder / "stderr").read_text("utf-8", errors="replace").strip().splitlines()
    last = f": {lines[-1].strip()}" if lines else ""
    if code < 0:
        return f"died of {signal.Signals(-code).name}{last}"
    return f"ended with exit code {code}{last}"
