"""Which outputs are judged, by which metric, and what is said of it."""

import numpy as np
import pytest

from onnxgru.core.errors import DataError, UsageError
from onnxgru.passes.graph.reach import Maker
from onnxgru.session.outputs import ModelOutput, choose, one_hot, split

N, T = 40, 7
GENERATOR = np.random.default_rng(5)


def output(name="out", operator="Relu", features=None, *, reached=True, state=False) -> ModelOutput:
    return ModelOutput(name, Maker(operator, features), reached, state)


def numbers(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=(N, *shape)).astype(np.float32)


LOGITS = output("logits", "Gemm", 5), numbers(5)
PROBABILITIES = output("probabilities", "Softmax"), numbers(5)
FRAMES = output("frames", "Add", 5), numbers(T, 5)
TAGS = output("frameLogits_1", "Add", 5), numbers(T, 5)
SIGNAL = output("signal", "MatMul", 80), numbers(T, 80)
CLASSES = output("classes", "ArgMax"), GENERATOR.integers(0, 5, N)
SPEECH = output("speech", "Greater"), GENERATOR.integers(0, 2, (N, T)).astype(bool)
STATE = output("hn", "GRU", state=True), numbers(1, 16)
ENERGY = output("energy", "ReduceMean", reached=False), numbers()
GAIN = output("gain", "Sigmoid"), numbers(T, 22).astype(np.float64)


def chosen(*parts, labels=None, metric="auto", names=()):
    arrays = {described.name: array for described, array in parts}
    return choose([described for described, _ in parts], arrays, labels, metric, names)


@pytest.mark.parametrize(
    ("parts", "names", "metric", "said"),
    [
        ([LOGITS], ["logits"], "agreement", "ends in a dense layer of 5 features per sequence"),
        ([PROBABILITIES], ["probabilities"], "agreement", "ends in Softmax"),
        ([CLASSES], ["classes"], "agreement", "holds classes"),
        ([SPEECH], ["speech"], "agreement", "holds classes"),
        ([LOGITS, CLASSES], ["logits", "classes"], "agreement", "holds classes"),
        ([FRAMES], ["frames"], "sqnr", "holds no class scores"),
        ([TAGS], ["frameLogits_1"], "agreement", "5 features per frame, and its name says class"),
        ([SIGNAL], ["signal"], "sqnr", "holds no class scores"),
        ([SIGNAL, GAIN], ["signal", "gain"], "sqnr", "hold no class scores"),
        ([GAIN, SPEECH], ["gain"], "sqnr", "as well as other numbers"),
        ([SIGNAL, LOGITS], ["signal", "logits"], "sqnr", "as well as other numbers"),
        ([ENERGY, LOGITS], ["logits"], "agreement", "dense"),
        ([STATE, LOGITS], ["logits"], "agreement", "dense"),
        ([STATE, ENERGY], ["hn"], "sqnr", "holds no class scores"),
        ([ENERGY], ["energy"], "sqnr", "holds no class scores"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_without_labels(parts, names, metric, said):
    found = chosen(*parts)
    assert (list(found.outputs), found.metric.name) == (names, metric)
    assert found.reason.startswith("there are no labels, and") and said in found.reason


def test_a_dense_layer_that_always_prefers_one_feature_is_no_classifier():
    rising = np.sort(numbers(5))
    assert chosen((LOGITS[0], rising)).metric.name == "sqnr"
    assert chosen((LOGITS[0], rising[:10])).metric.name == "agreement"  # too few to tell
    assert chosen((output("wide", "Gemm", 1001), numbers(1001))).metric.name == "sqnr"
    assert chosen((output("one", "Gemm", 1), numbers(1))).metric.name == "sqnr"


LABELS = GENERATOR.integers(0, 5, N)


@pytest.mark.parametrize(
    ("parts", "labels", "names", "metric"),
    [
        ([LOGITS], LABELS, ["logits"], "accuracy"),
        ([SIGNAL, STATE, LOGITS], LABELS, ["logits"], "accuracy"),
        ([SIGNAL, CLASSES], LABELS, ["classes"], "accuracy"),
        ([LOGITS, PROBABILITIES], LABELS, ["logits"], "accuracy"),
        ([LOGITS, FRAMES], np.repeat(LABELS[:, None], T, 1), ["frames"], "accuracy"),
        ([LOGITS, SPEECH], np.repeat(LABELS[:, None], T, 1) % 2, ["speech"], "accuracy"),
        ([LOGITS, SIGNAL], numbers(T, 80), ["signal"], "sqnr"),
        ([LOGITS, ENERGY, GAIN], np.ones((N, T, 22), np.int64), ["gain"], "sqnr"),
    ],
    ids=lambda value: str(getattr(value, "shape", value))[:40],
)
def test_labels_choose_the_output_that_they_fit(parts, labels, names, metric):
    found = chosen(*parts, labels=labels)
    assert (list(found.outputs), found.metric.name) == (names, metric)
    assert found.metric.target == "labels" and repr(names[0]) in found.reason


def test_several_fitting_outputs_are_told():
    found = chosen(LOGITS, PROBABILITIES, labels=LABELS)
    assert "output 'logits', the first of 2 that they fit" in found.reason
    found = chosen(LOGITS, PROBABILITIES, labels=LABELS, names=["probabilities"])
    assert found.outputs == ("probabilities",) and "first of" not in found.reason


@pytest.mark.parametrize(
    ("metric", "parts", "labels", "names"),
    [
        ("sqnr", [LOGITS, CLASSES], LABELS, ["logits"]),
        ("agreement", [SIGNAL, LOGITS], None, ["logits"]),
        ("agreement", [SIGNAL], None, ["signal"]),
        ("si_sdr", [ENERGY, SIGNAL], None, ["signal"]),
        ("si_sdr", [LOGITS, SIGNAL], numbers(T, 80), ["signal"]),
        ("macro_f1", [SIGNAL, LOGITS], LABELS, ["logits"]),
        ("math:dist", [SIGNAL, LOGITS], None, ["signal"]),
    ],
    ids=str,
)
def test_metrics_that_are_named(metric, parts, labels, names):
    found = chosen(*parts, labels=labels, metric=metric)
    assert (list(found.outputs), found.metric.name) == (names, metric)


def test_named_outputs_are_judged_whatever_reaches_them():
    assert chosen(LOGITS, ENERGY, names=["energy"]).outputs == ("energy",)
    assert chosen(LOGITS, STATE, names=["hn", "logits"]).outputs == ("hn", "logits")
    assert chosen(LOGITS, STATE, names=["hn"]).metric.name == "sqnr"
    assert split(" a, b,") == ("a", "b") and split(None) == ()


@pytest.mark.parametrize(
    ("error", "parts", "settings", "said"),
    [
        (UsageError, [LOGITS, STATE], {"names": ["logit"]}, "'logit' is none; it has 'logits'"),
        (DataError, [FRAMES], {"labels": LABELS}, r"output 'frames'.*class per frame.*\(40, 7\)"),
        (DataError, [LOGITS], {"labels": LABELS[:, None].repeat(T, 1)}, "one class per sequence"),
        (DataError, [LOGITS], {"labels": np.eye(5, dtype=np.int64)[LABELS]}, r"one-hot.*argmax"),
        (DataError, [LOGITS], {"labels": np.eye(5)[LABELS]}, r"one-hot.*argmax"),
        (DataError, [SIGNAL], {"labels": numbers(T, 3)}, r"targets of \('signal' \(40, 7, 80\)"),
        (UsageError, [SIGNAL], {"metric": "accuracy"}, "needs whole-number labels"),
        (UsageError, [CLASSES], {"metric": "sqnr"}, "real numbers and none of output 'classes'"),
        (UsageError, [ENERGY], {"metric": "agreement"}, "scores of them, and none of .*'energy'"),
        (UsageError, [LOGITS], {"metric": "f1"}, "must be auto, accuracy"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused(error, parts, settings, said):
    with pytest.raises(error, match=said):
        chosen(*parts, **settings)


def test_frames_that_are_nearly_all_of_one_class_tell_nothing():
    described, array = TAGS
    array = array + 100 * np.eye(5, dtype=np.float32)[2]
    assert chosen((described, array)).metric.name == "sqnr"


def test_one_hot():
    assert one_hot(np.eye(3)) and one_hot(np.eye(3, dtype=bool)[[[0, 1], [2, 2]]])
    assert not one_hot(np.ones((2, 2))) and not one_hot(np.array([[0.5, 0.5]]))
