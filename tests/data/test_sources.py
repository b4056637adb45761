import sys
import textwrap

import numpy as np
import pytest

from onnxgru.core.errors import DataError, UsageError
from onnxgru.data.dataset import Dataset, InputSpec
from onnxgru.data.sources import beside, load, stream

FLOAT = np.dtype(np.float32)
ROWS = InputSpec("rows", FLOAT, ("batch", "time", 3))
ONE = (ROWS,)
TIME_MAJOR = (
    InputSpec("x", FLOAT, ("time", "batch", 3), batch_axis=1),
    InputSpec("lengths", np.dtype(np.int32), ("batch",)),
)


def rows(batch=4, time=5, features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, time, features)).astype(np.float32)


def store(path, **arrays):
    np.savez(path, **arrays)
    return path


def refused(source, *words, signature=ONE):
    with pytest.raises(DataError) as caught:
        load(source, signature)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert "\n" not in message
    return message


def refused_arrays(*words, signature=ONE, **arrays):
    return refused(lambda: [arrays], *words, signature=signature)


def test_npz_with_labels(tmp_path):
    values = rows()
    data = load(store(tmp_path / "a.npz", rows=values, labels=np.arange(4, dtype=np.uint8)), ONE)
    np.testing.assert_array_equal(data.inputs["rows"], values)
    np.testing.assert_array_equal(data.labels, [0, 1, 2, 3])
    assert data.labels.dtype == np.int64
    assert data.size == 4
    assert data.source == str(tmp_path / "a.npz")


def test_npy_of_a_model_with_one_input(tmp_path):
    np.save(tmp_path / "a.npy", rows())
    data = load(str(tmp_path / "a.npy"), ONE)
    np.testing.assert_array_equal(data.inputs["rows"], rows())
    assert data.labels is None


def test_npy_of_a_model_with_two_inputs_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", rows())
    refused(tmp_path / "a.npy", "one input", "x, lengths", ".npz", signature=TIME_MAJOR)


def test_folder_is_joined_along_the_batch_axis_in_order_of_names(tmp_path):
    for name, seed in (("b", 2), ("a", 1)):
        x = rows(batch=5, time=2 + seed, seed=seed)[:, :4]  # (time 5, batch 2 + seed -> 3 or 4)
        lengths = np.full(x.shape[1], seed)
        store(tmp_path / f"{name}.npz", x=x, lengths=lengths, labels=lengths)
    (tmp_path / "notes.txt").write_text("not data")
    data = load(tmp_path, TIME_MAJOR)
    assert data.inputs["x"].shape == (5, 7, 3)
    np.testing.assert_array_equal(data.inputs["lengths"], [1, 1, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(data.labels, [1, 1, 1, 2, 2, 2, 2])
    assert data.size == 7


def test_sequences_of_several_lengths_are_streamed_and_loaded(tmp_path):
    store(tmp_path / "a.npz", rows=rows(time=5))
    store(tmp_path / "b.npz", rows=rows(time=9))
    assert [part.inputs["rows"].shape[1] for part in stream(tmp_path, ONE)] == [5, 9]
    data = load(tmp_path, ONE)
    assert [part.inputs["rows"].shape for part in data.parts] == [(4, 5, 3), (4, 9, 3)]
    assert data.size == 8
    assert data.labels is None


def test_folders_that_do_not_join(tmp_path):
    store(tmp_path / "a.npz", rows=rows(), labels=np.zeros(4, int))
    store(tmp_path / "b.npz", rows=rows())
    refused(tmp_path, "b.npz", "'labels'", "other batches")
    store(tmp_path / "b.npz", rows=rows(), labels=np.zeros((4, 5), int))
    refused(tmp_path, "b.npz", "int64 (4,)", "int64 (4, 5)")
    store(tmp_path / "b.npz", rows=rows(), labels=np.zeros(4))
    refused(tmp_path, "b.npz", "int64 (4,)", "float64 (4,)")


def test_folder_without_data(tmp_path):
    refused(tmp_path, str(tmp_path), "holds none")


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """A user's module in the current folder."""
    (tmp_path / "recordings_of_test.py").write_text(
        textwrap.dedent(
            """
            import numpy as np

            def batches():
                for value in (1, 2):
                    yield {"rows": np.full((value, 5, 3), value, np.float32)}

            class Reader:
                def __init__(self):
                    self.rest = list(batches())

                def get_next(self):
                    return self.rest.pop(0) if self.rest else None

            def failing():
                yield {"rows": np.zeros((1, 5, 3), np.float32)}
                raise RuntimeError("microphone unplugged")

            def number():
                return 3

            NOTHING = None
            TABLE = {}
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    yield "recordings_of_test"
    sys.modules.pop("recordings_of_test", None)


@pytest.mark.parametrize("name", ["batches", "Reader"])
def test_callable_by_name(recordings, name):
    before = list(sys.path)
    data = load(f"{recordings}:{name}", ONE)
    assert sys.path == before
    np.testing.assert_array_equal(data.inputs["rows"][:, 0, 0], [1, 2, 2])
    assert data.source == f"{recordings}:{name}"


def test_callables_that_fail(recordings):
    refused(f"{recordings}:failing", "batch 1", "RuntimeError", "microphone unplugged")
    refused(f"{recordings}:number", "iterable of dicts", "get_next()", "TypeError")
    for name, word in (("missing", "Reader, batches"), ("TABLE", "of type dict")):
        with pytest.raises(UsageError, match=word):
            load(f"{recordings}:{name}", ONE)
    with pytest.raises(UsageError, match="no_such_module_anywhere"):
        load("no_such_module_anywhere:fn", ONE)
    refused(lambda: ["rows"], "batch 0", "dict of arrays", "tuple of arrays", "(rows)", "str")
    refused(lambda: [{"rows": [1, 2]}], "NumPy array", "list")
    refused(lambda: [], "at least one batch", "none")


def test_a_file_whose_name_looks_like_a_callable_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "os:getcwd").write_bytes(b"")
    refused("os:getcwd", ".npz or .npy")


def test_files_that_cannot_be_read(tmp_path):
    refused(tmp_path / "absent.npz", "absent.npz", "no such file")
    refused(tmp_path / "absent.wav", ".npz or .npy", "does not exist")
    (tmp_path / "a.csv").write_text("1,2")
    refused(tmp_path / "a.csv", ".npz or .npy", "'a.csv'")
    (tmp_path / "a.npz").write_text("1,2")
    refused(tmp_path / "a.npz", "NumPy .npz file", b"1,2".hex())
    (tmp_path / "a.npy").write_bytes(b"")
    refused(tmp_path / "a.npy", "NumPy .npy file")


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_files(tmp_path, suffix, kept):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, rows=rows())
    else:
        np.save(path, rows())
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, str(path), "truncated or corrupt")


def test_a_flipped_bit_is_noticed(tmp_path):
    path = store(tmp_path / "a.npz", rows=rows())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(path, "truncated or corrupt")


class Trap:
    """Pickles into a call that would give it away."""

    called = False

    def __reduce__(self):
        return (setattr, (Trap, "called", True))


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "pickled Python objects", "never loaded")
    np.savez(tmp_path / "a.npz", rows=np.array([Trap()], dtype=object))
    refused(tmp_path / "a.npz", "pickled Python objects")
    import pickle

    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path / "b.npy", "pickled Python objects")
    assert not Trap.called


def test_names():
    refused_arrays(
        "'rows'", "it holds: row, extra", "the model wants: rows", row=rows(), extra=rows()
    )
    refused_arrays("has no use for lines", "wants: rows", "'labels'", rows=rows(), lines=rows())


def test_shapes():
    refused_arrays("3 axes", "rows float32 (batch, time, 3)", "it has 1", rows=rows()[0, 0])
    refused_arrays("size 3 on axis 2", "it has 4", rows=rows(features=4))
    refused_arrays("at least one", "empty (0, 5, 3)", rows=rows(batch=0))
    refused_arrays("empty (4, 0, 3)", rows=rows(time=0))


def test_the_batch_axis_is_free_even_where_the_model_fixes_it():
    spec = InputSpec("rows", FLOAT, (1, 5, 3))
    assert load(lambda: [{"rows": rows(batch=4)}], (spec,)).size == 4
    refused_arrays("size 5 on axis 1", signature=(spec,), rows=rows(time=6))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int64])
def test_floating_inputs_take_other_numbers(dtype):
    values = np.ones((4, 5, 3), dtype)
    assert load(lambda: [{"rows": values}], ONE).inputs["rows"].dtype == FLOAT


def test_types():
    refused_arrays("must be float32", "it is bool", rows=np.ones((4, 5, 3), bool))
    refused_arrays("must be float32", "it is complex128", rows=np.ones((4, 5, 3), complex))
    x = rows(batch=5, time=4)
    refused_arrays(
        "'lengths' must be int32", "float64", signature=TIME_MAJOR, x=x, lengths=np.ones(4)
    )
    refused_arrays(
        "fit int32", "5..4294967296", signature=TIME_MAJOR, x=x, lengths=np.array([5, 5, 5, 2**32])
    )
    lengths = np.full(4, 5)
    data = load(lambda: [{"x": x, "lengths": lengths}], TIME_MAJOR)
    assert data.inputs["lengths"].dtype == np.int32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    values = rows()
    values[1, 2, 0] = values[3, 0, 0] = bad
    refused_arrays("'rows'", "2 of 60 values", "first at index (1, 2, 0)", rows=values)
    targets = np.ones((4, 2))
    targets[2, 1] = bad
    refused_arrays("'labels'", "1 of 8", "(2, 1)", rows=rows(), labels=targets)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("shape", [(4,), (4, 5)], ids=str)
def test_whole_real_labels_are_classes(shape, dtype):
    labels = np.arange(np.prod(shape)).reshape(shape) % 3
    whole, half = labels.astype(dtype), labels.astype(dtype) + dtype(0.5)
    found = load(lambda: [{"rows": rows(), "labels": whole}], ONE).labels
    assert found.dtype == np.int64 and (found == labels).all()
    assert load(lambda: [{"rows": rows(), "labels": half}], ONE).labels.dtype == dtype


def test_values_beyond_float32():
    values = rows().astype(np.float64)
    values[0, 0, 1] = 1e300
    refused_arrays("as float32", "1 of 60", "(0, 0, 1)", rows=values)


@pytest.mark.parametrize("shape", [(3,), (5, 5), ()])
def test_labels_of_another_length(shape):
    refused_arrays(
        "'labels'", "each of 4 sequences", str(shape), rows=rows(), labels=np.zeros(shape, int)
    )


def test_labels_per_frame_and_targets():
    for labels in (np.zeros((4, 5), np.int32), np.zeros((4, 5, 2), np.float32)):
        data = load(lambda labels=labels: [{"rows": rows(), "labels": labels}], ONE)
        assert data.labels.shape == labels.shape
    refused_arrays(
        "whole-number classes or floating", "<U1", rows=rows(), labels=np.array(["a"] * 4)
    )


def test_batches_of_inputs_differ():
    lengths = np.full(5, 5)  # the time axis' size, not the batch's
    refused_arrays(
        "x 4", "lengths 5", signature=TIME_MAJOR, x=rows(batch=5, time=4), lengths=lengths
    )


def test_no_inputs():
    refused(lambda: [], "at least one input", signature=())


def time_major():
    x = rows(batch=5, time=7)
    return Dataset(
        {"x": x, "lengths": np.arange(7, dtype=np.int32)}, np.arange(7), "test", {"x": 1}
    )


def test_chunks_cover_everything_once_in_order():
    data = time_major()
    parts = list(data.chunks(3))
    assert [part.size for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(
        np.concatenate([part.inputs["x"] for part in parts], axis=1), data.inputs["x"]
    )
    for part in parts:
        np.testing.assert_array_equal(part.inputs["lengths"], part.labels)
    assert [part.size for part in data.chunks(100)] == [7]


def test_take():
    assert time_major().take(2).inputs["x"].shape == (5, 2, 3)
    assert time_major().take(2).labels.tolist() == [0, 1]
    assert time_major().take(100).size == 7


def test_counts_below_one():
    with pytest.raises(UsageError, match="at least 1, got 0"):
        time_major().take(0)
    with pytest.raises(UsageError, match="at least 1, got -1"):
        time_major().chunks(-1)


def test_digest_sees_values_names_types_shapes_and_labels_only():
    data = time_major()
    digest = data.digest()
    assert len(digest) == 64
    assert (
        digest
        == Dataset(dict(reversed(data.inputs.items())), data.labels, "elsewhere", {"x": 1}).digest()
    )
    x, lengths = data.inputs["x"], data.inputs["lengths"]
    assert (
        digest
        == Dataset(
            {"x": np.asfortranarray(x), "lengths": lengths.astype(">i4")}, data.labels, "", {"x": 1}
        ).digest()
    )
    touched = x.copy()
    touched[0, 0, 0] = np.nextafter(touched[0, 0, 0], np.float32(9))
    others = [
        Dataset({"x": touched, "lengths": lengths}, data.labels, ""),
        Dataset({"y": x, "lengths": lengths}, data.labels, ""),
        Dataset({"x": x, "lengths": lengths.astype(np.int64)}, data.labels, ""),
        Dataset({"x": x.reshape(7, 5, 3), "lengths": lengths}, data.labels, ""),
        Dataset({"x": x, "lengths": lengths}, None, ""),
        Dataset({"x": x, "lengths": lengths}, data.labels[::-1], ""),
    ]
    assert len({digest, *(other.digest() for other in others)}) == 7


def test_beside(tmp_path):
    model = tmp_path / "digits.v2.onnx"
    assert beside(model, "holdout") is None
    expected = store(tmp_path / "digits.v2.holdout.npz", rows=rows())
    assert beside(str(model), "holdout") == expected
    assert beside(model, "calibration") is None
    with pytest.raises(UsageError, match="calibration, validation, holdout, got 'test'"):
        beside(model, "test")
