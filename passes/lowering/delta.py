"""Delta networks: linear operators read the last propagated values of their operands.

After Neil et al. 2017, "Delta networks for optimized recurrent network computation". Every operand
with a threshold gets an operator of the kind `delta` (see `onnxgru.custom_ops.kinds.delta`) and a
carry that holds the last propagated value. The linear operators that read the operand read the
delta operator instead; other operators read the operand itself. Names, for the operand
``/gru/forward/state``:

- ``/gru/forward/state.held``: the carry, which operators read as the value of the step before;
- ``/gru/forward/state.delta``: the operator, the value at this step.

A value with a copy (see `onnxgru.core.copies`) is two operands, itself and the copy of b bits. Its
threshold counts codes of the copy. For the value itself it is multiplied by 2^(16 - b).
"""

from collections.abc import Mapping
from dataclasses import replace

from onnxgru.core.cells import Carry
from onnxgru.core.choices import WIDE_BITS
from onnxgru.core.copies import COPY
from onnxgru.core.network import DeltaOperator, Layer, LinearOperator, Operator, Recurrence
from onnxgru.core.scheme import OutputScheme, Scheme, operands

HELD, DELTA = ".held", ".delta"
"""Suffixes of the carry's and of the operator's name."""


def thresholds(
    layer: Layer, scheme: Scheme, read: OutputScheme | None = None
) -> dict[str, dict[str, int]]:
    """Thresholds of a scheme in codes, by name of the recurrence and of the operand.

    Parameters
    ----------
    layer : Layer
        The layer.
    scheme : Scheme
        The scheme.
    read : OutputScheme, optional
        Entry of the layer's input, where the layer reads another layer's codes.

    Returns
    -------
    dict of str to dict of str to int
        Including thresholds of copies, whether or not an operator reads them.
    """
    found: dict[str, dict[str, int]] = {recurrence.name: {} for recurrence in layer.recurrences}
    for local, writers in operands(layer).items():
        for place, recurrence in enumerate(layer.recurrences):
            entry = scheme.operators[writers[place]] if writers else scheme.inputs[layer.name]
            copy = entry.copy if writers or read is None else read.copy
            if entry.threshold is not None:
                name = f"{recurrence.name}/{local}"
                found[recurrence.name][name] = entry.threshold
                if copy is not None:
                    found[recurrence.name][name] <<= WIDE_BITS - copy
                    found[recurrence.name][f"{name}{COPY}"] = entry.threshold
    return found


def propagated(
    recurrence: Recurrence,
    thresholds: Mapping[str, int],
    widths: Mapping[str, int],
    steps: Mapping[str, float] | None = None,
) -> Recurrence:
    """A recurrence as a delta network.

    Parameters
    ----------
    recurrence : Recurrence
        One direction of a layer.
    thresholds : mapping of str to int
        In codes, by full name of the operand, in the order of the carries. Without any, the
        recurrence itself is returned.
    widths : mapping of str to int
        Features of these operands.
    steps : mapping of str to float, optional
        Real values of one code of these operands, for float graphs.
    """
    read = {operator.inputs[0] for operator in recurrence.linears}
    thresholds = {name: limit for name, limit in thresholds.items() if name in read}
    if not thresholds:
        return recurrence
    made = {
        name: DeltaOperator(
            f"{name}{DELTA}",
            f"{name.rsplit('/', 1)[-1]}{DELTA}",
            (name, f"{name}{HELD}"),
            widths[name],
            threshold,
            1.0 if steps is None else steps[name],
        )
        for name, threshold in thresholds.items()
    }
    operators: list[Operator] = []
    placed: set[str] = set()
    for operator in recurrence.operators:
        operand = operator.inputs[0]
        if isinstance(operator, LinearOperator) and operand in made:
            if operand not in placed:
                placed.add(operand)
                operators.append(made[operand])
            operators.append(replace(operator, inputs=(made[operand].name,)))
        else:
            operators.append(operator)
    held = (Carry(f"{name}{HELD}", f"{name}{DELTA}", holds=name) for name in made)
    return replace(recurrence, operators=tuple(operators), carries=(*recurrence.carries, *held))


def operand_widths(layer: Layer, recurrence: Recurrence) -> dict[str, int]:
    """Features of all values that operators of one direction may read, by name."""
    carried = {c.name: recurrence.widths[c.written_by] for c in recurrence.carries}
    return {recurrence.input: layer.input_size, **carried, **recurrence.widths}
