"""Recorded data for calibration, validation and hold-out, checked against the model's inputs.

Data come as ``.npz`` files (arrays by input name, ``labels`` optional), ``.npy`` files (models
with one input), folders of these or of ``.wav`` files, a Python callable ``package.module:name``
that yields batches, or a Python object; :mod:`onnxgru.data.reading` reads them. Each batch is a
:class:`Dataset`; :func:`stream` yields them one at a time, so that memory stays bounded and batches
may hold sequences of different lengths, and :func:`load` joins them along the batch axis.

Nothing is ever unpickled.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import DataError, UsageError
from onnxgru.data import frames, reading, wav
from onnxgru.data.dataset import LABELS, Corpus, Dataset, InputSpec, Recorded, Signature
from onnxgru.data.reading import Examples, NamedExamples, Source

CLASS_AXES = 2
"""Axes that classes have at most: the sequences, and their frames."""

ROLES = ("calibration", "validation", "holdout")

Array = npt.NDArray[Any]


def load(source: Source, signature: Signature) -> Recorded:
    """Load all data of a source.

    Parameters
    ----------
    source : str, path or object
        An ``.npz``, ``.npy`` or ``.wav`` file; a folder of them, read in the order of their names;
        ``package.module:name`` of a callable; or an object that `onnxgru.data.reading.Held`
        takes. A callable gives an iterable of batches or an object whose ``get_next()`` gives
        them and then None (onnxruntime's ``CalibrationDataReader``); a batch is a dict of arrays by
        input name and ``labels``, or a tuple of arrays in the order of the inputs, labels last.
    signature : tuple of InputSpec
        The model's inputs.

    Returns
    -------
    Dataset or Corpus
        Arrays in the model's types, finite, with equal numbers of sequences; a `Corpus` where
        batches hold sequences of different lengths.

    Raises
    ------
    DataError
        If the source cannot be read or does not fit the model; one sentence says how.
    UsageError
        If ``package.module:name`` cannot be imported.
    """
    return join(list(stream(source, signature)), signature, name_of(source))


def join(batches: Sequence[Dataset], signature: Signature, name: str) -> Recorded:
    """Join batches along the batch axis: one `Dataset` per length of the sequences.

    Parameters
    ----------
    batches : sequence of Dataset
        At least one.
    signature : tuple of InputSpec
        The model's inputs.
    name : str
        Origin of the data.

    Raises
    ------
    DataError
        If some hold labels and others do not, labels differ in kind, or an input that is given
        once has several values.
    """
    if len(batches) == 1:
        return replace(_with_classes(batches)[0], source=name)
    batches = _with_classes(batches)
    _check_given_once(batches, signature)
    labelled = [batch.labels for batch in batches if batch.labels is not None]
    if labelled and len(labelled) != len(batches):
        bare = next(batch.source for batch in batches if batch.labels is None)
        raise DataError(
            f"{bare}: must hold {LABELS!r} because other batches do; add it, or remove it there"
        )
    if labelled:
        _check_same_labels(batches)
    alike: dict[object, list[Dataset]] = {}
    for batch in batches:
        shapes = tuple(
            _beside_batch(batch.inputs[spec.name].shape, spec.batch_axis) for spec in signature
        )
        rows = None if batch.labels is None else batch.labels.shape[1:]
        alike.setdefault((shapes, rows, bool(batch.streams)), []).append(batch)
    parts = tuple(_concatenated(group, signature, name) for group in alike.values())
    return parts[0] if len(parts) == 1 else Corpus(parts, name)


def _concatenated(batches: Sequence[Dataset], signature: Signature, name: str) -> Dataset:
    inputs = {
        spec.name: batches[0].inputs[spec.name]
        if spec.batch_axis is None
        else np.concatenate([batch.inputs[spec.name] for batch in batches], spec.batch_axis)
        for spec in signature
    }
    labels = [batch.labels for batch in batches if batch.labels is not None]
    streams = tuple(length for batch in batches for length in batch.streams)
    short = any(batch.beside for batch in batches)
    beside = tuple(width for batch in batches for width in batch.widths) if short else ()
    whole = np.concatenate(labels) if labels else None
    return replace(
        batches[0], inputs=inputs, labels=whole, source=name, streams=streams, beside=beside
    )


def _with_classes(batches: Sequence[Dataset]) -> list[Dataset]:
    """Batches whose labels are int64 where all are classes that were stored as real numbers."""
    labels = [batch.labels for batch in batches if batch.labels is not None]
    real = [array for array in labels if array.dtype.kind == "f"]
    if len(real) < len(labels) or not all(map(_whole, real)):
        return list(batches)
    return [
        batch if batch.labels is None else replace(batch, labels=batch.labels.astype(np.int64))
        for batch in batches
    ]


def _whole(labels: Array) -> bool:
    return labels.ndim <= CLASS_AXES and bool((labels == np.rint(labels)).all())


def stream(source: Source, signature: Signature) -> Iterator[Dataset]:
    """Yield the data of a source batch by batch: one per file, or per item of a callable.

    Only one batch is in memory at a time, and sequences may have another length in each.

    Parameters
    ----------
    source : str, path or object
        As for :func:`load`.
    signature : tuple of InputSpec
        The model's inputs.

    Yields
    ------
    Dataset
        Checked as by :func:`load`.

    Raises
    ------
    DataError
        If the source cannot be read or does not fit the model; one sentence says how.
    UsageError
        If ``package.module:name`` cannot be imported.
    """
    if not signature:
        raise DataError("the model must have at least one input, it has none")
    empty = True
    single = not _is_path(source)
    for where, batch in reading.batches(source, [spec.name for spec in signature]):
        yield _checked(_named(batch, signature, where, single=single), signature, where)
        empty = False
    if empty:
        cure = ""
        if isinstance(source, reading.Held) and source.once:
            cure = (
                "; it can be read only once, so if it was read before, or is given for two roles, "
                "give a function that returns a new one"
            )
        raise DataError(f"{name_of(source)}: must hold at least one batch, it holds none{cure}")


def beside(model: str | os.PathLike[str], role: str) -> Path | None:
    """Find the data file beside a model: ``<model without suffix>.<role>.npz``.

    Parameters
    ----------
    model : path
        The ONNX file, for example ``models/digits_row.onnx``.
    role : str
        "calibration", "validation" or "holdout".

    Returns
    -------
    pathlib.Path or None
        The file, None where there is none.

    Raises
    ------
    UsageError
        If the role has another name.
    """
    if role not in ROLES:
        raise UsageError(f"a data role must be one of {', '.join(ROLES)}, got {role!r}")
    model = Path(model)
    candidate = model.with_name(f"{model.stem}.{role}.npz")
    return candidate if candidate.is_file() else None


def _is_path(source: Source) -> bool:
    return isinstance(source, str | os.PathLike) and Path(source).exists()


def _named(
    batch: object, signature: Signature, where: str, *, single: bool
) -> Mapping[str, object]:
    """Arrays of a batch by name; `single` allows one sequence without a batch axis."""
    names = [spec.name for spec in signature]
    if isinstance(batch, wav.Sound):
        return _of_sound(batch, signature, where)
    if hasattr(batch, "inputs") and hasattr(batch, "labels"):
        labels = {} if batch.labels is None else {LABELS: batch.labels}
        batch = {**batch.inputs, **labels}
    if isinstance(batch, Mapping):
        arrays = {str(name): reading.to_array(value) for name, value in batch.items()}
    elif reading.is_array(batch):
        arrays = _in_order((batch,), names, where)
    elif isinstance(batch, tuple | list):
        arrays = _in_order(batch, names, where)
    else:
        raise DataError(
            f"{where}: must be a dict of arrays by input name, or a tuple of arrays in the order "
            f"of the inputs ({_list(names)}), it is of type {type(batch).__name__}"
        )
    known = {*names, LABELS}
    if len(names) == 1 and len(others := [name for name in arrays if name not in known]) == 1:
        if names[0] not in arrays:  # the only array of a model with one input
            arrays = {names[0] if name == others[0] else name: a for name, a in arrays.items()}
    if isinstance(batch, Examples | NamedExamples):
        axes = {
            spec.name: spec.batch_axis
            for spec in signature
            if len(spec.shape) > 1 and spec.batch_axis is not None
        }
        return {
            name: np.moveaxis(a, 0, axes[name]) if axes.get(name, a.ndim) < a.ndim else a
            for name, a in arrays.items()
        }
    return _batched(arrays, signature) if single else arrays


def _in_order(batch: Iterable[object], names: list[str], where: str) -> dict[str, Any]:
    """Arrays in the order of the inputs, with labels behind them or without."""
    parts = [reading.to_array(part) for part in batch]
    if not len(names) <= len(parts) <= len(names) + 1:
        raise DataError(
            f"{where}: must hold {len(names)} arrays in the order of the inputs ({_list(names)}), "
            f"and {LABELS} last if there are any, it holds {len(parts)}"
        )
    return dict(zip([*names, LABELS], parts, strict=False))


def _batched(arrays: dict[str, Any], signature: Signature) -> dict[str, Any]:
    """Add the batch axis to arrays of one sequence, if all inputs lack exactly this axis."""
    specs = {
        spec.name: spec for spec in signature if spec.name in arrays and spec.batch_axis is not None
    }
    if not specs or any(
        not isinstance(array := arrays[name], np.ndarray) or array.ndim != len(spec.shape) - 1
        for name, spec in specs.items()
    ):
        return arrays
    return {
        name: np.expand_dims(array, axis)
        if isinstance(array, np.ndarray) and axis is not None
        else array
        for name, array in arrays.items()
        for axis in (specs[name].batch_axis if name in specs else 0,)
    }


def _of_sound(sound: wav.Sound, signature: Signature, where: str) -> dict[str, object]:
    """Samples of recordings as the only input that takes samples."""
    found = {
        spec.name: array
        for spec in signature
        if spec.dtype.kind == "f"
        and spec.batch_axis is not None
        and not spec.state
        and (array := wav.placed(sound, spec.shape, spec.batch_axis)) is not None
    }
    channels = sound.samples.shape[2]
    if len(found) != 1:
        raise DataError(
            f"{where}: .wav files are data for a model with one input that takes samples of "
            f"{channels} channel{'s' * (channels > 1)}, this one has "
            f"{_list(str(spec) for spec in signature)}; make arrays of the recordings as "
            "docs/data.md shows"
        )
    return {**found, **({} if sound.labels is None else {LABELS: sound.labels})}


def _checked(arrays: Mapping[str, object], signature: Signature, where: str) -> Dataset:
    """A batch that is checked against the signature."""
    arrays, streams, beside = frames.cut(arrays, signature, where)
    names = [spec.name for spec in signature]
    wanted = f"the model wants: {_list(names)}"
    for name in names:
        if name not in arrays:
            raise DataError(
                f"{where}: must hold an array for input {name!r}, it holds: {_list(arrays)}; "
                f"{wanted}"
            )
    labels_are_input = LABELS in names
    unknown = [name for name in arrays if name not in names and name != LABELS]
    if unknown:
        raise DataError(
            f"{where}: has no use for {_list(unknown)}; {wanted} (and {LABELS!r}, optional)"
        )
    inputs = {spec.name: _checked_input(arrays[spec.name], spec, where) for spec in signature}
    sizes = {
        spec.name: inputs[spec.name].shape[spec.batch_axis]
        for spec in signature
        if spec.batch_axis is not None
    }
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(
            f"{where}: all inputs must hold the same number of sequences, they hold: {listed}"
        )
    labels = None
    if LABELS in arrays and not labels_are_input:
        labels = _checked_labels(arrays[LABELS], next(iter(sizes.values()), 1), where)
    bare = frozenset(spec.name for spec in signature if spec.bare)
    return Dataset(inputs, labels, where, _batch_axes(signature), streams, bare, beside)


def _checked_input(value: object, spec: InputSpec, where: str) -> Array:
    array = _array(value, spec.name, where)
    if array.ndim != len(spec.shape):
        raise DataError(
            f"{where}: array {spec.name!r} must have {len(spec.shape)} axes ({spec}), "
            f"it has {array.ndim} {array.shape}"
        )
    for axis, (wanted, size) in enumerate(zip(spec.shape, array.shape, strict=True)):
        if isinstance(wanted, int) and axis != spec.batch_axis and size != wanted:
            raise DataError(
                f"{where}: array {spec.name!r} must have size {wanted} on axis {axis} ({spec}), "
                f"it has {size} {array.shape}"
            )
    if array.size == 0:
        raise DataError(
            f"{where}: array {spec.name!r} must hold at least one sequence of at least one step, "
            f"it is empty {array.shape}"
        )
    _check_finite(array, spec.name, where)
    converted = _converted(array, spec, where)
    if converted is not array:  # a float64 value may lie beyond float32
        _check_finite(converted, spec.name, f"{where}, as {spec.dtype}")
    return converted


def _converted(array: Array, spec: InputSpec, where: str) -> Array:
    """Convert to the model's type where no meaning is lost."""
    if array.dtype == spec.dtype:
        return array
    kind, wanted = array.dtype.kind, spec.dtype.kind
    if wanted == "f" and kind in "fiu":
        with np.errstate(over="ignore"):  # becomes infinite, which is reported
            return array.astype(spec.dtype)
    if wanted in "iu" and kind in "iu":
        limits = np.iinfo(spec.dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise DataError(
                f"{where}: array {spec.name!r} must fit {spec.dtype}, its values span {low}..{high}"
            )
        return array.astype(spec.dtype)
    raise DataError(
        f"{where}: array {spec.name!r} must be {spec.dtype}, it is {array.dtype}; convert it"
    )


def _checked_labels(value: object, size: int, where: str) -> Array:
    labels = _array(value, LABELS, where)
    if labels.ndim == 0 or len(labels) != size:
        raise DataError(
            f"{where}: array {LABELS!r} must hold one entry for each of {size} sequences on "
            f"axis 0, its shape is {labels.shape}"
        )
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.dtype.kind != "f":
        raise DataError(
            f"{where}: array {LABELS!r} must hold whole-number classes or floating targets, "
            f"it is {labels.dtype}"
        )
    _check_finite(labels, LABELS, where)
    return labels


def _array(value: object, name: str, where: str) -> Array:
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"{where}: {name!r} must be a NumPy array, it is of type {type(value).__name__}; "
            "use numpy.asarray"
        )
    return value


def _check_finite(array: Array, name: str, where: str) -> None:
    if array.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(array)
    count = int(np.count_nonzero(bad))
    if count:
        first = tuple(int(index) for index in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise DataError(
            f"{where}: array {name!r} must be finite, {count:,} of {array.size:,} values are NaN "
            f"or infinite, the first at index {first}; clean the recording"
        )


def _check_given_once(batches: Sequence[Dataset], signature: Signature) -> None:
    """Check that an input that is no recording has one value in all batches."""
    first, *others = batches
    for spec in signature:
        if spec.batch_axis is not None:
            continue
        for batch in others:
            if not np.array_equal(batch.inputs[spec.name], first.inputs[spec.name]):
                raise DataError(
                    f"{batch.source}: array {spec.name!r} is no recording and must have one value "
                    f"in all data, that of {first.source}, but has another; give it once, or say "
                    f"with --batch-axis {spec.name}=AXIS which axis holds the recordings"
                )


def _check_same_labels(batches: Iterable[Dataset]) -> None:
    first, *others = [(batch.source, batch.labels) for batch in batches]
    for where, labels in others:
        if first[1] is None or labels is None:  # told apart before
            continue
        if labels.ndim != first[1].ndim or labels.dtype.kind != first[1].dtype.kind:
            raise DataError(
                f"{where}: array {LABELS!r} must be like the first batch's, {first[1].dtype} "
                f"{first[1].shape}, it is {labels.dtype} {labels.shape}"
            )


def _beside_batch(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return () if axis is None else shape[:axis] + shape[axis + 1 :]


def _batch_axes(signature: Signature) -> dict[str, int | None]:
    return {spec.name: spec.batch_axis for spec in signature}


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def name_of(source: Source) -> str:
    """Origin of data, for messages and reports."""
    if isinstance(source, str | os.PathLike | reading.Held):
        return str(source)
    return reading.describe(source)
