"""A task made of a folder of .wav files with labels in their names, nothing of it tuned by hand.

Features, augmentation and recipe are those of the keywords, :mod:`onnxgru.models.speech`.
Recordings may have any sampling rate and any lengths: the model reads as many frames as 95 % of
them have. Frames of zeros, the mean of every band, stand before shorter ones; of longer ones the
middle is read.

Data are split at random, each class in its share: 70 % for training, 15 % for validation and 15 %
held out. Where names tell at least ten speakers (``7_jackson_32.wav``, ``yes/0a7c_nohash_1.wav``),
each speaker is in one part only, so that the figures are of speakers who were never heard.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import DataError
from onnxgru.data import wav
from onnxgru.models import speech
from onnxgru.models.speech import SpeechRecipe
from onnxgru.models.task import (
    Examples,
    Floats,
    Integers,
    Listener,
    Material,
    Splits,
    Task,
    divide,
)

LEAST = 20
"""Recordings that every class must have: enough for a stratified split."""

SPEAKERS = 10
"""Speakers from which on recordings are split by speaker."""

COVERED = 0.95
"""Share of the recordings that are read whole."""

SHARE = 0.15
"""Share of the recordings that is for validation, and that is held out."""


class Recorded:
    """The recordings of a folder.

    Parameters
    ----------
    folder : Path
        With .wav files.

    Raises
    ------
    DataError
        If a file cannot be read, names tell no classes, or a class has too few recordings.
    """

    def __init__(self, folder: Path) -> None:
        names = wav.names(folder)
        if names is None:
            raise DataError(
                f"{folder}: must hold .wav files with labels in their names, such as "
                "yes/1.wav or yes_1.wav, two classes at least; rename the files"
            )
        counts = Counter(names)
        fewest = min(counts, key=lambda name: counts[name])
        if counts[fewest] < LEAST:
            raise DataError(
                f"{folder}: must hold at least {LEAST} recordings of every class, it holds "
                f"{counts[fewest]} of {fewest!r}; add some, or leave the class out"
            )
        self.classes = tuple(sorted(counts, key=lambda name: wav.classes(names)[name]))
        self.labels = np.array([self.classes.index(name) for name in names], np.int64)
        self.sounds: list[Floats] = []
        self.rate = 0
        for where, batch in wav.recordings(folder):
            if batch.samples.shape[2] != 1:
                raise DataError(f"{where}: must have one channel; mix the recordings down")
            self.sounds += list(batch.samples[..., 0])
            self.rate = batch.rate
        self.speakers = _speakers(wav.files(folder), folder)

    @property
    def frames(self) -> int:
        """Frames that the model reads."""
        lengths = sorted(len(sound) for sound in self.sounds)
        longest = lengths[min(len(lengths) - 1, int(COVERED * len(lengths)))]
        return len(speech.features(np.zeros(longest, np.float32), self.rate))

    def split(self, seed: int) -> tuple[Integers, Integers, Integers]:
        """Divide the recordings for training, for validation, and to hold out."""
        if self.speakers is not None:
            return speech.divide_speakers(self.speakers, seed)
        count = round(SHARE * len(self.labels))
        rest, holdout = divide(self.labels, np.arange(len(self.labels)), count, seed)
        train, validation = divide(self.labels, rest, count, seed)
        return train, validation, holdout


def _speakers(paths: list[Path], folder: Path) -> npt.NDArray[np.str_] | None:
    """Who speaks in every file, where names tell it."""
    found = []
    for path in paths:
        parts = path.stem.split("_")
        own = parts if path.parent != folder else parts[1:]
        found.append(own[0] if len(own) > 1 else "")
    known = set(found)
    return np.array(found) if "" not in known and len(known) >= SPEAKERS else None


def fitted(values: Floats, frames: int) -> Floats:
    """Standardised features (T, I) of a recording as the model reads them, (frames, I)."""
    if len(values) >= frames:
        start = (len(values) - frames) // 2
        return values[start : start + frames]
    return np.concatenate([np.zeros((frames - len(values), values.shape[1]), np.float32), values])


def make_task(folder: Path) -> Task[SpeechRecipe]:
    """Make the task of a folder.

    Parameters
    ----------
    folder : Path
        With .wav files that have labels in their names, `onnxgru.data.wav`.

    Raises
    ------
    DataError
        If it does not hold such files.
    UsageError
        If kaldi-native-fbank is not installed.
    """
    recorded = Recorded(folder)
    frames = recorded.frames

    def load(recipe: SpeechRecipe, limit: int | None, _listener: Listener) -> Material:
        return _material(recorded, frames, recipe, limit)

    name = re.sub(r"\W+", "-", folder.resolve().name.lower(), flags=re.ASCII).strip("-")
    return Task(
        name=name or "recordings",
        input_name="features",
        steps=frames,
        features=speech.BANDS,
        classes=recorded.classes,
        recipe=SpeechRecipe(),
        load=load,
        libraries=("kaldi-native-fbank", "scikit-learn", "scipy"),
    )


def _material(recorded: Recorded, frames: int, recipe: SpeechRecipe, limit: int | None) -> Material:
    train, validation, holdout = recorded.split(recipe.seed)
    labels, rate = recorded.labels, recorded.rate
    size = min(speech.CALIBRATION_SIZE, len(train) // 2)
    _, calibration = divide(labels, train, size, recipe.seed)
    train, calibration, validation, holdout = (
        indices[:limit] for indices in (train, calibration, validation, holdout)
    )
    plain = [speech.features(recorded.sounds[index], rate) for index in train]
    whole = np.concatenate(plain)
    mean = whole.mean(0).round(speech.DIGITS)
    deviation = np.maximum(whole.std(0), 10.0**-speech.DIGITS).round(speech.DIGITS)

    def read(values: list[Floats]) -> Floats:
        return np.stack([fitted((one - mean) / deviation, frames) for one in values])

    def part(indices: Integers) -> Examples:
        values = [speech.features(recorded.sounds[index], rate) for index in indices]
        return Examples(read(values), labels[indices])

    def batch(indices: Integers, _epoch: int, generator: np.random.Generator) -> Floats:
        sounds = [recorded.sounds[index] for index in train[indices]]
        values = [
            speech.features(speech.varied(sound, recipe, generator, rate), rate) for sound in sounds
        ]
        return speech.masked(read(values), recipe, generator)

    examples = Examples(read(plain), labels[train])
    parts = Splits(examples, part(calibration), part(validation), part(holdout))
    notes: dict[str, Any] = {
        "standardisation": {
            "mean": [round(float(value), speech.DIGITS) for value in mean],
            "deviation": [round(float(value), speech.DIGITS) for value in deviation],
        },
        "rate": rate,
        "split": "by recording" if recorded.speakers is None else "by speaker",
    }
    return Material(parts, batch, notes)
