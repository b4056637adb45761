"""The process in which a runtime runs a graph: ``python child.py ADAPTER FOLDER``.

Reads ``job.json``, ``model.onnx`` and ``calls.npz`` from the folder, and writes ``results.npz`` and
``told.json`` there. Runs in the Python environment of the runtime: it needs numpy, and nothing of
onnxgru. Outputs that are states are inputs of the next call.
"""

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main(adapter: str, folder: Path) -> None:
    """Run all calls."""
    job = json.loads((folder / "job.json").read_text("utf-8")) | {"work": str(folder)}

    def tell(state: str, reason: str = "", version: str = "") -> None:
        text = json.dumps({"state": state, "reason": reason, "version": version})
        (folder / "told.tmp").write_text(text, "utf-8")
        (folder / "told.tmp").replace(folder / "told.json")

    module = _loaded(adapter)
    try:
        import numpy as np

        version = module.version(job)
    except (ImportError, FileNotFoundError) as error:
        tell("missing", str(error))
        return
    except Exception as error:
        tell("refused", _sentence(error))
        return
    tell("loading", version=version)
    try:
        run = module.load((folder / "model.onnx").read_bytes(), job)
        tell("running", version=version)
        found: dict[str, Any] = {}
        left: dict[str, Any] = {}
        with np.load(folder / "calls.npz") as calls:
            for call in range(job["calls"]):
                feeds = {
                    name: left[name] if name in left else calls[f"{call}/{index}"]
                    for index, name in enumerate(job["inputs"])
                }
                outputs = run(feeds)
                for index, name in enumerate(job["outputs"]):
                    found[f"{call}/{index}"] = np.array(outputs[name])
                anew = call + 1 in job["anew"]
                states: Mapping[str, str] = {} if anew else job["states"]
                left = {taken: np.array(outputs[given]) for taken, given in states.items()}
        np.savez(folder / "results.npz", **found)
    except BaseException as error:  # the panic of a Rust library is no Exception
        tell("refused", _sentence(error), version)
        return
    tell("ran", version=version)


def _loaded(path: str) -> Any:
    """The module of an adapter, whose name must not hide that of its runtime."""
    spec = importlib.util.spec_from_file_location("onnxgru_adapter", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _sentence(error: BaseException) -> str:
    """What an error says, on one line."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != here]
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # some runtimes die while they are unloaded, when all is written
