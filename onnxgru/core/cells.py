"""The tables of elementary operators that recurrent cells are made of.

A cell is nothing but such a table: decomposition, annotation, calibration, genome, accounting
and emission read it, and none of them knows "GRU".

GRU (Cho et al. 2014), in the form of the ONNX operator specification, letters there z, r, h for
update, reset and new::

    r  = f(W_r x + b_Wr + R_r h + b_Rr)
    z  = f(W_z x + b_Wz + R_z h + b_Rz)
    n  = g(W_n x + b_Wn + r * (R_n h + b_Rn))          linear_before_reset = 1
    n  = g(W_n x + b_Wn + R_n (r * h) + b_Rn)          linear_before_reset = 0
    h' = (1 - z) * n + z * h

RNN (Elman 1990), in the same form::

    h' = f(W x + b_W + R h + b_R)

LiGRU (Ravanelli et al. 2018), with its batch normalisation folded into W and b::

    z  = f(W_z x + b_Wz + R_z h + b_Rz)
    n  = g(W_n x + b_Wn + R_n h + b_Rn)
    h' = z * h + (1 - z) * n

SRU (Lei et al. 2018). Its steps have no matrix product. Without the highway, the last term of y is
left out. The function h may be left out too::

    n = W_n x + b_n      f, r = f(W x + b + v * c)
    c' = f * c + (1 - f) * n
    y = r * h(c') + (1 - r) * x

LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), in the same form,
letters there i, o, f, c for input, output, forget and new::

    i, o, f = f(W x + b_W + R h + b_R)    n = g(W_n x + b_Wn + R_n h + b_Rn)
    c' = f * c + i * n                    h' = o * h(c')

With peepholes (Gers and Schmidhuber 2000), P_i * c and P_f * c are added to the sums of the input
and the forget gate, P_o * c' to that of the output gate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

INPUT = "input"
"""Name under which rows read the input sequence at this step."""
STATE = "state"
"""The carry that a cell emits."""
MEMORY = "cell"
"""The second carry of an LSTM: its cell state."""
COMPLEMENT = "complement"
"""Parameter of lookup rows that compute 1 - x."""


@dataclass(frozen=True)
class Row:
    """One elementary operator of a cell.

    Parameters
    ----------
    name : str
        Name within the cell, such as ``reset.gate``.
    kind : {"linear", "add", "mul", "scale", "lookup"}
        Which module of `onnxgru.custom_ops` computes it.
    inputs : tuple of str
        Names of other rows, `INPUT` (the sequence at this step) or of a carry (of the step before).
    parameter : str
        For linear: matrix and gate, such as ``W.reset``. For scale: vector and gate, such as
        ``P.forget``. For lookup: ``f``, ``g``, ``h`` or ``complement``. Else empty.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    parameter: str = ""


@dataclass(frozen=True)
class Carry:
    """A value that a recurrence keeps from step to step.

    Parameters
    ----------
    name : str
        Name under which operators read the value of the step before.
    written_by : str
        The operator that computes the next value.
    holds : str
        In a delta network: the operand that it is the last propagated copy of. Empty for what the
        cell itself carries.
    """

    name: str
    written_by: str
    holds: str = ""


@dataclass(frozen=True)
class Cell:
    """A table of operators, in an order in which they can be computed.

    Parameters
    ----------
    name : str
        Name of the table.
    rows : tuple of Row
        The operators.
    carries : tuple of Carry
        What the cell keeps from step to step.
    emits : str
        The row whose codes leave the cell at every step.
    """

    name: str
    rows: tuple[Row, ...]
    carries: tuple[Carry, ...]
    emits: str

    def to_dict(self) -> dict[str, Any]:
        """The table as a JSON object, which `parse` reads."""
        return {
            "name": self.name,
            "rows": [[row.name, row.kind, list(row.inputs), row.parameter] for row in self.rows],
            "carries": [[carry.name, carry.written_by] for carry in self.carries],
            "emits": self.emits,
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Cell":
        """The table from its JSON object; the one of `CELLS` where that has the same name."""
        return CELLS.get(document["name"]) or cls(
            document["name"],
            tuple(Row(name, kind, tuple(read), p) for name, kind, read, p in document["rows"]),
            tuple(Carry(*carry) for carry in document["carries"]),
            document["emits"],
        )


def _gate(gate: str, function: str = "f") -> tuple[Row, ...]:
    return (
        Row(f"{gate}.input", "linear", (INPUT,), f"W.{gate}"),
        Row(f"{gate}.hidden", "linear", (STATE,), f"R.{gate}"),
        Row(f"{gate}.sum", "add", (f"{gate}.input", f"{gate}.hidden")),
        Row(f"{gate}.gate", "lookup", (f"{gate}.sum",), function),
    )


_RESET_AFTER = (
    Row("new.hidden", "linear", (STATE,), "R.new"),
    Row("new.reset", "mul", ("reset.gate", "new.hidden")),
    Row("new.sum", "add", ("new.input", "new.reset")),
)
_RESET_BEFORE = (
    Row("new.reset", "mul", ("reset.gate", STATE)),
    Row("new.hidden", "linear", ("new.reset",), "R.new"),
    Row("new.sum", "add", ("new.input", "new.hidden")),
)


def _gru(name: str, candidate: tuple[Row, ...]) -> Cell:
    return Cell(
        name,
        (
            *_gate("reset"),
            *_gate("update"),
            Row("new.input", "linear", (INPUT,), "W.new"),
            *candidate,
            Row("new.gate", "lookup", ("new.sum",), "g"),
            Row("update.complement", "lookup", ("update.gate",), "complement"),
            Row("state.new", "mul", ("update.complement", "new.gate")),
            Row("state.keep", "mul", ("update.gate", STATE)),
            Row("state.sum", "add", ("state.new", "state.keep")),
        ),
        carries=(Carry(STATE, "state.sum"),),
        emits="state.sum",
    )


GRU_RESET_AFTER = _gru("gru.reset_after", _RESET_AFTER)
"""``linear_before_reset = 1``, PyTorch's and cuDNN's form."""

GRU_RESET_BEFORE = _gru("gru.reset_before", _RESET_BEFORE)
"""``linear_before_reset = 0``, the ONNX default and Keras's ``reset_after=False``."""

RNN = Cell("rnn", _gate("state"), carries=(Carry(STATE, "state.gate"),), emits="state.gate")
"""A layer with one gate: the state is what comes out of its function."""

LIGRU = Cell(
    "ligru",
    (
        *_gate("update"),
        *_gate("new", "g"),
        Row("update.complement", "lookup", ("update.gate",), "complement"),
        Row("state.new", "mul", ("update.complement", "new.gate")),
        Row("state.keep", "mul", ("update.gate", STATE)),
        Row("state.sum", "add", ("state.new", "state.keep")),
    ),
    carries=(Carry(STATE, "state.sum"),),
    emits="state.sum",
)
"""No reset gate; its candidate is a rectifier."""


def _gate_with_peephole(gate: str, memory: str) -> tuple[Row, ...]:
    """A gate that also reads a value of the cell state."""
    product, hidden, total, function = _gate(gate)
    return (
        product,
        hidden,
        total,
        Row(f"{gate}.peephole", "scale", (memory,), f"P.{gate}"),
        Row(f"{gate}.total", "add", (total.name, f"{gate}.peephole")),
        replace(function, inputs=(f"{gate}.total",)),
    )


def _lstm(*, coupled: bool, peepholes: bool) -> Cell:
    def gate(name: str, memory: str = MEMORY) -> tuple[Row, ...]:
        return _gate_with_peephole(name, memory) if peepholes else _gate(name)

    kept, words = "forget.gate", ["lstm"]
    forget = gate("forget")
    if coupled:
        kept = "input.complement"
        forget = (Row(kept, "lookup", ("input.gate",), "complement"),)
    words += ["coupled"] * coupled + ["peepholes"] * peepholes
    return Cell(
        ".".join(words),
        (
            *gate("input"),
            *forget,
            *_gate("new", "g"),
            Row("cell.keep", "mul", (kept, MEMORY)),
            Row("cell.new", "mul", ("input.gate", "new.gate")),
            Row("cell.sum", "add", ("cell.new", "cell.keep")),
            *gate("output", "cell.sum"),
            Row("cell.activation", "lookup", ("cell.sum",), "h"),
            Row("state.output", "mul", ("output.gate", "cell.activation")),
        ),
        carries=(Carry(STATE, "state.output"), Carry(MEMORY, "cell.sum")),
        emits="state.output",
    )


def _sru(*, activation: bool, highway: bool) -> Cell:
    def gate(name: str) -> tuple[Row, ...]:
        return (
            Row(f"{name}.input", "linear", (INPUT,), f"W.{name}"),
            Row(f"{name}.memory", "scale", (STATE,), f"V.{name}"),
            Row(f"{name}.sum", "add", (f"{name}.input", f"{name}.memory")),
            Row(f"{name}.gate", "lookup", (f"{name}.sum",), "f"),
        )

    rows = [
        Row("new.input", "linear", (INPUT,), "W.new"),
        *gate("forget"),
        *gate("reset"),
        Row("forget.complement", "lookup", ("forget.gate",), "complement"),
        Row("state.new", "mul", ("forget.complement", "new.input")),
        Row("state.keep", "mul", ("forget.gate", STATE)),
        Row("state.sum", "add", ("state.new", "state.keep")),
    ]
    words, value, emits = ["sru"], "state.sum", "output.new"
    if activation:
        words, value = [*words, "activation"], "state.activation"
        rows.append(Row(value, "lookup", ("state.sum",), "h"))
    rows.append(Row("output.new", "mul", ("reset.gate", value)))
    if highway:
        words, emits = [*words, "highway"], "output.sum"
        rows += (
            Row("reset.complement", "lookup", ("reset.gate",), "complement"),
            Row("output.highway", "mul", ("reset.complement", INPUT)),
            Row("output.sum", "add", ("output.new", "output.highway")),
        )
    return Cell(".".join(words), tuple(rows), (Carry(STATE, "state.sum"),), emits)


SRUS = {
    (activation, highway): _sru(activation=activation, highway=highway)
    for activation in (False, True)
    for highway in (False, True)
}
"""SRU tables by (activation, highway): whether the output has a function, and the last term."""

LSTMS = {
    (coupled, peepholes): _lstm(coupled=coupled, peepholes=peepholes)
    for coupled in (False, True)
    for peepholes in (False, True)
}
"""LSTM tables by (coupled, peepholes): coupled is ``input_forget``, a forget gate of 1 - i."""

DENSE = Cell("dense", (Row("product", "linear", (INPUT,), "W.product"),), (), "product")
"""A dense layer, which carries nothing: y = W x + b."""

DENSE_ACTIVATED = Cell(
    "dense.activated",
    (*DENSE.rows, Row("activation", "lookup", ("product",), "f")),
    carries=(),
    emits="activation",
)
"""A dense layer and its function: y = f(W x + b)."""

CELLS = {
    cell.name: cell
    for cell in (
        GRU_RESET_AFTER, GRU_RESET_BEFORE, RNN, LIGRU, *LSTMS.values(), *SRUS.values(), DENSE,
        DENSE_ACTIVATED,
    )
}  # fmt: skip
"""All tables, by name."""
