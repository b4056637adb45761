"""One glitch among recordings costs a warning and no range."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.calibration.calibration import Calibration
from onnxgru.events import Event, Notice, silent
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from tests.journeys import copy_digits
from tests.runtime import streaming

SAID = (
    "bad.npz: input 'rows' holds an outlier, 1000 in recording 7 at index (7, 2, 3) (numbers start "
    "at 0), while all others are within 1; "
)
SOUND = "digits_row.validation.npz"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    copy_digits(tmp_path, 100)
    with np.load("digits_row.calibration.npz") as file:
        rows = file["rows"]
    np.savez("good.npz", rows=rows)
    rows[7, 2, 3] = 1000.0
    np.savez("bad.npz", rows=rows)
    rows[7, 2, 3] = 1.0
    np.savez("cut.npz", rows=rows)
    return tmp_path


def quantized(calibration: str, **settings: object) -> onnxgru.Result:
    return onnxgru.quantize(
        "digits_row.onnx", calibration=calibration, force=True, output="out", **settings
    )


def test_the_ranges_are_those_without_it_and_everybody_is_told(place: Path) -> None:
    with pytest.warns(onnxgru.OnnxgruWarning) as caught:
        result = quantized("bad.npz")
    (told,) = [str(warning.message) for warning in caught]
    assert told.startswith(SAID + "ranges come from values cut to 1; correct or remove the")
    assert told.endswith("or give observer minmax if such values are real")
    ranges = (place / "out/calibration.json").read_bytes()
    flag = told.replace("give observer", "give --observer")
    assert flag in (place / "out/report.md").read_text("utf-8")
    assert "holds an outlier" in (place / "out/report.html").read_text("utf-8")
    (entry,) = result.report["glitches"]
    assert (entry["input"], entry["recording"], entry["position"]) == ("rows", 7, (7, 2, 3))
    assert (entry["value"], entry["limit"], entry["done"]) == (1000.0, 1.0, "cut")
    assert quantized("cut.npz", listener=silent).report["glitches"] == []
    assert ranges == (place / "out/calibration.json").read_bytes()


def test_the_observer_minmax_keeps_it_and_warns(place: Path) -> None:
    with pytest.warns(onnxgru.OnnxgruWarning) as caught:
        quantized("bad.npz", observer="minmax")
    glitch, *others = [str(warning.message) for warning in caught]
    assert "spends most codes on that range" in glitch
    assert any("accuracy falls from 98.00 %" in text for text in others)
    assert '"maximum": 1000.0' in (place / "out/calibration.json").read_text("utf-8")


def told(**settings: object) -> list[str]:
    heard: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            heard.append(event.text)

    Session.open(Path("digits_row.onnx"), Config(**settings), listen).examine()
    return heard


def test_data_that_serve_for_two_roles_are_told_of_once(place: Path) -> None:
    Path("digits_row.holdout.npz").unlink()
    assert len([text for text in told(calibration="bad.npz", validation="bad.npz")
                if "outlier" in text]) == 1  # fmt: skip
    (text,) = [t for t in told(calibration="good.npz", validation="bad.npz") if "outlier" in t]
    assert text == SAID + "figures count it as it is; correct or remove the recording"


def test_states_are_those_that_the_cut_recording_leaves(place: Path) -> None:
    message = streaming.single()
    onnx.save(message, "s.onnx")
    (x,) = streaming.recordings(message, (300,))
    np.savez("clean.npz", x=x)
    x[0, 40, 1] = 1e4
    np.savez("odd.npz", x=x)
    found = {}
    for name in ("clean.npz", "odd.npz"):
        settings = {"calibration": name, "validation": "clean.npz", "output": "s"}
        onnxgru.quantize("s.onnx", listener=silent, force=True, **settings)
        found[name] = Calibration.load("s/calibration.json")
    for name, histogram in found["clean.npz"].histograms.items():
        assert found["odd.npz"].histograms[name].maximum <= 1.5 * histogram.maximum + 0.5, name


def test_moments_beside_a_calibration_file_are_of_the_same_values(place: Path) -> None:
    moments = {}
    for name, extra in {"a": {}, "b": {"calibration_file": "kept.json"}}.items():
        quantized("bad.npz", listener=silent, **extra)
        moments[name] = (place / "out/moments.npz").read_bytes()
        Path("kept.json").write_bytes((place / "out/calibration.json").read_bytes())
    assert moments["a"] == moments["b"]
