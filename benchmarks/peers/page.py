"""What was measured, as tables of `benchmarks/README.md` and as `docs/peers.png`."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
STORED = ROOT / "benchmarks" / "results"
README = ROOT / "benchmarks" / "README.md"
PICTURE = ROOT / "docs" / "peers.png"
BEGIN, END = "<!-- tables of python -m benchmarks.peers --page -->", "<!-- end of tables -->"


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
    """Accuracy against bytes: files as circles, what a device keeps of onnxgru's as stars."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(documents), figsize=(6.4 * len(documents), 4.6), layout="constrained", squeeze=False
    )
    for axes, document in zip(panels[0], documents, strict=True):
        rows = [row for row in document["rows"] if row["found"] is not None]
        for number, row in enumerate(rows):
            colour, size = f"C{number % 10}", row["found"]["bytes"] / 1000
            ours = row["flash_bytes"] is not None
            axes.plot(
                size, row["accuracy"], "o" if ours else "osDv^<>P"[number % 8], color=colour,
                label=row["name"], markerfacecolor="none" if ours else colour,
                markeredgecolor=colour,
            )  # fmt: skip
            if ours:
                flash = row["flash_bytes"] / 1000
                axes.plot(flash, row["accuracy"], "*", color=colour, markersize=12)
                axes.plot((flash, size), (row["accuracy"],) * 2, color=colour, lw=0.8, ls=":")
        axes.set(
            xscale="log", xlabel="kB", ylabel="accuracy on hold-out, %", title=document["task"]
        )
        axes.legend(fontsize=7)
    figure.suptitle("Files (circles and others), and flash of onnxgru's recurrence (stars)")
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
