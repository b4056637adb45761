"""Copies: narrow operators that read a value of wide codes read a copy of it in narrow codes.

A scheme may give a value of 16 bits a copy (``copy``). Wide operators then read the value itself:
linear operators with weights of 16 bits, others with results of 16 bits. All other operators read
the copy, also in a layer that reads the codes of another one. The copy of ``/gru/forward/state`` is
the operator ``/gru/forward/state.copy`` of the kind `copy` (see `onnxgru.custom_ops.kinds.copy`),
which is computed in every recurrence that reads it.
"""

from collections.abc import Mapping
from dataclasses import replace

from onnxgru.core.integers import IntegerType, WeightType
from onnxgru.core.network import CopyOperator, Layer, LinearOperator, Operator, Recurrence
from onnxgru.core.scheme import OutputScheme, Scheme

COPY = ".copy"
"""Suffix that makes the name of a copy from the name of a value."""


def copied_input(layer: Layer, scheme: Scheme, source: Layer | None) -> OutputScheme:
    """Scheme entry of a layer's input.

    Parameters
    ----------
    layer : Layer
        The layer.
    scheme : Scheme
        The scheme.
    source : Layer or None
        The layer whose codes `layer` reads, if it reads codes.
    """
    if source is None:
        return scheme.inputs[layer.name]
    return scheme.operators[source.recurrences[0].emits]


def wanted(recurrence: Recurrence, scheme: Scheme, entry: OutputScheme) -> dict[str, OutputScheme]:
    """Values of a recurrence that have copies, by name, with their scheme entries.

    Parameters
    ----------
    recurrence : Recurrence
        One direction of a layer.
    scheme : Scheme
        Says which operators' results have copies.
    entry : OutputScheme
        Entry of the layer's input, see `copied_input`.
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
        Names of the values that have copies, see `wanted`.
    widths : mapping of str to int
        Features of these values, by name.
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
