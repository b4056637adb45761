"""Whole recordings through the states equal the emitted graph, called frame by frame."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from onnxgru.data.dataset import Dataset
from onnxgru.data.intervals import recordings
from onnxgru.data.sources import load
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.plan import LoopError
from onnxgru.runtime.population import PopulationEvaluator
from onnxgru.runtime.verify import oracle_engine, verify
from onnxgru.session.recordings import Recordings
from onnxgru.settings.config import Config
from tests.devices import torch_device
from tests.runtime import streaming
from tests.runtime.streaming import Streaming, frame_by_frame

Array = npt.NDArray[Any]

MODELS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "slices, joined": (streaming.stacked, ("slice", "concat")),
    "gathered, scattered": (streaming.stacked, ("gather", "scatter")),
    "split, joined": (streaming.stacked, ("split", "concat")),
    "bands": (streaming.dual, ()),
    "delayed": (streaming.delayed, ()),
    "single steps": (streaming.single, ()),
    "flat": (streaming.flat, ()),
    "flat row": (streaming.flat, ((1, streaming.H),)),
}
LOOPED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mask": (streaming.stacked, ("slice", "concat", "mask")),
    "dense": (streaming.stacked, ("gather", "scatter", "dense")),
    "both directions": (streaming.both, ()),
    "going round": (streaming.delayed, (True,)),
}
CARRIED = {"slices, joined": {0, 1}, "gathered, scattered": {0, 1}, "split, joined": {0, 1},
           "bands": {1}, "delayed": {0}, "single steps": {0}, "flat": {0},
           "flat row": {0}}  # fmt: skip


@cache
def made(name: str) -> Streaming:
    build, settings = (MODELS | LOOPED)[name]
    declared = None
    if build is streaming.delayed:
        declared = streaming.delayed_wishes(*settings)
    return streaming.streaming(build(*settings), declared=declared)


def stacked(parts: list[dict[str, Array]], axes: Mapping[str, int | None]) -> dict[str, Array]:
    return {
        name: np.stack([part[name] for part in parts])
        if axes[name] is None
        else np.concatenate([np.moveaxis(part[name], axes[name] or 0, 0) for part in parts])
        for name in parts[0]
    }


def require_equal(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", [*MODELS, *LOOPED])
def test_it_equals_the_emitted_graph(name: str) -> None:
    pipeline, data = made(name).made, made(name).data
    host = pipeline.host
    evaluator = Evaluator(host, data)
    for program in (pipeline.uniform(8), pipeline.mixed(1)):
        calls = frame_by_frame(pipeline.emit(program), data, host.interface.states)
        expected = stacked(calls, host.interface.outputs)
        require_equal(evaluator.outputs(program), expected)
        for found, call in zip(evaluator.calls_outputs(program), calls, strict=True):
            require_equal(found, call)


@pytest.mark.parametrize("name", [*MODELS, *LOOPED])
def test_codes_equal_the_oracle(name: str) -> None:
    pipeline, data = made(name).made, made(name).data
    program = pipeline.mixed(2)
    plain = list(Evaluator(pipeline.host, data).states(program, trace=True))
    exact = list(Evaluator(pipeline.host, data, oracle_engine).states(program, trace=True))
    assert len(plain) == sum(data.streams)
    for (values, states), (others, expected) in zip(plain, exact, strict=True):
        require_equal(values, others)
        assert states.keys() == expected.keys()
        for layer, found in states.items():
            np.testing.assert_array_equal(found.y, expected[layer].y)
            np.testing.assert_array_equal(found.last["state"], expected[layer].last["state"])
            require_equal(found.trace, expected[layer].trace)


@pytest.mark.parametrize("name", list(MODELS))
def test_layers_start_where_they_ended(name: str) -> None:
    host, data = made(name).made.host, made(name).data
    frame = next(iter(data.calls(1, 1)))[0].inputs
    assert host.plan(None, frame).carried == CARRIED[name]


def test_several_recordings_per_call() -> None:
    """Of the same calls, side by side."""
    found = streaming.streaming(streaming.single(3), (4, 2))
    pipeline, data = found.made, found.data
    assert (data.size, data.streams, recordings(data)) == (18, (4, 2), 6)
    program = pipeline.uniform(8)
    host = pipeline.host
    calls = frame_by_frame(pipeline.emit(program), data, host.interface.states, 3)
    outputs = Evaluator(host, data).outputs(program)
    require_equal(outputs, stacked(calls, host.interface.outputs))
    frames = outputs["y"].reshape(6, 3, -1)
    assert not np.array_equal(frames[4:, 0], frames[4:, 1])


def test_a_call_that_recordings_do_not_fill() -> None:
    """Five recordings for calls of three: what fills the second call is never counted."""
    message = streaming.single(3)
    made_ = streaming.streaming(message, (4, 4))
    pipeline, whole = made_.made, made_.data
    host, program = pipeline.host, pipeline.uniform(8)
    x = whole.inputs["x"].reshape(2, 4, 3, -1).swapaxes(1, 2).reshape(6, 4, -1)[:5]
    data = load({"x": x}, host.signature)
    assert isinstance(data, Dataset)
    data = host.handed_on(data)
    assert (data.size, data.streams, data.beside) == (20, (4, 4), (3, 2))
    assert recordings(data) == 5
    counts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 18, 19, 21, 22]
    for name, axis in data.batch_axes.items():
        kept = np.take(whole.inputs[name], counts, axis=axis or 0)
        np.testing.assert_array_equal(data.inputs[name], kept)
    for outputs, expected in (
        (Evaluator(host, data).outputs(program), Evaluator(host, whole).outputs(program)),
        (host.outputs_of(data, through_states=True), host.outputs_of(whole)),
    ):
        require_equal(outputs, {name: array[counts] for name, array in expected.items()})
    model = pipeline.emit(program)
    checked = verify(model, host, program, data, states=host.interface.states)
    assert (checked.sequences, checked.calls) == (20, 8)


@pytest.mark.parametrize("name", list(LOOPED))
def test_what_is_computed_with_a_state_goes_call_by_call(name: str) -> None:
    host, data = made(name).made.host, made(name).data
    frame = next(iter(data.calls(1, 1)))[0].inputs
    with pytest.raises(LoopError):
        host.plan(None, frame)


def test_the_float_model_through_its_states() -> None:
    host, data = made("bands").made.host, made("bands").data
    expected = frame_by_frame(host._proto, data, host.interface.states)
    require_equal(
        host.outputs_of(data, through_states=True), stacked(expected, host.interface.outputs)
    )
    assert host.handed_on(data).digest() == data.digest()


@pytest.mark.parametrize("name", ["slices, joined", "bands", "mask"])
def test_population(name: str) -> None:
    pipeline, data = made(name).made, made(name).data
    programs = [pipeline.uniform(8), pipeline.uniform(3), pipeline.mixed(4)]
    plain = Evaluator(pipeline.host, data)
    evaluator = PopulationEvaluator(pipeline.host, data, torch_device("cpu"))
    for program, found in zip(programs, evaluator.outputs_of(programs), strict=True):
        require_equal(found, plain.outputs(program))


def test_only_outputs_that_are_wanted() -> None:
    pipeline, data = made("slices, joined").made, made("slices, joined").data
    program = pipeline.uniform(6)
    whole = Evaluator(pipeline.host, data).outputs(program)
    for names in (["y"], ["cache_next"], ["hn"]):
        found = Evaluator(pipeline.host, data, outputs=names).outputs(program)
        require_equal(found, {name: whole[name] for name in names})


def test_groups_of_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory bounds how many are run together; recordings are never torn apart."""
    pipeline, data = made("gathered, scattered").made, made("gathered, scattered").data
    program = pipeline.uniform(5)
    whole = Evaluator(pipeline.host, data).outputs(program)
    monkeypatch.setattr("onnxgru.runtime.evaluator.CHUNK_BYTES", 1)
    apart = Evaluator(pipeline.host, data)
    assert len(apart._groups) == len(data.streams)
    require_equal(apart.outputs(program), whole)
    assert [dict(call.inputs).keys() for call in apart.calls] == [data.inputs.keys()] * 13


@pytest.mark.parametrize("name", ["slices, joined", "delayed", "going round"])
def test_first_states_that_the_data_hold(name: str) -> None:
    """Of recordings that are shorter than what a state remembers, too."""
    pipeline, zero = made(name).made, made(name).data
    generator = np.random.default_rng(5)
    host = pipeline.host
    inputs = dict(zero.part(0, 9).inputs)
    for state in host.interface.states:
        inputs[state] = generator.uniform(-0.8, 0.8, inputs[state].shape).astype(np.float32)
    data = host.handed_on(Dataset(inputs, None, "test", zero.batch_axes, (1, 2, 6)))
    program = pipeline.uniform(8)
    calls = frame_by_frame(pipeline.emit(program), data, host.interface.states)
    found = Evaluator(host, data).outputs(program)
    require_equal(found, stacked(calls, host.interface.outputs))
    assert not np.array_equal(found["y"], Evaluator(host, zero).outputs(program)["y"][:9])


def test_recordings_are_found_by_their_states() -> None:
    """Data that hold the float model's states of every frame."""
    host, data = made("slices, joined").made.host, made("slices, joined").data
    apart = Dataset(data.inputs, None, "test", data.batch_axes)
    assert host.handed_on(apart).streams == data.streams
    shuffled = apart.pick([3, 0, 4, 1, 2])
    assert host.handed_on(shuffled) is shuffled  # frames that are apart
    one = apart.part(0, 1)
    assert host.handed_on(one) is one


def test_files_of_one_frame_each_are_one_recording(tmp_path: Path) -> None:
    """In the order of their names; with the states of the float model, or without."""
    host, data = made("slices, joined").made.host, made("slices, joined").data
    heard: list[Any] = []
    for names in (("x",), tuple(data.inputs)):
        folder = tmp_path / names[-1]
        folder.mkdir()
        for number, (call, _) in enumerate(data.calls(1, 1)):
            np.savez(folder / f"{number:03}.npz", **{n: call.inputs[n] for n in names})
        config = Config(calibration=folder, validation=folder)
        found = Recordings(tmp_path / "m.onnx", host, config, heard.append)
        judged = found["validation"]
        assert isinstance(judged, Dataset)
        np.testing.assert_array_equal(judged.inputs["x"], data.inputs["x"])
        (calibrated,) = found.calibration()
        assert calibrated.digest() == judged.digest()
        assert judged.streams == ((13,) if names == ("x",) else data.streams)
        if names != ("x",):
            assert judged.digest() == data.digest()
    texts = [str(event) for event in heard]
    assert any("1 recording of 13 frames in all; run through the states" in t for t in texts)
    assert any("3 recordings of 13 frames in all" in text for text in texts)


def test_no_states_are_handed_on_if_told_so() -> None:
    message = streaming.stacked()
    _, host = streaming.host_of(message, Declared(states={}))
    assert host.interface.states == {}
    data = made("slices, joined").data
    assert host.handed_on(data) is data


def test_states_of_any_batch_go_recording_by_recording() -> None:
    """The batch axes of x and of the states are free."""
    message = streaming.stacked()
    for value in (*message.graph.input, *message.graph.output):
        axis = 1 if value.name in ("h", "hn") else 0
        value.type.tensor_type.shape.dim[axis].dim_param = "B"
    onnx.checker.check_model(message)
    free, fixed = streaming.streaming(message), made("slices, joined")
    assert free.data.digest() == fixed.data.digest()
    program = free.made.uniform(8)
    require_equal(
        Evaluator(free.made.host, free.data).outputs(program),
        Evaluator(fixed.made.host, fixed.data).outputs(fixed.made.uniform(8)),
    )
