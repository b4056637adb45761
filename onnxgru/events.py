"""What a long piece of work tells its caller while it runs."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from onnxgru.core.errors import OnnxgruWarning, UsageError
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
class Goal:
    """What a search looks for, and what its members are compared with.

    Parameters
    ----------
    metric, unit : str
        Of the figures on validation.
    size : str
        What the last objective is called.
    size_unit : str
        Its unit, empty where the name says it.
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
        Where the search stands.
    quality : float
        The candidate's figure on validation.
    size : float
        Its last objective.
    best_size : float or None
        The smallest size within the allowed drop below `best` so far.
    best : float
        The best figure so far, uniform 8 bits included.
    goal : Goal
        What is looked for.
    """

    progress: Progress
    quality: float
    size: float
    best_size: float | None
    best: float
    goal: Goal


@dataclass(frozen=True)
class Measured:
    """`done` of `total` measurements of a sensitivity have been made."""

    done: int
    total: int


@dataclass(frozen=True)
class Verified:
    """`done` of `total` calls of the integer graph have been made."""

    done: int
    total: int


@dataclass(frozen=True)
class Widened:
    """Widths have grown to so many of at most `limit` flash bytes."""

    flash_bytes: int
    limit: int


@dataclass(frozen=True)
class EpochEnded:
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


Event = Notice | Stage | Calibrated | Searched | Measured | Verified | Widened | EpochEnded
Listener = Callable[[Event], None]


def check(listener: object) -> None:
    """Refuse a listener that cannot be called.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not callable(listener):
        raise UsageError(
            f"listener must be a function of one event, got a {type(listener).__name__}; leave it "
            "out, or give onnxgru.events.silent"
        )


class Teller:
    """Hands on what the user should know, each sentence once.

    Parameters
    ----------
    listener : callable
        Receives it.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._told: set[str] = set()

    def __call__(self, sentence: str) -> None:
        """Hand on a sentence, if it is new."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._listener(Notice(sentence))


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
