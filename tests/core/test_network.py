"""What recurrences tell of their equations."""

import pytest

from onnxgru.core.activations import Activation
from onnxgru.core.cells import CELLS, Carry, Row
from onnxgru.core.network import ElementwiseOperator, LookupOperator, Operator, Recurrence

LEAK = (
    Row("leak.gate", "lookup", ("input",), "f"),
    Row("keep.gate", "lookup", ("leak.gate",), "complement"),
    Row("state.new", "mul", ("leak.gate", "input")),
    Row("state.keep", "mul", ("keep.gate", "state")),
    Row("state.sum", "add", ("state.keep", "state.new")),
)
"""h' = (1 - z) h + z x, which multiplies the state by the complement of its gate."""


def recurrence(rows: tuple[Row, ...], carries: tuple[Carry, ...], emits: str) -> Recurrence:
    """A recurrence of a table without the operators that have weights."""
    found: list[Operator] = []
    for row in rows:
        names = f"/a/{row.name}", row.name, tuple(f"/a/{name}" for name in row.inputs), 4
        if row.kind == "lookup":
            name = "Complement" if row.parameter == "complement" else "Sigmoid"
            found.append(LookupOperator(*names, Activation(name)))
        elif row.kind in ("add", "mul"):
            found.append(ElementwiseOperator(*names, row.kind))
    full = tuple(Carry(f"/a/{c.name}", f"/a/{c.written_by}") for c in carries)
    return Recurrence("/a", False, tuple(found), full, f"/a/{emits}")


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        ("gru.reset_after", ["/a/update.gate"]),
        ("gru.reset_before", ["/a/update.gate"]),
        ("ligru", ["/a/update.gate"]),
        ("rnn", []),
        ("lstm", []),
        ("lstm.coupled", []),
    ],
)
def test_gates_that_states_decay_by(name: str, gates: list[str]) -> None:
    cell = CELLS[name]
    found = recurrence(cell.rows, cell.carries, cell.emits).decays
    assert found == {gate: ("/a/state.sum", False) for gate in gates}


def test_a_state_may_decay_by_a_complement() -> None:
    found = recurrence(LEAK, (Carry("state", "state.sum"),), "state.sum").decays
    assert found == {"/a/leak.gate": ("/a/state.sum", True)}
