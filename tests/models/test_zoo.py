"""The trained models in the repository: what they are, and that the recipes are theirs."""

import json
from pathlib import Path

import onnx
import pytest

from onnxgru.models import zoo
from onnxgru.models.make import measure
from onnxgru.models.network import OUTPUT
from onnxgru.models.zoo import TASKS
from tests.models.recordings import needs_data

FOLDER = Path(zoo.__file__).parent
LEAST = {
    "digits-row": 96,
    "mnist-row": 97,
    "mnist-pixel": 95,
    "speech-4": 90,
    "speech-10": 85,
    "speech-10-lstm": 80,
    "speech-10-ligru": 80,
    "speech-10-sru": 65,
}
"""Percent right of the hold-out part."""
OPERATORS = {"gru": "GRU", "lstm": "LSTM", "ligru": "Scan", "sru": "Scan"}
WEIGHTS = {
    "gru": lambda i, h: 3 * h * (i + h + 2),
    "lstm": lambda i, h: 4 * h * (i + h + 2),
    "ligru": lambda i, h: 2 * h * (i + h + 1),
    "sru": lambda i, h: 4 * h * (i + 1) + 2 * h,
}
"""Numbers of a layer of I features and H units."""


def record(name: str) -> dict:
    return json.loads((FOLDER / f"{TASKS[name].stem}.json").read_text())


@pytest.mark.parametrize("name", TASKS)
def test_record(name):
    """A recipe that changes makes another model: train it again."""
    task, found = TASKS[name], record(name)
    assert found["recipe"] == json.loads(json.dumps(vars(task.recipe)))
    assert found["classes"] == list(task.classes)
    assert found["model"] == f"{task.stem}.onnx"
    assert found["accuracy"]["holdout"] >= LEAST[name]
    parts = ["train", "calibration", "validation", "holdout"]
    assert list(found["accuracy"]) == list(found["examples"]) == parts


@pytest.mark.parametrize("name", TASKS)
def test_graph(name):
    task = TASKS[name]
    path = FOLDER / f"{task.stem}.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (given,), (output,) = model.graph.input, model.graph.output
    assert (given.name, output.name) == (task.input_name, OUTPUT)
    shape = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert shape == ["batch", task.steps, task.features]
    cell, hidden = task.recipe.cell, task.recipe.hidden_size
    assert [node.op_type for node in model.graph.node].count(OPERATORS[cell]) == 1
    weights = WEIGHTS[cell](task.features, hidden) + (hidden + 1) * len(task.classes)
    assert path.stat().st_size < 4 * weights + 6000


@needs_data
@pytest.mark.parametrize("name", ["mnist-row", "mnist-pixel"])
def test_accuracy_is_the_recorded_one(name):
    """On the first 1,000 test images, which are a little harder than the others."""
    task = TASKS[name]
    holdout = task.load(task.recipe, 1000, lambda event: None).parts.holdout
    found = measure(FOLDER / f"{task.stem}.onnx", task, holdout)
    assert found == pytest.approx(record(name)["accuracy"]["holdout"], abs=1.5)
