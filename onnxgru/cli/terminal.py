"""What a user sees: live progress and warnings on stderr, tables on stdout."""

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from onnxgru.api import SensitivityResult
from onnxgru.documents.front import Front, Metric, Scored
from onnxgru.documents.remarks import (
    RANDOM,
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
from onnxgru.events import (
    Calibrated,
    Event,
    Goal,
    Measured,
    Notice,
    Searched,
    Stage,
    Tuned,
    Verified,
    Widened,
)
from onnxgru.models.task import Download, Epoch
from onnxgru.output.result import Result
from onnxgru.report import eliminated
from onnxgru.report.text import outputs_table, sizes_table
from onnxgru.session.comparison import Comparison
from onnxgru.session.inspection import Inspection, LayerRow, OperatorRow
from onnxgru.study.sensitivity import WEIGHTS, Entry, Row, drop_title, shown
from onnxgru.training.export import Export

PIPED_WIDTH = 10_000
"""Of tables where there is no terminal: no row is ever folded."""

LINES_OF_OUTPUTS = 3
UNIFORM = (8, 4)
"""Widths that members are shown beside."""
LINES_OF_OPERATORS = 20

CHOSEN = "★ chosen"

MEMBERS = 6
"""Gaps between the members of a growing front that are shown: they fit 80 columns."""


class _Trimmed:
    """A stream whose lines do not end in the spaces that columns are filled with."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r" +$", "", text, flags=re.MULTILINE))

    def flush(self) -> None:
        self._stream.flush()


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return Console(
        file=stream if terminal else cast("TextIO", _Trimmed(stream)),
        highlight=False,
        soft_wrap=not terminal,
        width=None if terminal else PIPED_WIDTH,
        force_terminal=None if terminal else False,
        no_color=None if terminal else True,
        markup=False,
    )


class Progress:
    """Listens to events: a live view on a terminal, plain lines elsewhere.

    Parameters
    ----------
    quiet : bool
        Show warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = _console(stderr=True)
        self._quiet = quiet
        self._live: Live | None = None
        self._started = time.monotonic()
        self._new = 0
        self._tenths = 0
        self._last: Searched | None = None
        self._front: list[tuple[float, float]] = []
        self._bar = Bar(
            TextColumn("searching"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event | Epoch | Download) -> None:
        """Show an event."""
        match event:
            case Notice(text):
                self._console.print(f"warning: {text}", style="yellow")
            case Stage(text) if not self._quiet:
                self._stop()
                self._console.print(f"{text} ...", style="dim")
                self._started = time.monotonic()
            case Searched() if not self._quiet:
                self._searched(event)
            case Measured() if not self._quiet:
                self._share(event.done, event.total, "measurements")
            case Verified(done, total) if total > 1 and not self._quiet:
                self._share(done, total, "calls")
            case Widened(size, limit) if not self._quiet:
                self._share(size, limit, "flash bytes")
            case Tuned() if not self._quiet:
                loss = "" if math.isnan(event.loss) else f", loss {event.loss:.4f}"
                self._console.print(
                    f"epoch {event.epoch}/{event.epochs}{loss}, validation {event.quality:.2f}"
                )
            case Epoch() if not self._quiet:
                self._stop()
                self._console.print(
                    f"epoch {event.number}/{event.epochs}, loss {event.loss:.3f}, validation "
                    f"{event.validation:.1f} %, {event.seconds:.1f} s"
                )
            case Download() if not self._quiet:
                self._share(event.done, event.total, f"bytes of {event.name}")
            case Calibrated() | Stage() | Searched() | Measured() | Verified() | Widened():
                pass
            case Tuned() | Epoch() | Download():
                pass

    def _share(self, done: int, total: int, what: str) -> None:
        """A line that is renewed on a terminal; elsewhere one for every tenth of the way."""
        line = f"{done:,}/{total:,} {what}"
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=8, transient=True)
                self._live.start()
            self._live.update(Text(line, style="dim"))
            if done == total:
                self._stop()
        elif done * 10 // total > self._tenths:
            self._console.print(line)
        self._tenths = done * 10 // total

    def _searched(self, event: Searched) -> None:
        last, self._last = self._last, event
        if last is not None and last.progress.generation != event.progress.generation:
            if not self._console.is_terminal:
                self._console.print(self._line(last))
        progress = event.progress
        self._new += not progress.known
        if progress.member.feasible:
            self._front = _grown(self._front, (event.size, event.quality))
        ended = progress.evaluations == progress.total
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=8, transient=True)
                self._live.start()
            self._live.update(self._view(event))
        if ended:
            self._stop()
            self._console.print(self._line(event))

    def _rate(self) -> float:
        return self._new / max(1e-9, time.monotonic() - self._started)

    def _line(self, event: Searched) -> str:
        progress = event.progress
        return (
            f"generation {progress.generation}/{progress.generations}, "
            f"{progress.evaluations}/{progress.total} schemes, {self._rate():.0f} per second, "
            f"{_best(event)}"
        )

    def _view(self, event: Searched) -> RenderableType:
        progress = event.progress
        if self._task is None:
            self._task = self._bar.add_task("", total=progress.total)
        self._bar.update(self._task, completed=progress.evaluations)
        counts = (
            f"generation {progress.generation}/{progress.generations}, {self._rate():.0f} schemes "
            "per second"
        )
        lines = (Text(line, style="dim") for line in (counts, _best(event)))
        return Group(self._bar, *lines, self._members(event.goal))

    def _members(self, goal: Goal) -> Table:
        """The front so far, some of its members side by side, and uniform 8 bits."""
        count = len(self._front)
        shown = sorted({round(i * (count - 1) / MEMBERS) for i in range(MEMBERS + 1)})
        members = [self._front[index] for index in shown] if count else []
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(style="dim")
        for _ in members:
            table.add_column(justify="right", style="dim")
        table.add_column(justify="right")
        sizes = [size for size, _ in members]
        figures = [quality for _, quality in members]
        size, quality = goal.uniform
        title = Metric(goal.metric, goal.unit).title
        table.add_row("front so far", *("" for _ in members), "uniform 8")
        table.add_row(goal.size_unit or goal.size, *(f"{n:,.0f}" for n in sizes), f"{size:,.0f}")
        table.add_row(goal.unit or title, *(f"{one:.1f}" for one in figures), f"{quality:.1f}")
        return table


def _best(event: Searched) -> str:
    """The smallest member that may be chosen so far; the best figure that it is measured by grows.

    So the size may grow, too: a better member raises the floor.
    """
    goal = event.goal
    if event.best_size is None:
        title = Metric(goal.metric, goal.unit).title
        return f"best {title} so far {figure(event.best, goal.unit)}"
    size = f"{event.best_size:,.0f} {goal.size_unit or goal.size}"
    return f"best so far: {size} at most {goal.drop} below {figure(event.best, goal.unit)}"


def _grown(front: list[tuple[float, float]], new: tuple[float, float]) -> list[tuple[float, float]]:
    """A front of sizes and qualities with a further member, by size."""
    size, quality = new
    if any(s <= size and q >= quality for s, q in front):
        return front
    return sorted([*((s, q) for s, q in front if s < size or q > quality), new])


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        name = column.lstrip("<")
        table.add_column(
            name, justify="left" if column.startswith("<") else "right", overflow="fold"
        )
    return table


def show_result(result: Result) -> None:
    """Print a summary of a quantisation: 24 lines of 80 columns, what matters last."""
    console = _console()
    report = result.parsed
    if report.random_input:
        console.print(f"{RANDOM}.", style="bold yellow")
    several = len(report.outputs) > 1
    sizes = report.sizes
    console.print(f"flash  {dict(sizes_table(sizes))['flash']}")
    console.print(
        f"RAM {sizes.ram:,} bytes per sequence, {sizes.macs:,} MACs per step, accumulators "
        f"of {sizes.accumulator_bits} bits",
    )
    if (text := eliminated.sentence(report)) is not None:
        console.print(f"delta  {text}")
    console.print()
    _show_quality(console, report)
    if result.front is not None:
        console.print()
        console.print(_front_table(Front.parse(result.front), most=2 if several else 3))
    if report.search is not None:
        chosen, uniform = report.search.chosen, report.search.uniform_8
        share = 100 * chosen.flash_bytes / uniform.flash_bytes
        known = chosen.widened_from
        widened = f" (widened from {known})" if known is not None else ""
        console.print(
            f"chosen: number {chosen.index}{widened}, {share:.0f} % of the flash of uniform 8 "
            f"bits; another one with: {result.pick_command} --index N",
            style="bold",
        )
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
            counted(quality),
        )
    console.print(table)
    rows = outputs_table(report)
    if len(rows) > 1:
        outputs = _table("<output, on validation", "<judged", "<metric", "float", "integer", "SQNR")
        for row in rows[:LINES_OF_OUTPUTS]:
            outputs.add_row(*row)
        if len(rows) > LINES_OF_OUTPUTS:
            outputs.caption = f"{LINES_OF_OUTPUTS} of {len(rows)} outputs; all are in report.md"
            outputs.caption_justify = "left"
        console.print(outputs)
    console.print(f"judged: {judged_by(report)}")
    first = next(iter(report.quality))
    for text in (optimistic(report, brief=True), verdict(report, first, brief=True)):
        if text is not None:
            console.print(f"{text[0].lower()}{text[1:]}")


def _front_table(front: Front, most: int) -> Table:
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
    console = _console()
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
    groups: dict[str, list[Row]] = {}
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
            console.print(table)
    console.print()
    console.print(f"files are in {done.folder}/: sensitivity.json, sensitivity.png")


def show_inspection(found: Inspection) -> None:
    """Print what a model holds, sizes first."""
    console = _console()
    console.print(f"{found.path}: {found.file_bytes:,} bytes, opset {found.opset}")
    if found.producer:
        console.print(f"written by {found.producer}")
    sizes = found.sizes
    if found.flash:
        widths = ", ".join(f"{size:,} at {bits} bits" for bits, size in found.flash.items())
        console.print(
            f"recurrent layers: {sizes['flash_bytes']:,} bytes in float32; flash about {widths}"
        )
    if found.layers or found.quantized:
        kind = "quantised recurrences: " if found.quantized else ""
        flash = f"{sizes['flash_bytes']:,} flash bytes, " if found.quantized else ""
        console.print(
            f"{kind}{sizes['weights']:,} weights, {sizes['weight_bits']:,} weight bits, {flash}"
            f"{sizes['ram']:,} bytes RAM per sequence, {sizes['macs']:,} MACs per step"
        )
    for title, values in (("input", found.inputs), ("output", found.outputs)):
        for name, text in values.items():
            console.print(f"{title} {name}: {text}")
    for note in found.notes:
        console.print(f"note: {note}")
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
        console.print(f"{', '.join(nodes)} {verb} in float: {reason}")
    if found.nothing and not found.refusals:
        console.print(f"the model {found.nothing}")


def _show_layers(console: Console, layers: Sequence[LayerRow]) -> None:
    """A line per layer, then the names of operators that all layers have."""
    table = _table("<layer", "<size", "<", "<reads", "<also given", "<read of it", "weights")
    for layer in layers:
        usual = layer.attributes["activations"].replace("Sigmoid, Tanh", "").strip(", ") == ""
        attributes = ", ".join(
            f"{name} {value}" if name != "direction" else value
            for name, value in layer.attributes.items()
            if name != "activations" or not usual
        )
        table.add_row(
            layer.node,
            f"{layer.input_size} -> {layer.hidden_size}",
            attributes,
            layer.input_shape,
            ", ".join(layer.inputs),
            ", ".join(layer.outputs) or "nothing",
            f"{sum(row.weights for row in layer.operators):,}",
        )
    console.print(table)
    kinds: dict[tuple[str, ...], str] = {}
    for layer in layers:
        first = layer.operators[0].name.rpartition("/")[0]
        names = (row.name.removeprefix(f"{first}/") for row in layer.operators)
        kinds.setdefault(tuple(name for name in names if "/" not in name), first)
    for each, place in kinds.items():
        others = " and every layer like it" if len(layers) > 1 else ""
        console.print(f"operators of {place}{others}: {', '.join(each)}")


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
    console.print(table)


def show_comparison(found: Comparison) -> None:
    """Print models side by side."""
    console, title = _console(), Metric(found.metric, found.unit).title
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
            "" if row.agreement_sqnr is None else f"{row.agreement_sqnr:.2f}",
        )
    console.print(table)
    for sentence in found.sentences():
        console.print(sentence)


def show_export(done: Export) -> None:
    """Print what was exported."""
    console = _console()
    held = ", ".join(f"{count} {kind}" for kind, count in Counter(done.operators).items())
    console.print(
        f"{done.path}: {held}, equal to torch within {done.difference:.1e} of the largest output"
    )


def show_training(record: Mapping[str, Any], folder: Path) -> None:
    """Print how well a model does on each part of its data, and where it is."""
    console = _console()
    table = _table("<part", "examples", "accuracy")
    for role, right in record["accuracy"].items():
        table.add_row(role, f"{record['examples'][role]:,}", figure(right, "%"))
    console.print(table)
    console.print(f"{record['model']} and its data are in {folder}/")
