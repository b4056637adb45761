"""Sequences cut into the calls that a model takes."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.errors import UsageError
from onnxgru.data.dataset import Corpus, Dataset, InputSpec, joined


def data(count: int = 5, steps: int = 2, *, labels: bool = True, start: int = 0) -> Dataset:
    """Sequence n holds the number n, on axis 1, beside an input that is given once."""
    numbers = start + np.arange(count, dtype=np.float32)
    x = np.broadcast_to(numbers[None, :, None], (steps, count, 3)).copy()
    inputs = {"rate": np.asarray(16000, np.int64), "x": x, "v": numbers[:, None]}
    classes = numbers.astype(np.int64) if labels else None
    return Dataset(inputs, classes, "test", {"rate": None, "x": 1})


def numbers(data: Dataset) -> list[int]:
    """Which sequences some data hold; all inputs and labels must agree."""
    found = data.inputs["x"][0, :, 0].astype(int).tolist()
    assert data.inputs["v"][:, 0].tolist() == found
    assert data.labels is None or data.labels.tolist() == found
    assert data.inputs["rate"] == 16000
    assert data.inputs["x"].shape[1] == data.size == len(found)
    return found


def test_parts_and_picks() -> None:
    whole = data()
    assert whole.parts == (whole,)
    assert numbers(whole.part(1, 3)) == [1, 2]
    assert np.shares_memory(whole.part(1, 3).inputs["x"], whole.inputs["x"])
    assert numbers(whole.pick([4, 0, 0])) == [4, 0, 0]
    assert numbers(whole.pick(np.asarray([2]))) == [2]
    assert numbers(data(labels=False).pick([3])) == [3]
    assert numbers(whole.take(2)) == [0, 1]
    assert numbers(whole.take(99)) == [0, 1, 2, 3, 4]
    assert [numbers(chunk) for chunk in whole.chunks(2)] == [[0, 1], [2, 3], [4]]


def test_one_sequence_where_everything_is_given_once() -> None:
    once = Dataset({"rate": np.ones(3)}, None, "test", {"rate": None})
    assert once.size == 1
    (call,) = once.calls(None, 8)
    assert call[1] == 1
    np.testing.assert_array_equal(call[0].inputs["rate"], np.ones(3))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_calls_of_a_fixed_batch_are_filled_up(count: int, batch: int) -> None:
    seen: list[int] = []
    for call, counted in data(count).calls(batch, 100):
        found = numbers(call)
        assert len(found) == batch
        assert found[counted:] == [count - 1] * (batch - counted)
        seen += found[:counted]
    assert seen == list(range(count))


def test_calls_of_any_batch() -> None:
    assert [(numbers(c), n) for c, n in data().calls(None, 3)] == [([0, 1, 2], 3), ([3, 4], 2)]


def test_calls_take_away_an_axis_that_the_model_lacks() -> None:
    states = np.arange(10.0).reshape(5, 2)
    some = replace(data(), inputs={"h": states, **data().inputs}, bare=frozenset({"h"}))
    assert [part.inputs["h"].shape for part in some.chunks(2)] == [(2, 2), (2, 2), (1, 2)]
    calls = [call for call, _ in some.calls(1, 9)]
    assert [call.inputs["h"].tolist() for call in calls] == states.tolist()
    assert {call.size for call in calls} == {1}


def test_frames_that_hand_states_on_go_one_by_one() -> None:
    frames = replace(data(), streams=(2, 3))
    assert [numbers(call) for call, _ in frames.calls(None, 100)] == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1,)), (2, (2,)), (3, (2, 1)), (5, (2, 3)), (9, (2, 3))]
)
def test_first_frames_hand_states_on_as_before(count: int, expected: tuple[int, ...]) -> None:
    found = replace(data(), streams=(2, 3)).take(count)
    assert found.streams == expected
    assert found.size == min(count, 5)


@pytest.mark.parametrize(("count", "expected"), [(1, (1,)), (2, (1,)), (3, (2,)), (8, (2, 2))])
def test_first_frames_of_several_recordings_per_call(count: int, expected: tuple[int, ...]) -> None:
    """As many calls as are run for them: the last one is filled up."""
    found = replace(data(8), streams=(2, 2)).take(count)
    assert found.streams == expected
    assert len(list(found.calls(2, 1))) == sum(expected)
    assert sum(counted for _, counted in found.calls(2, 1)) == count


@pytest.mark.parametrize("what", ["take", "chunks"])
def test_counts_below_one(what: str) -> None:
    corpus = Corpus((data(), data(steps=3)), "test")
    for some in (data(), corpus):
        with pytest.raises(UsageError, match=r"must be at least 1, got 0"):
            list(getattr(some, what)(0))


def test_digest_tells_apart() -> None:
    plain = data()
    swapped = Dataset(dict(reversed(plain.inputs.items())), plain.labels, "else", {"x": 1})
    assert plain.digest() == data().digest() == swapped.digest()
    others = [
        data(4),
        data(steps=3),
        data(labels=False),
        data(start=1),
        replace(plain, streams=(5,)),
        replace(plain, streams=(2, 3)),
        replace(plain, inputs={**plain.inputs, "rate": np.asarray(16000, np.int32)}),
        Corpus((plain, data(steps=3)), "test"),
        Corpus((plain, data(steps=4)), "test"),
    ]
    digests = [some.digest() for some in [plain, *others]]
    assert len(set(digests)) == len(digests)
    bigger = replace(
        plain, inputs={n: a.astype(a.dtype.newbyteorder(">")) for n, a in plain.inputs.items()}
    )
    assert bigger.digest() == plain.digest()


def test_several_lengths() -> None:
    corpus = Corpus((data(3), data(2, steps=4, start=3)), "test")
    assert corpus.size == 5
    assert corpus.labels is not None and corpus.labels.tolist() == [0, 1, 2, 3, 4]
    assert [numbers(chunk) for chunk in corpus.chunks(2)] == [[0, 1], [2], [3, 4]]
    calls = [(numbers(call), counted) for call, counted in corpus.calls(2, 9)]
    assert calls == [([0, 1], 2), ([2, 2], 1), ([3, 4], 2)]
    assert isinstance(first := corpus.take(3), Dataset) and numbers(first) == [0, 1, 2]
    assert isinstance(more := corpus.take(4), Corpus)
    assert [numbers(part) for part in more.parts] == [[0, 1, 2], [3]]
    assert corpus.take(99).size == 5
    assert Corpus((data(labels=False), data(steps=3)), "test").labels is None


def test_joined() -> None:
    one, other = np.zeros((2, 3, 4)), np.ones((1, 3, 4))
    assert joined([one]) is one
    assert joined([one, other]).shape == (3, 3, 4)
    assert joined([one, np.ones((1, 5, 4))]).shape == (11, 4)  # frames in one row
    assert joined([np.zeros((2, 3)), np.ones((1, 4))]).tolist() == [0] * 6 + [1] * 4
    with pytest.raises(ValueError, match="dimension"):
        joined([one, np.ones((1, 3, 5))])


def test_what_an_input_takes() -> None:
    spec = InputSpec("x", np.dtype("f4"), (None, 2, "T"), 1)
    assert str(spec) == "x float32 (?, 2, T)"
    assert spec.batch == 2
    assert replace(spec, batch_axis=0).batch is None
    assert replace(spec, batch_axis=2).batch is None
    assert replace(spec, batch_axis=None).batch is None
    assert replace(spec, batch_axis=7).batch is None
