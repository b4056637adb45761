"""The report's page: one HTML file with everything in it, to be opened from disk.

Made from the documents in the output folder alone, so that whatever changes one of them can write
the page anew. plotly's script is part of the file (4.8 MB of it): nothing is fetched.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from onnxgru import charts
from onnxgru.charts import Evaluation
from onnxgru.core.cells import CELLS
from onnxgru.core.files import encoded
from onnxgru.drawing import BOX, draw
from onnxgru.remarks import (
    TITLES,
    between,
    counted,
    figure,
    optimistic,
    points,
    remarks,
    verdict,
)
from onnxgru.report import judged, methods, outputs_table, sizes_table

TEMPLATE = "page.html.j2"

PALETTE = {
    2: ("#ffffcc", "#111"), 3: ("#c7e9b4", "#111"), 4: ("#7fcdbb", "#111"), 5: ("#41b6c4", "#111"),
    6: ("#1d91c0", "#111"), 7: ("#225ea8", "#fff"), 8: ("#0c2c84", "#fff"),
}  # fmt: skip
"""Fill and text of a width: ColorBrewer's YlGnBu."""

_SIGNS = {"add": "+", "mul": "\N{MULTIPLICATION SIGN}"}


def build(
    report: Mapping[str, Any],
    *,
    folder: str,
    front: Mapping[str, Any] | None = None,
    evaluations: Sequence[Evaluation] = (),
    sensitivity: Mapping[str, Any] | None = None,
    drop_title: str = "",
) -> bytes:
    """Make the page.

    Parameters
    ----------
    report : mapping
        What ``report.json`` holds.
    folder : str
        The output folder, for the command that picks another member.
    front : mapping, optional
        What ``front.json`` holds.
    evaluations : sequence of Evaluation
        What the journal holds, `onnxgru.charts.history`.
    sensitivity : mapping, optional
        What ``sensitivity.json`` holds.
    drop_title : str
        What its drops are, with their unit.
    """
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda value: figure(value, report["metric"]["unit"])
    template = environment.from_string(
        files("onnxgru").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    chosen = report["search"]["chosen"]["index"] if front is not None else None
    figures = {
        "sizes": charts.sizes_chart(report["sizes"]),
        "sqnr": charts.sqnr_chart(report["operators"]),
    }
    if front is not None and chosen is not None:
        figures["front"] = charts.front_chart(front, evaluations, chosen)
        if evaluations:
            figures["generations"] = charts.generations_chart(front, evaluations)
            figures["progress"] = charts.progress_chart(
                front, evaluations, report["search"]["max_drop"]
            )
    if sensitivity is not None:
        figures["sensitivity"] = charts.sensitivity_chart(sensitivity, drop_title)
    text = template.render(
        report=report,
        warnings=remarks(report),
        sentences=_sentences(report),
        qualities=_qualities(report),
        outputs=outputs_table(report) if "outputs" in report else [],
        titles=TITLES,
        drop=_drop(report),
        methods=methods(report),
        front=front,
        chosen=chosen,
        sensitivity=sensitivity,
        sizes=sizes_table(report["sizes"]),
        size_title=charts.size_title(front) if front is not None else "",
        charts=[name for name, chart in figures.items() if chart is not None],
        cells=_cells(report["layers"]),
        box=BOX,
        palette=PALETTE,
        plotly=get_plotlyjs(),
        data={
            "charts": {
                name: json.loads(chart.to_json())
                for name, chart in figures.items()
                if chart is not None
            },
            "palette": PALETTE,
            "command": f"onnxgru pick {shlex.quote(folder)} --index ",
            "size": front["size"] if front is not None else None,
            "chosen": chosen,
            "members": [_member(entry) for entry in front["members"]] if front is not None else [],
            "widths": _widths(report),
        },
    )
    return encoded(text)


def _qualities(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures by role in words; reports of earlier versions know no intervals."""
    unit = report["metric"]["unit"]
    found = []
    for role, quality in report["quality"].items():
        known = quality.get("integer_interval") is not None
        found.append(
            {
                "title": TITLES[role],
                "integer": figure(quality["integer"], unit),
                "float": figure(quality["float"], unit),
                "known": known,
                "interval": between(quality["integer_interval"], unit) if known else "",
                "counted": counted(quality) if known else "",
            }
        )
    return found


def _sentences(report: Mapping[str, Any]) -> list[str]:
    """How sure the figures are, and what they are of."""
    if "reason" not in report["metric"]:  # of an earlier version
        return []
    told = [verdict(report, role) for role in report["quality"]]
    told += [f"Judged: {judged(report)}", optimistic(report)]
    return [text for text in told if text is not None]


def _drop(report: Mapping[str, Any]) -> str:
    """The allowed drop of a search with its unit."""
    if "search" not in report:
        return ""
    return f"{report['search']['max_drop']:g} {points(report['metric']['unit'])}".strip()


def _cells(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A drawing for every recurrence, with what is written on its operators."""
    found = []
    for layer in layers:
        cell = CELLS[layer["cell"]]
        drawing = draw(cell)
        letters = sorted({row.parameter for row in cell.rows if len(row.parameter) == 1})
        given = [name for name in layer.get("activations", "").split(", ") if name]
        for index, name in enumerate(layer["recurrences"]):
            own = given[index * len(letters) : (index + 1) * len(letters)]
            functions = dict(zip(letters, own, strict=False))
            boxes = [
                {
                    "box": box,
                    "name": f"{name}/{box.name}" if box.kind else f"{layer['name']}/{box.name}",
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
    return _SIGNS.get(kind, "")


def _widths(report: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """Width of the output and of the weights, by operator and layer input, of the files there."""
    found = {row["name"]: [row["bits"], row["weight_bits"]] for row in report["operators"]}
    for layer in report["layers"]:
        found[f"{layer['name']}/input"] = [layer["input_bits"], None]
    return found


def _member(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of a member."""
    scheme = entry["scheme"]
    widths = {
        name: [value["bits"], value.get("weight_bits")]
        for name, value in scheme["operators"].items()
    }
    widths |= {f"{name}/input": [value["bits"], None] for name, value in scheme["inputs"].items()}
    return {key: v for key, v in entry.items() if key not in ("genome", "scheme")} | {
        "widths": widths
    }
