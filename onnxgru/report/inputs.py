"""Whether what layers read is too coarse: the same program with inputs of 16 bits."""

from dataclasses import replace
from typing import Any

from onnxgru.core.choices import MAXIMUM_BITS, WIDE_BITS
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.scheme import Scheme
from onnxgru.data import metrics
from onnxgru.session.recordings import VALIDATION
from onnxgru.session.session import Session
from onnxgru.session.yardstick import Yardstick

NEAR_DB, NEAR = 25.0, 1.0
"""Decibels to the float model, and points or decibels below its figure, that are left alone."""


def widened(scheme: Scheme) -> Scheme:
    """The scheme with 16 bits for what layers read of float values."""
    inputs = {
        name: replace(entry, bits=WIDE_BITS) if entry.bits <= MAXIMUM_BITS else entry
        for name, entry in scheme.inputs.items()
    }
    return Scheme(inputs, scheme.operators)


def measure(session: Session, scheme: Scheme, figure: float) -> dict[str, Any] | None:
    """The figure on validation data with inputs of 16 bits.

    Parameters
    ----------
    session : Session
        The model and its data.
    scheme : Scheme
        The one that is written.
    figure : float
        Its figure on validation data.

    Returns
    -------
    dict or None
        See `onnxgru.documents.entries.WideInputs`. None where the figure is near the float
        model's, where inputs have 16 bits already, and where an accumulator could overflow.
    """
    wide = widened(scheme)
    if wide == scheme or session.data.synthetic or _near(session.yardstick, figure):
        return None
    try:
        program = session.quantizer(wide)
    except OverflowProofError:
        return None
    found = session.yardstick.quality(program, VALIDATION)
    return {"validation": metrics.limited(found), "before": metrics.limited(figure)}


def _near(yardstick: Yardstick, figure: float) -> bool:
    """Whether a figure on validation data is near the float model's."""
    metric = yardstick.metric
    if metric.unit == "dB" and metric.target == "reference":
        return figure >= NEAR_DB
    return metric.error(figure) - metric.error(yardstick.float_quality(VALIDATION)) <= NEAR
