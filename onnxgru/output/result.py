"""The result of a quantisation: figures with types, and paths of files."""

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
    """Figures of one role's data.

    Parameters
    ----------
    role : str
        "validation" or "holdout".
    integer : float or None
        Figure of the integer model, in `unit`; None where it is infinite (dB of equal outputs).
    float_model : float or None
        Figure of the float model.
    unit : str
        "%", "dB", or "" for a user's own metric.
    sequences : int or None
        Number of sequences behind the figures.
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
        Number of the member, for `onnxgru.pick`.
    flash_bytes : int
        Bytes of flash that its layers need.
    mean_bits : float
        Bits per weight.
    validation, holdout : float or None
        Its figures on these data, in the unit of the metric; None where there are no such data.
    """

    index: int
    flash_bytes: int
    mean_bits: float
    validation: float | None
    holdout: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The result of a quantisation.

    Parameters
    ----------
    folder : Path
        The output folder.
    report : dict
        Content of ``report.json``.
    scheme : Scheme
        Widths of the model that was written.
    front : dict or None
        Content of ``front.json`` after a search.
    home : Path, optional
        Folder of the search, from which further members are picked; `folder` where left out.
    """

    folder: Path
    report: dict[str, Any]
    scheme: Scheme
    front: dict[str, Any] | None = None
    home: Path | None = None

    def __fspath__(self) -> str:
        """The output folder, so that a result may be given wherever a folder is taken."""
        return str(self.folder)

    @cached_property
    def parsed(self) -> Report:
        """The report as a typed record."""
        return Report.parse(self.report, str(self.folder))

    @property
    def integer(self) -> Path:
        """Path of the portable integer graph, ``integer.onnx``."""
        return self.folder / INTEGER

    @property
    def annotated(self) -> Path:
        """Path of the annotated float graph, ``annotated.onnx``."""
        return self.folder / ANNOTATED

    @property
    def page(self) -> Path:
        """Path of the report for a browser, ``report.html``."""
        return self.folder / PAGE

    @property
    def flash_bytes(self) -> int:
        """Bytes of flash that the quantised layers need."""
        return self.parsed.sizes.flash_bytes

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM that the quantised layers need per sequence."""
        return self.parsed.sizes.ram

    @property
    def mean_bits(self) -> float:
        """Mean width of a weight in bits."""
        return self.parsed.sizes.mean_bits

    @property
    def metric(self) -> str:
        """Name of the metric that `quality` is measured with."""
        return self.parsed.metric.name

    @property
    def quality(self) -> dict[str, Quality]:
        """Figures by role: ``validation``, and ``holdout`` where there are such data."""
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
        """Members of the front by size; empty where there was no search."""
        if self.front is None:
            return ()
        return tuple(
            ChosenMember(m.index, m.flash_bytes, m.mean_bits, m.validation, m.holdout)
            for m in Front.parse(self.front).members
        )

    @property
    def pick_command(self) -> str:
        """Command that picks another member, without the flag that names the member."""
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
        """HTML that notebooks show."""
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in self._rows()
        )
        return f"<table>{cells}</table>"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.2f} {unit}".rstrip()
