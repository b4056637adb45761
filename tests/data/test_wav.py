"""Folders of .wav files: every sample format, labels from names, and what does not fit."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from onnxgru.core.errors import DataError
from onnxgru.data import wav
from onnxgru.data.dataset import InputSpec
from onnxgru.data.sources import load, stream

FLOAT = np.dtype(np.float32)
SAMPLES = (InputSpec("audio", FLOAT, ("batch", "samples")),)
RATE = 8000


def sound(length: int = 400, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (length, channels) if channels > 1 else (length,)
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape)


def store(path: Path, values: np.ndarray, kind: str = "i2", rate: int = RATE) -> None:
    path.parent.mkdir(exist_ok=True)
    if kind == "i3":
        write_24_bits(path, values)
    elif kind == "u1":
        wavfile.write(path, rate, np.round(values * 128 + 128).astype(np.uint8))
    elif kind.startswith("i"):
        top = 2 ** (8 * int(kind[1]) - 1)
        wavfile.write(path, rate, np.round(values * top).astype(kind))
    else:
        wavfile.write(path, rate, values.astype(kind))


def write_24_bits(path: Path, values: np.ndarray) -> None:
    import wave

    codes = np.round(values * 2**23).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(RATE)
        file.writeframes(codes.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


@pytest.mark.parametrize(
    ("kind", "step"),
    [("u1", 2**-7), ("i2", 2**-15), ("i3", 2**-23), ("i4", 2**-23), ("f4", 0), ("f8", 1e-7)],
)
def test_sample_formats(tmp_path: Path, kind: str, step: float) -> None:
    store(tmp_path / "a.wav", sound(), kind)
    read = load(tmp_path, SAMPLES).inputs["audio"]
    assert read.dtype == FLOAT and read.shape == (1, 400)
    np.testing.assert_allclose(read[0], sound().astype(np.float32), atol=step, rtol=0)
    one = load(tmp_path / "a.wav", SAMPLES)
    np.testing.assert_array_equal(one.inputs["audio"], read)


@pytest.mark.parametrize(
    ("shape", "axis", "channels", "found"),
    [
        (("batch", "samples"), 0, 1, (3, 400)),
        (("samples", "batch"), 1, 1, (400, 3)),
        (("batch", 1, "samples"), 0, 1, (3, 1, 400)),
        (("batch", "samples", 1), 0, 1, (3, 400, 1)),
        (("samples", "batch", 1), 1, 1, (400, 3, 1)),
        (("batch", 2, "samples"), 0, 2, (3, 2, 400)),
        (("batch", 400, 2), 0, 2, (3, 400, 2)),
        (("batch", 400), 0, 1, (3, 400)),
    ],
)
def test_places_of_samples(tmp_path: Path, shape, axis: int, channels: int, found) -> None:
    for index in range(3):
        store(tmp_path / f"{index}.wav", sound(channels=channels, seed=index), "f4")
    data = load(tmp_path, (InputSpec("audio", FLOAT, shape, axis),))
    assert data.inputs["audio"].shape == found
    last = np.moveaxis(data.inputs["audio"], axis, 0)[2]
    expected = sound(channels=channels, seed=2).astype(np.float32).reshape(400, channels)
    np.testing.assert_array_equal(np.sort(last.reshape(-1)), np.sort(expected.reshape(-1)))


def labels(place: Path, *names: str) -> list[int] | None:
    for index, name in enumerate(names):
        store(place / name, sound(seed=index))
    found = load(place, SAMPLES).labels
    return None if found is None else found.tolist()


def test_labels(tmp_path: Path) -> None:
    place = tmp_path / "digits"
    place.mkdir()
    assert labels(place, "7_a_0.wav", "7_b_0.wav", "3_a.wav", "3_b.wav") == [3, 3, 7, 7]
    assert wav.said(place) == "4 .wav files, 8,000 Hz, mono, 2 classes by their names (3, 7)"
    place = tmp_path / "words"
    place.mkdir()
    assert labels(place, "yes/1.wav", "yes/2.WAV", "no/1.wav", "no/3.wav") == [0, 0, 1, 1]
    place = tmp_path / "prefixes"
    place.mkdir()
    assert labels(place, "no_1.wav", "yes_1.wav", "yes_2.wav", "no_2.wav") == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "names",
    [
        ("rec_1.wav", "rec_2.wav"),  # one class
        ("1_a.wav", "2_a.wav", "3_a.wav"),  # a number for each
        ("yes_1.wav", "yes_2.wav", "no_1.wav", "no_2.wav", "noise.wav"),
        ("a.wav", "b.wav"),
    ],
)
def test_names_that_are_no_labels(tmp_path: Path, names: tuple[str, ...]) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert labels(place, *names) is None
    assert "no labels in their names" in str(wav.said(place))


def test_files_of_other_lengths_are_other_batches(tmp_path: Path) -> None:
    for index, length in enumerate((400, 400, 300)):
        store(tmp_path / f"{index}.wav", sound(length))
    shapes = [part.inputs["audio"].shape for part in stream(tmp_path, SAMPLES)]
    assert shapes == [(2, 400), (1, 300)]


def refused(place: Path, signature=SAMPLES) -> str:
    with pytest.raises(DataError) as caught:
        load(place, signature)
    return str(caught.value)


def test_folders_that_are_not_alike(tmp_path: Path) -> None:
    store(tmp_path / "a.wav", sound())
    store(tmp_path / "b.wav", sound(), rate=16000)
    assert "b.wav: must have the sampling rate of a.wav, 8000 Hz, it has 16000" in refused(tmp_path)
    store(tmp_path / "b.wav", sound(channels=2))
    assert "b.wav: must have as many channels as a.wav, 1, it has 2" in refused(tmp_path)
    np.savez(tmp_path / "c.npz", audio=sound())
    assert "either .npz and .npy files or .wav files" in refused(tmp_path)


def test_models_that_take_no_samples(tmp_path: Path) -> None:
    store(tmp_path / "a.wav", sound())
    frames = (InputSpec("frames", FLOAT, ("batch", "time", 40)),)
    message = refused(tmp_path, frames)
    assert "takes samples of 1 channel, this one has frames float32 (batch, time, 40)" in message
    assert "docs/data.md" in message
    store(tmp_path / "a.wav", sound(channels=2))
    assert "samples of 2 channels" in refused(tmp_path)
    store(tmp_path / "a.wav", sound(300))
    assert "must have size 400 on axis 1" in refused(
        tmp_path, (InputSpec("audio", FLOAT, ("batch", 400)),)
    )


@pytest.mark.parametrize("kept", [0, 10, 30, 100])
def test_damaged_files(tmp_path: Path, kept: int) -> None:
    store(tmp_path / "a.wav", sound())
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:kept])
    assert "a.wav: must be a whole .wav file" in refused(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"no sound" * 20)
    assert "a.wav: must be a whole .wav file" in refused(tmp_path)


def test_files_without_samples(tmp_path: Path) -> None:
    store(tmp_path / "a.wav", sound(0))
    assert "a.wav: must hold at least one sample" in refused(tmp_path)
    assert wav.said(tmp_path / "a.wav") is None


def folders(place: Path, **contents: tuple[str, ...]) -> dict[str, Path]:
    for folder, names in contents.items():
        (place / folder).mkdir()
        for name in names:
            store(place / folder / f"{name}.wav", sound())
    return {folder: place / folder for folder in contents}


def test_folders_are_told_and_compared(tmp_path: Path) -> None:
    words = ("no_1", "no_2", "yes_1", "yes_2")
    found = folders(tmp_path, calibration=words, validation=words, holdout=("a", "b"))
    told = wav.compared(found | {"other": tmp_path / "none.npz"})
    assert [text.partition(":")[0] for text in told] == [
        f"{role} data in {tmp_path / role}" for role in found
    ]
    store(tmp_path / "holdout" / "a.wav", sound(), rate=16000)
    with pytest.raises(DataError, match=r"holdout: must have the sampling rate of .*, 8000 Hz, it"):
        wav.compared(found)


def test_classes_of_folders_are_the_same(tmp_path: Path) -> None:
    words = ("no_1", "no_2", "yes_1", "yes_2")
    found = folders(tmp_path, a=words, b=("up_1", "up_2", "yes_1", "yes_2"))
    with pytest.raises(DataError, match=r"must be those of .*a, no, yes, they are u"):
        wav.compared(found)
    (tmp_path / "digits").mkdir()
    digits = folders(
        tmp_path / "digits", a=("0_a", "0_b", "3_a", "3_b"), b=("3_a", "3_b", "5_a", "5_b")
    )
    assert len(wav.compared(digits)) == 2  # numbers are the classes themselves
