"""Live progress and warnings on stderr."""

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from onnxgru.cli.console import open_console, say
from onnxgru.documents.front import Metric
from onnxgru.documents.remarks import figure
from onnxgru.events import (
    Calibrated,
    EpochEnded,
    Event,
    Goal,
    Measured,
    Notice,
    Searched,
    Stage,
    Verified,
    Widened,
)
from onnxgru.models.task import Download, FitEpoch

MEMBERS = 6
"""Gaps between the members of a growing front that are shown: they fit 80 columns."""


class Progress:
    """Listens to events: a live view on a terminal, plain lines elsewhere.

    Parameters
    ----------
    quiet : bool
        Show warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = open_console(stderr=True)
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

    def __call__(self, event: Event | FitEpoch | Download) -> None:
        """Show an event."""
        match event:
            case Notice(text):
                say(self._console, f"warning: {text}", style="yellow")
            case _ if self._quiet:
                pass
            case Stage(text):
                self._stop()
                say(self._console, f"{text} ...", style="dim")
                self._started = time.monotonic()
            case Searched():
                self._searched(event)
            case Measured():
                self._share(event.done, event.total, "measurements")
            case Verified(done, total) if total > 1:
                self._share(done, total, "calls")
            case Widened(size, limit):
                self._share(size, limit, "flash bytes")
            case EpochEnded():
                loss = "" if math.isnan(event.loss) else f", loss {event.loss:.4f}"
                self._console.print(
                    f"epoch {event.epoch}/{event.epochs}{loss}, validation {event.quality:.2f}"
                )
            case FitEpoch():
                self._stop()
                self._console.print(
                    f"epoch {event.number}/{event.epochs}, loss {event.loss:.3f}, validation "
                    f"{event.validation:.1f} %, {event.seconds:.1f} s"
                )
            case Download():
                self._share(event.done, event.total, f"bytes of {event.name}")
            case Calibrated() | Verified():
                pass

    def _show(self, view: RenderableType) -> None:
        """Renew what a terminal shows below its lines."""
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        self._live.update(view)

    def _share(self, done: int, total: int, what: str) -> None:
        """A line that is renewed on a terminal; elsewhere one for every tenth of the way."""
        line = f"{done:,}/{total:,} {what}"
        if self._console.is_terminal:
            self._show(Text(line, style="dim"))
            if done == total:
                self._stop()
        elif done * 10 // total > self._tenths:
            self._console.print(line)
        self._tenths = done * 10 // total

    def _searched(self, event: Searched) -> None:
        last, self._last = self._last, event
        if last is not None and last.progress.generation != event.progress.generation:
            if not self._console.is_terminal:
                say(self._console, self._line(last))
        progress = event.progress
        self._new += not progress.known
        if progress.member.feasible:
            self._front = grown(self._front, (event.size, event.quality))
        ended = progress.evaluations == progress.total
        if self._console.is_terminal:
            self._show(self._view(event))
        if ended:
            self._stop()
            say(self._console, self._line(event))

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
    """The smallest member so far within the allowed drop below the best figure so far.

    Its size may grow from one evaluation to the next, because a better figure raises the floor.
    """
    goal = event.goal
    if event.best_size is None:
        title = Metric(goal.metric, goal.unit).title
        return f"best {title} so far {figure(event.best, goal.unit)}"
    size = f"{event.best_size:,.0f} {goal.size_unit or goal.size}"
    return f"smallest at most {goal.drop} below {figure(event.best, goal.unit)}: {size}"


def grown(front: list[tuple[float, float]], new: tuple[float, float]) -> list[tuple[float, float]]:
    """A front of sizes and qualities with a further member, by size."""
    size, quality = new
    if any(s <= size and q >= quality for s, q in front):
        return front
    return sorted([*((s, q) for s, q in front if s < size or q > quality), new])
