"""The Pareto front for users: as JSON, as CSV, and as a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from onnxgru.core.errors import UsageError

FORMAT = "onnxgru.front/1"
COLUMNS = ("index", "flash_bytes", "weight_bits", "mean_bits", "bitops")
FIGURES = ("validation", "holdout")
ENDS = ("low", "high")
ROUNDING = 1e-9
"""A drop is a difference of percentages: at its limit it still counts as kept."""


def searched(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members that the search found."""
    return [m for m in document["members"] if "widened_from" not in m]


def widened(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members that others were widened to."""
    return [m for m in document["members"] if "widened_from" in m]


def within(document: Mapping[str, Any], max_drop: float) -> list[dict[str, Any]]:
    """Members at most `max_drop` below the best figure on validation, uniform 8 bits included.

    A search keeps what looks best on its validation data, and with it their noise: figures of the
    members it found are optimistic. Counting from the best of them, which is as optimistic as the
    rest, keeps the drop on other data near `max_drop`; counting from uniform 8 bits, which nothing
    was searched for, does not (``benchmarks/choice.py``).
    """
    sign = 1 if document["metric"]["higher_is_better"] else -1
    uniform = document["uniform"][0]
    members = searched(document)
    best = max(sign * m["validation"] for m in [uniform, *members])
    return [m for m in members if best - sign * m["validation"] <= max_drop + ROUNDING]


def smallest(document: Mapping[str, Any], max_drop: float) -> dict[str, Any]:
    """The smallest member within a drop; the best one on validation where there is none."""
    sign = 1 if document["metric"]["higher_is_better"] else -1
    found = within(document, max_drop)
    if found:
        return min(found, key=lambda m: (m[document["size"]], -sign * m["validation"]))
    return dict(
        max(searched(document), key=lambda m: (sign * m["validation"], -m[document["size"]]))
    )


def member(
    document: Mapping[str, Any],
    index: int | None,
    max_bytes: int | None = None,
    max_drop: float | None = None,
) -> dict[str, Any]:
    """The member that a user wants, by its number, or of those found by the most bytes or drop.

    Parameters
    ----------
    document : dict
        The front.
    index : int, optional
        The member's number.
    max_bytes : int, optional
        The best member of at most so many flash bytes.
    max_drop : float, optional
        The smallest member at most so far below the best figure on validation.

    Raises
    ------
    UsageError
        If there is none.
    """
    members: Sequence[dict[str, Any]] = document["members"]
    if index is not None:
        if not 0 <= index < len(members):
            raise UsageError(f"--index must be from 0 to {len(members) - 1}, got {index}")
        return members[index]
    members = searched(document)
    if max_bytes is not None:
        fitting = [m for m in members if m["flash_bytes"] <= max_bytes]
        if not fitting:
            least = min(m["flash_bytes"] for m in members)
            raise UsageError(
                f"--max-bytes {max_bytes}: the smallest member of the front has {least} flash "
                "bytes; allow as many, or search with fewer bits"
            )
        return max(fitting, key=lambda m: (m["validation"], -m["flash_bytes"]))
    drop = max_drop if max_drop is not None else 0.0
    if not within(document, drop):
        best = max(m["validation"] for m in members)
        raise UsageError(
            f"--max-drop {drop:g}: no member comes so near to the best figure on validation, that "
            f"of uniform 8 bits; the best of the front has {best:.2f}, so allow more"
        )
    return smallest(document, drop)


def drop(document: Mapping[str, Any], entry: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How much worse than one member another is on validation, in the metric's unit.

    Negative where it is better.
    """
    difference = float(entry["validation"]) - float(other["validation"])
    return difference if document["metric"]["higher_is_better"] else -difference


def table(document: Mapping[str, Any]) -> bytes:
    """The members as CSV, with the width of every gene."""
    genes = document["genes"]
    others = [key for key in document["objectives"] if key not in COLUMNS]
    ends = [f"{role}_{end}" for role in FIGURES for end in ENDS]
    columns = (*COLUMNS, *others, *FIGURES, *ends, "widened_from")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*columns, *genes])
    for member in document["members"]:
        known = dict(member)
        for role in FIGURES:
            interval = member.get(f"{role}_interval") or (None, None)
            known |= {f"{role}_{end}": v for end, v in zip(ENDS, interval, strict=True)}
        writer.writerow([*(known.get(column) for column in columns), *member["genome"]])
    return stream.getvalue().encode()


def picture(document: Mapping[str, Any], cloud: Sequence[tuple[float, float]]) -> bytes:
    """The front as PNG: quality on validation against the last objective.

    Parameters
    ----------
    document : mapping
        What ``front.json`` holds.
    cloud : sequence of tuple
        Size and quality of everything evaluated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = document["size"]
    metric, unit = document["metric"]["name"], document["metric"]["unit"]
    sizes_shown, qualities_shown = view(document)
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    if cloud:
        sizes, qualities = zip(*cloud, strict=True)
        axes.scatter(sizes, qualities, s=6, color="0.8", label="evaluated")
    found = searched(document)
    axes.plot(
        [m[size] for m in found],
        [m["validation"] for m in found],
        "o-" if len(document["objectives"]) == 1 else "o",
        color="tab:blue",
        markersize=4,
        drawstyle="steps-post",
        label="front",
    )
    if further := widened(document):
        axes.plot(
            [m[size] for m in further],
            [m["validation"] for m in further],
            "D",
            color="tab:green",
            markersize=5,
            label="widened",
        )
    best = document["members"][document["chosen"]]
    axes.plot(best[size], best["validation"], "*", markersize=14, color="tab:red", label="chosen")
    _beside(beside, document, qualities_shown)
    for one in (axes, beside):
        if document["float_validation"] is not None:
            one.axhline(document["float_validation"], color="0.5", linestyle=":", label="float")
        one.grid(alpha=0.3)
    axes.set_xlim(*sizes_shown)
    axes.set_ylim(*qualities_shown)
    axes.xaxis.set_major_formatter("{x:,.7g}")
    axes.set_xlabel(document["objectives"][size])
    axes.set_ylabel(f"{metric} on validation" + (f", {unit}" if unit else ""))
    axes.legend(loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _beside(axes: Any, document: Mapping[str, Any], shown: tuple[float, float]) -> None:
    """The uniform widths beside the front; an arrow at the edge for one that is outside."""
    low, high = shown
    order = sorted(document["uniform"], key=lambda entry: entry["bits"])
    for place, entry in enumerate(order):
        quality = entry["validation"]
        marker = "v" if quality < low else "^" if quality > high else "s"
        height = min(max(quality, low), high)
        axes.plot(place, height, marker, color="tab:orange", markersize=6, clip_on=False)
    widest = order[-1][document["size"]]
    axes.set_title(f"uniform {order[-1]['bits']}: {widest:,.7g}", fontsize=9, color="tab:orange")
    axes.set_xticks(range(len(order)), [str(entry["bits"]) for entry in order])
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_xlabel("uniform, bits")
    axes.tick_params(labelleft=False, left=False)


def around(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the largest of some values, with some room: what is drawn of a plane."""
    room = 0.08 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    return min(values) - room, max(values) + room


def view(document: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Sizes and qualities between which the front is drawn: without its worst fifth.

    The smallest members fall far, and uniform schemes are far larger; beside them the rest would be
    a line.
    """
    sign = 1 if document["metric"].get("higher_is_better", True) else -1
    members: Sequence[Mapping[str, Any]] = document["members"]
    ranked = sorted(members, key=lambda member: -sign * member["validation"])
    kept = [*ranked[: max(3, round(0.8 * len(ranked)))], members[document["chosen"]]]
    values = [member["validation"] for member in kept]
    if document["float_validation"] is not None:
        values.append(document["float_validation"])
    return around([member[document["size"]] for member in kept]), around(values)
