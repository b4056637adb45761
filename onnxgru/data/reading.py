"""From a source of data to raw batches: files, folders, and Python objects.

A batch is a mapping of arrays by input name, a single array, a tuple or list of arrays in the order
of the inputs (labels last, where there is one more), or an object with ``inputs`` and ``labels``.
This module knows no model; :mod:`onnxgru.data.sources` names, converts and checks the arrays.

Objects of other libraries are recognised without importing these: an array is an object with
``__array__``, a reader is an object with ``get_next()``.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.entrypoint import is_entrypoint, load_entrypoint
from onnxgru.core.errors import DataError, UsageError
from onnxgru.data import wav

Array = npt.NDArray[Any]
Source = Any
"""A path or ``package.module:name`` as text, a path, or a Python object that `Held` understands."""

KINDS = (
    "a path, package.module:name, a dict of arrays, an array, an iterable of such batches, or a "
    "function that returns one"
)

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK"
_PICKLE_MAGIC = b"\x80"
_SHOWN = 200  # characters of another library's message
_EXAMPLES = 64
"""Most single examples of equal shapes that are joined to a batch."""


class Held:
    """Data in a Python object, which can be read any number of times.

    Parameters
    ----------
    value : object
        A mapping of arrays, an array or tensor, a tuple of arrays, a `Dataset` of this package;
        an iterable of such batches (a list, a generator, a torch ``DataLoader``); a data set with
        ``__getitem__`` and ``__len__`` whose items are single examples (a torch ``Dataset``); a
        reader with ``get_next()`` (onnxruntime's ``CalibrationDataReader``); or a function or class
        that returns one of these, which is called anew for every reading. Objects that can be read
        only once are kept in memory.
    name : str, optional
        Name in messages and reports.

    Raises
    ------
    UsageError
        If it is none of these.
    """

    def __init__(self, value: object, name: str | None = None) -> None:
        if not _understood(value):
            raise UsageError(f"data must be {KINDS}, they are of type {type(value).__name__}")
        self._value = value
        self._name = name or describe(value)
        self._kept: list[object] | None = None

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<data: {self._name}>"

    @property
    def once(self) -> bool:
        """Whether the object can be read only once, so that a second reader finds it empty."""
        value = self._value
        reader = callable(getattr(value, "get_next", None)) or hasattr(value, "__next__")
        return reader and not isinstance(value, type)

    def batches(self) -> Iterator[tuple[str, object]]:
        """Yield the origin of every batch, and the batch.

        Raises
        ------
        DataError
            If the object fails while it is read.
        """
        if is_batch(self._value):
            yield self._name, self._value
            return
        kept = self._kept
        if kept is not None:
            yield from self._numbered(iter(kept))
            return
        try:
            batches, once = _opened(self._value)
        except Exception as error:  # what a user's function raises
            raise DataError(
                f"{self._name}: must return an iterable of dicts of arrays or an object with "
                f"get_next(), calling it raised {type(error).__name__}: {error}"
            ) from error
        if not once:
            yield from self._numbered(batches)
            return
        kept = []
        for where, batch in self._numbered(batches):
            kept.append(batch)
            yield where, batch
        self._kept = kept

    def _numbered(self, batches: Iterator[object]) -> Iterator[tuple[str, object]]:
        index = 0
        while True:
            where = f"{self._name}, batch {index}"
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:  # what a user's generator raises
                raise DataError(
                    f"{where}: must be a dict of arrays by input name, "
                    f"getting it raised {type(error).__name__}: {error}"
                ) from error
            yield where, batch
            index += 1


def describe(value: object) -> str:
    """A short description of a Python object with data, the same in every run."""
    if isinstance(value, Mapping):
        shapes = (f"{key} {getattr(item, 'shape', '?')}" for key, item in value.items())
        return f"dict of arrays ({', '.join(map(str, shapes))})"
    if is_array(value):
        return f"array {getattr(value, 'shape', '')}".replace("torch.Size", "")
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)} batches"
    if isinstance(source := getattr(value, "source", None), str) and _is_dataset(value):
        return source
    return str(getattr(value, "__qualname__", type(value).__name__))


def is_array(value: object) -> bool:
    """Whether an object is an array, or a tensor of any library."""
    return isinstance(value, np.ndarray) or (
        hasattr(value, "__array__") and hasattr(value, "shape") and not isinstance(value, type)
    )


def is_batch(value: object) -> bool:
    """Whether an object is one batch by itself; a list is a list of batches."""
    return (
        isinstance(value, Mapping)
        or is_array(value)
        or _is_dataset(value)
        or (isinstance(value, tuple) and bool(value) and all(map(is_array, value)))
    )


def _is_dataset(value: object) -> bool:
    return hasattr(value, "inputs") and hasattr(value, "labels") and not isinstance(value, type)


def _understood(value: object) -> bool:
    if value is None or isinstance(value, str | bytes | bytearray | os.PathLike):
        return False
    return (
        is_batch(value)
        or callable(value)
        or hasattr(value, "get_next")
        or hasattr(value, "__iter__")
        or _holds_examples(value)
    )


def _holds_examples(value: object) -> bool:
    """Whether items are single examples, as those of a torch ``Dataset`` are."""
    whole = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return whole and not hasattr(value, "__iter__")


def _opened(value: Any) -> tuple[Iterator[object], bool]:
    """Batches of an object, and whether they can be read only once."""
    if callable(getattr(value, "get_next", None)) and not isinstance(value, type):
        return iter(value.get_next, None), True
    if _holds_examples(value):
        return _stacked(value[index] for index in range(len(value))), False
    if hasattr(value, "__iter__") and not isinstance(value, type):
        return iter(value), hasattr(value, "__next__")
    returned = value()
    if is_batch(returned):
        return iter([returned]), False
    if not (hasattr(returned, "__iter__") or hasattr(returned, "get_next")):
        raise TypeError(f"it returned a {type(returned).__name__}")
    return _opened(returned)[0], False  # a function is called again, and returns others


def _stacked(examples: Iterator[object]) -> Iterator[object]:
    """Batches of examples one after another whose arrays have equal names, shapes and types."""
    waiting: list[list[Array]] = []
    form: object = None
    for example in examples:
        named = isinstance(example, Mapping)
        parts = example if isinstance(example, Mapping | tuple | list) else [example]
        names = tuple(parts) if named else None
        values = example.values() if isinstance(example, Mapping) else parts
        arrays = [to_array(part) for part in values]
        found = (names, [(array.shape, array.dtype) for array in arrays])
        if waiting and (found != form or len(waiting) == _EXAMPLES):
            yield _joined(waiting, form)
            waiting = []
        form = found
        waiting.append(arrays)
    if waiting:
        yield _joined(waiting, form)


class Examples(tuple[Any, ...]):
    """Arrays of several examples, stacked on a new axis 0, in the order of an example's parts."""

    __slots__ = ()


def _joined(examples: list[list[Array]], form: Any) -> object:
    arrays = Examples(np.stack(parts) for parts in zip(*examples, strict=True))
    return arrays if form[0] is None else NamedExamples(zip(form[0], arrays, strict=True))


class NamedExamples(dict[str, Any]):
    """As `Examples`, by the names that an example's parts have."""


def to_array(value: Any) -> Any:
    """Return the NumPy array of an array, a tensor of any library or a number; others as is."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, bool | int | float | np.generic):
        return np.asarray(value)
    for step in ("detach", "cpu"):  # of torch
        if callable(method := getattr(value, step, None)):
            value = method()
    if callable(method := getattr(value, "numpy", None)):
        try:
            value = method()
        except TypeError:  # a type that NumPy lacks: torch's bfloat16, exact in float32
            value = value.float().numpy()
    if not isinstance(value, np.ndarray) and is_array(value):
        return np.asarray(value)
    return value


def batches(source: Source, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Yield the origin of every batch, and the batch as it is.

    Parameters
    ----------
    source : str, path or object
        Data.
    names : sequence of str
        Names of the model's inputs.

    Raises
    ------
    DataError
        If the source cannot be read.
    UsageError
        If it is no source of data, or ``package.module:name`` cannot be imported.
    """
    if isinstance(source, Held):
        yield from source.batches()
        return
    if not isinstance(source, str | os.PathLike):
        yield from Held(source).batches()
        return
    path = Path(source)
    if path.is_dir():
        yield from _of_folder(path, names)
    elif path.exists() or not is_entrypoint(str(source)):
        yield str(path), read(path, names)
    else:
        yield from Held(load_entrypoint(str(source)), str(source)).batches()


def _of_folder(path: Path, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    files = sorted(entry for entry in path.iterdir() if entry.suffix in (".npz", ".npy"))
    sounds = wav.files(path)
    if files and sounds:
        raise DataError(
            f"{path}: a data folder must hold either .npz and .npy files or .wav files, it holds "
            f"both ({files[0].name} and {sounds[0].name}); put them into two folders"
        )
    if sounds:
        yield from wav.recordings(path)
        return
    if not files:
        raise DataError(
            f"{path}: a data folder must hold .npz or .npy files, or .wav files, it holds none; "
            "name another folder"
        )
    for file in files:
        yield str(file), read(file, names)


def read(path: Path, names: Sequence[str]) -> object:
    """Read one ``.npz``, ``.npy`` or ``.wav`` file: arrays by name, or one array.

    Raises
    ------
    DataError
        If it cannot be read, or is an ``.npy`` file for several inputs.
    """
    if path.suffix.lower() == wav.SUFFIX and path.is_file():
        return wav.read(path)
    if path.suffix not in (".npz", ".npy"):
        raise DataError(
            f"{path}: data must be an .npz or .npy file, a folder of them or of .wav files, or "
            f"package.module:name{_missing(path)}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file; name an .npz or .npy file that exists")
    if path.suffix == ".npy" and len(names) != 1:
        raise DataError(
            f"{path}: an .npy file fits models with one input, this one has {len(names)} "
            f"({', '.join(names)}); store an .npz with an array for each"
        )
    _check_magic(path)
    try:
        with path.open("rb") as file:  # given a path, NumPy leaves damaged files open
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, MemoryError, KeyError, NotImplementedError) as error:
        if "Object arrays" in str(error):
            raise DataError(_pickled(path)) from error
        raise DataError(_corrupt(path, error)) from error
    except (zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        raise DataError(_corrupt(path, error)) from error


def _missing(path: Path) -> str:
    return f", {path.name!r} is none of these" + ("" if path.exists() else " and does not exist")


def _check_magic(path: Path) -> None:
    """Distinguish pickles from damaged files; NumPy calls every unknown file a pickle."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_NPY_MAGIC))
    except OSError as error:
        raise DataError(f"{path}: must be readable, opening it failed: {error}") from error
    expected = _NPY_MAGIC if path.suffix == ".npy" else _ZIP_MAGIC
    if head.startswith(_PICKLE_MAGIC):
        raise DataError(_pickled(path))
    if not head:
        raise DataError(f"{path}: must be a NumPy {path.suffix} file, it is empty; store it again")
    if not head.startswith(expected):
        raise DataError(
            f"{path}: must be a NumPy {path.suffix} file, its first bytes are {head.hex()}; "
            "store it again with numpy.save or numpy.savez"
        )


def _pickled(path: Path) -> str:
    return (
        f"{path}: must hold plain arrays, it holds pickled Python objects, which are never loaded; "
        "store numeric arrays"
    )


def _corrupt(path: Path, error: BaseException) -> str:
    text = ascii(" ".join(str(error).split()))[1:-1][:_SHOWN]  # it may quote bytes of the file
    return (
        f"{path}: must be a whole {path.suffix} file, it is truncated or corrupt "
        f"({type(error).__name__}: {text}); store it again"
    )
