"""Runtimes run in processes of their own; whatever they do there, the caller goes on."""

import sys
from pathlib import Path

import numpy as np
import pytest

from onnxgru.runtimes import table
from onnxgru.runtimes.process import MISSING, RAN, REFUSED, Calls, run
from onnxgru.runtimes.table import Runtime

CALLS = Calls(
    [{"x": np.arange(3, dtype=np.float32), "state": np.asarray(7, np.uint8)} for _ in range(4)],
    {"y": "float32", "next": "uint8"},
    {"state": "next"},
    frozenset({2}),
)
COUNTING = """
def load(model, job):
    assert model == b"graph" and job["inputs"]["x"] == ["float32", [3]]
    return lambda given: {"y": 2 * given["x"], "next": given["state"] + 1}
"""


def adapter(folder: Path, load: str, version: str = "return '1.0'") -> Runtime:
    path = folder / "adapter.py"
    path.write_text(f"def version(job):\n    {version}\n{load}", "utf-8")
    return Runtime("toy", str(path.with_suffix("")))


def test_calls_hand_states_on_and_begin_anew(tmp_path):
    ran = run(adapter(tmp_path, COUNTING), b"graph", CALLS)
    assert (ran.state, ran.version) == (RAN, "1.0")
    assert [int(outputs["next"]) for outputs in ran.outputs] == [8, 9, 8, 9]
    assert ran.outputs[0]["y"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise ValueError('no Scan\\n  here')", "ValueError: no Scan here"),
        ("raise OSError('/a/b-1/tool of 1/2, https://x/y/')", "OSError: tool of 1/2, https://x/y/"),
        ("os.abort()", "died of SIGABRT while loading it"),
        ("os._exit(3)", "ended with exit code 3 while loading it"),
        ("time.sleep(60)", "has not ended within 1 seconds while loading it"),
    ],
)
def test_a_runtime_that_does_not_take_the_graph_refuses(tmp_path, statement, reason):
    load = f"import os, time\ndef load(model, job):\n    {statement}"
    ran = run(adapter(tmp_path, load), b"graph", CALLS, seconds=1)
    assert (ran.state, ran.reason, ran.version) == (REFUSED, reason, "1.0")


@pytest.mark.parametrize("version", ["import nowhere", "raise FileNotFoundError('no node')"])
def test_a_runtime_that_is_not_there_is_missing(tmp_path, version):
    assert run(adapter(tmp_path, COUNTING, version), b"graph", CALLS).state == MISSING


def test_what_is_not_installed_starts_no_process():
    for lacking, reason in (
        (Runtime("toy", "toy", module="nowhere_at_all"), "no Python module nowhere_at_all"),
        (Runtime("toy", "toy", programs=("nowhere",)), "no program nowhere on the PATH"),
    ):
        ran = run(lacking, b"", CALLS)
        assert (ran.state, ran.reason) == (MISSING, reason)


def test_a_named_interpreter_runs_the_adapter(tmp_path):
    load = "import sys\ndef version(job):\n    return sys.executable\n" + COUNTING
    place = tmp_path / "python-of-its-own"
    place.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', "utf-8")
    place.chmod(0o755)
    ran = run(adapter(tmp_path, load), b"graph", CALLS, where=str(place))
    assert (ran.state, ran.version) == (RAN, sys.executable)


def test_names_of_runtimes():
    assert [runtime.name for runtime in table.find("tvm")] == ["Apache TVM"]
    assert len(table.find("onnxruntime")) == 4
    assert [runtime.name for runtime in table.find("ONNXRuntime (all)")] == ["onnxruntime (all)"]
    assert table.find("nothing") == ()
    folder = Path(table.__file__).parent / "adapters"
    assert {runtime.adapter for runtime in table.RUNTIMES} == {
        path.stem for path in folder.glob("*.py") if path.stem != "__init__"
    }
