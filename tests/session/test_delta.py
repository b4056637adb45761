"""Thresholds as settings ask for them, chosen on validation, and what reports say of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru import Config
from onnxgru.cli import main
from onnxgru.core.choices import thresholds
from onnxgru.core.errors import UsageError
from onnxgru.core.scheme import Scheme
from onnxgru.data import intervals
from onnxgru.events import Notice, silent
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.passes.graph.source import origin
from onnxgru.session import delta
from onnxgru.session.session import Session
from tests import grus, journeys


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delta")
    journeys.copy_digits(folder, 200)
    return folder


def opened(place: Path, **settings: object) -> Session:
    return Session.open(place / "digits_row.onnx", Config(**settings), fused=True)


def test_thresholds_are_read() -> None:
    assert thresholds("auto") is None
    assert thresholds("3") == {"first": 3, "inputs": 3, "hidden": 3}
    assert thresholds("hidden=8, inputs=2") == {"hidden": 8, "inputs": 2}
    for text in ("", "-1", "hidden", "hidden=1,hidden=2", "state=1", "1.5"):
        with pytest.raises(UsageError, match="delta must be auto, a number of codes such as 2, or"):
            thresholds(text)


def test_settings_are_checked() -> None:
    assert Config(delta=2).delta == "2"
    with pytest.raises(UsageError, match="delta must be auto, a number of codes, or a text such"):
        Config(delta=-1)
    with pytest.raises(UsageError, match="delta_drop says how thresholds are chosen; give delta a"):
        Config(delta=2, delta_drop=0.1)


def test_thresholds_by_group() -> None:
    case = grus.Case()
    stack = grus.stacked([case, grus.Case(I=6, H=5, seed=2)])
    first, second = "/gru0/forward/state.sum", "/gru1/forward/state.sum"
    x = grus.feeds(case)
    for asked, inputs, hidden in (
        ("hidden=8,inputs=2", [None, 2], [8, 8]),
        ("first=1", [1, None], [None, None]),
        (3, [3, 3], [3, 3]),
    ):
        found = onnxgru.Config(delta=asked, calibration=x, validation=x)
        session = Session.open(origin(stack), found)
        scheme = delta.applied(*session.parts, session.uniform(8))
        assert [entry.threshold for entry in scheme.inputs.values()] == inputs
        assert [scheme.operators[name].threshold for name in (first, second)] == hidden


def test_chosen_thresholds_cost_little(place: Path) -> None:
    session = opened(place, delta="auto", delta_drop=0.5)
    plain = session.uniform(8)
    chosen = delta.applied(*session.parts, plain)
    before, after = (
        session.yardstick.quality(session.quantizer(one), "validation") for one in (plain, chosen)
    )
    assert after >= before - 0.5
    judge = session.yardstick.judge("validation")
    answers = [
        judge.outputs(session.quantizer(one))["probabilities"].argmax(-1) for one in (plain, chosen)
    ]
    changed = int((answers[0] != answers[1]).sum())
    assert 0 < intervals.wilson(changed, len(answers[0]), 1.0)[1] <= delta.CHANGED * 0.5
    assert validation_difference(session, chosen) == pytest.approx(after - before, abs=1e-3)
    found = delta.measure(session.quantizer, session.yardstick, chosen)
    assert found is not None
    validation = found["roles"]["validation"]
    assert validation["eliminated"] > validation["eliminated_at_0"] + 10
    assert delta.measure(session.quantizer, session.yardstick, plain) is None
    assert delta.drop(session.yardstick, onnxgru.Config(delta="auto")) == 0.5


def test_with_a_drop_of_0_no_answer_changes(place: Path) -> None:
    session = opened(place, delta="auto", delta_drop=0)
    plain = session.uniform(8)
    judge = session.yardstick.judge("validation")
    before, after = (
        judge.outputs(session.quantizer(one))["probabilities"].argmax(-1)
        for one in (plain, delta.choose(*session.parts, plain))
    )
    np.testing.assert_array_equal(before, after)


def test_few_recordings_leave_thresholds_at_0(place: Path, tmp_path: Path) -> None:
    """No change of 40 answers may be one of 41; of 60, one of 61, which is less than 2 %."""
    with np.load(place / "digits_row.validation.npz") as data:
        arrays = dict(data)
    for count, told in ((40, 1), (60, 0)):
        np.savez(tmp_path / "few.npz", **{n: a[:count] for n, a in arrays.items()})
        session = opened(place, delta="auto", validation=tmp_path / "few.npz")
        heard: list[object] = []
        scheme = delta.choose(*session.parts, session.uniform(8), heard.append)
        notices = [event.text for event in heard if isinstance(event, Notice)]
        assert len(notices) == told
        for text in notices:
            assert text == (
                "thresholds stay at 0: 40 validation recordings are too few to show that at most "
                "2 % of the answers change; give more, or a larger --delta-drop"
            )
        found = [t for layer in session.model.layers for t in scheme.thresholds(layer).values()]
        assert (sum(sum(t) for t in found) == 0) == bool(told)


def validation_difference(session: Session, scheme: Scheme) -> float:
    found = delta.measure(session.quantizer, session.yardstick, scheme)
    assert found is not None
    return found["roles"]["validation"]["difference"]


def test_an_operand_without_a_threshold_counts_at_0(place: Path) -> None:
    session = opened(place, delta="hidden=0")
    found = delta.measure(
        session.quantizer, session.yardstick, delta.applied(*session.parts, session.uniform(8))
    )
    assert found is not None
    rows = {row["name"]: row["threshold"] for row in found["operands"]}
    assert rows == {"/gru/forward/input": None, "/gru/forward/state": 0}
    for role in found["roles"].values():
        assert role["eliminated"] == role["eliminated_at_0"]


HANDED = {
    "GRU": {"initial_h": "Y_h"},
    "LSTM": {"initial_h": "Y_h", "initial_c": "Y_c"},
}


@pytest.mark.parametrize("operator", HANDED)
def test_frames_hand_on_what_is_held_in_step_form(tmp_path: Path, operator: str) -> None:
    states = HANDED[operator]
    case = grus.Case(
        T=1, B=1, initial=True, dynamic=False, operator=operator, outputs=tuple(states.values())
    )
    onnx.save(grus.model(case), tmp_path / "m.onnx")
    frames = np.random.default_rng(0).standard_normal((6, 2, case.I)).astype(np.float32)
    settings = {
        "delta": 20, "validation": {"X": frames}, "calibration": {"X": frames},
        "state": tuple(f"{o}={i}" for i, o in states.items()),
        "batch_axis": ("X=1",), "observer": "minmax", "rounding": "nearest",
    }  # fmt: skip
    with pytest.raises(UsageError, match="a delta network must see a whole recording in one call"):
        onnxgru.quantize(tmp_path / "m.onnx", output=tmp_path / "scan", listener=silent, **settings)
    settings |= {"output": tmp_path / "step", "recurrence": "step"}
    result = onnxgru.quantize(tmp_path / "m.onnx", listener=silent, **settings)
    graph = onnx.load(result.folder / "integer.onnx")
    handed = {entry["input"]: entry["output"] for entry in recorded(graph)}
    assert {name.rsplit("/", 1)[-1] for name in handed} == {"input.held", "state.held"}
    names = [value.name for value in graph.graph.output]
    session = Session.open(tmp_path / "m.onnx", Config(**settings), silent)
    program = session.quantizer(delta.applied(*session.parts, session.uniform(8)))
    found = session.yardstick.judge("validation").outputs(program)
    wanted: dict[str, list[np.ndarray]] = {name: [] for name in case.outputs}
    for recording in range(2):
        given = first_values(recorded(graph), 1)
        given |= {name: np.zeros((1, 1, case.H), np.float32) for name in states}
        for frame in frames[:, recording]:
            made = dict(zip(names, grus.run(graph, {"X": frame[None, None], **given}), strict=True))
            given = {name: made[output] for name, output in (handed | states).items()}
            for name, kept in wanted.items():
                kept.append(made[name])
    for name, kept in wanted.items():
        np.testing.assert_array_equal(found[name].reshape(-1), np.stack(kept).reshape(-1))


def test_a_folder_of_a_delta_network(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    plain = journeys.read(journeys.quantize(place, "plain") / "report.json")
    assert plain["delta"] is None
    arguments = ["quantize", "digits_row.onnx", "--delta", "first=1,hidden=4", "-o", "some"]
    assert main(arguments) == 0
    assert "delta  multiplications eliminated: " in capsys.readouterr().out
    report = journeys.read(place / "some" / "report.json")
    share = report["delta"]["roles"]["holdout"]["eliminated"]
    assert report["delta"]["over_time"]["role"] == "holdout"
    assert len(report["delta"]["over_time"]["all"]) == 8
    assert report["verification"]["differences"] == 0
    assert report["sizes"]["flash"]["threshold"] == 2
    scheme = journeys.read(place / "some" / "scheme.json")
    hidden = scheme["operators"]["/gru/forward/new.hidden"]["shape"][0]
    more = report["sizes"]["ram"] - plain["sizes"]["ram"]
    # What is held, and sums of six products; no copies of operands in steps of two bytes.
    assert more == 8 + hidden + 4 * 6 * hidden - 2 * (8 + hidden)
    text = (place / "some" / "report.md").read_text("utf-8")
    assert "| all |  |  | " in text and f"{share:.1f} %" in text
    compared = onnxgru.evaluate(
        ["some/integer.onnx", "plain/integer.onnx"], "digits_row.holdout.npz"
    )
    row, other = compared.rows
    assert next(compared.sentences()).endswith(
        f"{share:.1f} % of its multiplications are eliminated"
    )
    assert row.eliminated == share and other.eliminated is None
    page = (place / "some" / "report.html").read_text("utf-8")
    assert "<h2>Delta network</h2>" in page and 'id="eliminated"' in page and 'id="delta"' in page
    assert scheme["inputs"]["/gru"]["threshold"] == 1
    assert scheme["operators"]["/gru/forward/state.sum"]["threshold"] == 4
    again = journeys.quantize(place, "again", "--scheme", "some/scheme.json")
    assert (again / "integer.onnx").read_bytes() == (place / "some/integer.onnx").read_bytes()


@pytest.mark.slow
def test_fine_tuning_knows_no_thresholds(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(place)
    onnxgru.quantize(
        "digits_row.onnx", training_data="digits_row.calibration.npz", epochs=1, bits=4, delta=0,
        output="tuned", listener=silent,
    )  # fmt: skip
    report = journeys.read(place / "tuned" / "report.json")
    assert report["finetuning"] and report["delta"]["operands"][0]["threshold"] == 0
