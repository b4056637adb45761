"""Test data sets: one call each, states handed on, read as they were written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.events import silent
from onnxgru.firmware.verifying import verify
from onnxgru.passes.forms.form import Form
from onnxgru.runtime import golden
from onnxgru.session.toolchains import SAME
from tests import grus
from tests.pipeline import dataset, pipeline
from tests.runtime.exact import to_step

CASE = grus.Case(T=3, B=5, I=4, H=5)


def kept(contents: dict[str, bytes], folder: Path) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_step_form_begins_with_the_first_state_and_hands_it_on(tmp_path) -> None:
    inputs = grus.feeds(CASE)
    model = pipeline(grus.model(CASE), inputs)
    program = model.uniform(8)
    message = to_step(model).emit(program, Form("step"))
    data = dataset(model.host, inputs)
    sets = golden.read(
        kept(golden.write(message, data, count=100, time_axes={"X": 0}), tmp_path), message
    )
    assert [one.name for one in sets] == [f"test_data_set_{n}" for n in range(9)]
    zero = program.layers[0].emitted.zero_point
    state, following = "/gru/forward/state", "/gru/forward/next_state"
    for index, one in enumerate(sets):
        size = 1 if index >= 6 else 2  # five sequences
        first = np.full((size, 5), zero, np.uint8)
        expected = first if index % 3 == 0 else sets[index - 1].outputs[following]
        np.testing.assert_array_equal(one.inputs[state], expected)
        np.testing.assert_array_equal(
            one.inputs["X"][0], inputs["X"][index % 3][2 * (index // 3) :][:2]
        )


def test_other_forms_get_other_sequences(tmp_path) -> None:
    inputs = grus.feeds(CASE)
    model = pipeline(grus.model(CASE), inputs)
    message = model.emit(model.uniform(8))
    contents = golden.write(message, dataset(model.host, inputs), count=2, batch=2)
    first, second = golden.read(kept(contents, tmp_path), message)
    np.testing.assert_array_equal(first.inputs["X"], inputs["X"][:, :2])
    np.testing.assert_array_equal(second.inputs["X"], inputs["X"][:, 2:4])


@pytest.mark.parametrize("form", ["scan", "step"])
def test_verify_replays_them(tmp_path, form) -> None:
    onnx.save(grus.model(CASE), tmp_path / "m.onnx")
    settings = {"recurrence": form, "output": tmp_path / "o", "calibration": grus.feeds(CASE)}
    onnxgru.quantize(tmp_path / "m.onnx", golden=3, listener=silent, **settings)
    found = verify(tmp_path / "o", runtimes=["onnxruntime (all)"])
    assert found.inputs.startswith("3 test data sets of")
    assert [row.verdict for row in found.rows] == [SAME]
    onnxgru.quantize(tmp_path / "m.onnx", force=True, listener=silent, **settings)
    assert [path.name for path in (tmp_path / "o").glob("test_data*")] == ["test_data_set_0"]


def test_frames_of_a_stream_hand_the_models_own_states_on(tmp_path) -> None:
    case = grus.Case(T=1, B=5, I=4, H=5, initial=True)
    inputs = grus.feeds(case)
    model = pipeline(grus.model(case), inputs)
    message = model.emit(model.uniform(8))
    data = replace(dataset(model.host, inputs), streams=(3, 2))
    (state,) = set(inputs) - {"X"}
    contents = golden.write(message, data, count=5, batch=1, states={state: "Y_h"})
    sets = golden.read(kept(contents, tmp_path), message)
    for index, one in enumerate(sets):
        expected = sets[index - 1].outputs["Y_h"]
        if index in (0, 3):
            expected = inputs[state][:, index : index + 1]
        np.testing.assert_array_equal(one.inputs[state], expected)
