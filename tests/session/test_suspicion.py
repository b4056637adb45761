"""Suspicious data are named with the file and the cure; usual data are not."""

import os
from pathlib import Path

import numpy as np
import pytest

from onnxgru.data.dataset import Dataset
from onnxgru.events import Notice
from onnxgru.session.session import Session
from onnxgru.session.suspicion import of_bytes, of_count, of_inputs, of_labels, summarise
from onnxgru.settings.config import Config
from tests.journeys import copy_digits

GENERATOR = np.random.default_rng(11)


def data(source="a.npz", count=60, scale=1.0, seed=0, **inputs) -> Dataset:
    x = scale * np.random.default_rng(seed).normal(size=(9, count, 3)).astype(np.float32)
    return Dataset({"x": x, **inputs}, None, source, {"x": 1, "h": 1})


def summaries(**roles: Dataset):
    return {role: summarise([found], found.source, ["h"]) for role, found in roles.items()}


def said(**roles: Dataset) -> list[str]:
    return list(of_inputs(summaries(**roles)))


def test_usual_data_are_not_suspicious():
    calibration, validation = data(), data("b.npz", 80, 2.0, 1)
    assert said(calibration=calibration, validation=validation) == []
    assert said(calibration=calibration, validation=calibration) == []  # one serves for both
    assert list(of_bytes(summaries(calibration=calibration))) == []
    assert list(of_count("validation", "b.npz", 80)) == []


@pytest.mark.parametrize("scale", [0.02, 255.0])
def test_other_scales_are_told(scale):
    (text,) = said(calibration=data(), validation=data("b.npz", 60, scale, 1))
    assert text.startswith("b.npz: input 'x' spans ") and "but in a.npz" in text
    assert text.endswith("in the same way, as the model was trained")


def test_one_recording_of_another_scale_is_told():
    odd = data("b.npz", seed=1)
    odd.inputs["x"][:, 7] *= 1000
    (text,) = said(calibration=data(), holdout=odd)
    assert "prepare hold-out and calibration data" in text


def test_zeros_are_told_but_not_of_states():
    zeros = np.zeros((1, 60, 4), np.float32)
    assert said(calibration=data(h=zeros)) == []
    (text,) = said(calibration=data(scale=0.0))
    assert text.startswith("a.npz: input 'x' is zero throughout the calibration data; store")


@pytest.mark.parametrize(
    ("judged", "other", "title"),
    [
        ("validation", "calibration", "validation"), ("validation", "training", "validation"),
        ("holdout", "calibration", "hold-out"), ("holdout", "training", "hold-out"),
        ("holdout", "validation", "hold-out"),
    ],
)  # fmt: skip
def test_shared_recordings_are_told_once(judged, other, title):
    own = data("b.npz", seed=1)
    own.inputs["x"][:, 10:13] = data().inputs["x"][:, 20:23]
    (text,) = said(**{judged: own, other: data()})
    assert text.startswith(f"b.npz: 3 of 60 {title} recordings are in a.npz too")
    assert text.endswith("leave them out of one")


def test_training_on_what_judges_is_told():
    (text,) = said(validation=data(), training=data())
    assert text.startswith("a.npz: training and validation data are the same, so figures on them")
    assert text.endswith("give other data for one of them")


def test_bytes_are_told():
    x = GENERATOR.integers(0, 256, (9, 60, 3)).astype(np.float32)
    (text,) = of_bytes(summaries(calibration=Dataset({"x": x}, None, "a.npz", {"x": 1})))
    assert text.startswith("a.npz: input 'x' holds whole numbers from 0 to 255") and "/" not in text
    assert "divide them by 255" in text


def test_few_sequences_are_told():
    (text,) = of_count("holdout", "b.npz", 1)
    assert text.startswith("b.npz: 1 sequence of hold-out data say little; give at least 50")
    (text,) = of_count("validation", "b.npz", 49)
    assert text.startswith("b.npz: 49 sequences of validation data cannot tell schemes apart")


LABELS = GENERATOR.integers(0, 4, 200)


@pytest.mark.parametrize(
    ("outputs", "labels", "expected"),
    [
        (np.eye(4)[LABELS], LABELS, []),
        (LABELS, LABELS, []),
        (np.eye(4)[LABELS], LABELS + 1, ["200 labels are 4 or above, up to 4", "than chance"]),
        (np.eye(4)[(LABELS + 1) % 4], LABELS, ["right for 0.00 % of the labels"]),
        (np.eye(4)[LABELS], np.full(200, 2), ["all labels are class 2"]),
        (np.eye(4)[LABELS[:10]], (LABELS[:10] + 1) % 4, []),  # too few to tell
        (np.eye(4)[LABELS].reshape(40, 5, 4), np.where(LABELS, LABELS, -1).reshape(40, 5), []),
    ],
)
def test_labels(outputs, labels, expected):
    found = list(of_labels("validation", "b.npz", outputs, labels))
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert text.startswith("b.npz: ") and part in text


def test_a_session_names_them_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_digits(tmp_path, 60)
    heard: list[str] = []

    def listen(event: object) -> None:
        heard.append(event.text if isinstance(event, Notice) else type(event).__name__)

    Session.open(Path("digits_row.onnx"), Config(), listen).examine()
    assert heard == []
    with np.load("digits_row.validation.npz") as file:
        arrays = dict(file)
    os.remove("digits_row.holdout.npz")
    np.savez("odd.npz", rows=16 * arrays["rows"], labels=arrays["labels"] + 100)
    Session.open(Path("digits_row.onnx"), Config(validation="odd.npz"), listen).examine()
    assert len(heard) == 3 and all(text.startswith("odd.npz: ") for text in heard)


def test_random_input_takes_values_that_tables_have(tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    copy_digits(tmp_path, 20)
    for path in tmp_path.glob("*.npz"):
        path.unlink()
    model = onnx.load("digits_row.onnx")
    table = onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "table")
    model.graph.initializer.append(table)
    model.graph.node.insert(0, onnx.helper.make_node("Gather", ["table", "tokens"], ["rows"]))
    given = onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["batch", 8])
    del model.graph.input[:]
    model.graph.input.append(given)
    onnx.save(model, "tokens.onnx")
    session = Session.open(Path("tokens.onnx"), Config())
    values = session.data["validation"].inputs["tokens"]
    assert session.data.synthetic and set(np.unique(values)) == set(range(8))
