import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxgru.core.data import InputSpec, beside, load
from onnxgru.core.metrics import accuracy
from onnxgru.models import digits

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


@pytest.fixture(scope="module")
def parts():
    return digits.split(0)


def test_split_is_disjoint_and_stratified(parts):
    train, validation, holdout = (
        keys(part.rows) for part in (parts.train, parts.validation, parts.holdout)
    )
    assert [len(train), len(validation), len(holdout)] == [897, 450, 450]
    assert len({*train, *validation, *holdout}) == 1797  # no image occurs twice in the data
    assert len(parts.calibration.labels) == 256
    assert set(keys(parts.calibration.rows)) <= set(train)
    for part in (parts.train, parts.calibration, parts.validation, parts.holdout):
        counts = np.bincount(part.labels, minlength=10)
        assert counts.max() - counts.min() <= 0.1 * len(part.labels) * 0.15 + 1


def test_split_depends_on_the_seed(parts):
    assert keys(digits.split(0).holdout.rows) == keys(parts.holdout.rows)
    assert keys(digits.split(1).holdout.rows) != keys(parts.holdout.rows)


@pytest.mark.parametrize("role", ROLES)
def test_shipped_data_are_the_split(parts, role):
    data = shipped(role)
    expected = getattr(parts, role)
    np.testing.assert_array_equal(data.inputs["rows"], expected.rows)
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
    assert record["recipe"] == {**vars(digits.Recipe())}


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
    arguments = ["--epochs", "30", "--limit", "200"]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        output = ["--seed", str(seed), "--output", str(tmp_path / name)]
        assert digits.main([*arguments, *output]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[0])["holdout"] > 40  # chance is 10
    assert "training" in captured.err
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    roles = [f"digits_row.{role}.npz" for role in ROLES]
    assert names == sorted([*roles, "digits_row.json", "digits_row.onnx"])
    for name in names:
        same = (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert same, name
    ours, theirs = (weights(tmp_path / name / "digits_row.onnx")["gru.W_l0"] for name in "ac")
    assert not np.array_equal(ours, theirs)
    record = json.loads((tmp_path / "a" / "digits_row.json").read_text())
    assert record["recipe"]["epochs"] == 30
    assert record["images"]["train"] == 200


def test_augmentation_shifts_whole_images():
    image = np.zeros((200, 8, 8), np.float32)
    image[:, 3, 4] = 1.0
    recipe = digits.Recipe(noise=0.0, shift=1)
    moved = digits._augmented(image, recipe, np.random.default_rng(0))
    assert moved.dtype == np.float32
    assert np.all(moved.sum(axis=(1, 2)) == 1.0)
    places = {tuple(place) for place in np.argwhere(moved.sum(axis=0) > 0).tolist()}
    assert places == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}


@pytest.mark.parametrize("option", ["--epochs", "--limit"])
def test_wrong_numbers(option, capsys):
    with pytest.raises(SystemExit) as caught:
        digits.main([option, "0"])
    assert caught.value.code == 2
    assert f"{option} must be at least 1, got 0" in capsys.readouterr().err


def test_an_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    arguments = ["--epochs", "1", "--limit", "20", "--output", str(tmp_path / "taken")]
    assert digits.main(arguments) == 1
    assert "must be writable" in capsys.readouterr().err
