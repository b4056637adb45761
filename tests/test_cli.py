"""Journeys through the command line: what it writes, takes in, remembers and takes up again."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxgru.cli import main
from onnxgru.core import files
from onnxgru.session.comparison import evaluate
from tests import grus
from tests.journeys import (
    PLAIN,
    SEARCHED,
    SHORT,
    contents,
    copy_digits,
    names,
    prepared,
    process,
    quantize,
    read,
    run,
    tensor,
    unfolded,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, with the digits model and its results."""
    yield from prepared(tmp_path_factory.mktemp("digits"))


# --- what is written -----------------------------------------------------------------------------


def test_every_promised_file_is_written(place):
    assert names(place / "plain") == PLAIN
    assert names(place / "short") == SEARCHED
    for folder in ("plain", "short"):
        for name in ("integer.onnx", "annotated.onnx"):
            message = onnx.load(place / folder / name)
            onnx.checker.check_model(message, full_check=True)
            onnxruntime.InferenceSession(
                message.SerializeToString(), providers=["CPUExecutionProvider"]
            )


def test_front_picture_is_a_png_of_sensible_size(place):
    content = (place / "short" / "front.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.rstrip(b"\x00")[-8:-4] == b"IEND"
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert 400 <= width <= 2000 and 300 <= height <= 1500
    assert 5_000 < len(content) < 300_000


def test_front_table_has_every_member(place):
    front = read(place / "short" / "front.json")
    with (place / "short" / "front.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(front["members"])
    for row, member in zip(rows, front["members"], strict=True):
        assert int(row["flash_bytes"]) == member["flash_bytes"]
        assert float(row["validation"]) == member["validation"]
        assert [int(row[gene]) for gene in front["genes"]] == member["genome"]


def test_report_has_every_figure_and_they_are_right(place):
    for folder in (place / "plain", place / "short"):
        report = read(folder / "report.json")
        assert report["files"] == {
            name: (folder / name).stat().st_size for name in ("integer.onnx", "annotated.onnx")
        }
        assert report["model"]["sha256"] == files.digest((place / "digits_row.onnx").read_bytes())
        assert set(report["data"]) == {"calibration", "validation", "holdout"}
        assert report["seed"] == 0 and report["config"]["seed"] == 0
        assert {"onnxgru", "python", "onnxruntime", "numpy"} <= set(report["versions"])
        for role, quality in report["quality"].items():
            with np.load(place / f"digits_row.{role}.npz") as data:
                labels = data["labels"]
                inputs = {name: data[name] for name in data.files if name != "labels"}
            for kind, model in (
                ("float", place / "digits_row.onnx"),
                ("integer", folder / "integer.onnx"),
            ):
                scores = run(model, inputs)[0]
                right = 100 * np.mean(scores.argmax(-1) == labels)
                assert quality[kind] == pytest.approx(right, abs=1e-4), (role, kind)
        sizes = report["sizes"]
        assert sizes["flash_bytes"] == sum(sizes["flash"].values())
        linear = [row for row in report["operators"] if row["kind"] == "linear"]
        shapes = read(folder / "scheme.json")["operators"]
        bits = sum(row["weight_bits"] * np.prod(shapes[row["name"]]["shape"]) for row in linear)
        assert sizes["weight_bits"] == bits
        accumulators = [r["accumulator"]["bits"] for r in report["operators"] if "accumulator" in r]
        assert sizes["accumulator_bits"] == max(accumulators) <= 32
        for row in linear:
            low, high = row["accumulator"]["minimum"], row["accumulator"]["maximum"]
            assert low <= 0 <= high
            width = row["accumulator"]["bits"]
            assert -(2 ** (width - 1)) <= low and high < 2 ** (width - 1)
            assert low < -(2 ** (width - 2)) or high >= 2 ** (width - 2)
        assert len(report["operators"]) == 17
        assert all(row["sqnr_db"] is None or row["sqnr_db"] > -20 for row in report["operators"])
        assert report["annotated_distance_codes"]["codes"] > 0
        assert report["verification"]["differences"] == 0
        text = (folder / "report.md").read_text("utf-8")
        assert f"{sizes['flash_bytes']:,}" in text and report["versions"]["onnxgru"] in text


def test_golden_vectors_reproduce(place):
    for folder in ("plain", "short"):
        golden = place / folder / "test_data_set_0"
        message = onnx.load(place / folder / "integer.onnx")
        (name,) = (value.name for value in message.graph.input)
        (found,) = grus.run(message, {name: tensor(golden / "input_0.pb")})
        expected = tensor(golden / "output_0.pb")
        np.testing.assert_array_equal(found, expected)


# --- what goes in --------------------------------------------------------------------------------


def test_bits_set_every_width(place):
    scheme = read(quantize(place, "four", "--bits", "4") / "scheme.json")
    assert {entry["bits"] for entry in scheme["operators"].values()} == {4}
    smaller, larger = (
        read(place / folder / "report.json")["sizes"]["flash_bytes"] for folder in ("four", "plain")
    )
    assert smaller < 0.7 * larger


def test_schemes_come_back_as_they_were(place):
    again = quantize(place, "again", "--scheme", "short/scheme.json")
    assert names(again) == PLAIN
    for name in ("integer.onnx", "annotated.onnx", "scheme.json", "calibration.json"):
        assert (again / name).read_bytes() == (place / "short" / name).read_bytes(), name


def test_calibration_files_are_used(place):
    same = quantize(place, "same", "--calibration-file", "plain/calibration.json")
    assert contents(same) == contents(place / "plain")
    document = read(place / "plain" / "calibration.json")
    name = next(n for n in document["operators"] if n.endswith("new.hidden"))
    document["operators"][name]["range"] = [-0.25, 0.5]
    (place / "forced.json").write_text(json.dumps(document))
    forced = quantize(place, "forced", "--calibration-file", "forced.json")
    assert (forced / "integer.onnx").read_bytes() != (place / "plain/integer.onnx").read_bytes()
    kept = read(forced / "calibration.json")["operators"][name]["range"]
    assert kept == [-0.25, 0.5]


def test_flags_take_precedence_over_the_configuration(place):
    (place / "settings.toml").write_text('bits = 4\nobserver = "minmax"\ninput-bits = 7\n')
    scheme = read(quantize(place, "file", "--config", "settings.toml") / "scheme.json")
    entries = scheme["operators"].values()
    assert {(entry["bits"], entry["observer"]) for entry in entries} == {(4, "minmax")}
    assert [entry["bits"] for entry in scheme["inputs"].values()] == [7]
    flags = ("--config", "settings.toml", "--bits", "6", "--observer", "percentile")
    entries = read(quantize(place, "flags", *flags) / "scheme.json")["operators"].values()
    assert {(entry["bits"], entry["observer"]) for entry in entries} == {(6, "percentile")}
    (place / "search.toml").write_text("search = true\npopulation = 4\ngenerations = 1\n")
    folder = quantize(place, "unsearched", "--config", "search.toml", "--bits", "5")
    assert names(folder) == PLAIN


def test_paths_in_a_configuration_are_relative_to_it(place):
    (place / "inner").mkdir(exist_ok=True)
    text = 'output = "result"\nscheme = "../short/scheme.json"\n'
    (place / "inner" / "settings.toml").write_text(text)
    assert main(["quantize", "digits_row.onnx", "-q", "--config", "inner/settings.toml"]) == 0
    assert names(place / "inner" / "result") == PLAIN


@pytest.fixture
def two(tmp_path, monkeypatch) -> Path:
    """A model of two GRUs, with data, in the current folder."""
    cases = [grus.Case(I=4, H=6), grus.Case(I=6, H=5, seed=1)]
    (tmp_path / "two.onnx").write_bytes(grus.stacked(cases).SerializeToString())
    np.savez(tmp_path / "x.npz", X=grus.feeds(replace(cases[0], T=6, B=12))["X"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "left"), [(("--include", "gru0"), "gru1"), (("--exclude", "*0"), "gru0")]
)
def test_chosen_nodes_are_quantised(two, capsys, flags, left):
    command = ["quantize", "two.onnx", "--calibration", "x.npz", "-o", "out", *flags]
    assert main(command) == 0
    report = read(two / "out" / "report.json")
    assert [row["node"] for row in report["left_in_float"]] == [left]
    assert f"{left} stays in float" in unfolded(capsys.readouterr().err)
    kinds = [node.op_type for node in onnx.load(two / "out" / "integer.onnx").graph.node]
    assert kinds.count("GRU") == 1


def test_existing_folders_need_force_and_keep_what_is_not_ours(two):
    command = ["quantize", "two.onnx", "-q", "--calibration", "x.npz", "-o", "out"]
    assert main([*command, "--search", "--population", "4", "--generations", "1"]) == 0
    (two / "out" / "notes.txt").write_text("mine")
    assert main(command) == 1
    assert main([*command, "--force"]) == 0
    assert names(two / "out") == PLAIN | {"notes.txt", "test_data_set_0/output_1.pb"}


def test_models_whose_outputs_have_no_shape_are_taken(two):
    """Exporters write them, and runtimes infer it; onnx.checker alone refuses them."""
    message = onnx.load(two / "two.onnx")
    message.graph.output[0].type.tensor_type.ClearField("shape")
    (two / "bare.onnx").write_bytes(message.SerializeToString())
    command = ["quantize", "bare.onnx", "-q", "--calibration", "x.npz", "-o", "out"]
    assert main(command) == 0


def test_forms_of_the_recurrence(two):
    for form in (("step",), ("step", "--float-state"), ("unrolled", "--steps", "6")):
        command = ["quantize", "two.onnx", "-q", "--calibration", "x.npz", "-o", "out", "--force"]
        assert main([*command, "--recurrence", *form]) == 0
        message = onnx.load(two / "out" / "integer.onnx")
        assert "Scan" not in {node.op_type for node in message.graph.node}
        golden = two / "out" / "test_data_set_0"
        inputs = {
            value.name: tensor(golden / f"input_{index}.pb")
            for index, value in enumerate(message.graph.input)
        }
        for index, found in enumerate(grus.run(message, inputs)):
            np.testing.assert_array_equal(found, tensor(golden / f"output_{index}.pb"))


# --- the search ----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_files(place):
    again = quantize(place, "repeated", *SHORT)
    assert contents(again) == contents(place / "short")
    assert (again / "journal.jsonl").read_bytes() == (place / "short/journal.jsonl").read_bytes()
    reports = [read(folder / "report.json") for folder in (again, place / "short")]
    for report in reports:
        report["config"].pop("output")
    assert reports[0] == reports[1]


def test_pick_in_a_folder_of_an_earlier_version_says_what_has_changed(place, capsys):
    folder = place / "older"
    shutil.copytree(place / "short", folder)
    report = read(folder / "report.json")
    report["versions"]["onnxgru"] = "0.1.0"
    for name in ("rounding", "ranges"):  # which the first reports did not name
        del report["config"][name]
    (folder / "report.json").write_text(json.dumps(report))
    assert main(["pick", "older", "-o", "older", "--force", "-q", "--index", "0"]) == 0
    told = unfolded(capsys.readouterr().err)
    assert "warning: older was made by onnxgru 0.1.0, whose weights of 2 bits had three" in told
    found = read(folder / "report.json")["config"]
    assert (found["rounding"], found["ranges"]) == ("nearest", "plain")
    assert main(["pick", "older", "-o", "older", "--force", "-q", "--index", "0"]) == 0
    assert "was made by" not in unfolded(capsys.readouterr().err)  # this version has written it


def test_pick_writes_another_member(place):
    folder = place / "picked"
    shutil.copytree(place / "short", folder, dirs_exist_ok=True)
    front = read(folder / "front.json")
    members = front["members"]
    for flags, expected in (
        (("--index", "0"), members[0]),
        (("--index", str(len(members) - 1)), members[-1]),
        (
            ("--max-bytes", str(members[1]["flash_bytes"])),
            max(members[:2], key=lambda m: m["validation"]),
        ),
        (("--max-bytes", "1Mi"), max(members, key=lambda m: m["validation"])),
        (("--max-drop", "100"), members[0]),
    ):
        assert main(["pick", "picked", "-o", "picked", "--force", "-q", *flags]) == 0
        assert read(folder / "scheme.json") == expected["scheme"]
        report = read(folder / "report.json")
        assert report["sizes"]["flash_bytes"] == expected["flash_bytes"]
        assert report["quality"]["validation"]["integer"] == pytest.approx(
            expected["validation"], abs=1e-4
        )
        assert report["search"]["chosen"]["index"] == expected["index"]
        assert names(folder) == SEARCHED
    assert (
        main(["pick", "picked", "-o", "picked", "--force", "-q", "--index", str(front["chosen"])])
        == 0
    )
    assert contents(folder) == contents(place / "short")


def test_pick_widens_by_what_a_limit_leaves(place, capsys):
    folder = place / "widened"
    shutil.copytree(place / "short", folder)
    front = read(folder / "front.json")
    members = front["members"]
    smallest = members[0]
    limit = min(smallest["flash_bytes"] + 700, members[1]["flash_bytes"] - 1)
    assert main(["pick", "widened", "-o", "widened", "--force", "-q", "--index", "0"]) == 0
    shutil.copy(folder / "integer.onnx", place / "narrow.onnx")
    flags = ["pick", "widened", "-o", "widened", "--force", "--max-bytes", str(limit), "--widen"]
    capsys.readouterr()
    assert main(flags) == 0
    captured = capsys.readouterr()
    assert "(widened from 0)" in captured.out
    assert f"/{limit:,} flash bytes" in captured.err
    assert names(folder) == SEARCHED
    *before, new = read(folder / "front.json")["members"]
    assert before == members
    assert new["index"] == len(members)
    assert new["widened_from"] == 0
    assert smallest["flash_bytes"] < new["flash_bytes"] <= limit
    pairs = list(zip(smallest["genome"], new["genome"], strict=True))
    assert all(wider >= narrow for narrow, wider in pairs)
    assert read(folder / "scheme.json") == new["scheme"]
    report = read(folder / "report.json")
    assert report["search"]["chosen"]["widened_from"] == 0
    assert report["sizes"]["flash_bytes"] == new["flash_bytes"]
    told = (folder / "report.md").read_text()
    assert f"number {new['index']}, widened from number 0" in told
    assert f"The search chose number {front['chosen']}: " in told
    rows = list(csv.DictReader((folder / "front.csv").read_text().splitlines()))
    assert [row["widened_from"] for row in rows] == ["" for _ in members] + ["0"]
    models = [place / "digits_row.onnx", place / "narrow.onnx", folder / "integer.onnx"]
    found = evaluate(models, place / "digits_row.validation.npz", "sqnr").rows
    assert found[2].quality > found[1].quality
    # The same once more is no further member, and any member can be had again.
    written = contents(folder)
    assert main(["pick", "widened", "-o", "widened", "--force", "-q", "--index", "0"]) == 0
    assert main([*flags, "-q"]) == 0
    assert contents(folder) == written
    assert (
        main(["pick", "widened", "-o", "widened", "--force", "-q", "--index", str(new["index"])])
        == 0
    )
    assert contents(folder) == written
    # Choices by bytes and drop are among what the search found.
    assert (
        main(["pick", "widened", "-o", "widened", "--force", "-q", "--max-bytes", str(limit)]) == 0
    )
    assert read(folder / "scheme.json") == smallest["scheme"]
    assert main(["pick", "widened", "-o", "widened", "--force", "-q", "--max-drop", "100"]) == 0
    assert read(folder / "scheme.json") == smallest["scheme"]
    assert (folder / "front.png").read_bytes() == written["front.png"]


def test_pick_says_when_nothing_wider_fits(place, capsys):
    folder = place / "full"
    shutil.copytree(place / "short", folder)
    size = read(folder / "front.json")["uniform"][0]["flash_bytes"]
    assert (
        main(["pick", "full", "-o", "full", "--force", "-q", "--max-bytes", str(size), "--widen"])
        == 0
    )
    widest = read(folder / "report.json")
    assert widest["sizes"]["flash_bytes"] == size
    assert {row["bits"] for row in widest["operators"]} == {8}
    again = read(folder / "front.json")["members"][-1]
    found = {**read(folder / "front.json"), "members": [{**again, "index": 0}]}
    del found["members"][0]["widened_from"]
    (folder / "front.json").write_text(json.dumps(found | {"chosen": 0}))
    capsys.readouterr()
    assert (
        main(["pick", "full", "-o", "full", "--force", "-q", "--max-bytes", str(size), "--widen"])
        == 0
    )
    assert "nothing wider than number 0 fits" in unfolded(capsys.readouterr().err)
    assert len(read(folder / "front.json")["members"]) == 1


def test_pick_warns_where_widening_costs_accuracy(place, capsys):
    folder = place / "luck"
    shutil.copytree(place / "short", folder)
    front = read(folder / "front.json")
    front["members"][0]["validation"] = 100.0  # no scheme has as much
    (folder / "front.json").write_text(json.dumps(front))
    size = front["members"][0]["flash_bytes"]
    limit = str(min(size + 300, front["members"][1]["flash_bytes"] - 1))
    assert (
        main(["pick", "luck", "-o", "luck", "--force", "-q", "--max-bytes", limit, "--widen"]) == 0
    )
    told = unfolded(capsys.readouterr().err)
    assert "but number 0, which it was widened from, 100.00 %" in told


@pytest.mark.parametrize("choice", [("--index", "0"), ("--max-drop", "1")])
def test_widening_needs_a_limit(place, capsys, choice):
    assert main(["pick", "short", *choice, "--widen"]) == 2
    assert "--max-bytes SIZE" in unfolded(capsys.readouterr().err)


def start(place: Path, output: str, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "onnxgru", "quantize", "digits_row.onnx", "-o", output]
    return subprocess.Popen(
        [*command, *SHORT, *flags],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start what runs in the background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no locks
    )


def wait_for_lines(journal: Path, count: int, running: subprocess.Popen) -> None:
    """Until a journal has so many lines."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit and running.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)
    raise AssertionError(f"{journal} did not grow to {count} lines")


def test_killed_searches_resume_to_the_same_front(place):
    generator = np.random.default_rng(7)
    for attempt, lines in enumerate(np.sort(generator.integers(1, 30, 3))):
        flags = ("--resume",) if attempt else ()
        running = start(place, "killed", *flags)
        wait_for_lines(place / "killed" / "journal.jsonl", int(lines), running)
        time.sleep(float(generator.uniform(0, 0.02)))
        running.kill()
        running.communicate()
        assert not (place / "killed" / "report.json").exists()
    assert main(["quantize", "digits_row.onnx", "-q", "-o", "killed", *SHORT, "--resume"]) == 0
    assert contents(place / "killed") == contents(place / "short")
    assert names(place / "killed") == SEARCHED


def test_interrupted_searches_say_how_to_go_on_and_lock_out_others(place):
    running = start(place, "interrupted")
    journal = place / "interrupted" / "journal.jsonl"
    wait_for_lines(journal, 3, running)
    running.send_signal(signal.SIGSTOP)  # it stays in the middle of its search
    try:
        other = process(place, "quantize", "digits_row.onnx", "-o", "interrupted", *SHORT,
                        "--resume")  # fmt: skip
    finally:
        running.send_signal(signal.SIGINT)  # waits until it goes on
        running.send_signal(signal.SIGCONT)
    assert (other.returncode, other.stdout) == (1, "")
    assert "another process has it open" in unfolded(other.stderr)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "--resume" in err.splitlines()[-1] and "Traceback" not in err
    so_far = read(place / "interrupted" / "front.json")
    assert so_far["members"] and (place / "interrupted" / "front.png").is_file()
    assert not (place / "interrupted" / "report.json").exists()  # a report comes with an end
    lines = journal.read_bytes()
    assert lines.endswith(b"\n") and all(json.loads(line) for line in lines.splitlines())
    assert main(["quantize", "digits_row.onnx", "-q", "-o", "interrupted", *SHORT, "--resume"]) == 0
    assert contents(place / "interrupted") == contents(place / "short")


def test_finished_searches_resume_to_themselves(place):
    shutil.copytree(place / "short", place / "finished", dirs_exist_ok=True)
    before = contents(place / "finished")
    assert main(["quantize", "digits_row.onnx", "-q", "-o", "finished", *SHORT, "--resume"]) == 0
    assert contents(place / "finished") == before


def test_searches_without_labels_compare_decibels(two):
    command = ["quantize", "two.onnx", "-q", "--calibration", "x.npz", "-o", "out"]
    assert main([*command, "--search", "--population", "4", "--generations", "2"]) == 0
    front = read(two / "out" / "front.json")
    assert front["metric"] == {"name": "sqnr", "unit": "dB", "higher_is_better": True}
    assert front["float_validation"] is None  # of itself: infinite
    assert all(np.isfinite(member["validation"]) for member in front["members"])


def test_the_default_search_beats_uniform_bits_on_digits(tmp_path, monkeypatch):
    """The shipped model, its data and the default settings, from end to end."""
    monkeypatch.chdir(tmp_path)
    copy_digits(tmp_path)
    assert main(["quantize", "digits_row.onnx", "-q"]) == 0
    quality = read(tmp_path / "digits_row-onnxgru" / "report.json")["quality"]["holdout"]
    assert quality["integer"] >= quality["float"] - 0.5
    assert main(["quantize", "digits_row.onnx", "-q", "--search", "-o", "out"]) == 0
    search = read(tmp_path / "out" / "report.json")["search"]
    chosen, uniform = search["chosen"], search["uniform_8"]
    assert search["evaluations"] == 800
    assert chosen["flash_bytes"] <= 0.6 * uniform["flash_bytes"]
    assert chosen["holdout"] >= uniform["holdout"] - 1.0
    front = read(tmp_path / "out" / "front.json")
    assert any(
        member["flash_bytes"] <= 0.4 * uniform["flash_bytes"]
        and member["holdout"] >= uniform["holdout"] - 0.5
        for member in front["members"]
    )
    for entry in front["uniform"]:
        assert any(
            member["validation"] >= entry["validation"]
            and member["flash_bytes"] <= entry["flash_bytes"]
            for member in front["members"]
        ), entry["bits"]
