"""Recordings cut into the frames of a model that is called once per frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxgru.core.errors import DataError
from onnxgru.data.dataset import Dataset, InputSpec, Signature
from onnxgru.data.frames import cut
from onnxgru.data.sources import load

R, F, H = 3, 4, 2
I = 5  # noqa: E741 - the letter for inputs, as in docs and code
Array = npt.NDArray[Any]
FLOAT = np.dtype("f4")


def x(*shape: int | str | None, batch: int | None = 0, **settings: Any) -> InputSpec:
    return InputSpec("x", FLOAT, shape, batch, **settings)


def state(*shape: int | str | None, batch: int = 1) -> InputSpec:
    return InputSpec("h", FLOAT, shape, batch, state=True, fed_by="hn")


ONE: Signature = (x(1, 1, I), state(1, 1, H))
TIME_FIRST: Signature = (x(1, "B", I, batch=1), state(1, "B", H))
WHOLE = np.arange(R * F * I, dtype=np.float32).reshape(R, F, I)
"""Every element of every frame of every recording has a number of its own."""
FRAMES = WHOLE.reshape(R * F, I)


@pytest.mark.parametrize("signature", [ONE, TIME_FIRST], ids=["batch first", "time first"])
@pytest.mark.parametrize("way", ["longer", "in front"])
def test_recordings_become_frames(signature: Signature, way: str) -> None:
    spec, begun = signature
    axis = spec.batch_axis or 0
    given = {
        ("longer", 0): WHOLE,
        ("longer", 1): WHOLE.swapaxes(0, 1),
        ("in front", 0): WHOLE[:, :, None],
        ("in front", 1): WHOLE[:, None],
    }[way, axis]
    found, streams, _ = cut({"x": given}, signature, "test")
    assert streams == (F,) * R
    np.testing.assert_array_equal(found["x"], np.expand_dims(FRAMES, 1 - axis))
    np.testing.assert_array_equal(found["h"], np.zeros((1, R * F, H)))
    assert np.asarray(found["h"]).dtype == begun.dtype


def test_frames_along_the_batch_axis_are_one_recording() -> None:
    found, streams, _ = cut({"x": FRAMES[:, None]}, ONE, "test")
    assert streams == (R * F,)
    np.testing.assert_array_equal(found["x"], FRAMES[:, None])
    assert np.shape(found["h"]) == (1, R * F, H)
    assert cut({"x": FRAMES[:1, None]}, ONE, "test")[1] == (1,)


@pytest.mark.parametrize("rest", [0, 1])
def test_blocks_of_frames(rest: int) -> None:
    """A model that takes two frames per call; what does not fill a block is left out."""
    long = np.concatenate([WHOLE, WHOLE[:, :rest]], axis=1)
    signature = (x(1, 2, I), state(1, 1, H))
    found, streams, _ = cut({"x": long}, signature, "test")
    assert streams == (F // 2,) * R
    np.testing.assert_array_equal(found["x"], WHOLE.reshape(R * F // 2, 2, I))
    last = (x(1, I, 2), state(1, 1, H))  # features before time
    found, streams, _ = cut({"x": long.swapaxes(1, 2)}, last, "test")
    expected = WHOLE.swapaxes(1, 2).reshape(R, I, F // 2, 2).swapaxes(1, 2).reshape(-1, I, 2)
    np.testing.assert_array_equal(found["x"], expected)
    moved = (x(2, I, 1, batch=2), state(1, 1, H))  # the batch last
    found, streams, _ = cut({"x": np.moveaxis(long, 0, 2)}, moved, "test")
    expected = np.moveaxis(WHOLE.reshape(R * F // 2, 2, I), 0, 2)
    np.testing.assert_array_equal(found["x"], expected)
    samples = (x(1, I), state(1, 1, H))
    found, streams, _ = cut({"x": WHOLE.reshape(R, -1)}, samples, "test")
    assert streams == (F,) * R
    np.testing.assert_array_equal(found["x"], FRAMES)


def test_only_axes_of_frames_are_cut() -> None:
    """Twice as many features are no frames."""
    wide = np.zeros((R, 1, 2 * I), np.float32)
    for frames, expected in ((None, (2,) * R), ((1,), (R,)), ((1, 2), (2,) * R)):
        spec = x(1, 1, I, frames=frames)
        assert cut({"x": wide}, (spec, ONE[1]), "test")[1] == expected
    with pytest.raises(DataError, match=r"array 'x' must have size 5 on axis 2 .* has 10"):
        load({"x": wide}, (x(1, 1, I, frames=(1,)), ONE[1]))


def test_states_of_first_calls() -> None:
    begun = np.arange(1, R * H + 1, dtype=np.float32).reshape(1, R, H)
    expected = np.zeros((R, F, H))
    expected[:, 0] = begun[0]
    for given in (begun, begun.swapaxes(0, 1)[:, None]):  # (R, 1, 1, H): an axis in front
        found, streams, _ = cut({"x": WHOLE, "h": given}, ONE, "test")
        assert streams == (F,) * R
        np.testing.assert_array_equal(found["h"], expected.reshape(1, R * F, H))


def test_states_of_every_frame_are_kept() -> None:
    """Which frames belong together is found by their states (`Host.handed_on`)."""
    every = np.ones((1, R * F, H), np.float32)
    for given in (WHOLE, FRAMES[:, None]):
        found, streams, _ = cut({"x": given, "h": every}, ONE, "test")
        assert streams == ()
        np.testing.assert_array_equal(found["x"], FRAMES[:, None])
        assert found["h"] is every


def test_inputs_with_one_entry_per_recording() -> None:
    speaker = InputSpec("v", FLOAT, (1, 2), 0)
    given = np.arange(2 * R, dtype=np.float32).reshape(R, 2)
    found, _, _ = cut({"x": WHOLE, "v": given}, (*ONE, speaker), "test")
    np.testing.assert_array_equal(found["v"], np.repeat(given, F, axis=0))
    every = np.repeat(given, F, axis=0)
    found, _, _ = cut({"x": WHOLE, "v": every}, (*ONE, speaker), "test")
    np.testing.assert_array_equal(found["v"], every)
    rate = InputSpec("rate", np.dtype("i8"), (), None)
    found, _, _ = cut({"x": WHOLE, "rate": np.asarray(7)}, (*ONE, rate), "test")
    assert found["rate"] == 7


LABELS = np.arange(R * F)


@pytest.mark.parametrize("shape", [(R, F), (R * F,)])
def test_labels_of_every_frame(shape: tuple[int, ...]) -> None:
    found, _, _ = cut({"x": WHOLE, "labels": LABELS.reshape(shape)}, ONE, "test")
    np.testing.assert_array_equal(found["labels"], LABELS)


def test_targets_of_every_frame() -> None:
    found, _, _ = cut({"x": WHOLE, "labels": WHOLE}, ONE, "test")
    np.testing.assert_array_equal(found["labels"], FRAMES)
    found, _, _ = cut({"x": FRAMES[:, None], "labels": LABELS}, ONE, "test")
    np.testing.assert_array_equal(found["labels"], LABELS)


def untouched(given: Mapping[str, object], signature: Signature) -> None:
    found, streams, _ = cut(given, signature, "test")
    assert streams == ()
    for name, array in given.items():
        assert found[name] is array


def test_models_of_whole_recordings_are_left_alone() -> None:
    untouched({"x": WHOLE}, (x("B", "T", I),))
    untouched({"x": WHOLE, "labels": LABELS}, (x("B", F, I),))
    untouched({"x": WHOLE}, (x("B", "T", I), state(1, "B", H)))  # many steps per call
    untouched({"x": [1, 2]}, ONE)
    assert cut({}, ONE, "test")[1] == ()
    found, streams, _ = cut({"x": WHOLE}, (x("B", "T", I), state(1, "B", H)), "test")
    np.testing.assert_array_equal(found["h"], np.zeros((1, R, H)))
    found, streams, _ = cut({"x": WHOLE[:, :1]}, (x("B", "T", I), state(1, "B", H)), "test")
    assert streams == (R,)
    begins = InputSpec("h", FLOAT, (1, "B", H), 1, state=True)  # no output feeds it
    found, streams, _ = cut({"x": WHOLE}, (x("B", "T", I), begins), "test")
    assert np.shape(found["h"]) == (1, R, H)
    assert streams == ()


def test_several_recordings_per_call() -> None:
    """Frame after frame of two recordings side by side."""
    signature = (x(2, 1, I), state(1, 2, H))
    found, streams, _ = cut({"x": WHOLE[:2], "labels": LABELS[: 2 * F]}, signature, "test")
    assert streams == (F,)
    expected = WHOLE[:2].swapaxes(0, 1).reshape(2 * F, 1, I)
    np.testing.assert_array_equal(found["x"], expected)
    np.testing.assert_array_equal(found["labels"], LABELS[: 2 * F].reshape(2, F).T.reshape(-1))
    assert np.shape(found["h"]) == (1, 2 * F, H)


def test_the_last_call_may_have_fewer_recordings() -> None:
    signature = (x(2, 1, I), state(1, 2, H))
    found, streams, beside = cut({"x": WHOLE, "labels": LABELS}, signature, "test")
    assert (streams, beside) == ((F, F), (2, 1))
    expected = np.concatenate([WHOLE[:2].swapaxes(0, 1).reshape(2 * F, 1, I), WHOLE[2][:, None]])
    np.testing.assert_array_equal(found["x"], expected)
    data = load({"x": WHOLE}, signature)
    assert isinstance(data, Dataset) and (data.widths, data.size) == ((2, 1), R * F)
    calls = list(data.calls(2, 99))
    assert [count for _, count in calls] == [2] * F + [1] * F
    assert all(call.size == 2 for call, _ in calls)
    np.testing.assert_array_equal(calls[F + 1][0].inputs["x"], WHOLE[[2, 2], 1][:, None])
    for place, recording in zip(data.rows(), WHOLE, strict=True):
        np.testing.assert_array_equal(data.inputs["x"][list(place), 0], recording)
    first = data.take(2 * F + 1)
    assert (first.streams, first.beside) == ((F, 1), (2, 1))


def test_errors() -> None:
    other = InputSpec("y", FLOAT, (1, 1, I), 0)
    with pytest.raises(
        DataError,
        match=r"^test: all inputs must hold the same recordings and frames, they hold: "
        r"x 3 of 4, y 3 of 2$",
    ):
        cut({"x": WHOLE, "y": WHOLE[:, :2]}, (*ONE, other), "test")
    speaker = InputSpec("v", FLOAT, (1, 2), 0)
    with pytest.raises(
        DataError,
        match=r"^test: array 'v' must hold 3 recordings of 4 frames, it holds 5 entries on axis 0$",
    ):
        cut({"x": WHOLE, "v": np.zeros((5, 2))}, (*ONE, speaker), "test")
    with pytest.raises(
        DataError,
        match=r"^test: array 'labels' must hold one entry per frame, \(3, 4\), because the model "
        r"is called once per frame, its shape is \(3,\)$",
    ):
        cut({"x": WHOLE, "labels": LABELS[:R]}, ONE, "test")


def test_loaded() -> None:
    data = load({"x": WHOLE, "labels": LABELS.reshape(R, F)}, ONE)
    assert isinstance(data, Dataset)
    assert data.size == R * F
    assert data.streams == (F,) * R
    assert data.labels is not None and data.labels.tolist() == LABELS.tolist()
    parts = load([{"x": WHOLE}, {"x": WHOLE[:, :2]}], ONE)
    assert isinstance(parts, Dataset)
    assert parts.streams == (F,) * R + (2,) * R
    with pytest.raises(DataError, match=r"array 'x' must have 3 axes .*it has 1 \(5,\)"):
        load({"x": WHOLE[0, 0]}, ONE)
    with pytest.raises(DataError, match=r"array 'x' must have 3 axes .*it has 5 \("):
        load({"x": WHOLE[None, None]}, ONE)
    with pytest.raises(DataError, match=r"must hold an array for input 'x'"):
        load({"h": np.zeros((1, 3, H), np.float32)}, ONE)
    with pytest.raises(DataError, match=r"must hold an array for input 'x'"):
        load({}, ONE[::-1])
    assert load({"x": FRAMES}, ONE).streams == (R * F,)  # one recording without its batch axis
