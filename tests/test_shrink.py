"""The study of skipped products and delta networks: its schemes, its page, and that it goes on."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import shrink
from benchmarks.shrinkpage import page
from onnxgru.core.scheme import LinearScheme, Scheme
from tests import grus
from tests.pipeline import pipeline

ROW = {"quality": 86.777, "interval": [83.84, 89.24], "bytes": 71562, "mean_bits": 8.0}


def test_everything_has_16_bits_but_what_narrow_products_read() -> None:
    cases = (grus.Case(T=6, direction="bidirectional"), grus.Case(I=12, H=5, seed=2))
    made = pipeline(grus.stacked(cases), grus.feeds(cases[0]))
    session: Any = SimpleNamespace(
        model=SimpleNamespace(layers=made.layers),
        uniform=lambda bits: Scheme.uniform(made.layers, bits, observer="minmax"),
    )
    scheme = shrink.operands16(session, (8, 2, 4), 4)
    assert {entry.bits for entry in scheme.operators.values()} == {16}
    assert {entry.bits for entry in scheme.inputs.values()} == {4}
    copies = {name for name, entry in scheme.operators.items() if entry.copy == 4}
    places = ("/gru0/forward", "/gru0/reverse", "/gru1/forward")
    assert copies == {f"{place}/state.sum" for place in places}
    linear = {n: e for n, e in scheme.operators.items() if isinstance(e, LinearScheme)}
    assert {e.weight_bits for n, e in linear.items() if n.endswith("hidden")} == {2}
    assert {e.weight_bits for n, e in linear.items() if n.endswith("input")} == {8}
    program = made.lower(scheme)
    made_copies = [o.outputs[0] for o in program.operators if o.kind == "copy"]
    assert made_copies == [
        "/gru0/forward/state.copy",
        "/gru0/reverse/state.copy",
        "/gru1/forward/input.copy",
        "/gru1/forward/state.copy",
    ]


def test_the_page() -> None:
    rows: dict[str, Any] = {"float": ROW, "8 bits, skip": {}, "published 4 bits": ROW}
    rows["delta 8 bits, 0"] = ROW | {"eliminated": 31.01, "thresholds": {"/gru": 0, "state": 4}}
    document = {"date": "2026-01-02", "version": "1.0", "python": "3.11.7", "rows": rows}
    two = document | {"date": "2026-01-03", "rows": {"float": ROW}}
    text = page(
        {"GRU": document, f"GRU{shrink.BOTH}": two}, shrink.MIXED, f"{shrink.COMPARED}\n\nMuch.\n"
    )
    assert "onnxgru 1.0, Python 3.11.7, seed 0, 2026-01-02 to 2026-01-03" in text
    assert "| as published, 4 bits | 86.8 (83.8 to 89.2) |" in text
    assert "| delta 8 bits, 0 | 31.0 % (0/4) |" in text
    assert "8 bits, skip" not in text.split("## One direction")[1]
    assert "## Two directions" in text and text.endswith("does not\n\nMuch.\n")


def test_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is missing is measured, and kept row by row."""
    asked: list[str] = []

    def rows(*_: object, **__: object) -> Any:
        for name in ("float", "8 bits", "8 bits, skip"):
            yield name, lambda n=name: asked.append(n) or ({} if "skip" in n else dict(ROW))

    monkeypatch.setattr(shrink, "RESULTS", tmp_path)
    monkeypatch.setattr(shrink.Subject, "prepare", lambda _: None)
    monkeypatch.setattr(shrink.Study, "rows", rows)
    subject = shrink.Subject("GRU", tmp_path)
    (tmp_path / "speech_10.json").write_text(json.dumps({"model": "GRU", "rows": {"float": ROW}}))
    found = shrink.study(subject, 0)
    assert asked == ["8 bits", "8 bits, skip"] and found["rows"]["8 bits, skip"] == {}
    assert json.loads((tmp_path / "speech_10.json").read_text())["rows"] == found["rows"]
    assert shrink.study(subject, 0)["rows"] == found["rows"] and len(asked) == 2


def test_subjects() -> None:
    stems = [shrink.Subject(name, Path("work")).task.stem for name in shrink.MODELS]
    assert stems[1] == "speech_10" and stems[-1] == "speech_10_sru_bidirectional"
    assert len(set(stems)) == 8
