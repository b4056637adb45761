"""Data that Python programs hold: every kind of object, read once or several times."""

from collections.abc import Iterator

import numpy as np
import pytest

from onnxgru.core.errors import DataError, UsageError
from onnxgru.data.dataset import Dataset, InputSpec
from onnxgru.data.reading import Held
from onnxgru.data.sources import load, stream

FLOAT = np.dtype(np.float32)
ONE = (InputSpec("rows", FLOAT, ("batch", "time", 3)),)
TWO = (
    InputSpec("x", FLOAT, ("time", "batch", 3), batch_axis=1),
    InputSpec("lengths", np.dtype(np.int32), ("batch",)),
)
ROWS = np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32)
CLASSES = np.arange(6)


class Tensor:
    """As torch's: on a device, with a gradient."""

    def __init__(self, array: np.ndarray, steps: tuple[str, ...] = ()) -> None:
        self.array, self.steps, self.shape = array, steps, array.shape

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("can't call numpy() on a tensor that requires grad")

    def detach(self) -> "Tensor":
        return Tensor(self.array, (*self.steps, "detach"))

    def cpu(self) -> "Tensor":
        return Tensor(self.array, (*self.steps, "cpu"))

    def numpy(self) -> np.ndarray:
        assert self.steps == ("detach", "cpu")
        return self.array


class Loader:
    """As torch's DataLoader: batches, any number of times."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        return ([Tensor(ROWS[i : i + 2]), Tensor(CLASSES[i : i + 2])] for i in (0, 2, 4))

    def __len__(self) -> int:
        return 3


class Single:
    """As torch's Dataset: an example at a time, and no end by itself."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return Tensor(ROWS[index % 6]), int(CLASSES[index % 6])

    def __len__(self) -> int:
        return 6


class Reader:
    """As onnxruntime's CalibrationDataReader."""

    def __init__(self) -> None:
        self.rest = [{"rows": ROWS[:4], "labels": CLASSES[:4]}]
        self.rest.append({"rows": ROWS[4:], "labels": CLASSES[4:]})

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.rest.pop(0) if self.rest else None


def generated() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield ROWS[:1], CLASSES[:1]
    yield ROWS[1:], CLASSES[1:]


SOURCES = {
    "dict": {"rows": ROWS, "labels": CLASSES},
    "dict of tensors": {"rows": Tensor(ROWS), "labels": Tensor(CLASSES)},
    "dict by another name": {"audio": ROWS, "labels": CLASSES},
    "tuple": (ROWS, CLASSES),
    "list of dicts": [{"rows": ROWS[:2], "labels": CLASSES[:2]}] * 1
    + [{"rows": ROWS[2:], "labels": CLASSES[2:]}],
    "list of tuples": [(ROWS[:2], CLASSES[:2]), (ROWS[2:], CLASSES[2:])],
    "list of examples": [{"rows": ROWS[i], "labels": i} for i in range(6)],
    "dataset": Dataset({"rows": ROWS}, CLASSES, "mine"),
    "list of datasets": [Dataset({"rows": ROWS}, CLASSES, "mine")],
    "loader": Loader(),
    "examples": Single(),
    "reader": Reader(),
    "reader's class": Reader,
    "function": generated,
    "generator": generated(),
    "function that gives a dict": lambda: {"rows": ROWS, "labels": CLASSES},
    "function that gives a loader": Loader,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_is_read_any_number_of_times(kind: str) -> None:
    source = Held(SOURCES[kind])
    for _ in range(3):
        data = load(source, ONE)
        np.testing.assert_array_equal(data.inputs["rows"], ROWS)
        np.testing.assert_array_equal(data.labels, CLASSES)
    assert len(str(source)) < 60 and " at 0x" not in str(source)


@pytest.mark.parametrize("value", [ROWS, Tensor(ROWS), [ROWS], [*ROWS], iter([ROWS])])
def test_arrays_alone(value: object) -> None:
    data = load(Held(value), ONE)
    np.testing.assert_array_equal(data.inputs["rows"], ROWS)
    assert data.labels is None


def test_a_reader_that_was_given_up_is_read_from_where_it_is() -> None:
    source = Held(iter([ROWS[:2], ROWS[2:4], ROWS[4:]]))
    assert [part.size for part in stream(source, ONE)] == [2, 2, 2]
    assert [part.size for part in stream(source, ONE)] == [2, 2, 2]


def test_several_inputs_and_the_batch_axis() -> None:
    x, lengths = ROWS.swapaxes(0, 1), np.full(6, 5)
    for source in (
        (x, lengths),
        {"x": x, "lengths": lengths},
        [(x[:, i], lengths[i]) for i in range(6)],  # single examples: their batch axis is added
    ):
        data = load(Held(source), TWO)
        np.testing.assert_array_equal(data.inputs["x"], x)
        np.testing.assert_array_equal(data.inputs["lengths"], lengths)
    assert load(Held([(x, lengths, CLASSES)]), TWO).labels is not None


class Pairs(Single):
    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"x": ROWS[index], "lengths": np.asarray(5), "labels": np.asarray(index)}


def test_examples_of_several_inputs() -> None:
    data = load(Held(Pairs()), TWO)
    np.testing.assert_array_equal(data.inputs["x"], ROWS.swapaxes(0, 1))
    np.testing.assert_array_equal(data.labels, CLASSES)


class Ragged(Single):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return ROWS[index, : 3 + (index > 2)], index


def test_examples_of_other_lengths_are_other_batches() -> None:
    assert [p.inputs["rows"].shape for p in stream(Held(Ragged()), ONE)] == [(3, 3, 3), (3, 4, 3)]


@pytest.mark.parametrize("value", [3, None, b"data", 1.5, object()])
def test_what_holds_no_data(value: object) -> None:
    with pytest.raises(UsageError, match=r"must be a path, .*, a dict of arrays"):
        Held(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([None], "batch 0: must be a dict of arrays by input name, or a tuple of arrays in"),
        ([[1.0, 2.0]], "must have 3 axes"),
        ((ROWS, CLASSES, CLASSES), "must hold 1 arrays in the order of the inputs (rows)"),
        ([{"rows": "text"}], "'rows' must be a NumPy array, it is of type str"),
        (lambda: 3, "calling it raised TypeError: it returned a int"),
        ([].pop, "calling it raised IndexError"),
        ([], "must hold at least one batch"),
        ({}, "must hold an array for input 'rows', it holds: nothing"),
        ((x for x in [ROWS, "text"]), "batch 1: must be a dict of arrays"),
    ],
)
def test_wrong_batches(value: object, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(Held(value), ONE)
    assert words in str(caught.value)


def test_names_of_sources() -> None:
    named = [ROWS, {"rows": ROWS}, [ROWS, ROWS], generated, Loader(), Reader]
    assert [str(Held(value)) for value in named] == [
        "array (6, 5, 3)",
        "dict of arrays (rows (6, 5, 3))",
        "list of 2 batches",
        "generated",
        "Loader",
        "Reader",
    ]
