"""Lines of report.md about states: those of the step form, and ties in verification."""

from collections.abc import Sequence
from typing import Any

from onnxgru.documents.entries import StepState, Verified

LISTED = 120
"""Characters of a first state that are shown."""

C_TYPES = {"uint8": "uint8_t", "uint16": "uint16_t", "int32": "int32_t", "float32": "float"}


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
    """Lines with the states of the step form, and the loops over steps in Python and C."""
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
        "",
        "To begin a new recording, give the first values again. Nothing else is kept from call to "
        "call. In Python, for one recording:",
        "",
        *_python(states),
        "",
        "And in C, where `run` stands for one call of the graph:",
        "",
        *_c(states),
    ]


def _python(states: Sequence[StepState]) -> list[str]:
    """The loop over steps in Python."""
    firsts = [f'    "{one.input}": {_array(one, index)},' for index, one in enumerate(states)]
    following = [f'    "{state.input}": "{state.output}",' for state in states]
    listed = any(isinstance(state.first, list) for state in states)
    return [
        "```python",
        *(["import json", ""] if listed else []),
        "import numpy as np",
        "import onnxruntime",
        "",
        *(['states = json.load(open("report.json"))["states"]'] if listed else []),
        'graph = onnxruntime.InferenceSession("integer.onnx")',
        "names = [output.name for output in graph.get_outputs()]",
        "first = {",
        *firsts,
        "}",
        "following = {",
        *following,
        "}",
        "state = dict(first)  # also to reset it",
        "for step in recording:  # a dict with the other inputs, by name",
        "    outputs = dict(zip(names, graph.run(names, {**step, **state})))",
        "    state = {name: outputs[following[name]] for name in state}",
        "```",
    ]


def _c(states: Sequence[StepState]) -> list[str]:
    """The loop over steps in C."""
    names = ["state" if len(states) == 1 else f"state{index}" for index in range(len(states))]
    kinds = [C_TYPES[state.type] for state in states]
    resets = [
        f"    for (int i = 0; i < {_size(state)}; i++) {name}[i] = {_element(state, name)};"
        for state, name in zip(states, names, strict=True)
    ]
    copies = [f"    memcpy({name}, next_{name}, sizeof {name});" for name in names]
    given = ", ".join(names)
    made = ", ".join(f"next_{name}" for name in names)
    return [
        "```c",
        *(
            f"static {kind} {name}[{_size(state)}], next_{name}[{_size(state)}];"
            for state, name, kind in zip(states, names, kinds, strict=True)
        ),
        "",
        "void reset(void) {",
        *resets,
        "}",
        "",
        "void step(const float *input, float *output) {",
        f"    run(input, {given}, output, {made});",
        *copies,
        "}",
        "```",
    ]


def _array(state: StepState, index: int) -> str:
    """A first value as Python has it, for one recording or the fixed number of a call."""
    shape = f"({_rows(state)}, {state.shape[1]})"
    if isinstance(state.first, list):
        return f'np.broadcast_to(states[{index}]["first"], {shape}).astype("{state.type}")'
    return f'np.full({shape}, {state.first}, "{state.type}")'


def _rows(state: StepState) -> int:
    """Recordings of a call: the fixed number, or one where any number will do."""
    return state.shape[0] if isinstance(state.shape[0], int) else 1


def _size(state: StepState) -> int:
    """Elements of a state."""
    return _rows(state) * int(state.shape[1] or 1)


def _element(state: StepState, name: str) -> str:
    """A first value of a unit as C has it; one row of first values serves every recording."""
    if isinstance(state.first, list):
        one_row = _rows(state) > 1 and not isinstance(state.first[0], list)
        index = f"i % {state.shape[1]}" if one_row else "i"
        return f'first_{name}[{index}] /* "first" in report.json */'
    return str(state.first)


def _first(value: Any) -> str:
    """A first state, unless it is long."""
    text = str(value)
    return text if len(text) <= LISTED else "`states` in report.json"
