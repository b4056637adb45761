"""The Pareto front for users: as JSON, as CSV, and as a picture."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from onnxgru.documents.front import Front

COLUMNS = ("index", "flash_bytes", "weight_bits", "mean_bits", "bitops")
FIGURES = ("validation", "holdout")
ENDS = ("low", "high")


def table(front: Front) -> bytes:
    """The members as CSV, with the width of every gene."""
    others = [key for key in front.objectives if key not in COLUMNS]
    ends = [f"{role}_{end}" for role in FIGURES for end in ENDS]
    columns = (*COLUMNS, *others, *FIGURES, *ends, "widened_from")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*columns, *front.genes])
    for member in front.members:
        known = member.document()
        for role in FIGURES:
            interval = member.figure(role)[1] or (None, None)
            known |= {f"{role}_{end}": v for end, v in zip(ENDS, interval, strict=True)}
        writer.writerow([*(known.get(column) for column in columns), *member.genome])
    return stream.getvalue().encode()


def picture(front: Front, cloud: Sequence[tuple[float, float]]) -> bytes:
    """The front as PNG: quality on validation against the last objective.

    Parameters
    ----------
    front : Front
        What ``front.json`` holds.
    cloud : sequence of tuple
        Size and quality of everything evaluated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes_shown, qualities_shown = view(front)
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    if cloud:
        sizes, qualities = zip(*cloud, strict=True)
        axes.scatter(sizes, qualities, s=6, color="0.8", label="evaluated")
    axes.plot(
        [front.measure(m) for m in front.searched],
        [m.validation for m in front.searched],
        "o-" if len(front.objectives) == 1 else "o",
        color="tab:blue",
        markersize=4,
        drawstyle="steps-post",
        label="front",
    )
    if further := front.widened:
        axes.plot(
            [front.measure(m) for m in further],
            [m.validation for m in further],
            "D",
            color="tab:green",
            markersize=5,
            label="widened",
        )
    best = front.members[front.chosen]
    axes.plot(
        front.measure(best), best.validation, "*", markersize=14, color="tab:red", label="chosen"
    )
    _beside(beside, front, qualities_shown)
    for one in (axes, beside):
        if front.float_validation is not None:
            one.axhline(front.float_validation, color="0.5", linestyle=":", label="float")
        one.grid(alpha=0.3)
    axes.set_xlim(*sizes_shown)
    axes.set_ylim(*qualities_shown)
    axes.xaxis.set_major_formatter("{x:,.7g}")
    axes.set_xlabel(front.size_title)
    axes.set_ylabel(front.quality_title)
    axes.legend(loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _beside(axes: Any, front: Front, shown: tuple[float, float]) -> None:
    """The uniform widths beside the front; an arrow at the edge for one that is outside."""
    low, high = shown
    order = sorted(front.uniform, key=lambda entry: entry.bits)
    for place, entry in enumerate(order):
        quality = entry.validation
        marker = "v" if quality < low else "^" if quality > high else "s"
        height = min(max(quality, low), high)
        axes.plot(place, height, marker, color="tab:orange", markersize=6, clip_on=False)
    widest = front.measure(order[-1])
    axes.set_title(f"uniform {order[-1].bits}: {widest:,.7g}", fontsize=9, color="tab:orange")
    axes.set_xticks(range(len(order)), [str(entry.bits) for entry in order])
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_xlabel("uniform, bits")
    axes.tick_params(labelleft=False, left=False)


def around(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the largest of some values, with some room: what is drawn of a plane."""
    room = 0.08 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    return min(values) - room, max(values) + room


def view(front: Front) -> tuple[tuple[float, float], tuple[float, float]]:
    """Sizes and qualities between which the front is drawn: without its worst fifth.

    The smallest members fall far, and uniform schemes are far larger; beside them the rest would be
    a line.
    """
    ranked = sorted(front.members, key=front.score, reverse=True)
    kept = [*ranked[: max(3, round(0.8 * len(ranked)))], front.members[front.chosen]]
    values = [member.validation for member in kept]
    if front.float_validation is not None:
        values.append(front.float_validation)
    return around([front.measure(member) for member in kept]), around(values)
