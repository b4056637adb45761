"""Keras layers as tf2onnx writes them, one Loop without a recurrent operator, are layers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import source
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import Recognition, recognize
from tests import grus
from tests.passes.emission.test_decompose import TOLERANCE, decompose, distance
from tests.pipeline import pipeline
from tests.runtime.exact import require_exact

FOLDER = Path(__file__).parent / "keras"
T, B, I = 7, 2, 3  # noqa: E741 - the letters of the project
LAYERS = {
    "gru": [("gru.reset_after", "forward", "Sigmoid, Tanh")],
    "gru_before": [("gru.reset_before", "forward", "Sigmoid, Tanh")],
    "gru_any_length": [("gru.reset_after", "forward", "Sigmoid, Tanh")],
    "gru_hard": [("gru.reset_after", "forward", "HardSigmoid, Relu")],
    "lstm_hard": [("lstm", "forward", "HardSigmoid, Tanh, Tanh")],
    "bidirectional": [
        ("gru.reset_after", "forward", "Sigmoid, Tanh"),
        ("gru.reset_after", "reverse", "Sigmoid, Tanh"),
    ],
}
QUICK = ("onnxruntime (all)", "onnx.reference")


def loaded(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    message = onnx.load(FOLDER / f"{name}.onnx")
    for entry in [entry for entry in message.opset_import if entry.domain]:
        message.opset_import.remove(entry)  # tf2onnx declares ai.onnx.ml, which nothing uses
    x = np.random.default_rng(3).standard_normal((B, T, I), np.float32)
    return message, {"x": x}


def found(message: onnx.ModelProto) -> Recognition:
    model = source.read(message)
    Normalize()(model)
    return recognize(model)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_found_and_compute_the_same(name: str) -> None:
    message, inputs = loaded(name)
    recognition = found(message)
    assert not recognition.refusals
    assert LAYERS[name] == [
        (layer.cell.name, layer.attributes["direction"], layer.attributes["activations"])
        for layer in recognition.layers
    ]
    assert all(layer.attributes["operator"] == "Loop" for layer in recognition.layers)
    assert all(not layer.ports.initial for layer in recognition.layers)
    assert distance(grus.run(message, inputs), grus.run(decompose(message), inputs)) < TOLERANCE


@pytest.mark.parametrize("name", ["gru_any_length", "lstm_hard", "bidirectional"])
def test_integers_are_the_oracles(name: str) -> None:
    message, inputs = loaded(name)
    model = pipeline(message, inputs)
    program = model.mixed(3)
    require_exact(model, program, inputs, names=QUICK)
    require_exact(model, program, inputs, Form("unrolled", steps=T), names=QUICK)


@pytest.mark.parametrize(
    ("name", "cell"), [("gru_lengths", "gru.reset_after"), ("lstm_lengths", "lstm")]
)
def test_lengths(name: str, cell: str) -> None:
    message, inputs = loaded(name)
    x = np.concatenate([inputs["x"], inputs["x"][:1] + 1])
    inputs = {"x": x, "lengths": np.asarray([T, 2, 0], np.int32)}
    (layer,) = found(message).layers
    assert layer.cell.name == cell
    assert layer.ports.lengths
    assert distance(grus.run(message, inputs), grus.run(decompose(message), inputs)) < TOLERANCE
    model = pipeline(message, inputs)
    require_exact(model, model.mixed(3), inputs, names=QUICK)


def test_a_mask_leaves_the_layer_in_float() -> None:
    message, _ = loaded("masked")
    (refusal,) = found(message).refusals
    assert "which must be float32, or a mask of lengths" in refusal.reason
