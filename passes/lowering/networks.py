"""Networks: recurrences as a scheme changes them.

First, narrow operators that read wide values get copies (`onnxgru.core.copies`). Then, operands
with thresholds become those of a delta network (`onnxgru.passes.lowering.delta`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnxgru.core import copies
from onnxgru.core.network import Layer, Recurrence
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import OutputScheme, Scheme
from onnxgru.passes.lowering import delta


def changed(
    layer: Layer,
    recurrence: Recurrence,
    scheme: Scheme,
    entry: OutputScheme,
    steps: Mapping[str, float] | None = None,
) -> Recurrence:
    """A recurrence with the copies and thresholds that a scheme asks for.

    Parameters
    ----------
    layer : Layer
        The layer that has the recurrence.
    recurrence : Recurrence
        As recognised.
    scheme : Scheme
        The scheme.
    entry : OutputScheme
        Entry of the layer's input, see `onnxgru.core.copies.copied_input`.
    steps : mapping of str to float, optional
        Real values of one code of the operands of a delta network, for float graphs.
    """
    names = copies.wanted(recurrence, scheme, entry)
    found = copies.copied(recurrence, scheme, names, delta.operand_widths(layer, recurrence))
    limits = delta.thresholds(layer, scheme, entry)[recurrence.name]
    return delta.propagated(found, limits, delta.operand_widths(layer, found), steps)


def networks(layers: Sequence[Layer], scheme: Scheme, program: IntegerProgram) -> tuple[Layer, ...]:
    """Layers as a scheme and its program change them.

    Parameters
    ----------
    layers : sequence of Layer
        As recognised.
    scheme : Scheme
        Says which values have copies, and which operands have thresholds.
    program : IntegerProgram
        Gives the scales of these operands.
    """
    found = []
    outputs = {layer.output: layer for layer in layers}
    for layer, lowered in zip(layers, program.layers, strict=True):
        source = outputs[lowered.input.name] if lowered.reads_codes else None
        entry = copies.copied_input(layer, scheme, source)
        recurrences = tuple(
            changed(
                layer,
                recurrence,
                scheme,
                entry,
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
