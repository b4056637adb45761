"""Delta networks: linear operators read what was last propagated of their operands.

After Neil et al. 2017, "Delta networks for optimized recurrent network computation". The table of
a recurrence becomes another one: every operand with a threshold gets an operator of the kind
`delta` (see `onnxgru.custom_ops.delta`) and a carry that holds what it propagated last, and the
linear operators that read the operand read that operator instead. Other operators read the operand
itself. Names, for the operand ``/gru/forward/state``:

- ``/gru/forward/state.held``: the carry, which operators read as the value of the step before;
- ``/gru/forward/state.delta``: the operator, the value at this step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnxgru.core.cells import Carry
from onnxgru.core.network import DeltaOperator, Layer, LinearOperator, Operator, Recurrence
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme, operands

HELD, DELTA = ".held", ".delta"
"""What follows the name of an operand in those of the carry and of the operator."""


def thresholds(layer: Layer, scheme: Scheme) -> dict[str, dict[str, int]]:
    """Thresholds of a scheme by name of the recurrence and of the operand, where it has any."""
    found: dict[str, dict[str, int]] = {recurrence.name: {} for recurrence in layer.recurrences}
    for local, writers in operands(layer).items():
        for place, recurrence in enumerate(layer.recurrences):
            entry = scheme.operators[writers[place]] if writers else scheme.inputs[layer.name]
            if entry.threshold is not None:
                found[recurrence.name][f"{recurrence.name}/{local}"] = entry.threshold
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
        In codes, by full name of the operand, in the order of the carries; the recurrence itself
        where there is none.
    widths : mapping of str to int
        Features of these operands.
    steps : mapping of str to float, optional
        Real values of one code of these operands, for float graphs.
    """
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
    """Features of everything that operators of one direction may read, by name."""
    carried = {c.name: recurrence.widths[c.written_by] for c in recurrence.carries}
    return {recurrence.input: layer.input_size, **carried, **recurrence.widths}


def networks(layers: Sequence[Layer], scheme: Scheme, program: IntegerProgram) -> tuple[Layer, ...]:
    """Layers as the delta networks that a scheme and its program make of them.

    Parameters
    ----------
    layers : sequence of Layer
        As recognised.
    scheme : Scheme
        Says which operands have thresholds.
    program : IntegerProgram
        Says what one code of these operands is worth.
    """
    found = []
    for layer, lowered in zip(layers, program.layers, strict=True):
        limits = thresholds(layer, scheme)
        recurrences = tuple(
            propagated(
                recurrence,
                limits[recurrence.name],
                operand_widths(layer, recurrence),
                {
                    bound.holds: lowered.grids[lowered.grid(integers, carry)].quantization.scale
                    for carry, bound in integers.bound.items()
                    if bound.holds
                },
            )
            for recurrence, integers in zip(layer.recurrences, lowered.recurrences, strict=True)
        )
        found.append(replace(layer, recurrences=recurrences))
    return tuple(found)
