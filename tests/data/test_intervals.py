import math

import numpy as np
import pytest

from onnxgru.data.dataset import Corpus, Dataset
from onnxgru.data.intervals import (
    PARTS,
    Sums,
    Z,
    cautious,
    difference,
    interval,
    paired_shares,
    recordings,
    rows_of,
    sums,
    sums_of,
    wilson,
)
from onnxgru.data.metrics import METRICS, Metric, sqnr


def arrays(name: str, sequences: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets that a metric takes, of frames where it takes classes."""
    generator = np.random.default_rng(3)
    outputs = generator.normal(size=(sequences, 6, 4))
    if METRICS[name].target == "labels":
        labels = generator.integers(-1, 4, size=(sequences, 6))
        labels[:, 0] = 1
        return outputs, labels
    return outputs, outputs + generator.normal(0, 0.4, outputs.shape)


@pytest.mark.parametrize("name", METRICS)
def test_parts_make_the_figure(name):
    outputs, target = arrays(name)
    found = sums(METRICS[name], outputs, target)
    assert found is not None and found.parts.shape[0] == 40
    whole = float(found.combine(found.parts.sum(axis=0)))
    assert whole == pytest.approx(METRICS[name](outputs, target), abs=1e-9)
    low, high = interval([found])
    assert low < whole < high


def test_every_metric_has_parts():
    assert set(PARTS) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_bootstrap_covers_the_truth(name):
    """Of 60 samples of one population, at least 50 intervals hold the population's figure."""
    outputs, target = arrays(name, 4000)
    truth = METRICS[name](outputs, target)
    held = 0
    for start in range(0, 60 * 60, 60):
        part = slice(start, start + 60)
        low, high = interval([sums(METRICS[name], outputs[part], target[part])])
        held += low <= truth <= high
    assert held >= 50


def test_wilson_by_hand():
    low, high = wilson(441, 450)
    assert (low, high) == (pytest.approx(96.24, abs=0.01), pytest.approx(98.94, abs=0.01))
    assert wilson(0, 10) == (0.0, pytest.approx(27.75, abs=0.01))
    assert wilson(10, 10) == (pytest.approx(72.25, abs=0.01), pytest.approx(100.0))
    assert wilson(0, 49, 1.0) == (0.0, pytest.approx(2.0))


def test_a_share_less_one_standard_error():
    single = Sums(np.array([[1.0, 1.0]] * 3 + [[0.0, 1.0]]), lambda s: s, 4, share=True)
    assert cautious(single) == wilson(3, 4, 1.0)[0] < 75.0
    # shares of 1/2 and 3/4 of four answers each: 5/8 less half the distance, 1/8
    parts = np.array([[2.0, 4.0], [3.0, 4.0]])
    several = Sums(parts, lambda s: s, 8, share=True)
    assert cautious(several) == pytest.approx(50.0)
    assert cautious(Sums(parts[:1], lambda s: s, 4, share=True)) == 50.0


def test_one_answer_per_recording_is_wilsons():
    outputs = np.eye(4)[np.arange(20) % 4]
    labels = np.arange(20) % 4
    labels[:3] = (labels[:3] + 1) % 4
    found = sums(METRICS["accuracy"], outputs, labels)
    assert found.single and interval([found]) == wilson(17, 20)


def test_paired_shares_at_their_ends():
    count = 450
    low, high = paired_shares(0, 0, count)
    assert high == pytest.approx(-low) == pytest.approx(100 * Z * Z / (count + Z * Z))
    # one pair of 44 that only the second has right, the example of Tango 1998
    assert paired_shares(0, 1, 44) == pytest.approx((-11.81, 5.94), abs=0.01)
    low, high = paired_shares(9, 2, count)
    assert low < 100 * 7 / count < high
    assert paired_shares(2, 9, count) == (pytest.approx(-high), pytest.approx(-low))
    narrow = paired_shares(90, 20, 10 * count)
    assert high - low > narrow[1] - narrow[0]


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.05, 0.01), (0.2, 0.1)])
def test_paired_shares_cover_the_truth(rates):
    generator = np.random.default_rng(0)
    gained, lost = rates
    drawn = generator.multinomial(100, [gained, lost, 1 - gained - lost], size=300)
    held = 0
    for one, two, _ in drawn:
        low, high = paired_shares(int(one), int(two), 100)
        held += low <= 100 * (gained - lost) <= high
    assert held >= 0.92 * 300


def test_differences_are_paired():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, 300)
    outputs = np.eye(4)[labels]
    outputs[:60] = 0.25  # class 0
    worse = outputs.copy()
    worse[100:103] = np.roll(worse[100:103], 1, axis=1)
    one, two = (sums(METRICS["accuracy"], found, labels) for found in (outputs, worse))
    point, (low, high) = difference([two], [one])
    assert point == pytest.approx(-1.0) and low < -1 < high
    assert high - low < 4  # that of two independent shares would be 13 points
    assert difference([one], [one])[0] == 0.0


def test_the_worst_output_counts():
    generator = np.random.default_rng(2)
    target = generator.normal(size=(50, 8))
    good, bad = (target + generator.normal(0, size, target.shape) for size in (0.01, 0.1))
    found = [sums(METRICS["sqnr"], outputs, target) for outputs in (good, bad)]
    assert interval(found) == interval(found[1:])
    point, (low, high) = difference(found, found[:1])
    assert low < point < high < -15
    assert point == pytest.approx(sqnr(target, bad) - sqnr(target, good))


def test_what_has_no_interval():
    outputs, target = arrays("sqnr", 1)
    assert interval([sums(METRICS["sqnr"], outputs, target)]) is None
    own = Metric("module:own", "", True, lambda _o, _t: 1.0, "reference")
    assert sums(own, outputs, target) is None
    named = Metric("sqnr", "", True, lambda _o, _t: 1.0, "reference")  # a function of that name
    assert sums(named, outputs, target) is None
    assert interval([None]) is None and difference([None], [None]) is None
    target = arrays("sqnr")[1]
    exact = [sums(METRICS["sqnr"], target, target)]
    assert interval(exact) == (200.0, 200.0)


def test_draws_are_the_same_every_time():
    outputs, target = arrays("sqnr")
    found = [interval([sums(METRICS["sqnr"], outputs, target)]) for _ in range(2)]
    assert found[0] == found[1] and math.isfinite(found[0][0])


def streamed(*streams: int) -> Dataset:
    return Dataset({"x": np.zeros((sum(streams), 1, 3))}, None, "test", {"x": 0}, streams)


def test_frames_of_one_recording_are_one():
    outputs, target = arrays("sqnr")
    outputs, target = outputs[:30, 0], target[:30, 0]
    data = streamed(10, 5, 15)
    found = sums_of(METRICS["sqnr"], outputs, target, data)
    assert found is not None and len(found.parts) == recordings(data) == 3
    plain = sums(METRICS["sqnr"], outputs, target)
    assert np.allclose(found.parts[1], plain.parts[10:15].sum(axis=0))
    single = streamed(*[1] * 30)
    assert len(sums_of(METRICS["sqnr"], outputs, target, single).parts) == 30


def test_rows_of_recordings_of_several_lengths():
    parts = tuple(
        Dataset({"x": np.zeros((steps, count, 3))}, None, "test", {"x": 1})
        for steps, count in ((7, 2), (4, 3))
    )
    data = Corpus(parts, "test")
    assert recordings(data) == 5
    assert rows_of(data, 5) == [1] * 5
    assert rows_of(data, 26) == [7, 7, 4, 4, 4]
    assert rows_of(data, 9) == [1] * 9  # nothing is known of these rows
