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
"""

from dataclasses import dataclass

INPUT = "input"
STATE = "state"


@dataclass(frozen=True)
class Row:
    """One elementary operator of a cell.

    Parameters
    ----------
    name : str
        Name within the cell, such as ``reset.gate``.
    kind : {"linear", "add", "mul", "lookup"}
        Which module of `onnxgru.custom_ops` computes it.
    inputs : tuple of str
        Names of other rows, `INPUT` (the sequence at this step) or `STATE` (of the step before).
    parameter : str
        For linear: matrix and gate, such as ``W.reset``. For lookup: ``f``, ``g`` or
        ``complement``. Else empty.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    parameter: str = ""


@dataclass(frozen=True)
class Cell:
    """A table of operators, in an order in which they can be computed.

    Parameters
    ----------
    name : str
        Name of the table.
    rows : tuple of Row
        The operators.
    result : str
        The row that computes the next state.
    gates : tuple of str
        Order of the gates in the stacked W, R and B of the ONNX operator.
    """

    name: str
    rows: tuple[Row, ...]
    result: str
    gates: tuple[str, ...]


def _gate(gate: str) -> tuple[Row, ...]:
    return (
        Row(f"{gate}.input", "linear", (INPUT,), f"W.{gate}"),
        Row(f"{gate}.hidden", "linear", (STATE,), f"R.{gate}"),
        Row(f"{gate}.sum", "add", (f"{gate}.input", f"{gate}.hidden")),
        Row(f"{gate}.gate", "lookup", (f"{gate}.sum",), "f"),
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
        result="state.sum",
        gates=("update", "reset", "new"),
    )


GRU_RESET_AFTER = _gru("gru.reset_after", _RESET_AFTER)
"""``linear_before_reset = 1``, PyTorch's and cuDNN's form."""

GRU_RESET_BEFORE = _gru("gru.reset_before", _RESET_BEFORE)
"""``linear_before_reset = 0``, the ONNX default and Keras's ``reset_after=False``."""

CELLS = {cell.name: cell for cell in (GRU_RESET_AFTER, GRU_RESET_BEFORE)}
"""All tables, by name."""
