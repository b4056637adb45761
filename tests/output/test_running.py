"""A loaded folder gives what its integer graph gives, call by call and as a stream."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core.errors import DataError, ModelError, OutputError, UsageError
from onnxgru.events import silent
from onnxgru.runtime.sessions import onnxruntime_session
from tests import grus
from tests.runtime import streaming

pytestmark = pytest.mark.slow

DATA = np.random.default_rng(0).standard_normal((12, 4, 3)).astype(np.float32)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quantised(case: grus.Case, **settings: Any) -> onnxgru.Result:
    onnx.save(grus.model(case), "m.onnx")
    given = grus.feeds(case) | {"X": DATA[: case.T]}
    return onnxgru.quantize(
        "m.onnx", calibration=given, output="out", listener=silent, bits=4, **settings
    )


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        (grus.Case(T=12, B=4, I=3, H=6), {}),
        (grus.Case(T=12, B=4, I=3, H=6, operator="LSTM"), {"rounding": "gptq"}),
        (grus.Case(T=12, B=4, I=3, H=6, direction="bidirectional", initial=True), {}),
        (grus.Case(T=12, B=4, I=3, H=6), {"delta": "4"}),
    ],
    ids=["GRU", "LSTM", "bidirectional", "delta"],
)
def test_equals_the_integer_graph(case: grus.Case, settings: dict[str, Any], place: Path) -> None:
    result = quantised(case, **settings)
    feeds = grus.feeds(case) | {"X": DATA[:, ::-1].copy()}
    expected = onnxruntime_session(onnx.load(result.integer), threads=1)(feeds)
    runner = onnxgru.load("out")
    for _ in range(2):  # nothing is kept
        found = dict(zip(runner.outputs, runner.run(None, feeds), strict=True))
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    (last,) = runner.run(["Y_h"], feeds)
    np.testing.assert_array_equal(last, expected["Y_h"])


@pytest.mark.parametrize("settings", [{}, {"delta": "4"}], ids=["plain", "delta"])
def test_a_stream_equals_the_whole(settings: dict[str, Any], place: Path) -> None:
    quantised(grus.Case(T=12, B=4, I=3, H=6, dynamic=True), **settings)
    (whole,) = onnxgru.load("out").run(["Y"], {"X": DATA})
    stream = onnxgru.load("out", streaming=True)
    for _ in range(2):
        parts = [stream.run(["Y"], {"X": DATA[t : t + 3]})[0] for t in range(0, 12, 3)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        stream.reset()
    stream.run(None, {"X": DATA})
    with pytest.raises(DataError, match="a stream of 4 sequences goes on with as many, this call"):
        stream.run(None, {"X": DATA[:, :2]})


def test_the_models_own_states_are_handed_on(place: Path) -> None:
    """They may be left out, or given again; without a stream they must be given."""
    onnx.save(streaming.stacked(), "m.onnx")
    x = np.random.default_rng(1).standard_normal((6, 1, 1, streaming.I)).astype(np.float32)
    frames = {"x": x.reshape(6, 1, streaming.I)}
    result = onnxgru.quantize("m.onnx", calibration=frames, output="out", listener=silent)
    step = onnxruntime_session(onnx.load(result.integer), threads=1)
    first = {
        "h": np.zeros((2, 1, streaming.H), np.float32),
        "cache": np.zeros((1, streaming.I, streaming.CACHE), np.float32),
    }
    runner = onnxgru.load("out", streaming=True)
    for _ in range(2):
        held = first
        for frame in x:
            expected = step({"x": frame, **held})
            held = {"h": expected["hn"], "cache": expected["cache_next"]}
            y, state = runner.run(["y", "hn"], {"x": frame})
            np.testing.assert_array_equal(y, expected["y"])
            np.testing.assert_array_equal(state, expected["hn"])
        (again,) = runner.run(["y"], {"x": x[0], **first})
        np.testing.assert_array_equal(again, step({"x": x[0], **first})["y"])
        runner.reset()
    with pytest.raises(DataError, match=r"input h float32 \(2, 1, 5\) is missing"):
        onnxgru.load("out").run(None, {"x": x[0]})


def test_a_refusal_is_one_sentence(place: Path) -> None:
    case = grus.Case(T=12, B=4, I=3, H=6, direction="bidirectional")
    quantised(case)
    runner = onnxgru.load("out")
    assert repr(runner).startswith("<Runner of out: X float32 (")
    with pytest.raises(DataError, match=r"out has no input 'x'; it takes X float32 \("):
        runner.run(None, {"x": DATA})
    with pytest.raises(DataError, match=r"out: input X float32 \(.*\) is missing"):
        runner.run(None, {})
    with pytest.raises(DataError, match=r"cannot be float64 \(12, 4, 3\)"):
        runner.run(None, {"X": DATA.astype(np.float64)})
    with pytest.raises(DataError, match=r"cannot be float32 \(12, 4, 2\)"):
        runner.run(None, {"X": DATA[:, :, :2]})
    with pytest.raises(UsageError, match="out has no output 'y'; it has Y, Y_h"):
        runner.run(["y"], {"X": DATA})
    with pytest.raises(UsageError, match="runs backwards too and needs whole recordings"):
        onnxgru.load("out", streaming=True)
    with pytest.raises(OutputError, match="must be an output folder, it has no report"):
        onnxgru.load(place)
    (place / "m.onnx").rename("moved.onnx")
    with pytest.raises(ModelError, match="is not there any more; say where it is"):
        onnxgru.load("out")
    assert onnxgru.load("out", model="moved.onnx").outputs
    (place / "out" / "calibration.json").unlink()
    with pytest.raises(onnxgru.OnnxgruError, match="calibration"):
        onnxgru.load("out", model="moved.onnx")
