"""Forms that a model or its data do not allow are refused before any work."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxgru import Config, quantize
from onnxgru.core.errors import DataError, ModelError
from onnxgru.events import Calibrated, Event, Notice
from onnxgru.output import writing as output
from onnxgru.passes.forms.form import Form
from onnxgru.session import forms
from tests import grus
from tests.pipeline import pipeline

CASE = grus.Case(T=6, B=24, I=4, H=5)


def small(folder: Path, case: grus.Case = CASE) -> Path:
    onnx.save(grus.model(case), folder / "small.onnx")
    np.savez(folder / "small.calibration.npz", **grus.feeds(case))
    return folder / "small.onnx"


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({}, ModelError, "no fixed number of steps|--steps"),
        ({"steps": 5}, DataError, "must have the 5 steps|it has 6|--steps 6|calibration.npz"),
    ],
)
@pytest.mark.filterwarnings("ignore:no validation data")
def test_unrolled_of_another_length(tmp_path, search, settings, kind, words) -> None:
    heard: list[Event] = []
    config = Config(recurrence="unrolled", search=search, output=tmp_path / "out", **settings)
    with pytest.raises(kind) as caught:
        quantize(small(tmp_path), config, listener=heard.append)
    for word in words.split("|"):
        assert word in str(caught.value)
    assert not any(isinstance(event, Calibrated) for event in heard)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:no ")
def test_random_input_has_the_steps_of_the_unrolled_graph(tmp_path: Path) -> None:
    onnx.save(grus.model(CASE), tmp_path / "small.onnx")
    settings = Config(recurrence="unrolled", steps=3, output=tmp_path / "out")
    result = quantize(tmp_path / "small.onnx", settings)
    assert result.report["verification"]["codes"] > 0


def test_the_check_of_an_unrolled_graph_says_how_far_it_went(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(output, "VERIFYING", 0.0)
    onnx.save(grus.model(CASE), tmp_path / "small.onnx")
    heard: list[Event] = []
    settings = {"recurrence": "unrolled", "steps": 3, "output": tmp_path / "out"}
    result = quantize(tmp_path / "small.onnx", listener=heard.append, **settings)
    assert result.report["verification"]["sequences"] == 1
    (text,) = [e.text for e in heard if isinstance(e, Notice) and "unrolled" in e.text]
    assert text.startswith("verification of the unrolled graph ended after 0 seconds: 1 of 64 ")
    assert text.endswith("--recurrence scan computes the same codes faster")


def notices(case: grus.Case, form: Form) -> list[str]:
    model = pipeline(grus.model(case), grus.feeds(case))
    heard: list[Event] = []
    forms.check(model.model, model.layers, form, heard.append)
    return [event.text for event in heard if isinstance(event, Notice)]


def test_a_very_large_graph_is_announced() -> None:
    both = grus.Case(T=5, I=4, H=5, direction="bidirectional")
    assert not notices(both, Form("unrolled", steps=180))
    (text,) = notices(both, Form("unrolled", steps=200))
    assert "about 21,600 nodes (1.7 MB beside the weights)" in text
    assert "scan and step compute the same codes" in text
    assert not notices(both, Form("scan"))


@pytest.mark.parametrize("reset", [0, 1])
def test_the_announced_size_is_about_that_of_the_graph(reset: int) -> None:
    case = grus.Case(T=5, I=4, H=5, linear_before_reset=reset)
    model = pipeline(grus.model(case), grus.feeds(case))
    small, large = (model.emit(model.uniform(8), Form("unrolled", steps=n)) for n in (10, 20))
    nodes = len(large.graph.node) - len(small.graph.node)
    assert abs(nodes / 10 / forms.NODES - 1) < 0.15
    size = large.ByteSize() - small.ByteSize()
    assert abs(size / nodes / forms.BYTES - 1) < 0.15


def test_a_fixed_length_needs_no_steps(tmp_path: Path) -> None:
    case = grus.Case(T=6, B=3, I=4, H=5, dynamic=False)
    model = pipeline(grus.model(case), grus.feeds(case))
    assert forms.check(model.model, model.layers, Form("unrolled"), lambda event: None) is None


@pytest.mark.filterwarnings("ignore")
def test_an_axis_that_falls_away_with_one_recording(tmp_path: Path) -> None:
    """``Squeeze`` without axes: right with eight recordings, and wrong with one."""
    first = grus.Case(T=5, B=8, I=3, H=5)
    model = grus.stacked([first, grus.Case(T=5, B=8, I=5, H=2, outputs=("Y",))])
    between = next(node for node in model.graph.node if node.op_type == "Squeeze")
    del between.input[1:]
    onnx.save(model, tmp_path / "small.onnx")
    np.savez(tmp_path / "small.calibration.npz", **grus.feeds(first))
    settings = Config(recurrence="unrolled", steps=5, output=tmp_path / "out")
    with pytest.raises(ModelError, match=r"shape \(5, 5\), and must read \(steps, recordings"):
        quantize(tmp_path / "small.onnx", settings)
    assert not (tmp_path / "out").exists()
