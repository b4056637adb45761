"""What a scheme may say: its widths, observers and granularities.

Nothing heavy is imported, so that the command line can name the choices at once.
"""

import re

from onnxgru.core.errors import UsageError

MINIMUM_BITS = 2
MAXIMUM_BITS = 8
WIDTHS = tuple(range(MINIMUM_BITS, MAXIMUM_BITS + 1))
"""Widths of weights and of ordinary codes, in bits."""
WIDE_BITS = 16
"""Width of wide codes, which a scheme may give to weights and to results of operators."""

CELL_STATES = ("wide", "plain")
"""Whether a cell state has wide codes by default: see `Layer.cell_state`."""

ACCUMULATOR_BITS = 32
"""Width of the widest accumulator."""

GRANULARITIES = ("tensor", "gate", "channel")
"""Which weights share one scale. A gene holds a position in this tuple."""

OBSERVERS = ("minmax", "percentile", "mse", "entropy")
"""How ranges are chosen from statistics. A gene holds a position in this tuple."""

FIRST, INPUTS, HIDDEN = GROUPS = ("first", "inputs", "hidden")
"""Groups of operands that have a threshold in a delta network: the input of the first layer, the
inputs of the layers behind it, and everything else that linear operators read."""

AUTO = "auto"
"""Text of a setting that asks for thresholds chosen on validation data."""


def thresholds(text: str) -> dict[str, int] | None:
    """Thresholds of a delta network as users write them: ``2``, ``hidden=8,inputs=2``, ``auto``.

    Returns
    -------
    dict of str to int or None
        Threshold by group, in codes; groups without a threshold are left out. None for ``auto``.

    Raises
    ------
    UsageError
        If the text is not of that form.
    """
    if text == AUTO:
        return None
    if re.fullmatch(r"\d+", text):
        return dict.fromkeys(GROUPS, int(text))
    found: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(rf"({'|'.join(GROUPS)})=(\d+)", part)
        if match is None or match[1] in found:
            raise UsageError(
                f"delta must be auto, a number of codes such as 2, or numbers for some of "
                f"{', '.join(GROUPS)} such as hidden=8,inputs=2, got {text!r}"
            )
        found[match[1]] = int(match[2])
    return found


def widths(text: str) -> tuple[int, ...]:
    """Widths as users write them: ``2-8``, ``2,4,8``, or both: ``2-4,8``.

    Returns
    -------
    tuple of int
        Different widths in ascending order.

    Raises
    ------
    UsageError
        If the text is not of that form, or a width is not supported.
    """
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise UsageError(f"widths must be such as 2-8 or 2,4,8, got {text!r}")
        low, high = int(match[1]), int(match[2] or match[1])
        if high == WIDE_BITS:
            raise UsageError(
                f"widths must be from {MINIMUM_BITS} to {MAXIMUM_BITS}, got {text!r}; "
                f"{WIDE_BITS} bits are for cell states, see cell_state, or for what a scheme says"
            )
        if not MINIMUM_BITS <= low <= high <= MAXIMUM_BITS:
            raise UsageError(
                f"widths must be from {MINIMUM_BITS} to {MAXIMUM_BITS}, ascending in a range, "
                f"got {text!r}"
            )
        found.update(range(low, high + 1))
    return tuple(sorted(found))
