"""Speech Commands v0.02, by P. Warden (2018, arXiv 1804.03209, CC BY 4.0): recordings and features.

The ten keywords of the official test set, 4,074 recordings of one second at 16 kHz by 239
speakers, are split by speaker, so that nobody who is heard in training is heard afterwards; 121 of
the recordings are copies of another one by the same speaker, which a split by file would share out.

Features are 40 logarithmic mel energies of 63 frames of 32 ms every 16 ms, computed by
kaldi-native-fbank. The data files hold them standardised, band by band, with the training part's
means and deviations, which stand in the model's record; whoever feeds the model does the same to
its own features.
"""

import io
import lzma
import re
import tarfile
import wave
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.models import sources
from onnxgru.models.task import (
    Examples,
    Floats,
    Integers,
    Listener,
    Material,
    Recipe,
    Splits,
    Task,
    damaged,
    divide,
    missing,
)

RATE = 16_000
FRAMES, BANDS = 63, 40
HOP_MS, WINDOW_MS = 16, 32
LONGEST = 100_000
"""Bytes of a file in the archive that are read; a recording has a third of that."""

SHARES = (0.70, 0.15, 0.15)
CALIBRATION_SIZE = 512
DIGITS = 4
"""After the point, of the means and deviations that features are standardised with."""

KEYWORDS = {
    "down": 406,
    "go": 402,
    "left": 412,
    "no": 405,
    "off": 402,
    "on": 396,
    "right": 396,
    "stop": 411,
    "up": 425,
    "yes": 419,
}
"""Recordings of each in the official test set."""

# A download is compared with the published file's SHA-256. An archive in a folder of the user's may
# hold the keywords only, and be compressed in another way: of any archive, the compression's own
# checksums, the form of every recording and the number of recordings of each keyword are checked.
SOURCE = sources.Source(
    "speech_commands",
    "speech_commands_test_set_v0.02.tar.gz",
    "https://storage.googleapis.com/download.tensorflow.org/data/"
    "speech_commands_test_set_v0.02.tar.gz",
    "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
    pattern="speech_commands_test_set_v0.02*.tar.*",
)
_NAME = re.compile(r"(?:.*/)?(?P<word>[a-z]+)/(?P<speaker>[0-9a-f]+)_nohash_[0-9]+\.wav")

Waves = npt.NDArray[np.int16]


@dataclass(frozen=True)
class SpeechRecipe(Recipe):
    """How the models are trained.

    Parameters
    ----------
    speed : float
        Recordings are played faster or slower by up to this share, pitch included.
    shift : float
        Largest random shift in seconds, in both directions.
    gain : float
        Largest random gain in dB, in both directions.
    noise : tuple of float
        Least and greatest level of white noise, dB of full scale.
    masks : tuple of int
        Most neighbouring bands, and frames, that are replaced by their mean; twice each (after
        Park et al. 2019, arXiv 1904.08779).
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    averaging: float = 0.998
    dropout: float = 0.2
    memory: int = 40
    speed: float = 0.15
    shift: float = 0.1
    gain: float = 8.0
    noise: tuple[float, float] = (-90.0, -40.0)
    masks: tuple[int, int] = (6, 8)


@dataclass(frozen=True)
class SpeechRecordings:
    """What an archive holds, in the order of words and file names.

    Parameters
    ----------
    waves : array (N, 16000), int16
        A second each.
    words, speakers : array (N,), str
        What is said, and by whom.
    """

    waves: Waves
    words: npt.NDArray[np.str_]
    speakers: npt.NDArray[np.str_]


def read(path: Path) -> SpeechRecordings:
    """Read the keywords of a tar archive; nothing is unpacked to disk.

    Parameters
    ----------
    path : pathlib.Path
        The official archive, or one with the keywords only; with whatever compression.

    Returns
    -------
    SpeechRecordings
        All 4,074.

    Raises
    ------
    DataError
        If the archive is damaged or holds something else.
    """
    found: dict[tuple[str, str], tuple[str, Waves]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = _NAME.fullmatch(member.name)
                if name is None or name["word"] not in KEYWORDS:
                    continue
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise damaged(path, f"{member.name} is not a file")
                key = (name["word"], Path(member.name).name)
                found[key] = (name["speaker"], _samples(path, member.name, stream.read(LONGEST)))
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise damaged(path, f"it cannot be unpacked ({type(error).__name__})") from error
    counts = dict(Counter(word for word, _ in found))
    if counts != KEYWORDS:
        listed = ", ".join(f"{word} {counts.get(word, 0)}" for word in KEYWORDS)
        raise damaged(path, f"it holds {listed} recordings")
    keys = sorted(found)
    return SpeechRecordings(
        np.stack([found[key][1] for key in keys]),
        np.array([word for word, _ in keys]),
        np.array([found[key][0] for key in keys]),
    )


def _samples(path: Path, name: str, content: bytes) -> Waves:
    """Samples of a WAV file of one second, 16 kHz, 16 bits, one channel."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            form = (sound.getframerate(), sound.getsampwidth(), sound.getnchannels())
            samples = sound.readframes(RATE + 1)
    except (wave.Error, EOFError) as error:
        raise damaged(path, f"{name} is no WAV file") from error
    if form != (RATE, 2, 1) or len(samples) != 2 * RATE:
        raise damaged(path, f"{name} is not one second of 16-bit mono sound at 16 kHz")
    return np.frombuffer(samples, "<i2").astype(np.int16)


def features(samples: npt.NDArray[np.floating[Any]], rate: int = RATE) -> Floats:
    """Logarithmic mel energies.

    Parameters
    ----------
    samples : array (N,), floating
        Sound, -1 to 1.
    rate : int
        Samples per second.

    Returns
    -------
    array (T, 40), float32
        Natural logarithms, frames of 32 ms centred on every 16 ms from 8 ms on, bands from 20 Hz to
        half the rate. A second has 63 frames.

    Raises
    ------
    UsageError
        If kaldi-native-fbank is not installed.
    """
    try:
        import kaldi_native_fbank as kaldi
    except ImportError as error:
        raise missing("kaldi-native-fbank") from error
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0  # random otherwise
    options.frame_opts.snip_edges = False
    options.frame_opts.frame_shift_ms = HOP_MS
    options.frame_opts.frame_length_ms = WINDOW_MS
    options.frame_opts.window_type = "hann"
    options.mel_opts.num_bins = BANDS
    bank = kaldi.OnlineFbank(options)
    bank.accept_waveform(rate, samples)
    bank.input_finished()
    return np.stack([bank.get_frame(index) for index in range(bank.num_frames_ready)])


def divide_speakers(
    speakers: npt.NDArray[np.str_], seed: int
) -> tuple[Integers, Integers, Integers]:
    """Divide recordings so that each speaker is in one part: 70, 15 and 15 % of the recordings.

    Parameters
    ----------
    speakers : array (N,), str
        Of each recording.
    seed : int
        Of the order of the speakers, and of the recordings in a part.

    Returns
    -------
    train, validation, holdout : array, int64
        Indices, shuffled. A speaker belongs where the first of its recordings falls.
    """
    generator = np.random.default_rng(seed)
    names, counts = np.unique(speakers, return_counts=True)
    order = generator.permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    part = np.empty(len(names), np.int64)
    part[order] = np.digitize(before / len(speakers), np.cumsum(SHARES[:-1]))
    of_recording = part[np.searchsorted(names, speakers)]
    train, validation, holdout = (
        generator.permutation(np.flatnonzero(of_recording == index)) for index in range(3)
    )
    return train, validation, holdout


def load(
    recipe: SpeechRecipe, limit: int | None, listener: Listener, words: tuple[str, ...]
) -> Material:
    """Split the recordings of some keywords by speaker, and compute their features.

    Parameters
    ----------
    recipe : SpeechRecipe
        Augmentation and seed. With the same seed, a speaker is in the same part for any words.
    limit : int, optional
        At most this many recordings of each part.
    listener : callable
        Hears of a download.
    words : tuple of str
        The keywords, in the order of the classes.

    Returns
    -------
    Material
        Standardised features, (B, 63, 40).

    Raises
    ------
    DataError
        If the archive is missing or damaged.
    UsageError
        If scikit-learn or kaldi-native-fbank is not installed, or pooch is needed and is not.
    """
    recordings = read(sources.find(SOURCE, listener))
    labels = np.full(len(recordings.words), -1, np.int64)
    for index, word in enumerate(words):
        labels[recordings.words == word] = index
    train, validation, holdout = (
        part[labels[part] >= 0] for part in divide_speakers(recordings.speakers, recipe.seed)
    )
    _, calibration = divide(labels, train, CALIBRATION_SIZE, recipe.seed)
    sound = recordings.waves / np.float32(2**15)

    def computed(indices: Integers) -> Floats:
        return np.stack([features(samples) for samples in sound[indices]])

    of_train = computed(train[:limit])
    # as few digits as the record has, so that what it says is exactly what was done
    mean: Floats = of_train.mean((0, 1)).round(DIGITS)
    deviation: Floats = of_train.std((0, 1)).round(DIGITS)

    def standardised(values: Floats) -> Floats:
        scaled: Floats = (values - mean) / deviation
        return scaled

    def part(indices: Integers) -> Examples:
        return Examples(standardised(computed(indices[:limit])), labels[indices[:limit]])

    def batch(indices: Integers, _epoch: int, generator: np.random.Generator) -> Floats:
        made = [features(varied(s, recipe, generator)) for s in sound[train[indices]]]
        return masked(standardised(np.stack(made)), recipe, generator)

    examples = Examples(standardised(of_train), labels[train[:limit]])
    parts = Splits(examples, part(calibration), part(validation), part(holdout))
    notes = {"standardisation": {"mean": _listed(mean), "deviation": _listed(deviation)}}
    return Material(parts, batch, notes)


def _listed(values: Floats) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def varied(
    samples: Floats, recipe: SpeechRecipe, generator: np.random.Generator, rate: int = RATE
) -> npt.NDArray[np.float64]:
    """Return a recording (N,) at another speed, time and level, with noise."""
    speed, shift, gain = (
        generator.uniform(-reach, reach) for reach in (recipe.speed, recipe.shift, recipe.gain)
    )
    middle = len(samples) / 2
    time = np.arange(len(samples))
    moved = np.interp(
        (time - middle) * (1 + speed) + middle + shift * rate, time, samples, left=0.0, right=0.0
    )
    level = generator.uniform(*recipe.noise)
    noise = generator.standard_normal(len(samples), np.float32)
    varied: npt.NDArray[np.float64] = moved * 10 ** (gain / 20) + noise * 10 ** (level / 20)
    return varied


def masked(values: Floats, recipe: SpeechRecipe, generator: np.random.Generator) -> Floats:
    """Return standardised features (B, T, I) with bands and frames at 0, which is their mean."""
    bands, frames = recipe.masks
    for example in values:
        for _ in range(2):
            for axis, most in ((example.T, bands), (example, frames)):
                width = generator.integers(0, most + 1)
                start = generator.integers(0, len(axis) - width + 1)
                axis[start : start + width] = 0.0
    return values


def make_task(name: str, words: tuple[str, ...], cell: str = "gru") -> Task[SpeechRecipe]:
    """Return the task of telling keywords apart.

    Parameters
    ----------
    name : str
        As on the command line.
    words : tuple of str
        Of `KEYWORDS`, in the order of the classes.
    cell : {"gru", "lstm", "ligru", "sru"}
        The recurrent layer.
    """

    def loader(recipe: SpeechRecipe, limit: int | None, listener: Listener) -> Material:
        return load(recipe, limit, listener, words)

    return Task(
        name=name,
        input_name="features",
        steps=FRAMES,
        features=BANDS,
        classes=words,
        recipe=SpeechRecipe(cell=cell),
        load=loader,
        libraries=("kaldi-native-fbank", "scikit-learn"),
    )
