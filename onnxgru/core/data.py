"""Recorded data for calibration, validation and hold-out, checked against the model's inputs.

Data come as ``.npz`` files (arrays by input name, ``labels`` optional), ``.npy`` files (models
with one input), folders of these, or a Python callable ``package.module:name`` that yields
batches. Each batch is a :class:`Dataset`; :func:`stream` yields them one at a time, so that
memory stays bounded and batches may hold sequences of different lengths, and :func:`load` joins
them along the batch axis.

Nothing is ever unpickled.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.entrypoint import is_entrypoint, load_entrypoint
from onnxgru.core.errors import DataError, UsageError

LABELS = "labels"
ROLES = ("calibration", "validation", "holdout")

Array = npt.NDArray[Any]
Source = str | os.PathLike[str] | Callable[[], object]

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK"
_PICKLE_MAGIC = b"\x80"


@dataclass(frozen=True)
class InputSpec:
    """What one graph input takes.

    Parameters
    ----------
    name : str
        Name in the graph.
    dtype : numpy.dtype
        Element type.
    shape : tuple of int, str or None
        Fixed sizes; a name or None where any size will do. The batch axis takes any size in
        data even where the model fixes it: evaluation slices it.
    batch_axis : int
        Axis of the sequences, 0 or 1.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    batch_axis: int = 0

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


Signature = tuple[InputSpec, ...]


@dataclass(frozen=True)
class Dataset:
    """Sequences for every input of a model, with labels or without.

    Parameters
    ----------
    inputs : mapping of str to array
        By graph input name, in the model's order; B sequences along each one's batch axis.
    labels : array or None
        int64 classes, (B,) per sequence or (B, T) per frame, negative where a padded frame does
        not count; or floating targets, (B, ...). The batch is always axis 0.
    source : str
        Where they come from, for messages and reports.
    batch_axes : mapping of str to int
        Axis of the sequences by input name; 0 for names that are left out.
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    source: str
    batch_axes: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of sequences."""
        name, array = next(iter(self.inputs.items()))
        return int(array.shape[self.batch_axes.get(name, 0)])

    def part(self, start: int, stop: int) -> "Dataset":
        """Sequences `start` up to, not including, `stop`; views, no copies."""
        inputs = {
            name: array[(slice(None),) * self.batch_axes.get(name, 0) + (slice(start, stop),)]
            for name, array in self.inputs.items()
        }
        labels = None if self.labels is None else self.labels[start:stop]
        return Dataset(inputs, labels, self.source, self.batch_axes)

    def take(self, count: int) -> "Dataset":
        """Return the first `count` sequences, or all where there are fewer.

        Raises
        ------
        UsageError
            If `count` is below 1.
        """
        return self.part(0, _positive(count, "sequences taken"))

    def chunks(self, count: int) -> Iterator["Dataset"]:
        """Return consecutive slices of `count` sequences; the last one may be shorter.

        Raises
        ------
        UsageError
            If `count` is below 1.
        """
        step = _positive(count, "sequences a chunk")
        return (self.part(start, start + step) for start in range(0, self.size, step))

    def digest(self) -> str:
        """SHA-256 (64 hexadecimal digits) over names, types, shapes and values, not the source."""
        digest = hashlib.sha256()
        arrays = [(f"input:{name}", self.inputs[name]) for name in sorted(self.inputs)]
        if self.labels is not None:
            arrays.append((LABELS, self.labels))
        for name, array in arrays:
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(repr((name, little.dtype.str, array.shape)).encode())
            digest.update(little.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def load(source: Source, signature: Signature) -> Dataset:
    """Load all data of a source into one :class:`Dataset`.

    Parameters
    ----------
    source : str, path or callable
        An ``.npz`` or ``.npy`` file; a folder of them, read in the order of their names;
        ``package.module:name``; or a callable without arguments. A callable gives an iterable
        of batches or an object whose ``get_next()`` gives them and then None (onnxruntime's
        ``CalibrationDataReader``); a batch is a dict of arrays by input name, and ``labels``.
    signature : tuple of InputSpec
        The model's inputs.

    Returns
    -------
    Dataset
        Arrays in the model's types, finite, with equal numbers of sequences.

    Raises
    ------
    DataError
        If the source cannot be read or does not fit the model; one sentence says how.
    UsageError
        If ``package.module:name`` cannot be imported.
    """
    batches = list(stream(source, signature))
    if len(batches) == 1:
        return batches[0]
    _check_same_lengths(batches, signature)
    labelled = [batch.labels for batch in batches if batch.labels is not None]
    if labelled and len(labelled) != len(batches):
        bare = next(batch.source for batch in batches if batch.labels is None)
        raise DataError(
            f"{bare}: must hold {LABELS!r} because other batches do; add it, or remove it there"
        )
    if labelled:
        _check_same_labels(batches)
    inputs = {
        spec.name: np.concatenate([batch.inputs[spec.name] for batch in batches], spec.batch_axis)
        for spec in signature
    }
    labels = np.concatenate(labelled) if labelled else None
    return Dataset(inputs, labels, _name(source), _batch_axes(signature))


def stream(source: Source, signature: Signature) -> Iterator[Dataset]:
    """Yield the data of a source batch by batch: one per file, or per item of a callable.

    Only one batch is in memory at a time, and sequences may have another length in each.

    Parameters
    ----------
    source : str, path or callable
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
    for where, arrays in _raw_batches(source, signature):
        yield _checked(arrays, signature, where)
        empty = False
    if empty:
        raise DataError(f"{_name(source)}: must hold at least one batch, it holds none")


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


def _raw_batches(source: Source, signature: Signature) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield where a batch comes from and its unchecked arrays."""
    if not isinstance(source, str | os.PathLike):
        yield from _called_batches(source, _name(source))
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.suffix in (".npz", ".npy"))
        if not files:
            raise DataError(
                f"{path}: a data folder must hold .npz or .npy files, it holds none; "
                "name another folder"
            )
        for file in files:
            yield str(file), _read(file, signature)
    elif path.exists() or not is_entrypoint(str(source)):
        yield str(path), _read(path, signature)
    else:
        yield from _called_batches(load_entrypoint(str(source)), str(source))


def _called_batches(
    function: Callable[[], object], name: str
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the items of a user's callable, whose own exceptions become one sentence."""
    try:
        result = function()
        get_next = getattr(result, "get_next", None)
        # What a user's callable returns has no type; what is none of these raises here.
        batches: Iterator[object] = iter(get_next, None) if get_next else iter(result)  # type: ignore[call-overload]
    except Exception as error:
        raise DataError(
            f"{name}: must return an iterable of dicts of arrays or an object with get_next(), "
            f"calling it raised {type(error).__name__}: {error}"
        ) from error
    index = 0
    while True:
        where = f"{name}, batch {index}"
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise DataError(
                f"{where}: must be a dict of arrays by input name, "
                f"getting it raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(batch, Mapping):
            raise DataError(
                f"{where}: must be a dict of arrays by input name, it is a {type(batch).__name__}"
            )
        yield where, dict(batch)
        index += 1


def _read(path: Path, signature: Signature) -> dict[str, object]:
    """Read one ``.npz`` or ``.npy`` file into arrays by name."""
    if path.suffix not in (".npz", ".npy"):
        raise DataError(
            f"{path}: data must be an .npz or .npy file, a folder of them or "
            f"package.module:name{_missing(path)}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file; name an .npz or .npy file that exists")
    if path.suffix == ".npy" and len(signature) != 1:
        raise DataError(
            f"{path}: an .npy file fits models with one input, this one has {len(signature)} "
            f"({_list(spec.name for spec in signature)}); store an .npz with an array for each"
        )
    _check_magic(path)
    try:
        with path.open("rb") as file:  # given a path, NumPy leaves damaged files open
            loaded = np.load(file, allow_pickle=False)
            return {signature[0].name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, MemoryError, KeyError, NotImplementedError) as error:
        if "Object arrays" in str(error):
            raise DataError(_pickled(path)) from error
        raise DataError(_corrupt(path, error)) from error
    except (zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        raise DataError(_corrupt(path, error)) from error


def _missing(path: Path) -> str:
    return f", {path.name!r} is none of these" + ("" if path.exists() else " and does not exist")


def _check_magic(path: Path) -> None:
    """Tell pickles from damaged files: NumPy calls whatever it does not know a pickle."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_NPY_MAGIC))
    except OSError as error:
        raise DataError(f"{path}: must be readable, opening it failed: {error}") from error
    expected = _NPY_MAGIC if path.suffix == ".npy" else _ZIP_MAGIC
    if head.startswith(_PICKLE_MAGIC):
        raise DataError(_pickled(path))
    if not head.startswith(expected):
        raise DataError(
            f"{path}: must be a NumPy {path.suffix} file, its first bytes are {head.hex() or '-'}; "
            "store it again with numpy.save or numpy.savez"
        )


def _pickled(path: Path) -> str:
    return (
        f"{path}: must hold plain arrays, it holds pickled Python objects, which are never loaded; "
        "store numeric arrays"
    )


def _corrupt(path: Path, error: BaseException) -> str:
    return (
        f"{path}: must be a whole {path.suffix} file, it is truncated or corrupt "
        f"({type(error).__name__}: {error}); store it again"
    )


def _checked(arrays: Mapping[str, object], signature: Signature, where: str) -> Dataset:
    """One batch against the signature."""
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
    sizes = {spec.name: inputs[spec.name].shape[spec.batch_axis] for spec in signature}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(
            f"{where}: all inputs must hold the same number of sequences, they hold: {listed}"
        )
    labels = None
    if LABELS in arrays and not labels_are_input:
        labels = _checked_labels(arrays[LABELS], sizes[names[0]], where)
    return Dataset(inputs, labels, where, _batch_axes(signature))


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
            f"{where}: {name!r} must be a NumPy array, it is a {type(value).__name__}; "
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
            f"{where}: array {name!r} must be finite, {count} of {array.size} values are NaN or "
            f"infinite, the first at index {first}; clean the recording"
        )


def _check_same_lengths(batches: Iterable[Dataset], signature: Signature) -> None:
    """Batches that are joined must agree beside the batch axis."""
    first, *others = batches
    for spec in signature:
        expected = _beside_batch(first.inputs[spec.name].shape, spec.batch_axis)
        for batch in others:
            shape = batch.inputs[spec.name].shape
            if _beside_batch(shape, spec.batch_axis) != expected:
                raise DataError(
                    f"{batch.source}: array {spec.name!r} must have the sizes of the first batch, "
                    f"{first.inputs[spec.name].shape}, beside axis {spec.batch_axis} (the "
                    f"sequences), it has {shape}; pad the sequences to one length"
                )


def _check_same_labels(batches: Iterable[Dataset]) -> None:
    first, *others = [(batch.source, batch.labels) for batch in batches]
    for where, labels in others:
        if first[1] is None or labels is None:  # told apart before
            continue
        if labels.shape[1:] != first[1].shape[1:] or labels.dtype.kind != first[1].dtype.kind:
            raise DataError(
                f"{where}: array {LABELS!r} must be like the first batch's, {first[1].dtype} "
                f"{first[1].shape}, it is {labels.dtype} {labels.shape}"
            )


def _beside_batch(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _batch_axes(signature: Signature) -> dict[str, int]:
    return {spec.name: spec.batch_axis for spec in signature}


def _positive(count: int, what: str) -> int:
    if count < 1:
        raise UsageError(f"the number of {what} must be at least 1, got {count}")
    return count


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def _name(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return str(source)
    return str(getattr(source, "__qualname__", type(source).__name__))
