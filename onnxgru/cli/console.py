"""The console that everything is printed on."""

import re
import sys
from textwrap import wrap
from typing import TextIO, cast

from rich.console import Console

PIPED_WIDTH = 10_000
"""Of tables where there is no terminal: no row is ever folded."""

COLUMNS = 80
"""Of sentences."""


class _Trimmed:
    """A stream whose lines do not end in the spaces that columns are filled with."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r" +$", "", text, flags=re.MULTILINE))

    def flush(self) -> None:
        self._stream.flush()


def open_console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error; plain text where that is no terminal."""
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


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence in lines of at most 80 columns, on a terminal or not.

    A longer path stays in one piece, so that it can be copied.
    """
    width = min(console.width, COLUMNS)
    indent = "  "
    lines = wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    for line in lines:
        console.print(line, style=style, soft_wrap=True)


def complain(text: str) -> None:
    """Print an error on standard error, in lines as `say` has them."""
    say(open_console(stderr=True), f"onnxgru: {text}")
