"""Warnings about data that look like a mistake, given before any work.

Nothing is refused. A warning names the file and what was seen, and says what to do about it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.calibration.glitches import Extremes, Glitch
from onnxgru.data import metrics
from onnxgru.data.dataset import Dataset
from onnxgru.data.intervals import wilson
from onnxgru.documents.remarks import TITLES

Array = npt.NDArray[Any]

FEW = 50
"""With fewer sequences accuracy says little: one sequence is two points or more."""

APART = 10.0
"""Ratio of magnitudes from which data look scaled differently."""

BYTES = 255
"""The largest value of data that look like bytes, such as pixels."""

FROM_BYTES = 128
"""The largest value of such data is at least this."""

ENOUGH = 20
"""Number of answers from which the check against chance is made."""

BLOCK = 2**18
"""Values that are summarised at a time."""


@dataclass
class ValueScale:
    """How large the values of one input are.

    Parameters
    ----------
    low, high : float
        The least and the largest value.
    whole : bool
        Whether all are whole numbers.
    powers : list of float
        Root mean square of every recording.
    """

    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    powers: list[float] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def typical(self) -> float:
        """Median of the recordings' root mean square."""
        return float(np.median(self.powers))


@dataclass
class Summary:
    """Summary of the data of one role.

    Parameters
    ----------
    source : str
        Source of the data.
    recordings : dict of bytes to int
        Digests of the recordings, and how often each occurs.
    scales : dict of str to ValueScale
        Of every real input that is no state.
    glitches : list of Glitch
        Values that no tail explains, at most one entry for each input; not in `scales`.
    """

    source: str
    recordings: dict[bytes, int] = field(default_factory=dict)
    scales: dict[str, ValueScale] = field(default_factory=dict)
    glitches: list[Glitch] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Recordings."""
        return sum(self.recordings.values())


def summarise(batches: Iterable[Dataset], source: str, states: Iterable[str] = ()) -> Summary:
    """Summarise data, batch by batch.

    Parameters
    ----------
    batches : iterable of Dataset
        The data.
    source : str
        What they are called.
    states : iterable of str
        Inputs that are states: zeros are usual there.
    """
    found, left = Summary(source), set(states)
    extremes: dict[str, Extremes] = {}
    for batch in batches:
        for digest in _digests(batch, left):
            found.recordings[digest] = found.recordings.get(digest, 0) + 1
        for name, array in batch.inputs.items():
            axis = batch.batch_axes.get(name, 0)
            if array.dtype.kind == "f" and array.size and name not in left and axis is not None:
                _measure(found.scales.setdefault(name, ValueScale()), np.moveaxis(array, axis, 0))
                extremes.setdefault(name, Extremes(name)).update(batch)
    for name, seen in extremes.items():
        glitch = seen.glitch()
        if glitch is not None:
            found.glitches.append(glitch)
            scale = found.scales[name]
            scale.low = max(scale.low, -glitch.limit)
            scale.high = min(scale.high, glitch.limit)
    return found


def _digests(batch: Dataset, left: set[str]) -> Iterator[bytes]:
    """A digest of every recording over its inputs that are no states."""
    rows = {
        name: np.moveaxis(array, axis, 0)
        for name, array in batch.inputs.items()
        if name not in left and (axis := batch.batch_axes.get(name, 0)) is not None
    }
    for place in batch.rows():
        digest = hashlib.blake2b(digest_size=16)
        for name, array in sorted(rows.items()):
            row = np.ascontiguousarray(array[place.start : place.stop : place.step])
            digest.update(f"{name}{row.dtype.str}{row.shape}".encode())
            digest.update(row.tobytes())
        yield digest.digest()


def _measure(scale: ValueScale, array: Array) -> None:
    """Add recordings along axis 0, some at a time: a copy of all would double the memory."""
    most = max(1, BLOCK * len(array) // max(1, array.size))
    for start in range(0, len(array), most):
        part = array[start : start + most]
        scale.low = min(scale.low, float(part.min()))
        scale.high = max(scale.high, float(part.max()))
        scale.whole = scale.whole and bool((part == np.rint(part)).all())
        flat = part.reshape(len(part), -1).astype(np.float64)
        scale.powers += np.sqrt(np.square(flat).mean(axis=1)).tolist()


def of_inputs(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Sentences about inputs that look wrong.

    Parameters
    ----------
    summaries : mapping of str to Summary
        By role: calibration, validation, hold-out, training; those that are there.
    """
    for role, found in summaries.items():
        for name, scale in found.scales.items():
            if not scale.largest:
                yield (
                    f"{found.source}: input {name!r} is zero throughout the {TITLES[role]} data; "
                    "store the recordings themselves"
                )
    yield from _apart(summaries)
    yield from _shared(summaries)


def _apart(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Data that are scaled otherwise than the calibration data."""
    base = summaries.get("calibration")
    for role, found in summaries.items():
        if base is None or role == "calibration":
            continue
        for name, scale in found.scales.items():
            known = base.scales.get(name)
            if known is None or not scale.largest or not known.largest:
                continue
            if _ratio(scale.largest, known.largest) < APART:
                if _ratio(scale.typical, known.typical) < APART:
                    continue
            yield (
                f"{found.source}: input {name!r} spans {scale.low:g} to {scale.high:g} (typically "
                f"{scale.typical:.3g}), but in {base.source} {known.low:g} to {known.high:g} "
                f"(typically {known.typical:.3g}); prepare {TITLES[role]} and calibration data in "
                "the same way, as the model was trained"
            )


def _ratio(one: float, other: float) -> float:
    """The larger one divided by the smaller one; 1 where one is zero: `of_inputs` tells that."""
    return max(one / other, other / one) if one and other else 1.0


def _shared(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Recordings that are in the data of two roles, although one role judges the other."""
    for judged, others in (
        ("validation", ("calibration", "training")),
        ("holdout", ("calibration", "training", "validation")),
    ):
        for role in others:
            if judged not in summaries or role not in summaries:
                continue
            own, other = summaries[judged], summaries[role]
            common = sum(n for digest, n in own.recordings.items() if digest in other.recordings)
            if own.source == other.source and own.recordings == other.recordings:
                # That one serves for calibration and validation is told elsewhere.
                if role == "training":
                    yield (
                        f"{own.source}: training and {TITLES[judged]} data are the same, so "
                        "figures on them are optimistic; give other data for one of them"
                    )
            elif common:
                yield (
                    f"{own.source}: {common:,} of {own.count:,} {TITLES[judged]} recordings are in "
                    f"{other.source} too, the {TITLES[role]} data, so figures on them are "
                    "optimistic; leave them out of one"
                )


def of_bytes(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Inputs that look like bytes, where nothing shows that the model was trained on bytes."""
    for role in ("calibration", "validation"):
        found = summaries.get(role)
        for name, scale in {} if found is None else found.scales.items():
            if scale.whole and scale.low >= 0 and FROM_BYTES <= scale.high <= BYTES:
                assert found is not None
                yield (
                    f"{found.source}: input {name!r} holds whole numbers from {scale.low:g} to "
                    f"{scale.high:g}, as bytes do; if the model was trained on 0 to 1, divide them "
                    "by 255"
                )
                return


def of_count(role: str, source: str, sequences: int) -> Iterator[str]:
    """Too few recordings to judge by."""
    if sequences < FEW:
        some = "1 sequence" if sequences == 1 else f"{sequences} sequences"
        poor = "cannot tell schemes apart" if role == "validation" else "say little"
        each = f", because each sequence is {100 / sequences:.1f} % of the figure"
        yield (
            f"{source}: {some} of {TITLES[role]} data {poor}{each if sequences > 1 else ''}; give "
            f"at least {FEW}, better some hundreds"
        )


def of_labels(role: str, source: str, outputs: Array, labels: Array) -> Iterator[str]:
    """Sentences about class labels that look wrong beside the float model's outputs.

    Parameters
    ----------
    role, source : str
        Of the data.
    outputs : array
        What the float model computes, scores (B, ..., C) or classes.
    labels : integer array (B, ...)
        Negative where a frame does not count.
    """
    predicted, counts = metrics.classes(outputs, labels)
    wanted = labels.reshape(counts.shape)[counts]
    right = int((predicted[counts] == wanted).sum())
    scores = not metrics.holds_classes(outputs)
    number = outputs.shape[-1] if scores else int(predicted.max(initial=0)) + 1
    beyond = int((wanted >= number).sum()) if scores else 0
    if beyond:
        yield (
            f"{source}: {beyond:,} of {len(wanted):,} labels are {number} or above, up to "
            f"{int(wanted.max())}, but the model has {number} classes; number them 0 to "
            f"{number - 1}, in the order of its outputs"
        )
    if len(np.unique(wanted)) == 1 and len(wanted) > 1:
        yield (
            f"{source}: all labels are class {int(wanted[0])}, so that a model which always says "
            f"so is right; give {TITLES[role]} data of every class"
        )
    elif len(wanted) >= ENOUGH and number > 1 and wilson(right, len(wanted))[0] <= 100 / number:
        yield (
            f"{source}: the float model is right for {100 * right / len(wanted):.2f} % of the "
            f"labels, no better than chance among {number} classes; check the order of the "
            "classes, and that the inputs are prepared as for training"
        )
