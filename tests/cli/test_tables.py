"""Tables that the command line prints."""

from onnxgru.cli import terminal
from tests.documents.test_front import MEMBERS, front


def test_a_front_says_that_its_figures_are_without_thresholds() -> None:
    """Thresholds of ``--delta`` are chosen after the search, for the chosen member alone."""
    found = front(MEMBERS, 97.0)
    later = terminal._front_table(found, 4, thresholds=True)
    assert "figures as searched, without thresholds" in str(later.caption)
    assert terminal._front_table(found, 4).caption is None
