"""What a quantisation left behind: its figures with types, and its files."""

import shlex
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from onnxgru.core.folder import ANNOTATED, INTEGER, PAGE
from onnxgru.core.scheme import Scheme
from onnxgru.documents.front import Front
from onnxgru.documents.remarks import TITLES
from onnxgru.documents.report import Report


@dataclass(frozen=True)
class Quality:
    """A figure of one set of data.

    Parameters
    ----------
    role : str
        "validation" or "holdout".
    integer : float or None
        Of the integer model, in `unit`; None where it is not finite (dB of equal outputs).
    float_model : float or None
        Of the float model.
    unit : str
        "%", "dB", or "" for a user's own metric.
    sequences : int or None
        How many sequences it rests on.
    interval : tuple of float, or None
        95 % interval of `integer`, where there is one.
    """

    role: str
    integer: float | None
    float_model: float | None
    unit: str
    sequences: int | None = None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = f"{_figure(self.integer, self.unit)} (float {_figure(self.float_model, self.unit)})"
        if self.interval is not None:
            low, high = self.interval
            text += f", 95 % interval {low:.2f} to {high:.2f}"
        return text + (f", {self.sequences:,} sequences" if self.sequences else "")


@dataclass(frozen=True)
class ChosenMember:
    """A member of a front.

    Parameters
    ----------
    index : int
        Its number, for `onnxgru.pick`.
    flash_bytes : int
        Its size.
    mean_bits : float
        Bits per weight.
    validation, holdout : float or None
        Its figures.
    """

    index: int
    flash_bytes: int
    mean_bits: float
    validation: float | None
    holdout: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a quantisation left behind.

    Parameters
    ----------
    folder : Path
        The output folder.
    report : dict
        What ``report.json`` holds.
    scheme : Scheme
        Widths of the model written.
    front : dict or None
        What ``front.json`` holds, after a search.
    home : Path, optional
        The folder of the search, from which further members are picked; `folder` where left out.
    """

    folder: Path
    report: dict[str, Any]
    scheme: Scheme
    front: dict[str, Any] | None = None
    home: Path | None = None

    @cached_property
    def parsed(self) -> Report:
        """The report with types, as the report's page and the terminal read it."""
        return Report.parse(self.report, str(self.folder))

    @property
    def integer(self) -> Path:
        """The portable integer graph."""
        return self.folder / INTEGER

    @property
    def annotated(self) -> Path:
        """The annotated float graph."""
        return self.folder / ANNOTATED

    @property
    def page(self) -> Path:
        """The report to look at in a browser."""
        return self.folder / PAGE

    @property
    def flash_bytes(self) -> int:
        """Bytes of flash that the quantised layers need."""
        return self.parsed.sizes.flash_bytes

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM that they need per sequence."""
        return self.parsed.sizes.ram

    @property
    def mean_bits(self) -> float:
        """Bits per weight."""
        return self.parsed.sizes.mean_bits

    @property
    def metric(self) -> str:
        """Name of the figure that `quality` is."""
        return self.parsed.metric.name

    @property
    def quality(self) -> dict[str, Quality]:
        """Figures by role: ``validation``, and ``holdout`` if there are such data."""
        return {
            role: Quality(
                role,
                entry.integer,
                entry.float_model,
                self.parsed.metric.unit,
                entry.sequences,
                entry.integer_interval,
            )
            for role, entry in self.parsed.quality.items()
        }

    @property
    def members(self) -> tuple[ChosenMember, ...]:
        """The front by size; nothing where there was no search."""
        if self.front is None:
            return ()
        return tuple(
            ChosenMember(m.index, m.flash_bytes, m.mean_bits, m.validation, m.holdout)
            for m in Front.parse(self.front).members
        )

    @property
    def pick_command(self) -> str:
        """Command that picks another member, but for the flag that says which."""
        return f"onnxgru pick {shlex.quote(str(self.home or self.folder))}"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("folder", str(self.folder)),
            ("flash", f"{self.flash_bytes:,} bytes, {self.mean_bits:.2f} bits per weight"),
        ]
        rows += [
            (f"{self.parsed.metric.title}, {TITLES[role]}", str(quality))
            for role, quality in self.quality.items()
        ]
        if self.front is not None and (search := self.parsed.search) is not None:
            chosen = search.chosen.index
            rows.append(("front", f"{len(self.members)} members, number {chosen} chosen"))
        return rows

    def __repr__(self) -> str:
        return "\n".join(
            f"{name}: {text}" for name, text in [("onnxgru result", ""), *self._rows()]
        )

    def _repr_html_(self) -> str:
        """Form that notebooks show."""
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in self._rows()
        )
        return f"<table>{cells}</table>"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.2f} {unit}".rstrip()
