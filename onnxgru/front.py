"""The Pareto front for users: as JSON, as CSV, and as a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

FORMAT = "onnxgru.front/1"
COLUMNS = ("index", "flash_bytes", "weight_bits", "mean_bits", "validation", "holdout")


def table(document: Mapping[str, Any]) -> bytes:
    """The members as CSV, with the width of every gene."""
    genes = document["genes"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *genes])
    for member in document["members"]:
        writer.writerow([*(member[column] for column in COLUMNS), *member["genome"]])
    return stream.getvalue().encode()


def picture(
    document: Mapping[str, Any], cloud: Sequence[tuple[float, float]], chosen: int
) -> bytes:
    """The front as PNG: quality on validation against flash bytes.

    Parameters
    ----------
    document : mapping
        What ``front.json`` holds.
    cloud : sequence of tuple
        Flash bytes, or weight bits, and quality of everything evaluated.
    chosen : int
        Index of the member chosen.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = document["size"]
    metric, unit = document["metric"]["name"], document["metric"]["unit"]
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if cloud:
        sizes, qualities = zip(*cloud, strict=True)
        axes.scatter(sizes, qualities, s=6, color="0.8", label="evaluated")
    members = document["members"]
    axes.plot(
        [m[size] for m in members],
        [m["validation"] for m in members],
        "o-",
        color="tab:blue",
        markersize=4,
        drawstyle="steps-post",
        label="front",
    )
    uniform = document["uniform"]
    axes.plot(
        [u[size] for u in uniform],
        [u["validation"] for u in uniform],
        "s",
        color="tab:orange",
        label="uniform",
    )
    for entry in uniform:
        axes.annotate(
            f"{entry['bits']}",
            (entry[size], entry["validation"]),
            textcoords="offset points",
            xytext=(5, -10),
            fontsize=8,
        )
    best = members[chosen]
    axes.plot(best[size], best["validation"], "*", markersize=14, color="tab:red", label="chosen")
    if document["float_validation"] is not None:
        axes.axhline(document["float_validation"], color="0.5", linestyle=":", label="float")
    axes.set_xlabel("flash, bytes" if size == "flash_bytes" else "weights, bits")
    axes.set_ylabel(f"{metric} on validation" + (f", {unit}" if unit else ""))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
