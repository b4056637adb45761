"""Copies: narrow readers of a value of wide codes read a copy of it in narrow codes.

Where a scheme gives a value of 16 bits a copy (``copy``), operators read the value itself if they
are wide: linear operators with weights of 16 bits, others with results of 16 bits. All other
operators read the copy, an operator of the kind `copy` (see `onnxgru.custom_ops.copy`), and so do
those of a layer that reads the codes of another one. Names, for the value ``/gru/forward/state``:

- ``/gru/forward/state.copy``: the operator, computed wherever the value is read.
"""

from collections.abc import Mapping
from dataclasses import replace

from onnxgru.core.integers import IntegerType, WeightType
from onnxgru.core.network import CopyOperator, Layer, LinearOperator, Operator, Recurrence
from onnxgru.core.scheme import OutputScheme, Scheme

COPY = ".copy"
"""What follows the name of a value in that of its copy."""


def copied_input(layer: Layer, scheme: Scheme, source: Layer | None) -> OutputScheme:
    """Entry of what a layer reads: its own, or that of the layer whose codes it reads."""
    if source is None:
        return scheme.inputs[layer.name]
    return scheme.operators[source.recurrences[0].emits]


def wanted(recurrence: Recurrence, scheme: Scheme, entry: OutputScheme) -> dict[str, OutputScheme]:
    """Values of a recurrence that have copies, by name, with their entries.

    Parameters
    ----------
    recurrence : Recurrence
        One direction of a layer.
    scheme : Scheme
        Says which operators' results have copies.
    entry : OutputScheme
        Of what the layer reads.
    """
    entries = {name: scheme.operators[name] for name in recurrence.widths}
    entries |= {c.name: scheme.operators[c.written_by] for c in recurrence.carries}
    entries[recurrence.input] = entry
    return {name: found for name, found in entries.items() if found.copy is not None}


def copied(
    recurrence: Recurrence, scheme: Scheme, names: Mapping[str, object], widths: Mapping[str, int]
) -> Recurrence:
    """A recurrence whose narrow operators read copies.

    Parameters
    ----------
    recurrence : Recurrence
        One direction of a layer.
    scheme : Scheme
        Says which operators are wide.
    names : mapping with keys of str
        Values that have copies.
    widths : mapping of str to int
        Features of these values.
    """
    made: set[str] = set()
    operators: list[Operator] = []
    for operator in recurrence.operators:
        if not names or _wide(operator, scheme):
            operators.append(operator)
            continue
        for name in operator.inputs:
            if name in names and name not in made:
                made.add(name)
                row = f"{name.rsplit('/', 1)[-1]}{COPY}"
                operators.append(CopyOperator(f"{name}{COPY}", row, (name,), widths[name]))
        inputs = tuple(f"{name}{COPY}" if name in names else name for name in operator.inputs)
        operators.append(replace(operator, inputs=inputs))
    return replace(recurrence, operators=tuple(operators))


def _wide(operator: Operator, scheme: Scheme) -> bool:
    if isinstance(operator, LinearOperator):
        return WeightType(scheme.linear(operator.name).weight_bits).wide
    return IntegerType(scheme.operators[operator.name].bits).wide
