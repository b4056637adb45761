import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxgru.core.errors import DataError, UsageError
from onnxgru.data import metrics
from onnxgru.data.metrics import (
    METRICS,
    Metric,
    accuracy,
    agreement,
    macro_f1,
    resolve,
    si_sdr,
    sqnr,
)

SCORES = np.array([[0.1, 0.9, 0.0], [0.5, 0.5, 0.0], [0.0, 0.2, 0.8], [0.6, 0.3, 0.1]])


def refused(function, *arguments, words):
    with pytest.raises(DataError) as caught:
        function(*arguments)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_accuracy_of_sequences_and_ties():
    assert accuracy(SCORES, np.array([1, 0, 2, 0])) == 100.0
    assert accuracy(SCORES, np.array([1, 1, 2, 2])) == 50.0  # the tie counts as class 0


def test_accuracy_of_frames_leaves_padding_out():
    outputs = SCORES.reshape(2, 2, 3)
    assert accuracy(outputs, np.array([[1, 0], [2, 1]])) == 75.0
    assert accuracy(outputs, np.array([[1, 0], [-1, 1]])) == pytest.approx(200 / 3)


def test_accuracy_of_integer_codes():
    assert accuracy(np.array([[3, 250], [9, 1]], np.uint8), np.array([1, 0])) == 100.0


def test_macro_f1_is_scikit_learns():
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(60, 5))
    labels = generator.choice([0, 1, 1, 1, 3, 7], size=60)  # 2 and 4 never, 7 never predicted
    expected = 100 * f1_score(labels, outputs.argmax(-1), average="macro", zero_division=0)
    assert macro_f1(outputs, labels) == pytest.approx(expected, abs=1e-12)
    assert macro_f1(outputs, labels) != pytest.approx(accuracy(outputs, labels), abs=1)


def test_agreement():
    other = SCORES.copy()
    other[2] = [1.0, 0.0, 0.0]
    assert agreement(SCORES, SCORES * 7 - 3) == 100.0
    assert agreement(SCORES, other) == 75.0


def test_sqnr_by_hand():
    reference = np.array([3.0, 4.0])
    assert sqnr(reference, reference + np.array([0.0, 0.05])) == pytest.approx(40.0)
    assert sqnr(reference, np.zeros(2)) == 0.0


def test_si_sdr_by_hand():
    target = np.array([[3.0, 4.0], [1.0, 0.0]])
    noisy = target + np.array([[-0.4, 0.3], [0.0, 0.1]])  # at right angles to the targets
    assert si_sdr(noisy, target) == pytest.approx(20.0)
    assert si_sdr(7.0 * noisy, target) == pytest.approx(20.0)  # at any volume
    assert si_sdr(2.0 * target, target) == 200.0
    assert si_sdr(noisy[None], target[None]) == pytest.approx(
        10 * math.log10(np.square(target).sum() / 0.26)
    )


def test_sqnr_at_its_ends():
    zero, one = np.zeros(3), np.ones(3)
    assert sqnr(one, one) == math.inf
    assert sqnr(zero, zero) == math.inf
    assert sqnr(zero, one) == -math.inf


@given(st.integers(-250, 250))
def test_sqnr_does_not_depend_on_scale(exponent):
    reference, test = np.array([1.0, -2.0, 0.5]), np.array([1.1, -2.0, 0.4])
    scale = 10.0**exponent
    assert sqnr(reference * scale, test * scale) == pytest.approx(sqnr(reference, test))


def test_arrays_that_do_not_fit():
    labels = np.array([1, 0, 2, 0])
    refused(accuracy, SCORES, labels[:3], words=["(3,)", "(4, 3)", "per sequence", "per frame"])
    refused(accuracy, SCORES, labels.astype(float), words=["whole-number", "float64"])
    refused(accuracy, SCORES[:, :1], labels, words=["two classes", "(4, 1)", "sqnr"])
    refused(macro_f1, SCORES, labels - 9, words=["(4,)", "at least one class"])
    refused(accuracy, SCORES * np.nan, labels, words=["NaN"])
    refused(agreement, SCORES, SCORES[:2], words=["agreement", "(4, 3)", "(2, 3)"])
    refused(agreement, SCORES, SCORES * np.nan, words=["NaN"])
    refused(sqnr, SCORES, SCORES[:2], words=["sqnr", "(2, 3)"])
    refused(sqnr, SCORES[:0], SCORES[:0], words=["hold values"])
    refused(sqnr, SCORES, SCORES + np.inf, words=["finite"])
    refused(si_sdr, SCORES, SCORES[:2], words=["si_sdr", "(2, 3)"])
    refused(si_sdr, SCORES, SCORES + np.nan, words=["finite"])
    refused(si_sdr, SCORES, 0 * SCORES, words=["sequence 0", "zero"])


def test_outputs_that_are_classes_themselves():
    labels = np.array([1, 0, 2, 0])
    assert accuracy(np.array([1, 0, 2, 1]), labels) == 75.0
    assert accuracy(np.array([[1], [0], [2], [1]], np.int32), labels) == 75.0
    assert accuracy(np.array([True, False, False, True]), labels % 2) == 75.0
    frames = np.array([[1, 0], [2, 0]])
    assert accuracy(np.array([[1, 0], [0, 0]], np.uint8), frames) == 75.0
    assert macro_f1(np.array([1, 0, 2, 0]), labels) == 100.0
    assert agreement(np.array([[1, 0], [2, 2]]), np.array([[1, 0], [2, 0]])) == 75.0
    assert agreement(np.array([True, False]), np.array([True, True])) == 50.0


def test_axes_of_size_one_do_not_matter():
    labels = np.array([1, 0, 2, 0])
    assert accuracy(SCORES[:, None], labels) == accuracy(SCORES, labels[:, None]) == 100.0
    assert macro_f1(SCORES[:, None], labels[:, None]) == 100.0


def test_labels_of_another_shape_say_what_to_give():
    outputs = np.zeros((6, 3, 4))
    refused(accuracy, outputs, np.zeros(6, int), words=["(6, 3)", "per frame", "--output-name"])
    refused(accuracy, outputs, np.zeros((3, 6), int), words=["labels are (3, 6)", "(6, 3)"])
    refused(accuracy, outputs[0], np.zeros((3, 4), int), words=["class per sequence", "(3,)"])
    refused(accuracy, np.zeros((6, 3), int), np.zeros(5, int), words=["(6, 3)", "--metric"])


@pytest.mark.parametrize(
    ("name", "target", "figure", "drop", "unit"),
    [
        ("accuracy", "labels", 98.0, 0.5, "points"),
        ("agreement", "reference", 98.0, 0.5, "points"),
        ("sqnr", "reference", 31.0, 3.0, "dB"),
        ("si_sdr", "labels", 12.0, 0.5, "dB"),
        ("own", "labels", -40.0, 0.4, ""),
    ],
)
def test_drops_suit_the_metric(name, target, figure, drop, unit):
    own = Metric("own", "", True, sqnr, "labels")
    metric = dataclasses.replace(METRICS.get(name, own), target=target)
    assert metric.default_drop(figure) == pytest.approx(drop)
    assert metric.drop_unit == unit


def test_table():
    assert list(METRICS) == ["accuracy", "macro_f1", "agreement", "sqnr", "si_sdr"]
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.higher_is_better
    reference = SCORES + 0.5
    noisy = reference.copy()
    noisy[0, 0] += 1.0
    # the target is the reference: a swap would divide by the other array's energy
    assert METRICS["sqnr"](noisy, reference) == sqnr(reference, noisy) != sqnr(noisy, reference)


def test_error_is_to_be_minimised():
    assert METRICS["accuracy"].error(97.5) == 2.5
    assert METRICS["macro_f1"].error(100.0) == 0.0
    assert METRICS["sqnr"].error(31.0) == -31.0
    assert METRICS["sqnr"].error(math.inf) == -200.0
    assert METRICS["sqnr"].error(-math.inf) == 200.0
    assert Metric("own", "", True, sqnr, "labels").error(3.0) == -3.0
    assert Metric("own", "", False, sqnr, "labels").error(3.0) == 3.0


def test_uncertainty_is_that_of_a_share():
    accuracy, decibels = METRICS["accuracy"], METRICS["sqnr"]
    assert accuracy.uncertainty(2.0, 450) == pytest.approx(0.66, abs=0.001)
    assert accuracy.uncertainty(0.0, 450) == accuracy.uncertainty(2.0, 0) == 0.0
    assert decibels.uncertainty(-20.0, 450) == 0.0


def test_metrics_by_name():
    classes, targets = np.zeros(3, np.int64), np.zeros((3, 2))
    assert resolve("macro_f1", classes) is METRICS["macro_f1"]
    assert resolve("agreement", classes).target == "reference"
    assert resolve("sqnr", classes).target == "reference"
    assert resolve("sqnr", targets).target == "labels"
    assert resolve("si_sdr", targets).target == "labels"
    assert resolve("si_sdr", None).target == "reference"
    for labels, held in ((None, "none"), (targets, "float64")):
        with pytest.raises(UsageError, match=f"accuracy: needs whole-number labels.*{held}"):
            resolve("accuracy", labels)
    with pytest.raises(UsageError, match=r"'f1'.*auto, accuracy, macro_f1, agreement, sqnr"):
        resolve("f1", classes)


def test_a_users_metric(tmp_path, monkeypatch):
    (tmp_path / "metric_of_test.py").write_text(
        "def largest(outputs, target):\n    return -abs(outputs - target).max()\n"
        "def words(outputs, target):\n    return 'good'\n"
        "def nothing(outputs, target):\n    return float('nan')\n"
    )
    monkeypatch.chdir(tmp_path)
    metric = resolve("metric_of_test:largest", None)
    assert metric.target == "reference"
    assert metric(np.array([1.0, 2.0]), np.array([1.0, 5.0])) == -3.0
    assert metric.error(-3.0) == 3.0
    assert resolve("metric_of_test:largest", np.zeros(2)).target == "labels"
    refused(resolve("metric_of_test:words", None), SCORES, SCORES, words=["'good'", "words"])
    refused(resolve("metric_of_test:nothing", None), SCORES, SCORES, words=["NaN"])
    with pytest.raises(UsageError, match="largest, nothing, words"):
        resolve("metric_of_test:smallest", None)


def test_infinite_decibels_are_limited():
    assert metrics.limited(np.inf) == metrics.SQNR_LIMIT == -metrics.limited(-np.inf)
    assert metrics.limited(1234.5) == 1234.5
