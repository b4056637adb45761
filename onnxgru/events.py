"""Events that a long piece of work sends to its caller while it runs."""

import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from onnxgru.core.errors import OnnxgruWarning, UsageError
from onnxgru.search.nsga import Progress


@dataclass(frozen=True)
class Notice:
    """A warning for the user; `text` is one sentence without a full stop."""

    text: str


@dataclass(frozen=True)
class Stage:
    """A stage of the work begins; `text` names it."""

    text: str


@dataclass(frozen=True)
class Calibrated:
    """Calibration has read `sequences` sequences so far."""

    sequences: int


@dataclass(frozen=True)
class Goal:
    """The goal of a search, and the figures of uniform 8 bits to compare with.

    Parameters
    ----------
    metric, unit : str
        Name and unit of the figures on validation data.
    size : str
        Name of the last objective, by which a member is chosen.
    size_unit : str
        Unit of that objective; empty where its name has the unit.
    drop : str
        The allowed drop with its unit.
    uniform : tuple of float
        Last objective and figure of uniform 8 bits.
    """

    metric: str
    unit: str
    size: str
    size_unit: str
    drop: str
    uniform: tuple[float, float]


@dataclass(frozen=True)
class Searched:
    """A candidate has been evaluated.

    Parameters
    ----------
    progress : Progress
        Counts of generations and evaluations, and the candidate.
    quality : float
        Figure of the candidate on validation data.
    size : float
        Last objective of the candidate.
    best_size : float or None
        Smallest size so far within the allowed drop below `best`; None where there is none.
    best : float
        Best figure so far, uniform 8 bits included.
    goal : Goal
        The goal of the search.
    """

    progress: Progress
    quality: float
    size: float
    best_size: float | None
    best: float
    goal: Goal


@dataclass(frozen=True)
class Measured:
    """`done` of `total` measurements of sensitivity have been made."""

    done: int
    total: int


@dataclass(frozen=True)
class Verified:
    """`done` of `total` calls of the integer graph have been made."""

    done: int
    total: int


@dataclass(frozen=True)
class Widened:
    """Widening has reached `flash_bytes` of at most `limit` bytes."""

    flash_bytes: int
    limit: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of fine-tuning has ended.

    Parameters
    ----------
    epoch, epochs : int
        Number of the epoch, 0 before any step, and the number of the last one.
    loss : float
        Mean of the loss over the steps; NaN for number 0.
    quality : float
        Figure of the integer program on validation data.
    """

    epoch: int
    epochs: int
    loss: float
    quality: float


Event = Notice | Stage | Calibrated | Searched | Measured | Verified | Widened | EpochEnded
Listener = Callable[[Event], None]


def check(listener: object) -> None:
    """Check that a listener can be called.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if not callable(listener):
        raise UsageError(
            f"listener must be a function of one event, it is of type {type(listener).__name__}; "
            "leave it out, or give onnxgru.events.silent"
        )


_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


class Teller:
    """Sends notices to a listener, each sentence once.

    Parameters
    ----------
    listener : callable
        Receives the notices.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._told: set[str] = set()

    def __call__(self, sentence: str) -> None:
        """Send a sentence as a notice, unless it has been sent before."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._listener(Notice(sentence))


def silent(_event: Event) -> None:
    """A listener that ignores all events."""


def warned(event: Event) -> None:
    """A listener that turns notices into Python warnings of the caller's line.

    Flags of the command line become settings: ``--max-drop`` is ``max_drop``.
    """
    if not isinstance(event, Notice):
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(str(frame.f_globals.get("__name__"))):
        level, frame = level + 1, frame.f_back
    settings = _FLAG.sub(lambda flag: flag[1].replace("-", "_"), event.text)
    warnings.warn(settings, OnnxgruWarning, stacklevel=level)


def _is_ours(name: str) -> bool:
    return name == "onnxgru" or name.startswith("onnxgru.")
