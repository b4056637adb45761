"""What a long piece of work tells its caller while it runs."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from onnxgru.core.errors import OnnxgruWarning
from onnxgru.search.nsga import Progress


@dataclass(frozen=True)
class Notice:
    """Something the user should know; `text` is one sentence."""

    text: str


@dataclass(frozen=True)
class Stage:
    """A stage of the work begins; `text` names it."""

    text: str


@dataclass(frozen=True)
class Calibrated:
    """`sequences` have been seen by calibration."""

    sequences: int


@dataclass(frozen=True)
class Searched:
    """A candidate has been evaluated.

    Parameters
    ----------
    progress : Progress
        Where the search stands.
    quality : float
        The candidate's figure on validation.
    size : float
        Its last objective.
    best_size : float or None
        The smallest size within the allowed drop so far.
    """

    progress: Progress
    quality: float
    size: float
    best_size: float | None


@dataclass(frozen=True)
class Measured:
    """`done` of `total` measurements of a sensitivity have been made."""

    done: int
    total: int


@dataclass(frozen=True)
class Widened:
    """Widths have grown to so many of at most `limit` flash bytes."""

    flash_bytes: int
    limit: int


@dataclass(frozen=True)
class Tuned:
    """An epoch of fine-tuning has ended.

    Parameters
    ----------
    epoch, epochs : int
        Its number, 0 before any step, and how many there will be.
    loss : float
        Mean over its steps; NaN at 0.
    quality : float
        Of the integers on validation.
    """

    epoch: int
    epochs: int
    loss: float
    quality: float


Event = Notice | Stage | Calibrated | Searched | Measured | Widened | Tuned
Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Listen to nothing."""


def warned(event: Event) -> None:
    """Listen to notices only: they become warnings of Python, of the caller's line."""
    if not isinstance(event, Notice):
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(str(frame.f_globals.get("__name__"))):
        level, frame = level + 1, frame.f_back
    warnings.warn(event.text, OnnxgruWarning, stacklevel=level)


def _is_ours(name: str) -> bool:
    return name == "onnxgru" or name.startswith("onnxgru.")
