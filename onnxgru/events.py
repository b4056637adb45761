"""What a long piece of work tells its caller while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

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
        Its flash bytes, or weight bits.
    best_size : float or None
        The smallest size within the allowed drop so far.
    """

    progress: Progress
    quality: float
    size: float
    best_size: float | None


Event = Notice | Stage | Calibrated | Searched
Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Listen to nothing."""
