"""Tables that the command line prints."""

import io

from rich.console import Console

from onnxgru.cli import terminal
from tests.documents.test_front import MEMBERS, front


def test_a_front_says_that_its_figures_are_without_thresholds() -> None:
    """Thresholds of ``--delta`` are chosen after the search, for the chosen member alone."""
    found = front(MEMBERS, 97.0)
    later = terminal._front_table(found, 4, thresholds=True)
    assert "figures as searched, without thresholds" in str(later.caption)
    assert terminal._front_table(found, 4).caption is None


def test_a_narrow_terminal_folds_other_columns_before_names() -> None:
    table = terminal._table("<model", "<words")
    name = "finetuned/member-07/integer.onnx"
    table.add_row(name, "one two three four five six seven eight nine ten eleven")
    console = Console(width=80, file=io.StringIO())
    terminal._show_table(console, table)
    assert name in console.file.getvalue()
    assert "eleven" in console.file.getvalue()
