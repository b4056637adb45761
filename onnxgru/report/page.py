"""The report's page: one HTML file with everything in it, to be opened from disk.

Made from the documents in the output folder alone, so that whatever changes one of them can write
the page anew. Charts are SVG that `onnxgru.report.plot` draws; a short script shows what is under
the pointer and switches between views and members. Nothing is fetched.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from onnxgru.core.cells import Cell
from onnxgru.core.files import encoded
from onnxgru.custom_ops.kinds.table import KINDS
from onnxgru.data.intervals import Interval
from onnxgru.documents.entries import LayerEntry, Quality
from onnxgru.documents.front import Front, Member
from onnxgru.documents.remarks import (
    TITLES,
    between,
    counted,
    figure,
    judged,
    optimistic,
    points,
    remarks,
    verdict,
)
from onnxgru.documents.report import Report
from onnxgru.report import charts, eliminated
from onnxgru.report.charts import Evaluation
from onnxgru.report.drawing import BOX, draw
from onnxgru.report.plot import DIAMOND, DOT, SQUARE, STAR
from onnxgru.report.text import methods, outputs_table, sizes_table, tuned

TEMPLATE = "page.html.j2"

PALETTE = {
    2: ("#ffffcc", "#111"), 3: ("#c7e9b4", "#111"), 4: ("#7fcdbb", "#111"), 5: ("#41b6c4", "#111"),
    6: ("#1d91c0", "#111"), 7: ("#225ea8", "#fff"), 8: ("#0c2c84", "#fff"),
    16: ("#4a1486", "#fff"),
}  # fmt: skip
"""Fill and text of a width: ColorBrewer's YlGnBu, and the darkest of its Purples for 16 bits."""

SHAPES = {"member": DOT, "chosen": STAR, "uniform": SQUARE, "widened": DIAMOND}
"""Marks of the key below a chart, by class."""

FOLDED = 20
"""Rows of operators that are in sight from the beginning."""


def build(
    report: Report,
    *,
    folder: str,
    front: Front | None = None,
    evaluations: Sequence[Evaluation] = (),
    sensitivity: Mapping[str, Any] | None = None,
    drop_title: str = "",
) -> bytes:
    """Make the page.

    Parameters
    ----------
    report : Report
        What ``report.json`` holds.
    folder : str
        The output folder, for the command that picks another member.
    front : Front, optional
        What ``front.json`` holds.
    evaluations : sequence of Evaluation
        What the journal holds, `onnxgru.report.charts.history`.
    sensitivity : mapping, optional
        What ``sensitivity.json`` holds.
    drop_title : str
        What its drops are, with their unit.
    """
    search = report.search
    chosen = search.chosen.index if search is not None and front is not None else None
    cards, widths = _cards(report), _widths(report)
    members = [_member(entry, report) for entry in front.members] if front is not None else []
    shown = [widths, *(member["widths"] for member in members)]
    text = _template(report.metric.unit).render(
        report=report,
        warnings=remarks(report),
        sentences=_sentences(report),
        cards=cards,
        outputs=outputs_table(report),
        titles=TITLES,
        drop=_drop(report),
        methods=methods(report),
        tuned=None if report.finetuning is None else tuned(report.finetuning, report.metric.unit),
        front=front,
        chosen=chosen,
        sensitivity=sensitivity,
        sizes=sizes_table(report.sizes),
        size_title=front.size_title if front is not None else "",
        near=charts.front_charts(front, evaluations, chosen)
        if front is not None and chosen is not None
        else {},
        generations=charts.generations_chart(front, evaluations)
        if front is not None and evaluations
        else None,
        progress=charts.progress_chart(front, evaluations, search.max_drop)
        if front is not None and search is not None and evaluations
        else None,
        delta=eliminated.sentence(report),
        delta_memory=" ".join([eliminated.memory(report), *eliminated.costs(report)]),
        delta_rows=eliminated.rows(report),
        delta_chart=eliminated.chart(report),
        heats=charts.heat_maps(sensitivity, drop_title) if sensitivity is not None else {},
        operators=charts.operators(report.operators),
        shares=charts.shares(report.sizes.flash),
        folded=FOLDED,
        shapes=SHAPES,
        cells=_cells(report.layers),
        copied=any(copy for one in shown for _, _, copy in one.values()),
        box=BOX,
        palette=PALETTE,
        data={
            "palette": PALETTE,
            "command": f"onnxgru pick {shlex.quote(folder)} --index ",
            "chosen": chosen,
            "cards": {card["id"]: [card["value"], card["note"]] for card in cards},
            "members": members,
            "widths": widths,
        },
    )
    return encoded(text)


@cache
def _template(unit: str) -> Any:
    """The template of a page whose figures have some unit."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda value: figure(value, unit)
    environment.filters["breakable"] = _breakable
    return environment.from_string(
        files("onnxgru.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )


def _breakable(name: str) -> str:
    """A name that may be broken after each slash and point, as HTML."""
    from markupsafe import Markup, escape

    return Markup("").join(
        escape(part) + (Markup("<wbr>") if part in ("/", ".") else "")
        for part in re.split(r"([/.])", name)
    )


def _cards(report: Report) -> list[dict[str, str]]:
    """The figures at the head of the page, for the files in the folder."""
    unit, sizes, checked, found = report.metric.unit, report.sizes, report.verification, []
    for role, quality in report.quality.items():
        found.append(
            {
                "id": role,
                "value": figure(quality.integer, unit),
                "title": f"{report.metric.title}, {TITLES[role]} "
                f"(float {figure(quality.float_model, unit)})",
                "note": _sure(quality, quality.integer_interval, unit),
            }
        )
    others = {
        "flash": (f"{sizes.flash_bytes:,} bytes", "flash", _share(report, sizes.flash_bytes)),
        "bits": (f"{sizes.mean_bits:.2f} bits", "per weight", ""),
        "accumulator": (f"{sizes.accumulator_bits} bits", "widest accumulator, proved", ""),
    }
    if checked is not None:
        others["verified"] = (
            f"{checked.codes:,} values",
            "of integer.onnx equal the reference implementation",
            f"in {checked.runtime}",
        )
    for name, (value, title, note) in others.items():
        found.append({"id": name, "value": value, "title": title, "note": note})
    return found


def _sure(quality: Quality, interval: Interval | None, unit: str) -> str:
    """An interval and what it rests on; nothing where none is known, as in early reports."""
    if interval is None:
        return ""
    return f"95 % interval {between(interval, unit)}; {counted(quality)}"


def _share(report: Report, size: int) -> str:
    """A size beside that of uniform 8 bits; nothing without a search."""
    if report.search is None:
        return ""
    return f"{100 * size / report.search.uniform_8.flash_bytes:.0f} % of uniform 8 bits"


def _member_cards(member: Member, report: Report) -> dict[str, list[str]]:
    """Values and notes of the cards for a member that has no files yet."""
    unit = report.metric.unit
    found = {}
    for role, quality in report.quality.items():
        value, interval = member.figure(role)
        found[role] = [figure(value, unit), _sure(quality, interval, unit)]
    size = member.flash_bytes
    return found | {
        "flash": [f"{size:,} bytes", _share(report, size)],
        "bits": [f"{member.mean_bits:.2f} bits", ""],
        "accumulator": [f"{member.accumulator_bits} bits", ""],
        "verified": ["not yet", "the command below writes its files and compares every value"],
    }


def _sentences(report: Report) -> list[str]:
    """How sure the figures are, and what was judged."""
    if not report.metric.reason:  # an early version wrote it
        return []
    told = [verdict(report, role) for role in report.quality]
    told += [f"Judged: {judged(report)}", optimistic(report)]
    return [text for text in told if text is not None]


def _drop(report: Report) -> str:
    """The allowed drop of a search with its unit."""
    if report.search is None:
        return ""
    return f"{report.search.max_drop:g} {points(report.metric.unit)}".strip()


def _cells(layers: Sequence[LayerEntry]) -> list[dict[str, Any]]:
    """A drawing for every recurrence, with the texts on its operators."""
    found = []
    for layer in layers:
        cell = Cell.parse(layer.table or {"name": layer.cell})
        drawing = draw(cell)
        letters = sorted({row.parameter for row in cell.rows if len(row.parameter) == 1})
        given = [name for name in layer.activations.split(", ") if name]
        for index, name in enumerate(layer.recurrences):
            own = given[index * len(letters) : (index + 1) * len(letters)]
            functions = dict(zip(letters, own, strict=False))
            boxes = [
                {
                    "box": box,
                    "name": f"{name}/{box.name}" if box.kind else f"{layer.name}/{box.name}",
                    "matrix": box.parameter.split(".")[0] if box.kind == "linear" else "",
                    "sign": _sign(box.kind, box.parameter, functions),
                }
                for box in drawing.boxes
            ]
            found.append({"name": name, "drawing": drawing, "boxes": boxes, "result": cell.emits})
    return found


def _sign(kind: str, parameter: str, functions: Mapping[str, str]) -> str:
    if kind == "lookup":
        return (
            "1 \N{MINUS SIGN} x"
            if parameter == "complement"
            else functions.get(parameter, parameter)
        )
    return KINDS[kind].sign if kind else ""


def _widths(report: Report) -> dict[str, list[int | None]]:
    """Widths of outputs, weights and copies in the folder's files, by operator and layer input."""
    found: dict[str, list[int | None]]
    found = {row.name: [row.bits, row.weight_bits, row.copy_bits] for row in report.operators}
    for layer in report.layers:
        found[f"{layer.name}/input"] = [layer.input_bits, None, layer.input_copy_bits]
    return found


def _member(member: Member, report: Report) -> dict[str, Any]:
    """What the page needs to know about a member."""
    scheme = member.scheme
    widths = {
        name: [value["bits"], value.get("weight_bits"), value.get("copy")]
        for name, value in scheme["operators"].items()
    }
    widths |= {
        f"{name}/input": [value["bits"], None, value.get("copy")]
        for name, value in scheme["inputs"].items()
    }
    return {"widths": widths, "cards": _member_cards(member, report)}
