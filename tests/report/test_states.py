"""What report.md says of the step form runs."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.documents.entries import StepState
from onnxgru.events import silent
from onnxgru.report.states import table
from onnxgru.runtime.sessions import onnxruntime_session
from tests import grus

pytestmark = pytest.mark.slow

CASE = grus.Case(T=5, B=1, I=3, H=4)


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def written(folder: Path, case: grus.Case = CASE, **settings) -> Path:
    onnx.save(grus.model(case), folder / "m.onnx")
    return onnxgru.quantize(
        folder / "m.onnx", calibration=grus.feeds(case), output=folder / "o",
        recurrence="step", listener=silent, **settings,
    ).folder  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{}, {"float_state": True}, {"operator": "LSTM"}, {"delta": "1"}], ids=str
)
def test_the_python_code_runs_the_recording(tmp_path, monkeypatch, settings) -> None:
    case = grus.Case(T=5, B=1, I=3, H=4, operator=settings.pop("operator", "GRU"))
    folder = written(tmp_path, case, **settings)
    (code,) = blocks("python", (folder / "report.md").read_text("utf-8"))
    monkeypatch.chdir(folder)
    x = grus.feeds(case)["X"]
    found = {"recording": [{"X": x[t : t + 1]} for t in range(5)]}
    exec(compile(code, "report.md", "exec"), found)
    onnxgru.quantize(
        tmp_path / "m.onnx", calibration={"X": x}, output=tmp_path / "s", listener=silent,
        **{name: value for name, value in settings.items() if name == "delta"},
    )  # fmt: skip
    whole = onnxruntime_session(onnx.load(tmp_path / "s" / "integer.onnx"))({"X": x})
    np.testing.assert_array_equal(found["outputs"]["Y_h"], whole["Y_h"])


def test_the_c_code_compiles(tmp_path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (code,) = blocks("c", (written(tmp_path) / "report.md").read_text("utf-8"))
    head = "#include <stdint.h>\n#include <string.h>\nvoid run();\n"
    (tmp_path / "step.c").write_text(head + code, "utf-8")
    subprocess.run([compiler, "-std=c99", "-c", "step.c", "-o", "step.o"], cwd=tmp_path, check=True)


def test_first_values_of_single_units_are_in_the_report() -> None:
    state = StepState("h", "next_h", "uint8", (None, 2), 0.5, 3, [3, 4])
    text = "\n".join(table([state]))
    assert 'np.broadcast_to(states[0]["first"], (1, 2)).astype("uint8")' in text
    assert 'state[i] = first_state[i] /* "first" in report.json */;' in text


def test_states_of_several_recordings_are_whole() -> None:
    """The C code has an element for every unit of every recording of a call."""
    zero = "\n".join(table([StepState("h", "next_h", "uint8", (4, 2), 0.5, 3, 3)]))
    assert "static uint8_t state[8], next_state[8];" in zero
    assert "for (int i = 0; i < 8; i++) state[i] = 3;" in zero
    units = "\n".join(table([StepState("h", "next_h", "uint8", (4, 2), 0.5, 3, [3, 4])]))
    assert "for (int i = 0; i < 8; i++) state[i] = first_state[i % 2]" in units
