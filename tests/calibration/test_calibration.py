import dataclasses
import json
import pickle

import numpy as np
import pytest

from onnxgru.calibration import calibration as module
from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import observe
from onnxgru.core.choices import OBSERVERS
from onnxgru.core.errors import DataError, SchemeError, UsageError

MODEL = "0123456789abcdef" * 4
SUM = "/gru/forward/reset.sum"
GATE = "/gru/forward/reset.gate"
EMPTY = "/gru/forward/state.keep"


def histogram(seed, size=500):
    result = Histogram()
    result.update(np.random.default_rng(seed).normal(size=size).astype(np.float32))
    return result


def calibration(**overrides):
    histograms = {SUM: histogram(1), GATE: histogram(2), EMPTY: Histogram()}
    return Calibration(histograms, overrides, MODEL, 12)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.calibration.json"
    path.write_bytes(calibration().dumps())
    return path


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_range_is_the_observer_s(observer):
    statistics = calibration()
    for bits in (2, 8):
        expected = observe(statistics.histograms[SUM], observer, bits)
        assert statistics.range(SUM, observer, bits) == expected


def test_a_range_is_computed_once(monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return observe(*arguments, **options)

    monkeypatch.setattr(module, "observe", counted)
    statistics = calibration()
    first = statistics.range(SUM, "mse", 4)
    assert statistics.range(SUM, "mse", 4) == first
    assert len(calls) == 1
    statistics.range(SUM, "mse", 5)
    statistics.range(GATE, "mse", 4)
    assert len(calls) == 3
    other = statistics.overridden({GATE: (-1.5, 1.0)})  # remembers it too
    assert other.range(SUM, "mse", 4) == first
    assert other.range(GATE, "mse", 4) == (-1.5, 1.0) != statistics.range(GATE, "mse", 4)
    assert other.overridden({SUM: (0.0, 2.0)}).overrides == {GATE: (-1.5, 1.0), SUM: (0.0, 2.0)}
    other.range(SUM, "mse", 6)
    statistics.range(SUM, "mse", 6)
    assert len(calls) == 4 and not statistics.overrides


def test_an_override_wins_and_contains_zero():
    statistics = calibration(**{SUM: (-1.0, 2.0), GATE: (0.5, 0.75), EMPTY: (-3, -2)})
    assert {statistics.range(SUM, name, bits) for name in OBSERVERS for bits in (2, 8)} == {
        (-1.0, 2.0)
    }
    assert statistics.range(GATE, "mse", 4) == (0.0, 0.75)
    assert statistics.range(EMPTY, "mse", 4) == (-3.0, 0.0)
    assert statistics.overrides[GATE] == (0.5, 0.75)
    for observer, bits in (("mes", 4), ("mse", 9)):
        with pytest.raises(UsageError, match="must be"):
            statistics.range(SUM, observer, bits)


def test_unknown_operators_are_refused_with_what_is_close():
    with pytest.raises(
        SchemeError, match=r"operator '/gru/forward/rest\.sum' must be .* close to it: .*reset\.sum"
    ):
        calibration().range("/gru/forward/rest.sum", "mse", 4)
    with pytest.raises(SchemeError, match=r"there are: /gru/forward/reset\.sum, .*keep: correct"):
        calibration().range("xyz", "mse", 4)
    with pytest.raises(SchemeError, match="there are none: correct the name, or calibrate"):
        Calibration({}, {}, MODEL, 0).range("xyz", "mse", 4)
    with pytest.raises(SchemeError, match="operator 'x' must be in the calibration"):
        calibration(x=(0.0, 1.0))


def test_an_operator_without_values_has_no_range():
    with pytest.raises(DataError, match="calibration saw none of this tensor"):
        calibration().range(EMPTY, "mse", 4)


def test_it_is_frozen_and_keeps_copies():
    histograms, overrides = {SUM: histogram(1)}, {SUM: (0.0, 1.0)}
    statistics = Calibration(histograms, overrides, MODEL, 1)
    histograms.clear()
    overrides.clear()
    assert list(statistics.histograms) == [SUM]
    assert statistics.range(SUM, "mse", 4) == (0.0, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.model = "x"


def test_replacing_an_override_forgets_nothing_wrong():
    statistics = calibration()
    before = statistics.range(SUM, "mse", 4)
    changed = dataclasses.replace(statistics, overrides={SUM: (-9.0, 9.0)})
    assert changed.range(SUM, "mse", 4) == (-9.0, 9.0)
    assert statistics.range(SUM, "mse", 4) == before


def test_a_memory_of_ranges_makes_no_difference_to_equality_and_survives_pickling():
    one, other = calibration(), calibration()
    one.range(SUM, "mse", 4)
    assert one == other
    assert pickle.loads(pickle.dumps(one)) == other
    assert one != calibration(**{SUM: (0.0, 1.0)})


def test_loading_and_saving_gives_the_same_bytes(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    statistics = calibration(**{GATE: (-0.1, 1e-20)})
    first.write_bytes(statistics.dumps())
    loaded = Calibration.load(first)
    loaded.range(SUM, "mse", 4)
    second.write_bytes(loaded.dumps())
    assert loaded == statistics
    assert first.read_bytes() == second.read_bytes()
    assert (loaded.model, loaded.sequences, loaded.overrides) == (MODEL, 12, {GATE: (-0.1, 1e-20)})
    nothing = Calibration({}, {}, MODEL, 0)
    first.write_bytes(nothing.dumps())
    assert Calibration.load(str(first)) == nothing


def test_the_file_can_be_read_by_people(saved):
    text = saved.read_text()
    assert json.loads(text)["format"] == "onnxgru.calibration/1"
    entry = json.loads(text)["operators"][SUM]
    assert list(entry) == ["minimum", "maximum", "count", "range", "histogram"]
    assert entry["range"] is None
    assert entry["count"] == 500
    assert text.count("\n") == 6 + 3 * 7 + 1
    assert text.endswith("}\n")
    assert max(len(line) for line in text.splitlines()) < 9_000


def test_a_user_may_force_a_range(saved):
    edit(saved, lambda document: document["operators"][SUM].update(range=[-2, 1.5]))
    assert Calibration.load(saved).range(SUM, "mse", 4) == (-2.0, 1.5)
    assert Calibration.load(saved).overrides == {SUM: (-2.0, 1.5)}


@pytest.mark.parametrize(
    "value",
    [
        5,
        "auto",
        [],
        [1.0],
        [0.0, 1.0, 2.0],
        [1.0, -1.0],
        [None, 1.0],
        [False, True],
        ["0", "1"],
        [float("nan"), 1.0],
        [0.0, float("inf")],
        [0.0, 1e39],
        [-(10**400), 0],
        {"0": 1, "1": 2},
    ],
    ids=str,
)
def test_wrong_ranges_are_refused(saved, value):
    edit(saved, lambda document: document["operators"][SUM].update(range=value))
    with pytest.raises(SchemeError) as caught:
        Calibration.load(saved)
    start = f'{saved}: operator {SUM!r}: "range" must be null or two finite float32 numbers'
    assert str(caught.value).startswith(start)
    assert f"low <= high, but is {value!r}: write null" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{\n oops", r"must be JSON, but .* line 2 column 2"),
        ("", "must be JSON, but "),
        ("[]", '"format": "onnxgru.calibration/1", found None'),
        ('{"format": 1}', '"format": "onnxgru.calibration/1", found 1'),
        ('{"format": "onnxgru.calibration/2"}', "found 'onnxgru.calibration/2'"),
        ('{"format": "onnxgru.calibration/1"}', 'the calibration must hold "model", but it is mis'),
        ("9" * 5000, "must be JSON, but "),
    ],
    ids=lambda value: value[:20],
)
def test_files_that_are_no_calibration(saved, text, sentence):
    saved.write_text(text)
    with pytest.raises(SchemeError, match=sentence) as caught:
        Calibration.load(saved)
    assert str(caught.value).startswith(f"{saved}: ")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SchemeError, match=r"nowhere\.json: .*No such file or directory"):
        Calibration.load(tmp_path / "nowhere.json")
    with pytest.raises(SchemeError, match="Is a directory"):
        Calibration.load(tmp_path)
    binary = tmp_path / "model.onnx"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemeError, match=r"must be JSON, but .*utf-8"):
        Calibration.load(binary)


def wrong_counts(document):
    document["operators"][SUM]["histogram"]["counts"][0] += 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(model="abc"), "\"model\" must be the SHA-256 .* but is 'abc'"),
        (lambda d: d.update(model=7), '"model" must be the SHA-256 .* but is 7'),
        (lambda d: d.update(sequences=-1), '"sequences" must be a whole number.* but is -1'),
        (lambda d: d.update(sequences=1.5), '"sequences" must be a whole number.* but is 1.5'),
        (lambda d: d.update(operators=[]), r'"operators" must hold an entry .* but is \[\]'),
        (lambda d: d.pop("operators"), 'the calibration must hold "operators", but it is missing'),
        (lambda d: d.update(extra=1), "the calibration must hold nothing but .* has 'extra'"),
        (
            lambda d: d["operators"][SUM].pop("histogram"),
            'reset.sum\' must hold "histogram", but it is missing: calibrate again',
        ),
        (
            lambda d: d["operators"][SUM].pop("range"),
            'reset.sum\' must hold "range", but it is missing: calibrate again',
        ),
        (
            lambda d: d["operators"][SUM].update(rnage=d["operators"][SUM].pop("range")),
            "has 'rnage'; close to it: range: correct or delete it",
        ),
        (lambda d: d["operators"].update({SUM: 3}), "reset.sum' must hold minimum, .* but is 3"),
        (
            lambda d: d["operators"][SUM].update(minimum=-50.0),
            'reset.sum\': "minimum" and "maximum" must lie in .* -50.0 .* edit "range"',
        ),
        (wrong_counts, 'reset.sum\': "count" must be the sum of "counts", 501, but is 500'),
    ],
)
def test_entries_that_do_not_fit(saved, change, sentence):
    edit(saved, change)
    with pytest.raises(SchemeError, match=sentence) as caught:
        Calibration.load(saved)
    assert str(caught.value).startswith(f"{saved}: ")
