"""Recordings for a model that is called once per frame: they are split into its calls.

A model with states takes one frame (or a block of frames) per call, so its inputs have no axis for
a whole recording. Data may hold R recordings of F frames in three ways:

1. the axis of the frames is longer than that of the model: (R, ..., F, ...);
2. there is one more axis than in the model, in front: (R, F, ...);
3. frames along the batch axis, one recording: (F, ...).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import DataError
from onnxgru.data.dataset import LABELS, InputSpec, Signature

Array = npt.NDArray[Any]


def cut(
    arrays: Mapping[str, object], signature: Signature, where: str
) -> tuple[dict[str, object], tuple[int, ...], tuple[int, ...]]:
    """Split recordings into frames along the batch axis.

    Parameters
    ----------
    arrays : mapping of str to object
        Contents of the data, by name.
    signature : tuple of InputSpec
        The model's inputs.
    where : str
        Origin of the data, for messages.

    Returns
    -------
    arrays : dict of str to object
        Frames along the batch axis, recording by recording. States that the data lack are zero.
    streams : tuple of int
        Numbers of consecutive calls, one per recording. Empty if the model takes whole recordings,
        or if the data hold a state for every frame.
    beside : tuple of int
        Recordings side by side in the calls of every stream; empty if all streams have equally
        many.

    Raises
    ------
    DataError
        If inputs hold different numbers of recordings or frames.
    """
    result = dict(arrays)
    recorded = [s for s in signature if s.batch_axis is not None and not s.state]
    found = {
        spec.name: array
        for spec in recorded
        if isinstance(array := arrays.get(spec.name), np.ndarray)
    }
    axes = {spec.name: len(spec.shape) for spec in recorded}
    odd = any(array.ndim - axes[name] not in (0, 1) for name, array in found.items())
    if len(found) < len(recorded) or not recorded or odd:  # the checks of the arrays report this
        return _filled(result, signature, 1), (), ()
    handed_on = any(spec.fed_by is not None for spec in signature)
    spread = [_spread(spec, found[spec.name]) for spec in recorded]
    counts = {s for s in spread if s is not None}
    if not handed_on or any(not _one_step(s, found[s.name]) for s in recorded):
        if not handed_on or not counts:
            return _filled(result, signature, _entries(recorded, found)), (), ()
    if len(counts) > 1:
        listed = ", ".join(
            f"{s.name} {n[0]} of {n[1]}" for s, n in zip(recorded, spread, strict=True) if n
        )
        raise DataError(
            f"{where}: all inputs must hold the same recordings and frames, they hold: {listed}"
        )
    entries = _entries(recorded, found)
    recordings, frames = counts.pop() if counts else (1, entries)
    for spec in recorded:
        result[spec.name] = _along_batch(spec, found[spec.name], recordings, frames, where)
    given = False
    for spec in (s for s in signature if s.state and isinstance(arrays.get(s.name), np.ndarray)):
        state = np.asarray(arrays[spec.name])
        every = state.ndim == len(spec.shape) and state.shape[spec.batch_axis or 0] != recordings
        given |= every or frames == 1
        result[spec.name] = _begun(spec, state, recordings, frames)
    result = _filled(result, signature, recordings * frames)
    if isinstance(labels := arrays.get(LABELS), np.ndarray) and LABELS not in found:
        result[LABELS] = _labels(labels, recordings, frames, where)
    batch = next((spec.batch for spec in recorded if spec.batch is not None), None) or 1
    streams = () if given else (frames,) * recordings
    if batch > 1 and streams:
        return _grouped(result, signature, recordings, frames, batch)
    return result, streams, ()


def _spread(spec: InputSpec, array: Array) -> tuple[int, int] | None:
    """Numbers of recordings and frames, if an array has an axis for both; else None."""
    axis = spec.batch_axis or 0
    if array.ndim == len(spec.shape) + 1:
        return array.shape[0], array.shape[axis + 1]
    if array.ndim != len(spec.shape):
        return None
    place = _longer(spec, array)
    if place is None:
        return None
    wanted = spec.shape[place]
    assert isinstance(wanted, int)
    return array.shape[axis], array.shape[place] // wanted


def _longer(spec: InputSpec, array: Array) -> int | None:
    """The axis along which an array holds several of the model's blocks of frames."""
    places = [
        place
        for place, (wanted, size) in enumerate(zip(spec.shape, array.shape, strict=True))
        if isinstance(wanted, int) and place != spec.batch_axis and size != wanted
    ]
    if len(places) != 1 or (spec.frames is not None and places[0] not in spec.frames):
        return None
    wanted = spec.shape[places[0]]
    size = array.shape[places[0]]
    return places[0] if isinstance(wanted, int) and wanted and size >= wanted else None


def _one_step(spec: InputSpec, array: Array) -> bool:
    """Whether axes of free size have one step: the model is called once per frame."""
    if array.ndim != len(spec.shape):
        return True
    return all(
        isinstance(wanted, int) or place == spec.batch_axis or size == 1
        for place, (wanted, size) in enumerate(zip(spec.shape, array.shape, strict=True))
    )


def _entries(recorded: Sequence[InputSpec], found: Mapping[str, Array]) -> int:
    spec = recorded[0]
    array, axis = found[spec.name], spec.batch_axis or 0
    return int(array.shape[axis]) if array.ndim > axis else 1


def _along_batch(spec: InputSpec, array: Array, recordings: int, frames: int, where: str) -> Array:
    """An input with all frames of all recordings along its batch axis."""
    axis = spec.batch_axis or 0
    if array.ndim == len(spec.shape) + 1:
        moved = np.moveaxis(array, axis + 1, 1)  # (R, F, ...)
    elif (place := _longer(spec, array)) is not None:
        wanted = spec.shape[place]
        assert isinstance(wanted, int)
        kept = np.take(array, np.arange(frames * wanted), axis=place)
        moved = np.moveaxis(kept, (axis, place), (0, 1))
        moved = moved.reshape(recordings, frames, wanted, *moved.shape[2:])
        inner = place - (place > axis)  # the axis of the block without that of the batch
        moved = np.moveaxis(moved, 2, 2 + inner)
    else:
        size = array.shape[axis]
        moved = np.moveaxis(array, axis, 0)
        if size == recordings and frames > 1:  # one entry per recording: the same for all frames
            moved = np.repeat(moved[:, None], frames, axis=1)
        elif size == recordings * frames:
            moved = moved.reshape(recordings, frames, *moved.shape[1:])
        else:
            raise DataError(
                f"{where}: array {spec.name!r} must hold {recordings} recordings of {frames} "
                f"frames, it holds {size} entries on axis {axis}"
            )
    return np.moveaxis(moved.reshape(-1, *moved.shape[2:]), 0, axis)


def _begun(spec: InputSpec, state: Array, recordings: int, frames: int) -> Array:
    """A state with the first call's value of every recording and 0 in its other calls.

    Data that hold a state for every frame are returned as they are.
    """
    axis = spec.batch_axis or 0
    if state.ndim == len(spec.shape) + 1 and state.shape[0] == recordings:
        state = np.concatenate(list(state), axis=axis)
    if state.ndim != len(spec.shape) or state.shape[axis] != recordings or frames == 1:
        return state
    moved = np.moveaxis(state, axis, 0)
    whole = np.zeros((recordings, frames, *moved.shape[1:]), state.dtype)
    whole[:, 0] = moved
    return np.moveaxis(whole.reshape(-1, *moved.shape[1:]), 0, axis)


def _filled(arrays: dict[str, object], signature: Signature, entries: int) -> dict[str, object]:
    """Arrays with zeros for the states that the data lack."""
    for spec in signature:
        if spec.state and spec.name not in arrays:
            sizes = [size if isinstance(size, int) else 1 for size in spec.shape]
            if spec.batch_axis is not None:
                sizes[spec.batch_axis] = entries
            arrays[spec.name] = np.zeros(sizes, spec.dtype)
    return arrays


def _labels(labels: Array, recordings: int, frames: int, where: str) -> Array:
    if labels.shape[:2] == (recordings, frames):
        return labels.reshape(-1, *labels.shape[2:])
    if len(labels) == recordings and frames > 1:
        raise DataError(
            f"{where}: array {LABELS!r} must hold one entry per frame, ({recordings}, {frames}), "
            f"because the model is called once per frame, its shape is {labels.shape}"
        )
    return labels


def _grouped(
    arrays: dict[str, object], signature: Signature, recordings: int, frames: int, batch: int
) -> tuple[dict[str, object], tuple[int, ...], tuple[int, ...]]:
    """Reorder frames for a model that takes several recordings per call.

    Each stream has the frames of `batch` recordings side by side. The last stream may have fewer;
    its calls are filled up later.
    """
    widths = [min(batch, recordings - first) for first in range(0, recordings, batch)]
    order = np.concatenate(
        [
            ((batch * group + np.arange(width)) * frames + np.arange(frames)[:, None]).reshape(-1)
            for group, width in enumerate(widths)
        ]
    )
    axes = {s.name: s.batch_axis for s in signature if s.batch_axis is not None} | {LABELS: 0}
    for name, axis in axes.items():
        if isinstance(array := arrays.get(name), np.ndarray):
            arrays[name] = np.take(array, order, axis=axis)
    beside = tuple(widths) if widths[-1] < batch else ()
    return arrays, (frames,) * len(widths), beside
