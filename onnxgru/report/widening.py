"""Whether inputs or states are too coarse: figures of the program with 16 bits for them.

A scheme of one width hides this: the quiet part of an input, and what a slow unit adds to its state
at every step, can both be smaller than one code of 8 bits.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from onnxgru.core import skip
from onnxgru.core.choices import MAXIMUM_BITS, WIDE_BITS
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.network import Layer
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.data import metrics
from onnxgru.session.quantizer import Quantizer
from onnxgru.session.recordings import VALIDATION
from onnxgru.session.yardstick import Yardstick

NEAR_DB, NEAR = 25.0, 1.0
"""Limits without need to widen: decibels to the float model, and points or decibels below it."""


def _inputs(scheme: Scheme, layers: tuple[Layer, ...]) -> Scheme:
    """The scheme with 16 bits for the float inputs of layers."""
    del layers  # every layer's input has an entry of its own
    inputs = {
        name: replace(entry, bits=WIDE_BITS) if entry.bits <= MAXIMUM_BITS else entry
        for name, entry in scheme.inputs.items()
    }
    return Scheme(inputs, scheme.operators)


WIDENED: dict[str, Callable[[Scheme, tuple[Layer, ...]], Scheme]] = {
    "wide_inputs": _inputs,
    "wide_states": skip.with_wide_states,
}
"""Ways to widen a scheme, by name in the report."""


def measure(
    quantizer: Quantizer, yardstick: Yardstick, scheme: Scheme, figure: float
) -> dict[str, dict[str, Any] | None]:
    """The figure on validation data with 16 bits for inputs, and for states.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        Judges programs of the model.
    scheme : Scheme
        The scheme that is written.
    figure : float
        Figure of its program on validation data.

    Returns
    -------
    dict of str to dict or None
        By name in the report; see `onnxgru.documents.entries.Widened`. None where the figure is
        near the float model's, where there is nothing to widen, and where an accumulator could
        overflow.
    """
    idle = yardstick.data.synthetic or _near(yardstick, figure)
    return {
        name: None if idle else _measured(quantizer, yardstick, scheme, widen, figure)
        for name, widen in WIDENED.items()
    }


def _measured(
    quantizer: Quantizer,
    yardstick: Yardstick,
    scheme: Scheme,
    widen: Callable[[Scheme, tuple[Layer, ...]], Scheme],
    figure: float,
) -> dict[str, Any] | None:
    """Figure and cost of the program with one kind of value widened."""
    layers = tuple(quantizer.model.layers)
    wide = widen(scheme, layers)
    if wide == scheme:
        return None
    try:
        program = quantizer(wide)
    except OverflowProofError:
        return None
    before, after = account(quantizer(scheme)), account(program)
    return {
        "validation": metrics.limited(yardstick.quality(program, VALIDATION)),
        "before": metrics.limited(figure),
        "layers": [layer.name for layer in layers if _changed(layer, scheme, wide)],
        "flash": after.flash_bytes - before.flash_bytes,
        "ram": after.ram - before.ram,
    }


def _changed(layer: Layer, scheme: Scheme, wide: Scheme) -> bool:
    """Whether any value of a layer has another width."""
    return scheme.inputs[layer.name] != wide.inputs[layer.name] or any(
        scheme.operators[o.name] != wide.operators[o.name] for o in layer.operators
    )


def _near(yardstick: Yardstick, figure: float) -> bool:
    """Whether a figure on validation data is near the float model's."""
    metric = yardstick.metric
    if metric.unit == "dB" and metric.target == "reference":
        return figure >= NEAR_DB
    return metric.error(figure) - metric.error(yardstick.float_quality(VALIDATION)) <= NEAR
