"""What report.md says of states: those of the step form, and what verification read."""

from collections.abc import Sequence
from typing import Any

from onnxgru.documents.entries import StepState, Verified

LISTED = 120
"""Characters of a first state that are shown."""


def ties(checked: Verified) -> list[str]:
    """Lines on codes that rounding errors of float operators changed."""
    if not checked.ties:
        return []
    return [
        "",
        f"{checked.ties:,} codes of layers' inputs differ by one from those of the float parts "
        "run alone: rounding errors of float operators at ties, not of the integers.",
    ]


def table(states: Sequence[StepState]) -> list[str]:
    """What the step form is given at the first call, and hands on."""
    if not states:
        return []
    return [
        "",
        "## States",
        "",
        "The first call takes the first value of every input, each later one the output beside it "
        "of the call before. Value = scale * (code - zero point).",
        "",
        "| input | next value | type | shape | scale | zero point | first value |",
        "|---|---|---|---|---:|---:|---|",
        *(
            f"| `{state.input}` | `{state.output}` | {state.type} "
            f"| {' x '.join('any' if n is None else str(n) for n in state.shape)} "
            f"| {state.scale!r} | {state.zero_point} "
            f"| {_first(state.first)} |"
            for state in states
        ),
    ]


def _first(value: Any) -> str:
    """A first state, unless it is long."""
    text = str(value)
    return text if len(text) <= LISTED else "`states` in report.json"
