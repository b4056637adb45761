"""Glitches are found by the gap above the tail of all other values; heavy tails are no glitches."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxgru.calibration.glitches import Extremes, Glitch, limited
from onnxgru.data.dataset import Dataset

STEPS, COUNT, WIDTH = SHAPE = 20, 64, 8
Draw = Callable[[np.random.Generator], np.ndarray]

USUAL: dict[str, Draw] = {
    "normal": lambda r: r.normal(size=SHAPE),
    "Laplace": lambda r: r.laplace(size=SHAPE),
    "uniform": lambda r: r.uniform(size=SHAPE),
    "raw power": lambda r: r.normal(size=SHAPE) ** 2,
    "decibels": lambda r: np.maximum(20 * np.log10(np.abs(r.normal(size=SHAPE))), -60),
    "bytes": lambda r: r.integers(0, 256, SHAPE),
    "scales": lambda r: r.normal(size=SHAPE) * 10.0 ** np.arange(WIDTH),
    "an offset": lambda r: r.normal(size=SHAPE) + 1000 * np.eye(WIDTH)[0],
}
HEAVY: dict[str, Draw] = {
    "Student t, 3": lambda r: r.standard_t(3, SHAPE),
    "Student t, 2": lambda r: r.standard_t(2, SHAPE),
    "Cauchy": lambda r: r.standard_cauchy(SHAPE),
    "log-normal": lambda r: r.lognormal(0, 2, SHAPE),
    "levels": lambda r: r.normal(size=SHAPE) * r.lognormal(0, 2, (1, COUNT, 1)),
    "static": lambda r: np.broadcast_to(r.lognormal(0, 2, (1, COUNT, WIDTH)), SHAPE).copy(),
    "power": lambda r: np.exp(r.normal(0, 3, (1, COUNT, 1))) * r.exponential(size=SHAPE),
    "one loud": lambda r: r.normal(size=SHAPE) * np.where(np.arange(COUNT) == 3, 100, 1)[:, None],
    "one-hot": lambda r: np.eye(WIDTH)[r.integers(0, WIDTH, (STEPS, COUNT))],
    "sparse": lambda r: r.exponential(size=SHAPE) * (r.uniform(size=SHAPE) < 0.02),
    "spiky": lambda r: r.normal(size=SHAPE) + 50 * r.normal(1, 0.2, SHAPE) * _few(r),
    "counts": lambda r: r.poisson(0.2, SHAPE) + 40 * np.eye(STEPS)[3, :, None, None] * _few(r),
    "constant": lambda r: np.ones(SHAPE),
    "zero": lambda r: np.zeros(SHAPE),
}


def _few(generator: np.random.Generator) -> np.ndarray:
    """Ten of the values."""
    chosen = np.zeros(STEPS * COUNT * WIDTH, bool)
    chosen[generator.permutation(chosen.size)[:10]] = True
    return chosen.reshape(SHAPE)


def find(x: np.ndarray, axis: int = 1, streams: tuple[int, ...] = (), parts: int = 1):
    extremes = Extremes("x")
    for number, part in enumerate(np.array_split(x.astype(np.float32), parts, axis)):
        extremes.update(Dataset({"x": part}, None, f"{number}.npz", {"x": axis}, streams))
    return extremes.glitch()


@pytest.mark.parametrize("name", [*USUAL, *HEAVY])
def test_values_of_usual_and_of_heavy_tails_are_no_glitches(name):
    draw = (USUAL | HEAVY)[name]
    for seed in range(20):
        assert find(draw(np.random.default_rng(seed))) is None, seed


@pytest.mark.parametrize("name", USUAL)
@pytest.mark.parametrize("times", [50.0, -1000.0])
def test_one_value_far_outside_is_a_glitch(name, times):
    for seed in range(5):
        x = np.asarray(USUAL[name](np.random.default_rng(seed)), np.float32)
        limit = np.abs(x).max()
        x[3, 5, 2] = times * limit
        found = find(x)
        assert found == Glitch("0.npz", "x", 1, 1, 5, (3, 5, 2), False, x[3, 5, 2], limit)


def test_a_frame_and_a_second_recording_belong_to_it_but_not_many():
    x = np.random.default_rng(1).normal(size=SHAPE)
    x[7, 40] = 500.0
    x[2, 9, 1] = -800.0
    found = find(x, parts=4)
    assert found is not None and (found.count, found.recordings) == (9, 2)
    assert (found.source, found.recording, found.position) == ("0.npz", 9, (2, 9, 1))
    x[2, 10, 1] = 700.0
    assert find(x) is None  # three recordings of 64 corroborate each other


def test_recordings_through_states_are_told_by_frame():
    x = np.random.default_rng(2).normal(size=(300, 1, WIDTH))
    x[120, 0, 4] = 1e4
    found = find(x, 0, (100, 200))
    assert found is not None and found.frames
    assert (found.recording, found.position, found.value) == (1, (20,), 1e4)
    x[250, 0, 4] = 1e4
    assert find(x, 0, (100, 200)) is None


def test_one_recording_with_spikes_over_time_is_as_it_is():
    x = np.random.default_rng(3).normal(size=(500, 1, WIDTH))
    x[::90, 0, 1] = 60.0
    assert find(x) is None


def test_few_values_tell_nothing():
    x = np.random.default_rng(4).normal(size=(5, 5, 4))
    x[0, 0, 0] = 1e6
    assert find(x) is None


def test_values_are_cut_to_the_largest_of_the_others():
    x = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    clean = x.copy()
    x[3, 5, 2] = -1e5
    data = Dataset({"x": x, "y": x}, None, "a.npz", {"x": 1, "y": 1})
    found = find(x)
    assert found is not None
    cut = limited(data, [found]).inputs
    clean[3, 5, 2] = -found.limit
    assert np.array_equal(cut["x"], clean) and cut["y"] is x
