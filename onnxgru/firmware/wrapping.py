"""Wrapping: long statements of C on several lines, so that a person can read them."""

from collections.abc import Iterator

WIDTH = 100
"""Characters of a line at most, where it can be broken."""

INDENT = "    "


def wrapped(line: str, margin: int) -> list[str]:
    """A statement on as many lines as it needs.

    It is broken inside its outermost brackets. Where their content does not fit a line of its own,
    it is broken behind commas, or in front of what is added if there are none, and so on inside of
    what is still too long.

    Parameters
    ----------
    line : str
        Without a line end.
    margin : int
        Characters that stand before it.
    """
    if margin + len(line) <= WIDTH:
        return [line]
    opened = _outermost(line)
    if opened is None:
        return [line]
    start, end = opened
    if margin + len(INDENT) + end - start <= WIDTH:
        return [line[:start], INDENT + line[start:end], line[end:]]
    parts = list(_parts(line[start:end], ","))
    if len(parts) == 1:
        parts = list(_parts(line[start:end], "+-"))
    inner = [INDENT + one for part in parts for one in wrapped(part, margin + len(INDENT))]
    return [line[:start], *inner, line[end:]]


def _outermost(line: str) -> tuple[int, int] | None:
    """Where the longest outermost round brackets begin and end, without them."""
    depth, start, best = 0, 0, None
    for place, letter in enumerate(line):
        if letter == "(":
            depth += 1
            if depth == 1:
                start = place + 1
        elif letter == ")":
            depth -= 1
            if depth == 0 and (best is None or place - start > best[1] - best[0]):
                best = start, place
    return best


def _parts(text: str, marks: str) -> Iterator[str]:
    """Parts of a text: behind each comma, or in front of each sign, outside of brackets."""
    depth, begun = 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth:
            continue
        if marks == "," and letter == ",":
            yield text[begun : place + 1].strip()
            begun = place + 1
        elif marks != "," and letter in marks and text[place - 1] == " " and place > begun + 1:
            yield text[begun:place].strip()
            begun = place
    yield text[begun:].strip()
