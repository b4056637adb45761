"""Training on a folder of .wav files: its split, its features, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from onnxgru.cli import main
from onnxgru.core.errors import DataError
from onnxgru.models import folder, speech

pytestmark = pytest.mark.slow

pytest.importorskip("kaldi_native_fbank")
pytest.importorskip("sklearn")

RATE = 8000


def fill(place: Path, names: Iterator[str] | list[str], channels: int = 1) -> Path:
    """Noise of other lengths; recordings of "low" are low tones, all others high ones."""
    generator = np.random.default_rng(0)
    for name in names:
        time = np.arange(int(generator.integers(1600, 2400))) / RATE
        tone = np.sin(2 * np.pi * time * (300 if "low" in name else 2500))
        samples = (3000 * tone + generator.normal(0, 100, len(time))).astype(np.int16)
        path = place / f"{name}.wav"
        path.parent.mkdir(exist_ok=True, parents=True)
        wavfile.write(path, RATE, samples if channels == 1 else np.stack([samples] * 2, 1))
    return place


def names(count: int = 24) -> list[str]:
    return [f"{word}_{index}" for word in ("low", "high") for index in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("recordings") / "my Tones", names())


def test_a_model_is_trained_and_written(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = ["zoo", str(place), "-o", str(tmp_path), "--epochs", "2", "--limit", "20", "-q"]
    assert main(command) == 0
    record = json.loads((tmp_path / "my_tones.json").read_text())
    assert record["classes"] == ["high", "low"] and record["rate"] == RATE
    assert record["split"] == "by recording"
    assert record["examples"] == {"train": 20, "calibration": 17, "validation": 7, "holdout": 7}
    command = ["quantize", str(tmp_path / "my_tones.onnx"), "-q", "-o", str(tmp_path / "out")]
    assert main(command) == 0


def test_parts_are_apart_and_standardised(place: Path) -> None:
    task = folder.make_task(place)
    assert (task.name, task.stem, task.features) == ("my-tones", "my_tones", 40)
    material = task.load(task.recipe, None, lambda _event: None)
    parts = material.parts
    assert sum(len(p.labels) for p in (parts.train, parts.validation, parts.holdout)) == 48
    for part in vars(parts).values():
        assert part.inputs.shape[1:] == (task.steps, 40) and part.inputs.dtype == np.float32
        assert set(part.labels.tolist()) == {0, 1}
    values = parts.train.inputs
    filled = values[np.abs(values).sum(-1) > 0]  # without the frames before a recording
    np.testing.assert_allclose(filled.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(filled.std(0), 1, atol=0.1)
    batch = material.batch(np.arange(4), 0, np.random.default_rng(0))
    assert batch.shape == (4, task.steps, 40) and batch.dtype == np.float32


def test_speakers_are_in_one_part(tmp_path: Path) -> None:
    spoken = [f"{w}_{s}_{i}" for w in ("low", "high") for s in range(12) for i in range(2)]
    recorded = folder.Recorded(fill(tmp_path / "flat", spoken))
    assert recorded.speakers is not None
    parts = [set(recorded.speakers[part]) for part in recorded.split(0)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    nested = [f"{w}/{s}_{i}" for w in ("low", "high") for s in range(12) for i in range(2)]
    inner = folder.Recorded(fill(tmp_path / "nested", nested))
    assert inner.speakers is not None and len(set(inner.speakers)) == 12
    assert folder.Recorded(fill(tmp_path / "few", names())).speakers is None
    bare = [f"{word}/{index}" for word in ("low", "high") for index in range(20)]
    assert folder.Recorded(fill(tmp_path / "bare", bare)).speakers is None


@pytest.mark.parametrize("frames", [3, 5, 8])
def test_frames_stand_last_or_are_cut_on_both_sides(frames: int) -> None:
    values = np.arange(1, 6, dtype=np.float32)[:, np.newaxis]
    found = folder.fitted(values, frames)[:, 0].tolist()
    assert found == {3: [2, 3, 4], 5: [1, 2, 3, 4, 5], 8: [0, 0, 0, 1, 2, 3, 4, 5]}[frames]


def test_features_know_the_rate() -> None:
    """A tone is in the same band of frequencies at any rate, and a second has 63 frames."""
    for rate in (8000, 16000):
        tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        found = speech.features(tone, rate)
        assert found.shape == (63, 40)
    assert speech.features(tone).shape == (63, 40)


@pytest.mark.parametrize(
    ("contents", "channels", "words"),
    [
        (["a", "b"], 1, "must hold .wav files with labels in their names"),
        (names(3), 1, "must hold at least 20 recordings of every class, it holds 3 of 'high'"),
        (names(), 2, "must have one channel"),
    ],
)
def test_folders_that_will_not_do(tmp_path: Path, contents, channels: int, words: str) -> None:
    with pytest.raises(DataError) as caught:
        folder.make_task(fill(tmp_path / "place", contents, channels))
    assert words in str(caught.value)
