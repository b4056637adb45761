"""What an output folder holds where a model cannot be verified."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxgru import Config, quantize
from onnxgru.core.errors import VerificationError
from onnxgru.output import writing as output
from onnxgru.output.members import _exceeded
from onnxgru.output.writing import growth
from onnxgru.runtime.verify import Verification
from tests import grus
from tests.passes.forms.test_start import FIRST, expanded, with_state

CASE = grus.Case(T=6, B=24, I=4, H=5)


def small(folder: Path, message: onnx.ModelProto | None = None) -> Path:
    onnx.save(message or grus.model(CASE), folder / "small.onnx")
    np.savez(folder / "small.calibration.npz", X=grus.feeds(CASE)["X"])
    return folder / "small.onnx"


def failing(*arguments: object, **others: object) -> Verification:
    raise VerificationError("integer.onnx in onnxruntime: reason")


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_a_search_is_kept_where_its_member_cannot_be_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    settings = {"search": True, "population": 6, "generations": 2, "output": folder}
    with monkeypatch.context() as context:
        context.setattr(output, "verify", failing)
        with pytest.raises(VerificationError) as caught:
            quantize(small(tmp_path), Config(**settings))
    for part in ("reason", "front.csv, front.json and journal.jsonl", str(folder), "--resume"):
        assert part in str(caught.value)
    assert {path.name for path in folder.iterdir()} == {
        "front.csv", "front.json", "front.png", "journal.jsonl",
    }  # fmt: skip
    kept = json.loads((folder / "front.json").read_text("utf-8"))
    result = quantize(small(tmp_path), Config(**settings, resume=True))
    assert json.loads((folder / "front.json").read_text("utf-8")) == kept
    assert result.report["verification"]["ties"] == 0


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_nothing_is_written_where_a_scheme_cannot_be_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "verify", failing)
    with pytest.raises(VerificationError, match=r"reason$"):
        quantize(small(tmp_path), Config(output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
@pytest.mark.parametrize("float_state", [False, True])
def test_the_report_names_the_states_of_the_step_form(tmp_path: Path, float_state: bool) -> None:
    model = small(tmp_path, with_state(*expanded()))
    settings = Config(output=tmp_path / "out", recurrence="step", float_state=float_state)
    result = quantize(model, settings)
    (state,) = result.report["states"]
    assert state["input"] == "/gru/forward/state"
    assert state["output"] == "/gru/forward/next_state"
    assert state["type"] == ("float32" if float_state else "uint8")
    first = np.asarray(state["first"], np.float32)
    if not float_state:
        first = (first - state["zero_point"]) * np.float32(state["scale"])
    assert np.abs(first - FIRST[0, 0]).max() < state["scale"]
    assert result.report["verification"]["calls"] == 6
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "## States" in text
    assert "| `/gru/forward/state` | `/gru/forward/next_state` |" in text
    assert str(state["zero_point"]) in text


def test_fine_tuning_that_needs_more_flash_is_told():
    assert growth(1200, 1200) == growth(1200, 1100) == ""
    assert growth(20480, 20612).endswith("20,612 flash bytes instead of 20,480")
    assert _exceeded(20480, 20480) == ""
    told = _exceeded(20612, 20480)
    assert told.startswith("--max-bytes 20,480: the member takes 20,612 flash bytes")
    assert "132 too many" in told and told.endswith("give --max-bytes 20348")
