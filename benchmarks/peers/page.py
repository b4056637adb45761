"""What was measured, as tables of `benchmarks/README.md` and as `docs/peers.png`."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
STORED = ROOT / "benchmarks" / "results"
README = ROOT / "benchmarks" / "README.md"
PICTURE = ROOT / "docs" / "peers.png"
BEGIN, END = "<!-- tables of python -m benchmarks.peers --page -->", "<!-- end of tables -->"
TICKS = (5, 10, 20, 50, 100, 200)
"""kB."""


def stored() -> list[dict[str, Any]]:
    """Documents of `__main__`, by task."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(STORED.glob("peers-*.json"))]


def tables(documents: list[dict[str, Any]]) -> str:
    """Markdown of all of them."""
    return "\n".join(line for document in documents for line in _table(document))


def write(documents: list[dict[str, Any]]) -> None:
    """Replace the tables and the picture."""
    text = README.read_text("utf-8")
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{tables(documents)}\n{END}{rest.split(END)[1]}", "utf-8")
    draw(documents)


def _table(document: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"`{document['task']}`:",
        "",
        "| tool | file, kB | flash, kB | accuracy, % | recurrence | its weights | float, kB "
        "| Q + DQ |",
        "|---|---:|---:|---:|---|---|---:|---:|",
    ]
    for row in document["rows"]:
        name = f"{row['name']} ({row['version']})" if row["version"] else row["name"]
        found = row["found"]
        if found is None:
            lines.append(f"| {name} | | | | {row['reason']} | | | |")
            continue
        flash = f"{row['flash_bytes'] / 1000:.1f}" if row["flash_bytes"] else ""
        weights = f"{row['mean_bits']:.2f} bits, packed" if row["mean_bits"] else found["weights"]
        lines.append(
            f"| {name} | {found['bytes'] / 1000:.1f} | {flash} | {row['accuracy']:.2f} "
            f"| {found['recurrence']} | {weights} | {found['float_bytes'] / 1000:.1f} "
            f"| {found['quantize']} + {found['dequantize']} |"
        )
    return [*lines, ""]


def draw(documents: list[dict[str, Any]]) -> None:
    """Accuracy against bytes: files, and what a device keeps of onnxgru's recurrence as stars."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(documents), figsize=(4.6 * len(documents) + 2.8, 4.4), layout="constrained"
    )
    panels = [panels] if len(documents) == 1 else list(panels)
    for axes, document in zip(panels, documents, strict=True):
        for number, row in enumerate(document["rows"]):
            if row["found"] is None:
                continue
            colour, size = pyplot.get_cmap("tab20")(number), row["found"]["bytes"] / 1000
            style = {"color": colour, "markersize": 8, "ls": "none", "alpha": 0.9}
            if row["flash_bytes"] is None:
                marker = "osDv^<>Ph"[number % 9]
                axes.plot(size, row["accuracy"], marker, label=row["name"], **style)
                continue
            flash = row["flash_bytes"] / 1000
            axes.plot(size, row["accuracy"], "o", label=row["name"], mfc="none", **style)
            axes.plot(flash, row["accuracy"], "*", **style | {"markersize": 13})
            axes.plot((flash, size), (row["accuracy"],) * 2, color=colour, lw=0.8, ls=":")
        axes.set(
            xscale="log",
            xlabel="kB: file, and flash of the recurrence (stars)",
            ylabel="accuracy on hold-out, %",
            title=document["task"],
        )
        axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
        axes.minorticks_off()
        axes.grid(lw=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
