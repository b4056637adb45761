"""The sensitivity of each operator alone: the figures, the files, and what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxgru import Config, measure_sensitivity
from onnxgru.cli import main
from onnxgru.core.errors import OverflowProofError, UsageError
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.data import metrics
from onnxgru.events import Measured
from onnxgru.session.quantizer import Quantizer
from onnxgru.session.session import Session
from onnxgru.study.sensitivity import (
    FORMAT,
    OUTPUTS,
    WEIGHTS,
    Sensitivity,
    measure,
    narrowed,
    picture,
)
from tests import grus
from tests.journeys import copy_digits, names, read, unfolded

pytestmark = pytest.mark.slow

WIDTHS = "2,4,7"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, with the digits model and few data."""
    folder = tmp_path_factory.mktemp("sensitivity")
    copy_digits(folder, 60)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def events() -> list[Measured]:
    return []


@pytest.fixture(scope="module")
def found(place, events) -> Sensitivity:
    def listen(event: object) -> None:
        if isinstance(event, Measured):
            events.append(event)

    result = measure_sensitivity(
        "digits_row.onnx", Config(widths=WIDTHS, output="found"), listener=listen
    )
    assert result.folder == Path("found")
    return result.sensitivity


@pytest.fixture(scope="module")
def session(place) -> Session:
    """Without fused kernels."""
    return Session.open(place / "digits_row.onnx", Config())


def row(found: Sensitivity, name: str, part: str):
    (one,) = (r for r in found.rows if r.name.endswith(name) and r.part == part)
    return one


# --- figures -------------------------------------------------------------------------------------


def test_every_operator_is_there(found, session):
    (layer,) = session.model.layers
    outputs = [r.name for r in found.rows if r.part == OUTPUTS]
    weights = [r.name for r in found.rows if r.part == WEIGHTS]
    assert outputs == [operator.name for operator in layer.operators] and len(outputs) == 17
    assert weights == [o.name for o in layer.operators if o.kind == "linear"] and len(weights) == 6
    assert all([entry.bits for entry in r.entries] == [2, 4, 7] for r in found.rows)


def test_uniform_8_bits_drop_nothing(found, session):
    uniform = found.uniform
    program = session.quantizer(Scheme.uniform(session.model.layers, 8))
    assert (uniform.bits, uniform.drop, uniform.sqnr_uniform_db) == (8, 0.0, None)
    assert uniform.quality == session.yardstick.quality(program, "validation")
    assert uniform.flash_bytes == account(program).flash_bytes
    assert found.float_quality == session.yardstick.float_quality("validation")


@pytest.mark.parametrize(
    ("name", "part", "bits"), [("new.gate", OUTPUTS, 2), ("new.input", WEIGHTS, 2)]
)
def test_figures_are_those_of_the_scheme(found, session, name, part, bits):
    """Written down as a scheme file would be, and evaluated without fused kernels."""
    document = json.loads(Scheme.uniform(session.model.layers, 8).dumps())
    key = "bits" if part == OUTPUTS else "weight_bits"
    document["operators"][f"/gru/forward/{name}"][key] = bits
    program = session.quantizer(Scheme.parse(document, "test"))
    uniform = session.quantizer(Scheme.uniform(session.model.layers, 8))
    entry = row(found, name, part).entries[0]
    quality = session.yardstick.quality(program, "validation")
    assert (entry.bits, entry.quality) == (bits, quality)
    assert entry.drop == pytest.approx(session.yardstick.quality(uniform, "validation") - quality)
    assert entry.drop != 0.0  # nor is it trivial
    outputs, before = (
        session.yardstick.judge("validation").outputs(p)[session.yardstick.output]
        for p in (program, uniform)
    )
    reference = session.yardstick.reference("validation")[session.yardstick.output]
    assert entry.sqnr_db == pytest.approx(metrics.sqnr(reference, outputs))
    assert entry.sqnr_uniform_db == pytest.approx(metrics.sqnr(before, outputs))
    assert entry.flash_bytes == account(program).flash_bytes


def test_fewer_bits_are_worse(found):
    for one in found.rows:
        narrow, _, wide = (entry.sqnr_uniform_db for entry in one.entries)
        assert narrow < wide - 2, one.name
        if one.part == WEIGHTS:
            sizes = [entry.flash_bytes for entry in one.entries]
            assert sizes[0] < sizes[1] < sizes[2] < found.uniform.flash_bytes


def test_progress_counts_to_the_end(found, events):
    total = len(found.rows) * len(found.widths)
    assert [event.done for event in events] == list(range(1, total + 1))
    assert {event.total for event in events} == {total}


def test_workers_do_not_change_the_figures(place, found):
    documents = []
    for jobs in (1, 3):
        config = Config(widths="3", jobs=jobs, output=f"jobs-{jobs}")
        documents.append(measure_sensitivity("digits_row.onnx", config).sensitivity.document)
    assert documents[0] == documents[1]


def test_directions_share_the_width_of_their_state(tmp_path):
    path = tmp_path / "two.onnx"
    onnx.save(grus.model(grus.Case(direction="bidirectional", H=4)), path)
    session = Session.open(path, Config(widths="3"))
    found = measure(*session.parts)
    shared = [one for one in found.rows if len(one.operators) > 1]
    assert [one.operators for one in shared] == list(session.model.layers[0].writers.values())
    assert len(found.rows) == 2 * (17 + 6) - 1
    assert found.unit == "dB" and found.float_quality is None
    base = Scheme.uniform(session.model.layers, 8)
    narrowed(base, OUTPUTS, shared[0].operators, 3).validate(session.model.layers)


def test_schemes_that_could_overflow_have_no_figures(session, monkeypatch):
    lower = session.quantizer._lowering
    wide = Scheme.uniform(session.model.layers, 8)
    ((state,),) = session.model.layers[0].writers.values()

    def refuse(scheme: Scheme):
        if scheme.operators[state] != wide.operators[state]:
            raise OverflowProofError("test")
        return lower(scheme)

    monkeypatch.setattr(Quantizer, "__call__", lambda _, scheme: refuse(scheme))
    found = measure(session.quantizer, session.yardstick, Config(widths="7"))
    (entry,) = row(found, "state.sum", OUTPUTS).entries
    assert (entry.quality, entry.drop, entry.sqnr_db, entry.flash_bytes) == (None,) * 4
    assert row(found, "state.new", OUTPUTS).entries[0].drop is not None
    assert picture(found.document).startswith(b"\x89PNG")


# --- files, and what is printed ------------------------------------------------------------------


def test_files_are_written(place, found):
    assert names(place / "found") == {"sensitivity.json", "sensitivity.png"}
    document = read(place / "found" / "sensitivity.json")
    assert document == json.loads(json.dumps(found.document))
    assert document["format"] == FORMAT and document["widths"] == [2, 4, 7]
    report = {"model", "data", "calibration_sha256", "config", "versions"}
    assert report < set(document) and set(document["data"]) >= {"calibration", "validation"}
    content = (place / "found" / "sensitivity.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert 500 <= width <= 2500 and 400 <= height <= 2500


def test_table_fits_a_terminal(place, capsys):
    assert main(["sensitivity", "digits_row.onnx", "-o", "table"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    tables = [line for line in lines if line.startswith(("operator", "reset.", "new.", "state."))]
    assert len(tables) == 2 * (1 + 23 - 7) and max(map(len, tables)) <= 80
    assert tables[0].split()[1::2] == ["2", "3", "4", "5", "6", "7"]
    document = read(place / "table" / "sensitivity.json")
    drops = document["rows"][0]["entries"]
    expected = [f"{entry['drop'] + 0.0:.2f}" for entry in drops]
    assert tables[1].split() == ["reset.input", *expected]
    assert "138/138 measurements" in printed.err and "calibrating ..." in printed.err
    assert "measurements" not in printed.out


def test_json_on_standard_output(place, capsys):
    command = ["sensitivity", "digits_row.onnx", "-o", "j", "--widths", "5", "--format", "json"]
    assert main([*command, "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {**read(place / "j" / "sensitivity.json"), "folder": "j"}


def test_measured_before_and_after_quantising(place, capsys):
    """Both leave the other's files alone, and the page shows the heat map either way."""
    quick = ["--widths", "3", "-q"]
    assert main(["sensitivity", "digits_row.onnx", "-o", "both", *quick]) == 0
    assert main(["quantize", "digits_row.onnx", "-o", "both", "-q"]) == 0
    assert 'id="sensitivity"' in (place / "both" / "report.html").read_text("utf-8")
    kept = (place / "both" / "integer.onnx").read_bytes()
    (place / "both" / "sensitivity.json").unlink()
    assert main(["quantize", "digits_row.onnx", "-o", "both", "-q", "--force"]) == 0
    assert 'id="sensitivity"' not in (place / "both" / "report.html").read_text("utf-8")
    assert main(["sensitivity", "digits_row.onnx", "-o", "both", *quick]) == 1
    assert "sensitivity.png: exists already; replace it with --force" in unfolded(
        capsys.readouterr().err
    )
    assert main(["sensitivity", "digits_row.onnx", "-o", "both", *quick, "--force"]) == 0
    assert 'id="sensitivity"' in (place / "both" / "report.html").read_text("utf-8")
    assert (place / "both" / "integer.onnx").read_bytes() == kept
    assert (place / "both" / "report.json").is_file()


def test_settings_come_from_a_file_for_quantize_too(place):
    (place / "settings.toml").write_text('search = true\nobserver = "minmax"\nwidths = "6-8"\n')
    command = ["sensitivity", "digits_row.onnx", "-o", "file", "-q", "--config", "settings.toml"]
    assert main(command) == 0
    document = read(place / "file" / "sensitivity.json")
    assert document["config"]["observer"] == "minmax" and document["widths"] == [6, 7]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--resume"], "unrecognized arguments: --resume"),
        (["--search"], "unrecognized arguments: --search"),
        (["--widths", "8"], "widths must have one below 8 to be measured, got '8'"),
        (["--widths", "1-4"], "widths must be from 2 to 8"),
        (["--observer", "best"], "observer must be one of"),
    ],
)
def test_wrong_calls_are_refused_at_once(place, capsys, arguments, sentence):
    assert main(["sensitivity", "digits_row.onnx", "-o", "never", *arguments]) == 2
    assert sentence in unfolded(capsys.readouterr().err)
    assert not (place / "never").exists()


@pytest.mark.parametrize("settings", [{"search": True}, {"bits": 4}], ids=str)
def test_tasks_are_refused(place, settings):
    with pytest.raises(UsageError, match=f"takes no {next(iter(settings))}"):
        measure_sensitivity("digits_row.onnx", Config(output="never", **settings))


def test_a_file_in_the_way_is_refused(place, capsys):
    (place / "file-in-the-way").write_text("")
    assert main(["sensitivity", "digits_row.onnx", "-o", "file-in-the-way"]) == 1
    assert "the output must be a folder" in unfolded(capsys.readouterr().err)


def test_outputs_that_are_not_finite_are_refused(session, monkeypatch):
    broken = np.full_like(
        session.yardstick.reference("validation")[session.yardstick.output], np.nan
    )
    monkeypatch.setattr(
        session.yardstick.judge("validation"),
        "outputs",
        lambda _: {session.yardstick.output: broken},
    )
    with pytest.raises(Exception, match="NaN"):
        measure(session.quantizer, session.yardstick, Config(widths="7"))


def test_takes_no_training_data(place: Path) -> None:
    with pytest.raises(UsageError, match="takes no training_data"):
        measure_sensitivity("digits_row.onnx", Config(training_data="few.npz"))
