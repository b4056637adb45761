"""The figures of the report's page, as plotly figures made from the documents alone."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxgru.core.metrics import Metric
from onnxgru.front import ROUNDING, around, searched, view, widened

DRAWN = 4000
"""Evaluations drawn at most: evenly taken from all, so that large searches stay quick to open."""

NEAREST = 8
"""Members beside the chosen one in the nearest view."""

BLUE, ORANGE, RED, GREY, GREEN = "#1f6fb4", "#e07b00", "#c8102e", "#8a8f98", "#2e7d32"
_ROW = 21
_HEAD, _TAIL = 8, 26
_PARTS = ("weights", "outputs")


@dataclass(frozen=True)
class Evaluation:
    """One line of a journal.

    Parameters
    ----------
    generation : int
        When it was evaluated, from 1.
    size : float
        The objective by which a member is chosen.
    quality : float
        The metric on validation.
    within : bool
        Whether it is within the allowed drop.
    """

    generation: int
    size: float
    quality: float
    within: bool


def history(
    journal: bytes, front: Mapping[str, Any], metric: Metric, max_drop: float
) -> tuple[Evaluation, ...]:
    """Feasible evaluations of a journal, in order.

    Parameters
    ----------
    journal : bytes
        What ``journal.jsonl`` holds.
    front : mapping
        What ``front.json`` holds.
    metric : Metric
        Of the search.
    max_drop : float
        How far the member chosen may fall below the best figure.
    """
    header, *lines = journal.splitlines()
    place = json.loads(header)["objectives"].index(front["size"])
    records = [record for line in lines if (record := json.loads(line))["violation"] <= 0]
    errors = [record["objectives"][0] for record in records]
    uniform = metric.error(front["uniform"][0]["validation"])
    limit = min([uniform, *errors]) + max_drop + ROUNDING
    return tuple(
        Evaluation(
            record["generation"],
            record["objectives"][place],
            metric.quality(record["objectives"][0]),
            record["objectives"][0] <= limit,
        )
        for record in records
    )


def size_title(front: Mapping[str, Any]) -> str:
    """What the size of a front is called."""
    title = front.get("objectives", {}).get(front["size"], front["size"].replace("_", " "))
    return str(title)


def _quality_title(metric: Mapping[str, str]) -> str:
    return f"{metric['name']} on validation" + (f", {metric['unit']}" if metric["unit"] else "")


def _figure(**layout: Any) -> Any:
    """An empty figure in the page's style."""
    import plotly.graph_objects as go

    axis = {"gridcolor": "#e4e7eb", "linecolor": "#9aa1ab", "automargin": True, "zeroline": False}
    figure = go.Figure(
        layout={
            "template": "none",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#22262b"},
            "margin": {"l": 60, "r": 16, "t": 26, "b": 48},
            "hoverlabel": {"align": "left"},
            "modebar": {"bgcolor": "rgba(255,255,255,0.8)", "color": GREY},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            **layout,
        }
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def front_chart(front: Mapping[str, Any], evaluations: Sequence[Evaluation], chosen: int) -> Any:
    """The front, the uniform schemes, the float model, and the member whose files are there."""
    size, unit = front["size"], front["metric"]["unit"]
    members, uniform = searched(front), front["uniform"]
    titles = {"flash_bytes": "flash bytes"} | front.get("objectives", {})

    def hover(entry: Mapping[str, Any], name: str) -> str:
        lines = [f"<b>{name}</b>"]
        lines += [f"{title}: {_number(entry[key])}" for key, title in titles.items()]
        if "scheme" in entry:
            for key, title in (("weight_bits", "weights"), ("bits", "outputs")):
                lines.append(f"{title}: {_spread(entry['scheme'], key)} bits")
        lines.append(f"bits per weight: {entry['mean_bits']:.2f}")
        for role, title in (("holdout", "hold-out"), ("validation", "validation")):
            if entry[role] is not None:
                line = f"{title}: {entry[role]:.2f} {unit}".rstrip()
                known = entry.get(f"{role}_interval")
                lines.append(line + (f" ({known[0]:.2f} to {known[1]:.2f})" if known else ""))
        return "<br>".join(lines)

    figure = _figure(
        height=460,
        hovermode="closest",
        legend={"orientation": "h", "x": 0, "y": -0.17, "yanchor": "top"},
        xaxis_title=size_title(front),
        yaxis_title=_quality_title(front["metric"]),
    )
    shown = _thinned(evaluations)
    if shown:
        figure.add_scatter(
            x=[e.size for e in shown],
            y=[e.quality for e in shown],
            mode="markers",
            name="evaluated",
            marker={"size": 4, "color": "#c9ced6"},
            hoverinfo="skip",
        )
    if front["float_validation"] is not None:
        sizes = [entry[size] for entry in (*members, *uniform)]
        figure.add_scatter(
            x=[min(sizes), max(sizes)],
            y=[front["float_validation"]] * 2,
            mode="lines",
            name="float",
            line={"color": GREY, "dash": "dot"},
            hovertemplate=f"float model: {front['float_validation']:.2f} {unit}<extra></extra>",
        )
    figure.add_scatter(
        x=[entry[size] for entry in uniform],
        y=[entry["validation"] for entry in uniform],
        mode="markers+text",
        name="uniform",
        marker={"symbol": "square", "size": 8, "color": ORANGE},
        text=[str(entry["bits"]) for entry in uniform],
        textposition="bottom right",
        textfont={"color": ORANGE, "size": 11},
        hovertext=[hover(entry, f"uniform {entry['bits']} bits") for entry in uniform],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    flat = len(front.get("objectives", {size: ""})) == 1
    figure.add_scatter(
        x=[member[size] for member in members],
        y=[member["validation"] for member in members],
        mode="lines+markers" if flat else "markers",
        name="front",
        line={"color": BLUE, "shape": "hv", "width": 1.5},
        marker={"size": 8, "color": BLUE},
        customdata=[member["index"] for member in members],
        hovertext=[hover(member, f"number {member['index']}") for member in members],
        hovertemplate="%{hovertext}<extra></extra>",
        meta="members",
    )
    if further := widened(front):
        figure.add_scatter(
            x=[member[size] for member in further],
            y=[member["validation"] for member in further],
            mode="markers",
            name="widened",
            marker={"symbol": "diamond", "size": 9, "color": GREEN},
            customdata=[member["index"] for member in further],
            hovertext=[
                hover(member, f"number {member['index']}, widened from {member['widened_from']}")
                for member in further
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            meta="members",
        )
    best = front["members"][chosen]
    figure.add_scatter(
        x=[best[size]],
        y=[best["validation"]],
        mode="markers",
        name="chosen",
        marker={"symbol": "star", "size": 16, "color": RED},
        customdata=[chosen],
        hovertext=[hover(best, f"number {chosen}, chosen")],
        hovertemplate="%{hovertext}<extra></extra>",
        meta="members",
    )
    figure.add_scatter(
        x=[best[size]],
        y=[best["validation"]],
        mode="markers",
        name="shown",
        marker={"symbol": "circle-open", "size": 20, "color": GREY, "line": {"width": 2}},
        hoverinfo="skip",
        showlegend=False,
        meta="shown",
    )
    spans = {
        "the front": view({**front, "chosen": chosen}),
        "near the chosen": (around(_sizes_near(members, best, size)), _near(front, best)),
        "all": (around([e[size] for e in (*members, *uniform)]), _padded(front, evaluations)),
    }
    buttons = [
        {"label": label, "method": "relayout", "args": [{"xaxis.range": x, "yaxis.range": y}]}
        for label, (x, y) in spans.items()
    ]
    first = "the front"
    switch = _switch(buttons) | {"active": list(spans).index(first)}
    figure.update_xaxes(range=spans[first][0])
    figure.update_yaxes(range=spans[first][1])
    figure.update_layout(updatemenus=[switch], margin={"t": 44, "b": 90})
    return figure


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _spread(scheme: Mapping[str, Any], key: str) -> str:
    """The narrowest and the widest of a scheme."""
    widths = {entry[key] for entry in scheme["operators"].values() if key in entry}
    low, high = min(widths), max(widths)
    return f"{low} to {high}" if low < high else str(low)


def _near(front: Mapping[str, Any], best: Mapping[str, Any]) -> list[float]:
    """Qualities about the member chosen, up to the best."""
    low, high = _padded(front, ())
    top = max([front["float_validation"] or best["validation"], *_qualities(front)])
    depth = max(4 * (top - best["validation"]), 0.12 * (high - low))
    return [max(low, best["validation"] - depth), min(high, top + 0.15 * depth)]


def _sizes_near(
    members: Sequence[Mapping[str, Any]], best: Mapping[str, Any], size: str
) -> list[float]:
    """Sizes of the members nearest to the one chosen."""
    nearest = sorted(members, key=lambda member: abs(member[size] - best[size]))
    return [member[size] for member in (*nearest[:NEAREST], best)]


def _qualities(front: Mapping[str, Any]) -> list[float]:
    return [entry["validation"] for entry in (*front["members"], *front["uniform"])]


def _padded(front: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> list[float]:
    """All qualities, with some room."""
    values = [*_qualities(front), *(e.quality for e in evaluations)]
    if front["float_validation"] is not None:
        values.append(front["float_validation"])
    room = 0.05 * (max(values) - min(values)) or 1.0
    return [min(values) - room, max(values) + room]


def _thinned(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    step = -(-len(evaluations) // DRAWN) or 1
    return evaluations[::step]


def generations_chart(front: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> Any:
    """Everything evaluated, coloured by generation."""
    shown = _thinned(evaluations)
    figure = _figure(
        height=360,
        hovermode="closest",
        xaxis_title=size_title(front),
        yaxis_title=_quality_title(front["metric"]),
    )
    figure.add_scatter(
        x=[e.size for e in shown],
        y=[e.quality for e in shown],
        mode="markers",
        marker={
            "size": 6,
            "color": [e.generation for e in shown],
            "colorscale": "Viridis",
            "opacity": 0.8,
            "colorbar": {"title": {"text": "generation", "side": "right"}, "thickness": 12},
        },
        customdata=[e.generation for e in shown],
        hovertemplate="generation %{customdata}<br>%{x:,.6~g}, %{y:.2f}<extra></extra>",
    )
    return figure


def progress_chart(
    front: Mapping[str, Any], evaluations: Sequence[Evaluation], max_drop: float
) -> Any | None:
    """The smallest size that may be chosen, generation by generation; None where there is none.

    As the terminal has it while the search runs: at most `max_drop` below the best figure until
    then, uniform 8 bits included.
    """
    sign = 1 if front["metric"].get("higher_is_better", True) else -1
    top = sign * front["uniform"][0]["validation"]
    seen: list[tuple[float, float]] = []
    best: dict[int, float] = {}
    for evaluation in evaluations:
        quality = sign * evaluation.quality
        top = max(top, quality)
        seen = [
            one
            for one in (*seen, (evaluation.size, quality))
            if one[1] >= top - max_drop - ROUNDING
        ]
        if seen:
            best[evaluation.generation] = min(size for size, _ in seen)
        else:
            best.pop(evaluation.generation, None)
    if not best:
        return None
    figure = _figure(
        height=360,
        xaxis_title="generation",
        yaxis_title=size_title(front),
    )
    figure.add_scatter(
        x=list(best),
        y=list(best.values()),
        mode="lines+markers",
        line={"shape": "hv", "color": BLUE},
        marker={"size": 7},
        hovertemplate="generation %{x}<br>%{y:,.6~g}<extra></extra>",
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def sizes_chart(sizes: Mapping[str, Any]) -> Any:
    """Flash bytes by role."""
    flash = sorted(sizes["flash"].items(), key=lambda item: item[1])
    figure = _figure(height=88 + 2 * _ROW * len(flash) // 2, xaxis_title="bytes")
    figure.add_bar(
        y=[role.replace("_", " ") for role, _ in flash],
        x=[size for _, size in flash],
        orientation="h",
        marker={"color": BLUE},
        text=[f"{size:,}" for _, size in flash],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:,} bytes<extra></extra>",
    )
    figure.update_yaxes(showgrid=False)
    figure.update_layout(margin={"l": 20, "r": 60, "t": 26, "b": 52})
    return figure


def _named(names: Sequence[str]) -> dict[str, Any]:
    """An axis of operators, the first on top; long names lose their middle."""
    return {
        "range": [len(names) - 0.5, -0.5],
        "tickvals": list(range(len(names))),
        "ticktext": [html.escape(shortened(name)) for name in names],
        "tickfont": {"size": 11},
        "showgrid": False,
    }


def shortened(name: str) -> str:
    """A name with an ellipsis in the middle if it is long; direction and operator stay."""
    if len(name) <= _HEAD + _TAIL + 1:
        return name
    return f"{name[:_HEAD]}\N{HORIZONTAL ELLIPSIS}{name[-_TAIL:]}"


def sqnr_chart(operators: Sequence[Mapping[str, Any]]) -> Any:
    """SQNR of every operator's output."""
    names = [row["name"] for row in operators]
    values = [row["sqnr_db"] for row in operators]
    figure = _figure(height=88 + _ROW * len(names), xaxis_title="SQNR, dB")
    figure.add_bar(
        y=list(range(len(names))),
        x=[value or 0.0 for value in values],
        orientation="h",
        marker={"color": BLUE},
        text=["exact" if value is None else f"{value:.1f}" for value in values],
        textposition="outside",
        cliponaxis=False,
        hovertext=[html.escape(name) for name in names],
        hovertemplate="%{hovertext}: %{text} dB<extra></extra>",
    )
    figure.update_yaxes(**_named(names))
    figure.update_layout(margin={"l": 20, "r": 50, "t": 26, "b": 40})
    return figure


def _switch(buttons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Buttons above a chart, of which one is down; plotly has its own ones on the right."""
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": list(buttons),
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 6},
        "font": {"size": 11},
        "showactive": True,
    }


def _known(tables: Sequence[Sequence[Sequence[float | None]]]) -> list[float]:
    return [value for rows in tables for row in rows for value in row if value is not None]


def _colours(name: str, power: float = 1.0) -> list[list[Any]]:
    """A sequential scale of plotly's, light for little; a power above 1 parts small values."""
    from plotly.colors import get_colorscale

    return [[stop**power, colour] for stop, colour in get_colorscale(name)]


def sensitivity_chart(document: Mapping[str, Any], title: str) -> Any:
    """Heat maps of the drop, weights beside outputs; buttons change to the SQNR."""
    names = list(dict.fromkeys(row["name"] for row in document["rows"]))
    found = {(row["name"], row["part"]): row["entries"] for row in document["rows"]}
    widths = [str(bits) for bits in document["widths"]]

    def table(part: str, key: str) -> list[list[float | None]]:
        return [
            [e[key] for e in found[name, part]] if (name, part) in found else [None] * len(widths)
            for name in names
        ]

    def texts(rows: Sequence[Sequence[float | None]], digits: int) -> list[list[str]]:
        return [
            ["" if v is None else f"{round(v, digits) + 0.0:.{digits}f}" for v in row]
            for row in rows  # + 0.0: never minus zero
        ]

    drops = [table(part, "drop") for part in _PARTS]
    noise = [table(part, "sqnr_db") for part in _PARTS]
    top = max([1e-9, *_known(drops)])
    figure = _figure(
        height=120 + _ROW * len(names),
        coloraxis={
            "colorscale": _colours("YlOrRd", 2.0),
            "cmin": 0,
            "cmax": top,
            "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 12},
        },
        plot_bgcolor="#eef0f3",
        xaxis={"domain": [0, 0.485], "title": {"text": "weights, bits"}, "type": "category"},
        xaxis2={"domain": [0.515, 1], "title": {"text": "outputs, bits"}, "type": "category"},
    )
    for place, part in enumerate(_PARTS):
        figure.add_heatmap(
            x=widths,
            y=list(range(len(names))),
            z=drops[place],
            text=texts(drops[place], 2),
            texttemplate="%{text}",
            textfont={"size": 10},
            hovertext=[[html.escape(name)] * len(widths) for name in names],
            hovertemplate=f"%{{hovertext}}, {part} at %{{x}} bits: %{{text}}<extra></extra>",
            coloraxis="coloraxis",
            xaxis="x2" if place else "x",
            xgap=1,
            ygap=1,
            hoverongaps=False,
        )
    views = (
        ("drop", title, drops, 2, _colours("YlOrRd", 2.0), 0.0, top),
        (
            *("SQNR", "SQNR of the output, dB", noise, 1, _colours("YlGnBu")),
            *(min(_known(noise), default=0.0), max(_known(noise), default=1.0)),
        ),
    )
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [
                {"z": tables, "text": [texts(rows, digits) for rows in tables]},
                {
                    "coloraxis.colorscale": scale,
                    "coloraxis.cmin": low,
                    "coloraxis.cmax": high,
                    "coloraxis.colorbar.title.text": heading,
                },
            ],
        }
        for label, heading, tables, digits, scale, low, high in views
    ]
    figure.update_layout(
        margin={"l": 20, "r": 16, "t": 44, "b": 48}, updatemenus=[_switch(buttons)]
    )
    figure.update_yaxes(**_named(names))
    figure.update_xaxes(showgrid=False)
    return figure
