"""Folders of .wav files as data for models that take samples.

A file is one recording: PCM of 8, 16, 24 or 32 bits, or floating point. Integers become numbers of
-1 up to, not including, 1. All files of a folder have one sampling rate and one number of channels.

Labels come from names: the sub-folder of a file (``yes/0a7c.wav``), or the part of its name before
the first underscore (``7_jackson_32.wav``). Every file must have one, and there must be at least
two classes, each with at least two files. Names that are whole numbers are the classes themselves;
others are numbered from 0 in alphabetical order.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import DataError

SUFFIX = ".wav"
TOGETHER = 64
"""Most consecutive recordings of equal length in a batch."""


@dataclass(frozen=True, eq=False)
class Sound:
    """Recordings of one length.

    Parameters
    ----------
    samples : array (B, N, C), float32
        -1 to 1.
    rate : int
        Samples per second.
    labels : array (B,), int64, or None
        Classes.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    labels: npt.NDArray[np.int64] | None = None


def files(folder: Path) -> list[Path]:
    """All .wav files of a folder and of the folders in it, in the order of their paths."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    found = (entry for place in (folder, *inner) for entry in place.iterdir())
    return sorted(entry for entry in found if entry.suffix.lower() == SUFFIX and entry.is_file())


def names(folder: Path) -> list[str] | None:
    """Label of every file of a folder, in the order of `files`; None if names tell no classes.

    Parameters
    ----------
    folder : Path
        Folder with .wav files.
    """
    paths = files(folder)
    if all(path.parent != folder for path in paths):
        found = [path.parent.name for path in paths]
    elif all("_" in path.stem.strip("_") for path in paths):
        found = [path.stem.split("_")[0] for path in paths]
    else:
        return None
    counts = Counter(found)
    return found if len(counts) > 1 and min(counts.values()) > 1 else None


def classes(found: list[str]) -> dict[str, int]:
    """Class of every label."""
    distinct = sorted(set(found))
    if all(name.isascii() and name.isdecimal() for name in distinct):
        return {name: int(name) for name in distinct}
    return {name: index for index, name in enumerate(distinct)}


def read(path: Path) -> Sound:
    """Read one file.

    Raises
    ------
    DataError
        If it is damaged, empty, or of a kind that is not read.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)  # the file ends too early
            warnings.filterwarnings("ignore", "Chunk", wavfile.WavFileWarning)  # holds no samples
            rate, samples = wavfile.read(path)
    except Exception as error:  # damaged headers raise whatever their numbers lead to
        raise DataError(
            f"{path}: must be a whole .wav file of PCM or floating-point samples, reading it "
            f"failed ({type(error).__name__}: {' '.join(str(error).split())[:120]}); "
            "store it again"
        ) from error
    if samples.size == 0 or rate <= 0:
        raise DataError(f"{path}: must hold at least one sample, it holds none; remove the file")
    return Sound(_scaled(samples).reshape(1, len(samples), -1), int(rate))


def _scaled(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Integers as numbers of -1 to 1; scipy gives 24 bits as the upper ones of 32."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    middle = 128.0 if samples.dtype.kind == "u" else 0.0
    largest = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples.astype(np.float64) - middle) / largest).astype(np.float32)


def recordings(folder: Path) -> Iterator[tuple[str, Sound]]:
    """Yield the recordings of a folder, those of one length together, with the first one's path.

    Raises
    ------
    DataError
        If a file cannot be read, or has another sampling rate or number of channels than the first.
    """
    paths, found = files(folder), names(folder)
    numbers = None if found is None else classes(found)
    first: tuple[Path, Sound] | None = None
    waiting: list[tuple[Path, Sound]] = []
    for index, path in enumerate(paths):
        sound = read(path)
        if found is not None and numbers is not None:
            label = np.asarray([numbers[found[index]]])
            sound = Sound(sound.samples, sound.rate, label)
        first = first or (path, sound)
        _check_alike(first, (path, sound))
        other_length = waiting and waiting[0][1].samples.shape != sound.samples.shape
        if other_length or len(waiting) == TOGETHER:
            yield _joined(waiting)
            waiting = []
        waiting.append((path, sound))
    if waiting:
        yield _joined(waiting)


def _joined(waiting: list[tuple[Path, Sound]]) -> tuple[str, Sound]:
    sounds = [sound for _, sound in waiting]
    labels = [sound.labels for sound in sounds if sound.labels is not None]
    whole = Sound(
        np.concatenate([sound.samples for sound in sounds]),
        sounds[0].rate,
        np.concatenate(labels) if labels else None,
    )
    return str(waiting[0][0]), whole


def _check_alike(first: tuple[Path, Sound], other: tuple[Path, Sound]) -> None:
    (path, sound), (place, found) = first, other
    if found.rate != sound.rate:
        raise DataError(
            f"{place}: must have the sampling rate of {path.name}, {sound.rate} Hz, it has "
            f"{found.rate} Hz; resample the recordings to the rate of the model"
        )
    channels, wanted = found.samples.shape[2], sound.samples.shape[2]
    if channels != wanted:
        raise DataError(
            f"{place}: must have as many channels as {path.name}, {wanted}, it has {channels}; mix "
            "the recordings down, or leave it out"
        )


def said(folder: Path) -> str | None:
    """A sentence on a folder of .wav files: rate, channels and classes.

    Returns
    -------
    str or None
        None if there are no such files.

    Raises
    ------
    DataError
        If the first file cannot be read.
    """
    paths = files(folder) if folder.is_dir() else []
    if not paths:
        return None
    sound = read(paths[0])
    found = names(folder)
    channels = {1: "mono", 2: "stereo"}.get(n := sound.samples.shape[2], f"{n} channels")
    text = f"{len(paths):,} .wav files, {sound.rate:,} Hz, {channels}"
    if found is None:
        return f"{text}, no labels in their names"
    listed = list(classes(found))
    shown = ", ".join(listed[:10]) + (", ..." if len(listed) > 10 else "")
    return f"{text}, {len(listed)} classes by their names ({shown})"


def compared(folders: Mapping[str, Path]) -> list[str]:
    """Sentences on the folders of .wav files among some data, which must agree.

    Parameters
    ----------
    folders : mapping of str to Path
        Data by role, of any kind.

    Raises
    ------
    DataError
        If sampling rates differ, or the classes that names stand for.
    """
    found = {role: path for role, path in folders.items() if path.is_dir() and files(path)}
    told = [f"{role} data in {path}: {said(path)}" for role, path in found.items()]
    if len(found) > 1:
        first, *others = found.values()
        rate, labels = read(files(first)[0]).rate, names(first)
        for path in others:
            other = read(files(path)[0]).rate
            if other != rate:
                raise DataError(
                    f"{path}: must have the sampling rate of {first}, {rate} Hz, it has {other} "
                    "Hz; resample the recordings to the rate of the model"
                )
            known = names(path)
            if labels and known and _renumbered(classes(labels), classes(known)):
                raise DataError(
                    f"{path}: labels in the names of files must be those of {first}, "
                    f"{', '.join(classes(labels))}, they are {', '.join(classes(known))}; classes "
                    "are numbered in alphabetical order, so give every folder all of them"
                )
    return list(dict.fromkeys(told))


def _renumbered(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Whether names stand for other classes in two folders."""
    return any(other.get(name, number) != number for name, number in one.items()) or (
        one != other and list(one) != [str(n) for n in one.values()]
    )


def placed(sound: Sound, shape: tuple[int | str | None, ...], batch_axis: int) -> Any:
    """Samples with the axes of a model's input.

    Parameters
    ----------
    sound : Sound
        B recordings.
    shape : tuple
        Sizes of the input, a number where the model fixes it.
    batch_axis : int
        Axis of the recordings.

    Returns
    -------
    array or None
        None if the input takes no samples. Apart from the batch, its axes must be the samples, or
        the samples and as many channels as the recordings have.
    """
    channels = sound.samples.shape[2]
    beside = [size for axis, size in enumerate(shape) if axis != batch_axis]
    if len(beside) == 1 and channels == 1:
        return np.moveaxis(sound.samples[..., 0], 0, batch_axis)
    if len(beside) != 2 or channels not in beside:
        return None
    if beside[1] == channels:
        return np.moveaxis(sound.samples, 0, batch_axis)
    return np.moveaxis(sound.samples.swapaxes(1, 2), 0, batch_axis)
