"""Searches of a small model: objectives, genes, strategies and widths, down to the files."""

import csv
import json
import os
from pathlib import Path

import pytest

from onnxgru import api
from onnxgru.cli import main, terminal
from onnxgru.core.errors import OnnxgruWarning, UsageError
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.settings.toml import load
from onnxgru.study.study import Study
from tests.journeys import copy_digits, read, unfolded

pytestmark = pytest.mark.slow

COSTS = Path(__file__).parents[2] / "docs" / "costs"
SHORT = {"search": True, "population": 12, "generations": 4, "verify": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return copy_digits(tmp_path_factory.mktemp("study"), 60)


def searched(model, folder, **settings):
    return api.quantize(model, Config(output=folder, **SHORT, **settings))


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    """The folder of a search without any other settings."""
    return searched(model, tmp_path_factory.mktemp("plain") / "out").folder


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (None, ["flash_bytes"]),
        ({"strategy": "plain"}, ["flash_bytes"]),
        ({"objectives": "error,bitops,weights"}, ["bitops", "weight_bits"]),
        (
            {
                "objectives": f"error,flash,cost:{COSTS / 'subbyte_engine.toml'}",
                "genes": "bits,observer,granularity",
                "share": "gate",
            },
            ["flash_bytes", "cost"],
        ),
        ({"genome": "coupled", "search_inputs": True, "widths": "2,4,8"}, ["flash_bytes"]),
        (
            {"objectives": "error,flash,operations", "genes": "bits,threshold"},
            ["flash_bytes", "operations"],
        ),
    ],
)
def test_front_holds_or_beats_every_uniform_scheme(model, plain, tmp_path, settings, keys):
    folder, settings = plain, settings or {}
    if settings:
        folder = searched(model, tmp_path / "out", **settings).folder
    front = read(folder / "front.json")
    assert list(front["objectives"]) == keys and front["size"] == keys[-1]
    for uniform in front["uniform"]:
        if settings.get("widths") == "2,4,8" and uniform["bits"] not in (2, 4, 8):
            continue
        assert any(
            member["validation"] >= uniform["validation"]
            and all(member[key] <= uniform[key] for key in keys)
            for member in front["members"]
        )
    with (folder / "front.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row[keys[-1]]) for row in rows] == [m[keys[-1]] for m in front["members"]]
    header = json.loads((folder / "journal.jsonl").read_text().split("\n")[0])
    assert header["objectives"] == ["error", *keys]
    report = (folder / "report.md").read_text()
    size = front["objectives"][keys[-1]]
    least = "smallest member" if size == "flash bytes" else f"member of the least {size}"
    assert f"Chosen: the {least} at most 0.5 points below the best validation accuracy" in report
    assert all(title in report for title in front["objectives"].values())


def test_resumed_search_has_the_same_front(model, tmp_path):
    settings = {"genes": "bits,observer", "objectives": "error,flash,bitops"}
    whole = searched(model, tmp_path / "whole", **settings)
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (9, 30, 47):  # within the first generation, exploring, exploiting
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        again = searched(model, folder, resume=True, jobs=3, **settings)
        assert again.front == whole.front


def test_narrow_searches_are_compared_with_uniform_8_bits(model, tmp_path):
    with pytest.warns(OnnxgruWarning, match="accuracy falls from 100.00 % to .* on hold-out data"):
        result = searched(model, tmp_path / "out", widths="2-3", max_drop=0.0, seed=1)
    front = result.front
    assert [entry["bits"] for entry in front["uniform"]] == [8, 7, 6, 5, 4, 3, 2]
    assert {width for m in front["members"] for width in m["genome"]} <= {2, 3}
    best = max(front["members"], key=lambda m: m["validation"])
    assert best["validation"] < front["uniform"][0]["validation"]
    assert front["chosen"] == best["index"]
    report = (tmp_path / "out" / "report.md").read_text()
    reason = "because none is at most 0 points below the best validation accuracy"
    assert f"Chosen: the most accurate member, {reason}" in report


def test_narrow_accumulators_bind_members_alone(model, plain, tmp_path, capsys):
    """Uniform 8 bits need more, and are still what the drop is counted from."""
    usual = read(plain / "front.json")
    result = searched(model, tmp_path / "out", accumulator_bits=20)
    front = result.front
    assert front["uniform"] == usual["uniform"]
    assert front["accumulator_bits"] == 20 < front["uniform"][0]["accumulator_bits"]
    assert max(member["accumulator_bits"] for member in front["members"]) == 20
    assert len(front["members"]) > 3
    terminal.show_result(result)
    lines = capsys.readouterr().out.splitlines()
    starts = [line.strip().split("  ")[0] for line in lines]
    assert "uniform 8 *" in starts and "uniform 4" in starts
    assert "* needs accumulators of more than 20 bits" in map(str.strip, lines)
    needed = front["uniform"][0]["accumulator_bits"]
    text = (result.folder / "report.md").read_text("utf-8")
    assert f"| uniform 8 bits, with accumulators of {needed} |" in text


def test_first_population_has_uniform_schemes_then_allocated_ones(model):
    study = Study(*Session.open(model, Config(search=True)).parts)
    starts = study.starts
    assert starts[:7] == tuple(study.encoding.uniform(bits) for bits in range(8, 1, -1))
    assert study.encoding.narrow_weights(3) in starts
    assert 20 <= len(starts) == len(set(starts)) <= 40  # of 7 uniform and 7 narrow ones at most 14
    sizes = [study.evaluate(genome).objectives[1] for genome in starts[7:12]]
    assert sizes == sorted(sizes, reverse=True)


def test_journal_belongs_to_its_genes_and_costs(model, tmp_path):
    table = tmp_path / "cost.toml"
    table.write_text((COSTS / "byte_mcu.toml").read_text())

    def key(**settings):
        return Study(*Session.open(model, Config(search=True, **settings)).parts).key

    costs = {"objectives": f"error,cost:{table}"}
    keys = [key(), key(widths="2,4"), key(share="gate"), key(objectives="error,bitops")]
    keys += [key(genes="bits,observer"), key(**costs)]
    table.write_text(table.read_text().replace("10.0", "11.0"))
    keys.append(key(**costs))
    assert len(set(keys)) == len(keys)
    # What an evaluation does not depend on: a search can go on with more generations.
    assert key(strategy="plain", max_drop=3.0, generations=7) == keys[0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--widths", "1-9"], ["widths must be from 2 to 8", "'1-9'"]),
        (["--widths", "16"], ["16 bits are for cell states, see cell_state"]),
        (["--widths", ""], ["widths must be such as 2-8", "''"]),
        (["--objectives", "error,speed"], ["'speed'"]),
        (["--objectives", "error,cost:cost.toml"], ["cost.toml: [add] is missing"]),
        (["--objectives", "error,cost:none.toml"], ["none.toml: the cost table cannot be read"]),
        (["--share", "all"], ["none, layer, kind, gate"]),
    ],
)
def test_bad_options_end_before_any_work(tmp_path, capsys, arguments, parts):
    (tmp_path / "cost.toml").write_text("[linear]\n'8x8' = 1.0\n")
    (tmp_path / "broken.onnx").write_bytes(b"not read")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert main(["quantize", "broken.onnx", "--search", *arguments]) == 2
    finally:
        os.chdir(before)
    captured = capsys.readouterr()
    assert [part for part in parts if part not in unfolded(captured.err)] == []
    assert unfolded(captured.err).count("\n") == 1
    assert not (tmp_path / "broken-onnxgru").exists()


def test_cost_tables_in_a_file_of_settings_are_beside_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "search.toml").write_text('objectives = "error,cost:chip.toml,flash"\n')
    settings = load(tmp_path / "sub" / "search.toml")
    assert settings["objectives"] == f"error,cost:{tmp_path / 'sub' / 'chip.toml'},flash"
    (tmp_path / "sub" / "search.toml").write_text('objectives = "error,cots:chip.toml"\n')
    with pytest.raises(UsageError, match=r"search.toml: .*'cots:chip.toml'"):
        load(tmp_path / "sub" / "search.toml")
