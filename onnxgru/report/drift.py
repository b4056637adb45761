"""Drift: how the noise of a quantised model grows along a recording.

Errors of a state are handed on from step to step, so a figure over a whole recording says little of
its end. Each recording is cut into tenths, and the signal to quantisation noise of every output
is measured in each tenth: an output drifts if its figures fall from the first tenth to the last.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.data import metrics
from onnxgru.data.dataset import Recorded
from onnxgru.documents.report import Report
from onnxgru.runtime.host import Host

Array = npt.NDArray[Any]

PARTS = 10
"""Parts that a recording is cut into; shorter ones have no drift to show."""


def measure(
    host: Host, data: Recorded, reference: Mapping[str, Array], found: Mapping[str, Array]
) -> dict[str, list[float | None]]:
    """Signal to quantisation noise of outputs along the recordings.

    Parameters
    ----------
    host : Host
        Of the model.
    data : Dataset or Corpus
        Recordings of one length; others have no common parts.
    reference, found : mapping of str to ndarray
        Outputs of the float and of the quantised model, the batch first.

    Returns
    -------
    dict of str to list of float or None
        dB by output: one figure per tenth of the recordings, None where both are equal. Outputs
        without an axis of time, or of fewer than ten steps, are left out.
    """
    if len(data.parts) != 1:
        return {}
    result = {}
    for name, exact in reference.items():
        if exact.dtype.kind != "f":
            continue
        streams = data.parts[0].streams
        before, after = (_along_time(host, streams, name, a) for a in (exact, found[name]))
        if before is None or after is None or len(before) < PARTS:
            continue
        tenths = zip(np.array_split(before, PARTS), np.array_split(after, PARTS), strict=True)
        figures = [metrics.sqnr(one, other) for one, other in tenths]
        result[name] = [round(f, 2) if np.isfinite(f) else None for f in figures]
    return result


def _along_time(host: Host, streams: Sequence[int], name: str, array: Array) -> Array | None:
    """An output with time first: frames of recordings side by side, or its own steps."""
    if streams:
        if len(set(streams)) > 1 or len(array) != sum(streams):
            return None
        return np.moveaxis(array.reshape(len(streams), streams[0], *array.shape[1:]), 1, 0)
    axis = host.time_axis(name)
    return None if axis is None or axis >= array.ndim else np.moveaxis(array, axis, 0)


def lines(report: Report) -> list[str]:
    """The part of report.md about drift; nothing where there is none to show."""
    if not report.drift:
        return []
    heads = [f"{100 * n // PARTS} %" for n in range(1, PARTS + 1)]
    rows = [
        f"| {name} | {' | '.join('exact' if f is None else f'{f:.1f}' for f in figures)} |"
        for name, figures in report.drift.items()
    ]
    return [
        "",
        "## Drift along the recordings",
        "",
        "SQNR in dB of each tenth of the validation recordings, up to the point named: figures "
        "that fall from left to right mean that errors of the states add up.",
        "",
        f"| output | {' | '.join(heads)} |",
        "|---|" + "---:|" * PARTS,
        *rows,
    ]
