import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxgru.cli import main
from onnxgru.data.dataset import InputSpec
from onnxgru.data.metrics import accuracy
from onnxgru.data.sources import beside, load
from onnxgru.models import digits, images

pytestmark = pytest.mark.slow

MODEL = Path(digits.__file__).with_name("digits_row.onnx")
ROLES = ("calibration", "validation", "holdout")
SIGNATURE = (InputSpec("rows", np.dtype(np.float32), ("batch", 8, 8)),)


def shipped(role):
    path = beside(MODEL, role)
    assert path is not None
    return load(path, SIGNATURE)


def keys(images):
    """Images as byte strings, to compare sets of them."""
    return [image.tobytes() for image in images]


def split(seed=0):
    recipe = dataclasses.replace(digits.TASK.recipe, seed=seed)
    return digits.TASK.load(recipe, None, lambda event: None).parts


@pytest.fixture(scope="module")
def parts():
    return split()


def test_split_is_disjoint_and_stratified(parts):
    train, validation, holdout = (
        keys(part.inputs) for part in (parts.train, parts.validation, parts.holdout)
    )
    assert [len(train), len(validation), len(holdout)] == [897, 450, 450]
    assert len({*train, *validation, *holdout}) == 1797  # no image occurs twice in the data
    assert len(parts.calibration.labels) == 256
    assert set(keys(parts.calibration.inputs)) <= set(train)
    for part in (parts.train, parts.calibration, parts.validation, parts.holdout):
        counts = np.bincount(part.labels, minlength=10)
        assert counts.max() - counts.min() <= 0.1 * len(part.labels) * 0.15 + 1


def test_split_depends_on_the_seed(parts):
    assert keys(split(0).holdout.inputs) == keys(parts.holdout.inputs)
    assert keys(split(1).holdout.inputs) != keys(parts.holdout.inputs)


@pytest.mark.parametrize("role", ROLES)
def test_shipped_data_are_the_split(parts, role):
    data = shipped(role)
    expected = getattr(parts, role)
    np.testing.assert_array_equal(data.inputs["rows"], expected.inputs)
    np.testing.assert_array_equal(data.labels, expected.labels)
    steps = data.inputs["rows"] * 16
    np.testing.assert_array_equal(steps, np.rint(steps))
    assert (steps.min(), steps.max()) == (0, 16)


def test_shipped_accuracy_is_the_recorded_one():
    record = json.loads(MODEL.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    for role in ROLES:
        data = shipped(role)
        outputs = session.run(["probabilities"], {"rows": data.inputs["rows"]})[0]
        np.testing.assert_allclose(outputs.sum(axis=-1), 1.0, atol=1e-5)
        # another machine's rounding may move one image at a decision boundary, no more
        step = 100.0 / data.size
        figure = accuracy(outputs, data.labels)
        assert figure == pytest.approx(record["accuracy"][role], abs=step + 1e-3), role
    assert record["accuracy"]["holdout"] >= 96.5
    assert record["recipe"] == vars(digits.TASK.recipe)


def test_shipped_graph():
    model = onnx.load(MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert [
        d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim
    ] == [
        "batch",
        8,
        8,
    ]
    assert model.opset_import[0].version >= 18
    assert [node.op_type for node in model.graph.node].count("GRU") == 1
    assert MODEL.stat().st_size < 70_000


def weights(path):
    return {
        item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer
    }


def test_recipe_is_repeatable(tmp_path, capsys):
    arguments = ["zoo", "digits-row", "--limit", "200", "--format", "json"]
    for name, seed, epochs in (("a", 0, 24), ("b", 0, 24), ("c", 1, 1)):
        told = ["--epochs", str(epochs), "--seed", str(seed), "--output", str(tmp_path / name)]
        assert main([*arguments, *told]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["accuracy"]["holdout"] > 40 or epochs == 1  # chance is 10
        assert record["recipe"] == vars(digits.TASK.recipe) | {"epochs": epochs, "seed": seed}
        assert record["examples"] == dict.fromkeys(("train", *ROLES), 200)
        assert json.loads((tmp_path / name / "digits_row.json").read_text()) == record
    found = sorted(path.name for path in (tmp_path / "a").iterdir())
    data = [f"digits_row.{role}.npz" for role in ("train", *ROLES)]
    assert found == sorted([*data, "digits_row.json", "digits_row.onnx"])
    for name in found:
        same = (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert same, name
    ours, theirs = (weights(tmp_path / name / "digits_row.onnx")["gru.W_l0"] for name in "ac")
    assert not np.array_equal(ours, theirs)


def test_augmentation_shifts_whole_images():
    image = np.zeros((200, 8, 8), np.float32)
    image[:, 3, 4] = 1.0
    moved = images.shifted(image, 1, np.random.default_rng(0))
    assert moved.dtype == np.float32
    assert np.all(moved.sum(axis=(1, 2)) == 1.0)
    places = {tuple(place) for place in np.argwhere(moved.sum(axis=0) > 0).tolist()}
    assert places == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}


def test_noise_stays_within_the_grey_levels():
    grey = np.full((50, 8, 8), 0.5, np.float32)
    rough = images.noisy(grey, 0.1, np.random.default_rng(0))
    assert rough.dtype == np.float32
    assert np.std(rough) == pytest.approx(0.1, rel=0.05)
    clipped = images.noisy(grey, 5.0, np.random.default_rng(0))
    assert (clipped.min(), clipped.max()) == (0.0, 1.0)


def test_augmentation_of_a_batch(parts):
    material = digits.TASK.load(digits.TASK.recipe, None, lambda event: None)
    chosen = np.array([5, 3])
    batch = material.batch(chosen, 0, np.random.default_rng(0))
    assert batch.dtype == np.float32 and batch.shape == (2, 8, 8)
    plain = dataclasses.replace(digits.TASK.recipe, shift=0, noise=0.0)
    unchanged = digits.TASK.load(plain, None, lambda event: None)
    np.testing.assert_array_equal(
        unchanged.batch(chosen, 0, np.random.default_rng(0)), parts.train.inputs[chosen]
    )
