"""The report's page: whole by itself, and alive in a browser."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnxgru.cli import main
from onnxgru.core.choices import WIDE_BITS, WIDTHS
from onnxgru.core.errors import OutputError
from onnxgru.data import metrics
from onnxgru.data.metrics import METRICS
from onnxgru.documents.front import Front, Metric, Uniform
from onnxgru.documents.report import Report
from onnxgru.output import writing as output
from onnxgru.report import charts, page
from tests import grus
from tests.journeys import copy_digits, names, read, unfolded

pytestmark = pytest.mark.slow

MODEL = "a<script>alert(1)<b>.onnx"
GRU = "encoder/layers.0<b>/a_long_name_for_a_recurrent_layer"
VOID = {"wbr", "meta", "link", "br", "img", "input", "hr", "path", "rect"}
SIZES = {"flash_bytes": 9, "weight_bits": 9, "mean_bits": 8.0, "accumulator_bits": 9, "bitops": 9}
FRONT = Front(
    Metric("accuracy", "%"), {"flash_bytes": "flash bytes"}, "flash_bytes", 0, None, {}, (),
    (Uniform(bits=8, validation=90.0, **SIZES),), (),
)  # fmt: skip


class Outline(HTMLParser):
    """Elements of a page, checked to be nested, with the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not (self.open and self.open[-1] == "style"):
            self.text += data

    @property
    def ids(self) -> set[str]:
        return {str(values["id"]) for _, values in self.elements if "id" in values}

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """Folders ``front`` (a search, measured), ``plain`` and ``odd``, a model of hostile names."""
    folder = tmp_path_factory.mktemp("page")
    copy_digits(folder, 60)
    message = grus.model(grus.Case(direction="bidirectional", linear_before_reset=0))
    functions = ["Sigmoid", "Tanh", "HardSigmoid", "Softsign"]
    message.graph.node[0].attribute.append(onnx.helper.make_attribute("activations", functions))
    message.graph.node[0].name = GRU
    onnx.save(message, folder / MODEL)
    before = Path.cwd()
    os.chdir(folder)
    short = ["--search", "--population", "10", "--generations", "4"]
    digits = "digits_row.onnx"
    assert main(["sensitivity", digits, "-q", "-o", "the front", "--widths", "2,4"]) == 0
    assert main(["quantize", digits, "-q", "-o", "the front", *short]) == 0
    assert main(["quantize", digits, "-q", "-o", "plain", "--bits", "4"]) == 0
    assert main(["quantize", MODEL, "-q", "-o", "odd", *short]) == 0
    yield folder
    os.chdir(before)


def outline(folder: Path) -> Outline:
    return Outline((folder / "report.html").read_text("utf-8"))


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["the front", "plain", "odd"])
def test_page_is_whole_by_itself(place, name):
    found = outline(place / name)
    assert (place / name / "report.html").stat().st_size < 200_000
    for tag, values in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "action", "srcset"} & set(values), (tag, values)
        assert not [key for key in values if key.startswith("on")], (tag, values)
    style = re.search("<style>(.*?)</style>", (place / name / "report.html").read_text("utf-8"), 16)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    (policy,) = (v["content"] for _, v in found.elements if "http-equiv" in v)
    assert policy is not None and policy.startswith("default-src 'none';")
    assert "http" not in policy and "unsafe-eval" not in policy


@pytest.mark.parametrize("name", ["the front", "plain", "odd"])
def test_every_chart_has_its_place(place, name):
    found = outline(place / name)
    drawn = {"front", "generations", "progress", "sizes", "operators", "sensitivity"} & found.ids
    searched = {"front", "generations", "progress"}
    extra = {"the front": searched | {"sensitivity"}, "plain": set(), "odd": searched}
    assert drawn == {"sizes", "operators"} | extra[name]
    assert ("members" in found.ids) == (name != "plain")


def test_warnings_and_methods_are_told(place):
    report = read(place / "plain" / "report.json")
    report["stuck_states"] = [{"layer": "/gru", "units": 3, "of": 64}]
    report["finetuning"] = {
        "epochs": 4, "chosen_epoch": 1, "learning_rate": 1e-3, "before": 91.25,
        "validation_by_epoch": [91.25, 95.5],
        "data": {"source": "train.npz", "sha256": "", "sequences": 1234},
    }  # fmt: skip
    told_page = Outline(page.build(Report.parse(report), folder="plain").decode())
    before = Report.parse(read(place / "plain" / "report.json"))
    plain = Outline(page.build(before, folder="plain").decode())
    for told in (
        "3 of 64 units of /gru are frozen",
        "1,234 sequences of train.npz",
        "95.50 % after",
    ):
        assert told in told_page.text and told not in plain.text
    assert "weights rounded by gptq, biases as they are; saturating ranges" in plain.text
    assert "weights fine-tuned; saturating" in told_page.text


def test_names_are_escaped(place):
    found = outline(place / "odd")
    assert len(found.scripts) == 2
    assert [tag for tag, _ in found.elements if tag == "b"] == ["b"] * len(
        re.findall('<div class="tile"', (place / "odd" / "report.html").read_text("utf-8"))
    )
    assert MODEL in found.text and f"/{GRU}/forward/reset.gate" in found.text
    assert "</script" not in found.scripts[0]
    assert found.data["command"] == "onnxgru pick odd --index "
    assert outline(place / "the front").data["command"] == "onnxgru pick 'the front' --index "


def test_widths_are_those_of_the_schemes(place):
    for name in ("the front", "odd"):
        data, front = outline(place / name).data, read(place / name / "front.json")
        assert len(data["members"]) == len(front["members"])
        for shown, member in zip(data["members"], front["members"], strict=True):
            for operator, entry in member["scheme"]["operators"].items():
                assert shown["widths"][operator] == [
                    entry["bits"], entry.get("weight_bits"), entry.get("copy")
                ]  # fmt: skip
        assert data["widths"] == data["members"][data["chosen"]]["widths"]
    plain = outline(place / "plain").data["widths"]
    assert set(map(tuple, plain.values())) == {(4, 4, None), (4, None, None), (8, None, None)}
    assert plain["/gru/input"] == [8, None, None]


def test_copies_for_narrow_readers_are_shown(place):
    asked = ["--bits", "4", "--skip", "new.hidden"]
    assert main(["quantize", "digits_row.onnx", "-q", "-o", "skipped", *asked]) == 0
    widths = outline(place / "skipped").data["widths"]
    assert widths["/gru/forward/state.sum"] == [16, None, 4]
    assert "| `/gru/forward/state.sum` | 16, copy 4 |" in (place / "skipped/report.md").read_text()
    pages = [(place / n / "report.html").read_text("utf-8") for n in ("skipped", "plain")]
    assert ["the copy that narrow operators read" in text for text in pages] == [True, False]


@pytest.mark.parametrize("name", ["the front", "plain", "odd"])
def test_every_operator_is_drawn(place, name):
    found = outline(place / name)
    drawn = [v["data-operator"] for _, v in found.elements if "data-operator" in v]
    scheme = read(place / name / "scheme.json")
    assert {d for d in drawn if d in scheme["operators"]} == set(scheme["operators"])
    inputs = {f"{layer}/input" for layer in scheme["inputs"]}
    assert inputs <= set(drawn) and set(drawn) - set(scheme["operators"]) - inputs == {
        f"{layer}/state" for layer in scheme["inputs"]
    }


def marks(found: Outline) -> list[dict[str, str | None]]:
    """What tells something in the charts."""
    return [values for tag, values in found.elements if tag == "path" and "data-tip" in values]


def test_the_front_is_drawn_from_near_and_far(place):
    front = read(place / "the front" / "front.json")
    found = marks(outline(place / "the front"))
    by_index: dict[int, int] = {}
    for mark in found:
        if "data-member" in mark:
            index = int(str(mark["data-member"]))
            by_index[index] = by_index.get(index, 0) + 1
            assert str(mark["data-tip"]).startswith(f"number {index}")
    assert set(by_index) == set(range(len(front["members"])))
    assert by_index[front["chosen"]] == 3  # in every view
    uniform = [str(mark["data-tip"]) for mark in found if mark["class"] == "uniform"]
    for entry in front["uniform"]:
        told = [text for text in uniform if text.startswith(f"uniform {entry['bits']} bits")]
        assert len(told) == 3
        assert all(f"flash bytes: {entry['flash_bytes']:,}" in text for text in told)


def test_cards_follow_the_member(place):
    data, front = outline(place / "the front").data, read(place / "the front" / "front.json")
    uniform = front["uniform"][0]["flash_bytes"]
    for shown, member in zip(data["members"], front["members"], strict=True):
        cards = shown["cards"]
        assert set(cards) == set(data["cards"])
        assert cards["validation"][0] == f"{member['validation']:.2f} %"
        assert (
            "95 % interval" in cards["validation"][1] and "60 sequences" in cards["validation"][1]
        )
        assert cards["flash"][0] == f"{member['flash_bytes']:,} bytes"
        share = 100 * member["flash_bytes"] / uniform
        assert cards["flash"][1] == f"{share:.0f} % of uniform 8 bits"
        assert cards["verified"][0] == "not yet"
    for key in ("validation", "flash", "bits", "accumulator"):
        assert data["cards"][key] == data["members"][data["chosen"]]["cards"][key]
    assert outline(place / "plain").data["cards"]["flash"][1] == ""


def test_many_operators_are_sorted_and_folded(place):
    report = read(place / "plain" / "report.json")
    rows = charts.operators(Report.parse(report).operators)
    known = [row.sqnr_db for row, _ in rows if row.sqnr_db is not None]
    assert known == sorted(known) and [row.sqnr_db for row, _ in rows][: len(known)] == known
    assert max(bar for _, bar in rows) == 100
    report["operators"] *= 3
    text = page.build(Report.parse(report), folder="plain").decode()
    more = len(report["operators"]) - page.FOLDED
    assert text.count('<tr class="more" hidden>') == more > 0
    assert f"show all {len(report['operators'])} operators" in text
    assert "show all" not in (place / "plain" / "report.html").read_text("utf-8")


def test_generations_are_those_of_the_journal(place):
    journal = (place / "the front" / "journal.jsonl").read_bytes()
    lines = [json.loads(line) for line in journal.splitlines()[1:]]
    text = (place / "the front" / "report.html").read_text("utf-8")
    part = text[text.index('id="generations"') : text.index('id="progress"')]
    part = part[: part.index('class="keys"')]
    paths = re.findall(r'<path class="cloud generation-(\d)" d="([^"]+)"', part)
    dots = {int(name): path.count("h0") for name, path in paths}
    assert dots.keys() == {2, 3, 4, 5}  # four generations, the last colours
    for name, count in dots.items():
        assert count == sum(line["generation"] == name - 1 for line in lines)


def journal(*lines: tuple[float, float, float, int]) -> bytes:
    header = {"format": "onnxgru.journal/1", "objectives": ["error", "flash_bytes"]}
    entries = [
        {"genome": [n], "objectives": [e, s], "violation": v, "generation": g}
        for n, (e, s, v, g) in enumerate(lines)
    ]
    return "".join(json.dumps(line) + "\n" for line in (header, *entries)).encode()


def test_history_leaves_out_what_is_not_feasible():
    lines = journal((10.0, 5.0, 0.0, 1), (1e9, 1e9, 1.0, 1), (10.5, 4.0, 0.0, 2), (10.6, 3.0, 0, 2))
    found = charts.history(lines, FRONT, METRICS["accuracy"], 0.5)
    assert found == (
        charts.Evaluation(1, 5.0, 90.0, True),
        charts.Evaluation(2, 4.0, 89.5, True),
        charts.Evaluation(2, 3.0, 89.4, False),
    )
    assert charts.progress(FRONT, found, 0.5) == {1: 5.0, 2: 4.0}
    assert charts.progress_chart(FRONT, found, 0.5) is not None
    assert charts.progress_chart(FRONT, found[2:], 0.5) is None


@pytest.mark.parametrize(
    "metric",
    [*METRICS.values(), metrics.Metric("own", "", False, METRICS["sqnr"].function, "labels")],
    ids=lambda metric: metric.name,
)
def test_quality_is_the_inverse_of_error(metric):
    for value in (12.5, 99.0):
        assert metric.quality(metric.error(value)) == value


def test_large_searches_are_thinned():
    many = [charts.Evaluation(1 + n // 40, float(n), 50.0, True) for n in range(50_000)]
    (panel,) = charts.generations_chart(FRONT, many).panels
    assert charts.DRAWN / 2 < panel.count("h0") - 6 <= charts.DRAWN
    assert len(panel) < 100_000


# --- with the folder -----------------------------------------------------------------------------


def copied(place: Path, name: str) -> Path:
    shutil.rmtree(place / "copy", ignore_errors=True)
    return Path(shutil.copytree(place / name, place / "copy"))


def test_pick_writes_the_page_anew(place):
    folder = copied(place, "the front")
    chosen = outline(folder).data["chosen"]
    other = 0 if chosen else 1
    assert main(["pick", "copy", "-o", "copy", "--force", "-q", "--index", str(other)]) == 0
    data = outline(folder).data
    assert data["chosen"] == other != chosen
    assert data["widths"] == data["members"][other]["widths"]
    assert {"generations", "sensitivity"} < outline(folder).ids


def test_every_direction_shows_its_own_activations(place):
    named = {"Sigmoid", "Tanh", "HardSigmoid", "Softsign"}
    drawings: list[set[str]] = []
    for tag, values in outline(place / "odd").elements:
        if tag == "svg" and values.get("class") == "cell":
            drawings.append(set())
        elif "data-before" in values:
            drawings[-1] |= named & set(str(values["data-before"]).split())
    assert drawings == [{"Sigmoid", "Tanh"}, {"HardSigmoid", "Softsign"}]


def test_widened_members_can_be_looked_at(place):
    folder = copied(place, "the front")
    smallest = read(folder / "front.json")["members"][0]
    limit = str(smallest["flash_bytes"] + 60)
    assert (
        main(["pick", "copy", "-o", "copy", "--force", "-q", "--max-bytes", limit, "--widen"]) == 0
    )
    front = read(folder / "front.json")
    new = front["members"][-1]
    data = outline(folder).data
    assert {m["class"] for m in marks(outline(folder)) if "data-member" in m} == {
        "member",
        "chosen",
    }
    report = read(folder / "report.json")
    other = page.build(
        Report.parse(report), folder="copy", front=Front.parse(front | {"chosen": 0})
    ).decode()
    assert '<path class="widened"' in other
    assert new["widened_from"] >= 0
    assert data["chosen"] == new["index"] and data["widths"] == data["members"][-1]["widths"]
    assert (folder / "report.html").read_text("utf-8").count(
        "◆"
    ) == 2  # beside its number, and where the sign is explained


def test_nothing_is_written_if_the_page_cannot_be_made(place, monkeypatch):
    folder = copied(place, "the front")
    before = {name: (folder / name).read_bytes() for name in names(folder)}

    def fail(*_: object, **__: object) -> bytes:
        raise OutputError("test")

    monkeypatch.setattr(output.page, "build", fail)
    assert main(["pick", "copy", "-o", "copy", "--force", "-q", "--index", "0"]) == 1
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


@pytest.mark.parametrize("content", [b"", b'{"format": "onn', b"\x00\xff\n{}\n"], ids=repr)
def test_a_damaged_journal_only_costs_its_charts(place, capsys, content):
    folder = copied(place, "the front")
    (folder / "journal.jsonl").write_bytes(content)
    assert main(["pick", "copy", "-o", "copy", "--force", "-q", "--index", "0"]) == 0
    assert "report.html is without its generations" in unfolded(capsys.readouterr().err)
    assert "generations" not in outline(folder).ids


@pytest.mark.parametrize("content", ["{", '{"format": "onnxgru.sensitivity/9"}'])
def test_a_damaged_sensitivity_only_costs_its_chart(place, capsys, content):
    folder = copied(place, "the front")
    (folder / "sensitivity.json").write_text(content)
    assert main(["pick", "copy", "-o", "copy", "--force", "-q", "--index", "0"]) == 0
    assert "report.html is without it" in unfolded(capsys.readouterr().err)
    assert "sensitivity" not in outline(folder).ids


def test_the_sensitivity_of_another_model_is_left_out(place):
    folder = copied(place, "the front")
    document = read(folder / "sensitivity.json")
    document["model"]["sha256"] = "0" * 64
    (folder / "sensitivity.json").write_text(json.dumps(document))
    assert main(["pick", "copy", "-o", "copy", "--force", "-q", "--index", "0"]) == 0
    assert "sensitivity" not in outline(folder).ids


def test_palette_has_every_width():
    assert sorted(page.PALETTE) == [*WIDTHS, WIDE_BITS]
