import io
import json
import tarfile
import wave
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxgru.cli import main
from onnxgru.core.errors import DataError
from onnxgru.models import sources, speech
from onnxgru.models.make import measure
from onnxgru.models.task import Examples
from onnxgru.models.zoo import TASKS
from tests.models.recordings import needs_data

FEW = {"yes": 2, "no": 1}
TONE = (3000 * np.sin(np.arange(16_000) * 0.3)).astype("<i2")


def silent(event):
    """Hear nothing."""


def sound(samples: np.ndarray = TONE, rate: int = 16_000, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setparams((channels, 2, rate, 0, "NONE", ""))
        writer.writeframes(samples.tobytes())
    return stream.getvalue()


def archive(path: Path, files: dict[str, bytes | None], mode: str = "w:gz") -> Path:
    """A tar archive; None makes a link out of it."""
    with tarfile.open(path, mode) as stream:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content or b"")
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            stream.addfile(member, io.BytesIO(content or b""))
    return path


@pytest.fixture(autouse=True)
def few(request, monkeypatch):
    """Expect few recordings, except of the real archive."""
    if "data" not in request.fixturenames:
        monkeypatch.setattr(speech, "KEYWORDS", FEW)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
@pytest.mark.parametrize("root", ["", "./", "speech_commands_test_set_v0.02/"])
def test_layouts_of_archives(root, mode, tmp_path):
    """With the keywords only, or with all else that the official archive holds."""
    loud = TONE * 2
    files = {
        f"{root}yes/ab12cd34_nohash_1.wav": sound(),
        f"{root}yes/0b12cd34_nohash_0.wav": sound(loud),
        f"{root}no/ab12cd34_nohash_0.wav": sound(),
        f"{root}_silence_/0.wav": b"anything",
        f"{root}_unknown_/ab12cd34_nohash_0.wav": b"anything",
        f"{root}bed/ab12cd34_nohash_0.wav": b"anything",
        f"{root}LICENSE": b"anything",
    }
    found = speech.read(archive(tmp_path / "archive", files, mode))
    assert found.words.tolist() == ["no", "yes", "yes"]
    assert found.speakers.tolist() == ["ab12cd34", "0b12cd34", "ab12cd34"]
    np.testing.assert_array_equal(found.waves, [TONE, loud, TONE])
    assert found.waves.dtype == np.int16


GOOD = {
    "yes/ab12cd34_nohash_1.wav": sound(),
    "yes/ab12cd34_nohash_0.wav": sound(),
    "no/ab12cd34_nohash_0.wav": sound(),
}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"no/ab12cd34_nohash_1.wav": sound()}, "it holds yes 2, no 2 recordings"),
        ({"no/ab12cd34_nohash_0.wav": b"RIFF"}, "is no WAV file"),
        ({"no/ab12cd34_nohash_0.wav": None}, "nohash_0.wav is not a file"),
        ({"no/ab12cd34_nohash_0.wav": sound(TONE[1:])}, "is not one second of 16-bit mono sound"),
        ({"no/ab12cd34_nohash_0.wav": sound(rate=8000)}, "is not one second of 16-bit mono sound"),
        ({"no/ab12cd34_nohash_0.wav": sound(channels=2)}, "is not one second of 16-bit mono sound"),
    ],
)
def test_wrong_archives(change, text, tmp_path):
    path = archive(tmp_path / "archive.tar.gz", GOOD | change)
    with pytest.raises(DataError) as caught:
        speech.read(path)
    (message,) = str(caught.value).splitlines()
    assert message.startswith(f"{path}: must be the file as published, but ") and text in message


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_archives(mode, share, tmp_path):
    path = archive(tmp_path / "archive", GOOD, mode)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        DataError, match=r"must be the file as published, but it (cannot be un|holds)"
    ):
        speech.read(path)


def test_features_are_63_frames_of_40_bands():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000) * 0.5
    found = speech.features(tone)
    assert found.shape == (63, 40) and found.dtype == np.float32
    assert np.isfinite(speech.features(np.zeros(16_000))).all()
    np.testing.assert_array_equal(found, speech.features(tone))  # nothing random
    mel = 1127 * np.log(1 + np.array([20, 1000, 8000]) / 700)  # bands are equally wide in mel
    middle = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 41 - 1
    assert abs(found[31].argmax() - middle) <= 1


def test_frames_are_every_16_ms():
    click = np.zeros(16_000)
    click[8000] = 0.5  # 500 ms
    loudest = speech.features(click).sum(axis=1).argmax()
    assert abs(16 * loudest + 8 - 500) <= 8


def test_speakers_are_in_one_part():
    generator = np.random.default_rng(0)
    speakers = generator.choice(
        [f"s{i}" for i in range(200)], 3000, p=generator.dirichlet([1] * 200)
    )
    parts = speech.divide_speakers(speakers, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))
    train, validation, holdout = (set(speakers[part]) for part in parts)
    assert not train & validation and not train & holdout and not validation & holdout
    for part, share in zip(parts, speech.SHARES, strict=True):
        assert len(part) / 3000 == pytest.approx(share, abs=0.03)
    again, other = (speech.divide_speakers(speakers, seed)[2].tolist() for seed in (0, 1))
    assert again == parts[2].tolist() != other


def test_augmentation():
    recipe = replace(speech.SpeechRecipe(), gain=0.0, noise=(-300.0, -300.0))
    generator = np.random.default_rng(0)
    plain = replace(recipe, speed=0.0, shift=0.0)
    samples = (TONE / 2**15).astype(np.float32)
    np.testing.assert_allclose(speech.varied(samples, plain, generator), samples, atol=1e-6)
    click = np.zeros(16_000, np.float32)
    click[8000:8010] = 1.0
    shifts = replace(recipe, speed=0.0, shift=0.1)
    places = [speech.varied(click, shifts, generator).argmax() for _ in range(40)]
    assert 6400 <= min(places) < 7000 and 9000 < max(places) <= 9610
    noise = speech.varied(click * 0, replace(plain, noise=(-40.0, -40.0)), generator)
    assert 20 * np.log10(noise.std()) == pytest.approx(-40, abs=0.2)
    ones = speech.masked(np.ones((30, 63, 40), np.float32), recipe, generator)
    for example in ones:
        assert (example.max(axis=0) == 0).sum() <= 12 and (example.max(axis=1) == 0).sum() <= 16
    assert 0.5 < ones.mean() < 0.9


# --- the recordings themselves -------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return speech.read(sources.find(speech.SOURCE, silent))


def test_training_on_drawn_sounds(monkeypatch):
    """The whole way from recordings to augmented batches, without the published ones."""
    generator = np.random.default_rng(0)
    words = np.array(["yes", "no"] * 20)
    found = speech.SpeechRecordings(
        generator.integers(-3000, 3000, (40, 16_000)).astype(np.int16),
        words,
        np.array([f"{index:08x}" for index in range(20)] * 2),
    )
    monkeypatch.setattr(speech, "read", lambda path: found)
    monkeypatch.setattr(speech.sources, "find", lambda source, listener: Path("archive"))
    monkeypatch.setattr(speech, "CALIBRATION_SIZE", 4)
    task = speech.make_task("two", ("yes", "no"))
    material = task.load(task.recipe, None, silent)
    batch = material.batch(np.arange(3), 0, np.random.default_rng(0))
    assert batch.shape == (3, 63, 40) and batch.dtype == np.float32
    assert np.isfinite(batch).all() and not np.array_equal(batch, material.parts.train.inputs[:3])


@needs_data
def test_the_official_recordings(data):
    assert data.waves.shape == (4074, 16_000)
    assert len(set(data.speakers)) == 239
    assert Counter(data.words.tolist()) == speech.KEYWORDS


@needs_data
def test_split(data, monkeypatch):
    monkeypatch.setattr(speech, "read", lambda path: data)
    four, ten = (TASKS[name] for name in ("speech-4", "speech-10"))
    material = ten.load(ten.recipe, 60, silent)
    for part in vars(material.parts).values():
        assert part.inputs.shape == (60, 63, 40) and part.inputs.dtype == np.float32
        assert len(set(part.labels.tolist())) == 10
    of_train = material.parts.train.inputs.reshape(-1, 40)
    np.testing.assert_allclose(of_train.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(of_train.std(axis=0), 1.0, atol=1e-3)
    noted = material.notes["standardisation"]
    train, validation, holdout = speech.divide_speakers(data.speakers, 0)
    expected = speech.features(data.waves[holdout[0]] / 2**15)
    given = material.parts.holdout.inputs[0] * noted["deviation"] + noted["mean"]
    np.testing.assert_allclose(given, expected, atol=1e-4)
    waves = [{wave.tobytes() for wave in data.waves[i]} for i in (train, validation, holdout)]
    assert sum(map(len, waves)) == len(set().union(*waves)) == 4074 - 121  # some are there twice
    labels = four.load(four.recipe, 60, silent).parts.train.labels
    words = [word for word in data.words[train] if word in four.classes][:60]
    assert [four.classes[label] for label in labels] == words
    batch = material.batch(np.arange(5), 0, np.random.default_rng(0))
    assert batch.shape == (5, 63, 40) and batch.dtype == np.float32


@needs_data
@pytest.mark.parametrize("name", ["speech-4", "speech-10"])
def test_accuracy_is_the_recorded_one(name, data):
    """With features that are standardised as the model's record says."""
    task = TASKS[name]
    model = Path(speech.__file__).with_name(f"{task.stem}.onnx")
    record = json.loads(model.with_suffix(".json").read_text())
    _, _, holdout = speech.divide_speakers(data.speakers, 0)
    chosen = [i for i in holdout if data.words[i] in task.classes]
    raw = np.stack([speech.features(samples) for samples in data.waves[chosen] / 2**15])
    scale = {key: np.array(value) for key, value in record["standardisation"].items()}
    inputs = ((raw - scale["mean"]) / scale["deviation"]).astype(np.float32)
    labels = np.array([task.classes.index(word) for word in data.words[chosen]])
    found = measure(model, task, Examples(inputs, labels))
    # another machine's rounding may move one recording at a decision boundary, no more
    step = 100 / len(chosen)
    assert found == pytest.approx(record["accuracy"]["holdout"], abs=step + 1e-3)


@needs_data
@pytest.mark.parametrize("name", ["speech-4", "speech-10"])
def test_short_training(name, data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speech, "read", lambda path: data)
    options = ("--epochs", "1", "--limit", "200", "--format", "json", "--quiet")
    assert main(["zoo", name, *options, "-o", str(tmp_path)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["examples"]["holdout"] == 200
    assert len(record["standardisation"]["mean"]) == 40
    stem = TASKS[name].stem
    data = str(tmp_path / f"{stem}.holdout.npz")
    assert main(["evaluate", str(tmp_path / f"{stem}.onnx"), "--data", data]) == 0
    assert "200 sequences" in capsys.readouterr().out
