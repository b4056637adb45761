import gzip
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxgru.cli import main
from onnxgru.core.errors import DataError
from onnxgru.models import images, mnist, mnist_pixel, sources
from onnxgru.models.zoo import TASKS
from tests.models.recordings import needs_data


def silent(event):
    """Hear nothing."""


# --- resampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 7, 10, 14, 19, 27, 28])
def test_resampling_is_the_mean_over_the_area(side):
    """Against the plain definition: every pixel repeated, then means over blocks."""
    generator = np.random.default_rng(side)
    levels = generator.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    levels[0] = 255
    fine = levels.repeat(side, axis=1).repeat(side, axis=2).astype(np.int64)
    blocks = fine.reshape(3, side, 28, side, 28).sum(axis=(2, 4))
    expected = (2 * blocks + 28 * 28) // (2 * 28 * 28)  # of 28 x 28 pixels each, half up
    found = images.resampled(levels, side)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_resampling_rounds_half_up():
    levels = np.array([[[0, 1], [1, 0]], [[1, 2], [2, 1]], [[0, 0], [1, 0]]], np.uint8)
    np.testing.assert_array_equal(images.resampled(levels, 1).ravel(), [1, 2, 0])


# --- files ---------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_damaged_files(damage, tmp_path, monkeypatch):
    shutil.copytree(Path(os.environ[sources.VARIABLE]) / "mnist", tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    path.chmod(0o644)
    content = path.read_bytes()
    other = gzip.compress(gzip.decompress(content)[:-1] + b"\x0b")
    flipped = content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]
    path.write_bytes({"cut": content[:9000], "flipped": flipped, "other": other}[damage])
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    with pytest.raises(DataError) as caught:
        mnist._labels("train", silent)
    (message,) = str(caught.value).splitlines()
    assert message.startswith(f"{path}: must be the file as published, but it")


@needs_data
@pytest.mark.parametrize("name", ["mnist-row", "mnist-pixel"])
def test_split(name):
    task = TASKS[name]
    parts = task.load(task.recipe, 600, silent).parts
    for part, size in zip(vars(parts).values(), (600, 512, 600, 600), strict=True):
        assert part.inputs.shape == (size, task.steps, task.features)
        assert part.inputs.dtype == np.float32 and part.labels.dtype == np.int64
        levels = part.inputs * 255
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        assert (part.inputs.min(), part.inputs.max()) == (0.0, 1.0)
        assert np.bincount(part.labels).min() > 0.05 * size
    train, calibration, validation, _ = (
        {image.tobytes() for image in part.inputs} for part in vars(parts).values()
    )
    assert not validation & (train | calibration)
    official = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # the test set's first digits, in its order
    assert parts.holdout.labels[:10].tolist() == official


@needs_data
def test_split_is_whole():
    """Every training image is in one part, and calibration within train."""
    recipe = TASKS["mnist-row"].recipe
    parts = mnist.load(recipe, None, silent, lambda i: i[:, :1, :1] * 0.0, lambda i, *_: i).parts
    sizes = [len(part.labels) for part in vars(parts).values()]
    assert sizes == [55_000, 512, 5_000, 10_000]
    counts = np.bincount(parts.train.labels) + np.bincount(parts.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    share = np.bincount(parts.validation.labels) / counts
    np.testing.assert_allclose(share, 5_000 / 60_000, rtol=0.002)


@needs_data
def test_pixel_sequences_grow():
    recipe = replace(TASKS["mnist-pixel"].recipe, shift=0)
    material = mnist_pixel.load(recipe, 20, silent)
    generator = np.random.default_rng(0)
    steps = [
        material.batch(np.arange(2), epoch, generator).shape[1] for epoch in range(recipe.epochs)
    ]
    assert steps == sorted(steps)
    assert set(steps) == {7 * 7, 10 * 10, 14 * 14, 19 * 19}
    last = material.batch(np.arange(20), recipe.epochs - 1, generator)
    np.testing.assert_array_equal(last, material.parts.train.inputs)


@needs_data
@pytest.mark.parametrize(
    ("name", "epochs", "least"), [("mnist-row", 40, 40), ("mnist-pixel", 1, 0)]
)
def test_short_training(name, epochs, least, tmp_path, capsys):
    options = ("--epochs", str(epochs), "--limit", "200", "--format", "json", "--quiet")
    assert main(["zoo", name, *options, "-o", str(tmp_path)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["accuracy"]["holdout"] > least
    stem = TASKS[name].stem
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{stem}.{end}"
        for end in (
            *("onnx", "json", "train.npz", "calibration.npz", "validation.npz", "holdout.npz"),
        )
    )
    assert main(["inspect", str(tmp_path / f"{stem}.onnx")]) == 0
    data = str(tmp_path / f"{stem}.holdout.npz")
    assert main(["evaluate", str(tmp_path / f"{stem}.onnx"), "--data", data]) == 0
    assert "200 sequences" in capsys.readouterr().out
