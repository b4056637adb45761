"""Drift: noise along recordings."""

import numpy as np
import pytest

from onnxgru.data.dataset import Dataset
from onnxgru.documents.report import Report
from onnxgru.report import drift
from tests import grus
from tests.documents.test_report import DOCUMENT
from tests.pipeline import dataset, pipeline


@pytest.fixture(scope="module")
def host():
    case = grus.Case(T=40, B=3, I=4, H=5, outputs=("Y", "Y_h"))
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    return made.host, dataset(made.host, inputs)


def test_noise_that_grows_is_seen_in_the_output_that_has_time(host) -> None:
    made, data = host
    exact = made.outputs_of(data)
    time = np.arange(40).reshape(1, 40, 1, 1)
    noise = np.random.default_rng(0).standard_normal(exact["Y"].shape) * 1e-3 * (1 + time)
    found = drift.measure(made, data, exact, {**exact, "Y": exact["Y"] + noise})
    assert list(found) == ["Y"]
    assert len(found["Y"]) == drift.PARTS
    assert found["Y"][0] > found["Y"][5] > found["Y"][-1]
    assert found["Y"][0] - found["Y"][-1] > 15


def test_frames_of_recordings_are_put_side_by_side() -> None:
    exact = np.ones((40, 3), np.float32)
    worse = exact + np.tile(np.arange(20) / 100, 2)[:, None].astype(np.float32)
    data = Dataset({"x": exact}, None, "test", {}, (20, 20))
    found = drift.measure(None, data, {"y": exact}, {"y": worse})
    assert found["y"] == sorted(found["y"], reverse=True)
    assert found["y"][0] == pytest.approx(-10 * np.log10((0 + 0.01**2) / 2), abs=0.01)


def test_equal_outputs_and_the_table(host) -> None:
    made, data = host
    exact = made.outputs_of(data)
    found = drift.measure(made, data, exact, exact)
    assert found == {"Y": [None] * drift.PARTS}
    text = "\n".join(drift.lines(Report.parse({**DOCUMENT, "drift": found})))
    assert "| Y | exact |" in text
    assert "| output | 10 % | 20 % |" in text
    assert drift.lines(Report.parse(DOCUMENT)) == []


def test_several_lengths_have_no_common_tenths() -> None:
    data = Dataset({"x": np.ones((30, 3))}, None, "test", {}, (10, 20))
    one = np.ones((30, 3), np.float32)
    assert drift.measure(None, data, {"y": one}, {"y": one}) == {}
