"""Results on stdout: sentences and tables."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxgru.api import SensitivityResult
from onnxgru.cli.console import open_console, say
from onnxgru.documents.front import Front, Metric, Scored
from onnxgru.documents.remarks import (
    TITLES,
    between,
    counted,
    figure,
    judged_by,
    optimistic,
    signed,
    verdict,
)
from onnxgru.documents.report import Report
from onnxgru.firmware.writing import Firmware
from onnxgru.output.result import Result
from onnxgru.report import eliminated
from onnxgru.report.text import macs, outputs_table, sizes_table
from onnxgru.session import toolchains
from onnxgru.session.comparison import Comparison
from onnxgru.session.inspection import Inspection, LayerRow, OperatorRow
from onnxgru.session.toolchains import Verdicts
from onnxgru.study.sensitivity import WEIGHTS, Entry, SensitivityRow, drop_title, shown
from onnxgru.training.export import Export

LINES_OF_OUTPUTS = 3
UNIFORM = (8, 4)
"""Widths that members are shown beside."""
LINES_OF_OPERATORS = 20

LETTERS = 300
"""Letters of a reason; --format json has the rest."""

NAME = 36
"""Letters of a name that are not folded."""

CHOSEN = "★ chosen"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        name = column.lstrip("<")
        table.add_column(
            name, justify="left" if column.startswith("<") else "right", overflow="fold"
        )
    return table


def _show_table(console: Console, table: Table) -> None:
    """Print a table; where it is too wide, other columns are folded before short names are."""
    first = table.columns[0]
    room = min(NAME, console.width // 2)
    first.no_wrap = all(len(str(cell)) <= room for cell in first.cells)
    console.print(table)


def show_result(result: Result) -> None:
    """Print a summary of a quantisation: 24 lines of 80 columns, what matters last."""
    console = open_console()
    report = result.parsed
    several = len(report.outputs) > 1
    sizes = report.sizes
    say(console, f"flash  {dict(sizes_table(sizes))['flash']}")
    say(
        console,
        f"RAM {sizes.ram:,} bytes per sequence, {macs(sizes.macs, sizes.dense_macs)}, "
        f"accumulators of {sizes.accumulator_bits} bits",
    )
    if (text := eliminated.sentence(report)) is not None:
        say(console, f"delta  {text}")
    console.print()
    _show_quality(console, report)
    if result.front is not None:
        console.print()
        front = Front.parse(result.front)
        searched = any(gene.endswith(".threshold") for gene in front.genes)
        later = report.delta is not None and not searched
        console.print(_front_table(front, most=2 if several else 3, thresholds=later))
    if report.search is not None:
        chosen, uniform = report.search.chosen, report.search.uniform_8
        share = 100 * chosen.flash_bytes / uniform.flash_bytes
        known = chosen.widened_from
        widened = f" (widened from {known})" if known is not None else ""
        console.print(
            f"chosen: number {chosen.index}{widened}, {share:.0f} % of the flash of uniform 8 bits",
            style="bold",
        )
        console.print(f"another member: {result.pick_command} --index N", style="bold")
    if (tuned := report.finetuning) is not None:
        before, after = (figure(f, report.metric.unit) for f in (tuned.before, tuned.figure))
        epochs = f"epoch {tuned.chosen_epoch} of {tuned.epochs}"
        say(console, f"fine-tuned: {before} before, {after} after {epochs}, on validation data")
    if report.verification is not None:
        codes = f"{report.verification.codes:,} values"
        console.print(f"verified: integer.onnx equals the reference bit for bit ({codes})")
    console.print(f"files are in {result.folder}/; open report.html, or read report.md first")


def _show_quality(console: Console, report: Report) -> None:
    """Print the figures with their intervals, and how they compare."""
    unit = report.metric.unit
    table = _table(f"<{report.metric.title}", "float", "integer", "95 % interval", "<recordings")
    for role, quality in report.quality.items():
        table.add_row(
            TITLES[role],
            figure(quality.float_model, unit),
            figure(quality.integer, unit),
            between(quality.integer_interval, unit),
            counted(quality) + (", random" if report.random_input else ""),
            style="bold yellow" if report.random_input else None,
        )
    _show_table(console, table)
    rows = outputs_table(report)
    if len(rows) > 1:
        outputs = _table("<output, on validation", "<judged", "<metric", "float", "integer", "SQNR")
        for row in rows[:LINES_OF_OUTPUTS]:
            outputs.add_row(*row)
        if len(rows) > LINES_OF_OUTPUTS:
            outputs.caption = f"{LINES_OF_OUTPUTS} of {len(rows)} outputs; all are in report.md"
            outputs.caption_justify = "left"
        console.print(outputs)
    say(console, f"judged: {judged_by(report)}")
    first = next(iter(report.quality))
    for text in (optimistic(report, brief=True), verdict(report, first, brief=True)):
        if text is not None:
            say(console, f"{text[0].lower()}{text[1:]}")


def _front_table(front: Front, most: int, *, thresholds: bool = False) -> Table:
    """So many members, two uniform widths, and last the chosen member below uniform 8 bits."""
    unit, members = front.metric.unit, front.members
    others = {key: title for key, title in front.objectives.items() if key != "flash_bytes"}
    table = _table(
        "number", "flash bytes", *others.values(), "bits per weight", "hold-out", "validation", "<"
    )
    step = max(1, len(members) // most)
    shown = {*range(0, len(members), step), len(members) - 1}
    for index in sorted(shown)[1:]:  # without what the chosen one's row leaves no room for
        if len(shown - {front.chosen}) >= most:
            shown.discard(index)
    shown.add(front.chosen)
    allowed = front.accumulator_bits
    beyond = [u for u in front.uniform if allowed and u.accumulator_bits > allowed]
    rows: list[tuple[str, Scored, str]]
    rows = [(str(m.index), m, "") for m in members if m.index in shown - {front.chosen}]
    rows += [
        (f"uniform {entry.bits}" + (" *" if entry in beyond else ""), entry, "")
        for entry in reversed(front.uniform)
        if entry.bits in UNIFORM
    ]
    rows.append((str(front.chosen), members[front.chosen], CHOSEN))
    for number, entry, note in rows:
        holdout = "-" if entry.holdout is None else figure(entry.holdout, unit)
        table.add_row(
            number,
            f"{entry.flash_bytes:,}",
            *(f"{entry.size(key):,.0f}" for key in others),
            f"{entry.mean_bits:.2f}",
            holdout,
            figure(entry.validation, unit),
            note,
            style="bold green" if note else None,
        )
    captions = []
    if thresholds:
        captions.append("figures as searched, without thresholds; those with thresholds are above")
    if len(shown) < len(members):
        captions.append(f"{len(shown)} of {len(members)} members; report.html shows all")
    if beyond:
        captions.append(f"* needs accumulators of more than {allowed} bits")
    if captions:
        table.caption = "\n".join(captions)
        table.caption_justify = "left"
    return table


def show_sensitivity(done: SensitivityResult) -> None:
    """Print the drop and the SQNR of every operator at every width."""
    console = open_console()
    found = done.sensitivity
    metric = Metric(found.metric, found.unit)
    base = figure(found.uniform.quality, found.unit)
    noise = figure(found.uniform.sqnr_db, "dB")
    console.print(
        f"each operator alone at each width, everything else at 8 bits: {metric.title} {base}, "
        f"SQNR of the output {noise}"
    )
    tables: tuple[tuple[str, Callable[[Entry], str]], ...] = (
        (drop_title(metric), lambda e: shown(e.drop)),
        (
            "SQNR of the output to the float model, dB",
            lambda e: "-" if e.sqnr_db is None else f"{e.sqnr_db:.1f}",
        ),
    )
    groups: dict[str, list[SensitivityRow]] = {}
    for row in found.rows:
        groups.setdefault(row.name.rpartition("/")[0], []).append(row)
    for title, text in tables:
        for group, rows in groups.items():
            console.print()
            console.print(f"{title}; {group}")
            table = _table("<operator", "<", *(f"{bits} bits" for bits in found.widths))
            for row in rows:
                part = "weights" if row.part == WEIGHTS else ""
                table.add_row(
                    row.name.rpartition("/")[2], part, *(text(entry) for entry in row.entries)
                )
            _show_table(console, table)
    console.print()
    console.print(f"files are in {done.folder}/: sensitivity.json, sensitivity.png")


def show_inspection(found: Inspection) -> None:
    """Print what a model holds, sizes first."""
    console = open_console()
    console.print(f"{found.path}: {found.file_bytes:,} bytes, opset {found.opset}")
    if found.producer:
        console.print(f"written by {found.producer}")
    sizes = found.sizes
    if found.flash:
        widths = ", ".join(f"{size:,} at {bits} bits" for bits, size in found.flash.items())
        size = f"{sizes['flash_bytes']:,} bytes"
        say(console, f"recurrent layers: {size} in float32; flash about {widths}")
    if found.layers or found.quantized:
        kind = "quantised recurrences: " if found.quantized else ""
        flash = f"{sizes['flash_bytes']:,} flash bytes, " if found.quantized else ""
        numbers = "" if found.quantized else " in float32"
        say(
            console,
            f"{kind}{sizes['weights']:,} weights, {sizes['weight_bits']:,} weight bits, {flash}"
            f"{sizes['ram']:,} bytes RAM per sequence{numbers}, "
            f"{macs(sizes['macs'], sizes.get('dense_macs', 0))}",
        )
    for title, values in (("input", found.inputs), ("output", found.outputs)):
        for name, text in values.items():
            console.print(f"{title} {name}: {text}")
    for note in found.notes:
        say(console, f"note: {note}")
    if found.layers:
        console.print()
        _show_layers(console, found.layers)
    if found.operators:
        console.print()
        _show_operators(console, found.operators)
    reasons: dict[str, list[str]] = {}
    for refusal in found.refusals:
        reasons.setdefault(refusal.reason, []).append(refusal.node)
    for reason, nodes in reasons.items():
        console.print()
        verb = "stays" if len(nodes) == 1 else "stay"
        say(console, f"{', '.join(nodes)} {verb} in float: {reason}")
    if found.nothing and not found.refusals:
        say(console, f"the model {found.nothing}")


def _show_layers(console: Console, layers: Sequence[LayerRow]) -> None:
    """A line per layer, then attributes and the names of operators, for all that have the same."""
    table = _table("<layer", "<size", "<reads", "<also given", "<read of it", "weights")
    alike: dict[str, list[str]] = {}
    for layer in layers:
        attributes = ", ".join(
            f"{name} {value}" if name != "direction" else value
            for name, value in layer.attributes.items()
            if not _usual(name, value)
        )
        alike.setdefault(attributes, []).append(layer.node)
        table.add_row(
            layer.node,
            f"{layer.input_size} -> {layer.hidden_size}",
            layer.input_shape.removeprefix("float "),
            ", ".join(layer.inputs),
            ", ".join(layer.outputs) or "nothing",
            f"{sum(row.weights for row in layer.operators):,}",
        )
    _show_table(console, table)
    for attributes, nodes in alike.items():
        say(console, f"{', '.join(nodes) if len(alike) > 1 else 'all layers'}: {attributes}")
    kinds: dict[tuple[str, ...], str] = {}
    for layer in layers:
        first = layer.operators[0].name.rpartition("/")[0]
        names = (row.name.removeprefix(f"{first}/") for row in layer.operators)
        kinds.setdefault(tuple(name for name in names if "/" not in name), first)
    for each, place in kinds.items():
        others = " and every layer like it" if len(layers) > 1 else ""
        say(console, f"operators of {place}{others}: {', '.join(each)}")


def _usual(name: str, value: str) -> bool:
    """Whether an attribute has the value that it has where it is left out."""
    if name == "activations":
        return re.fullmatch(r"(Sigmoid, Tanh(?:, Tanh)?)(, \1)?|Tanh", value) is not None
    return (name, value) == ("input_forget", "0")


def _show_operators(console: Console, operators: Sequence[OperatorRow]) -> None:
    """A line per operator, or one for all where all have the same width."""
    widths = {row.bits for row in operators} | {row.weight_bits for row in operators}
    if len(operators) > LINES_OF_OPERATORS and len(widths - {None}) == 1:
        console.print(f"{len(operators)} operators, values and weights at {operators[0].bits} bits")
        return
    table = _table("<operator", "bits", "weight bits", "weights")
    for row in operators:
        weight = "" if row.weight_bits is None else str(row.weight_bits)
        table.add_row(row.name, str(row.bits), weight, f"{row.weights:,}" if weight else "")
    _show_table(console, table)


def show_comparison(found: Comparison) -> None:
    """Print models side by side."""
    console, title = open_console(), Metric(found.metric, found.unit).title
    table = _table("<model", "bytes", title, "95 % interval", "to the first", "SQNR, dB")
    for row in found.rows:
        apart = "" if row.difference is None else f"{row.difference:+.2f}"
        if row.difference_interval is not None:
            apart += f" ({signed(row.difference_interval, found.unit)})"
        table.add_row(
            row.path,
            f"{row.file_bytes:,}",
            figure(row.quality, found.unit),
            between(row.interval),
            apart,
            "exact" if row.equal else _decibels(row.agreement_sqnr),
        )
    _show_table(console, table)
    for sentence in found.sentences():
        say(console, sentence)


def _decibels(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def show_verdicts(found: Verdicts) -> None:
    """Print what every runtime computes, and below that why it refuses or what differs."""
    console = open_console()
    table = _table("<runtime", "<version", "<verdict", "codes", "<")
    styles = {toolchains.SAME: "green", toolchains.DIFFERS: "bold red"}
    reasons: dict[str, list[str]] = {}
    for row in (row for row in found.rows if row.verdict != toolchains.ABSENT):
        same = row.verdict == toolchains.SAME
        if row.detail and not same:
            reasons.setdefault(_cut(row.detail), []).append(row.runtime)
        table.add_row(
            Text(row.runtime),
            Text(row.version),
            Text(row.verdict, styles.get(row.verdict, "dim")),
            f"{row.codes:,}" if row.codes else "",
            Text(row.detail if same else ""),
        )
    if table.row_count:
        _show_table(console, table)
    for reason, runtimes in reasons.items():
        say(console, f"{', '.join(runtimes)}: {reason}")
    if absent := [row for row in found.rows if row.verdict == toolchains.ABSENT]:
        named = ", ".join(f"{row.runtime} ({row.detail})" for row in absent)
        say(console, f"not installed: {named}")
    say(console, f"{found.path}, run on {found.inputs}")


def _cut(reason: str) -> str:
    """As much of a reason as the terminal shows."""
    return reason if len(reason) <= LETTERS else f"{reason[: LETTERS - 3]}..."


def show_export(done: Export) -> None:
    """Print what was exported."""
    console = open_console()
    held = ", ".join(f"{count} {kind}" for kind, count in Counter(done.operators).items())
    console.print(
        f"{done.path}: {held}, equal to torch within {done.difference:.1e} of the largest output"
    )


def show_c(written: Firmware) -> None:
    """Print what the C sources need on a device, and how to test them."""
    console = open_console()
    console.print(
        f"parameters: {written.flash:,} bytes of flash; states: {written.ram:,} bytes of RAM; "
        f"self-test of {written.steps} step{'s' * (written.steps != 1)}"
    )
    say(console, f"files are in {written.folder}/; test them with make -C {written.folder} test")


def show_training(record: Mapping[str, Any], folder: Path) -> None:
    """Print how well a model does on each part of its data, and where it is."""
    console = open_console()
    table = _table("<part", "examples", "accuracy")
    for role, right in record["accuracy"].items():
        table.add_row(role, f"{record['examples'][role]:,}", figure(right, "%"))
    _show_table(console, table)
    console.print(f"{record['model']} and its data are in {folder}/")
