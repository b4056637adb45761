"""Ranges of addends before a function, judged by another writing of the error."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.calibration.addition import LEAST_GAIN, Addition, observe_addend
from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import observe
from onnxgru.calibration.saturation import Reader, observe_saturation
from onnxgru.core.activations import Activation
from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import SchemeError
from onnxgru.core.integers import Quantization
from onnxgru.core.scheme import Scheme
from onnxgru.passes.lowering.lower import Lowering
from tests import grus
from tests.pipeline import Pipeline, pipeline

FUNCTIONS = [Activation("Sigmoid"), Activation("Tanh"), Activation("HardSigmoid", 0.2, 0.5)]
CASE = grus.Case(T=12, B=40, H=10)


def seen(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.update(values)
    return histogram


def met(
    values: np.ndarray, others: np.ndarray, function: Activation, bits: int
) -> tuple[Addition, Quantization]:
    """What an addend meets at a width, and what its observer chooses."""
    result = function.quantization(bits)
    assert result is not None
    reader = Reader(function, result)
    total = observe_saturation(seen(values + others), reader, bits)
    rounded, observed = (
        Quantization.of_range(*observe(seen(x), "mse", bits), bits) for x in (others, values)
    )
    return Addition("b", rounded, Quantization.of_range(*total, bits), reader), observed


def error(
    values: np.ndarray, others: np.ndarray, addition: Addition, quantization: Quantization
) -> float:
    """Mean squared error of the function's codes, value by value."""

    def rounded(x: np.ndarray, q: Quantization) -> np.ndarray:
        return q.dequantize(q.quantize(x.astype(np.float32))).astype(np.float64)

    sums = rounded(
        rounded(values, quantization) + rounded(others, addition.rounded), addition.total
    )
    found = rounded(addition.reader.function(sums), addition.reader.result)
    return float(np.mean((addition.reader.function(values + others) - found) ** 2))


def drawn(loudness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return loudness * rng.standard_normal(40_000), rng.standard_normal(40_000)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
@pytest.mark.parametrize("bits", WIDTHS)
def test_large_addends_are_cut(bits: int, function: Activation) -> None:
    values, others = drawn(50.0)
    addition, observed = met(values, others, function, bits)
    found = observe_addend(seen(values), seen(others), addition, observed)
    assert found.bits == bits
    assert found.range[1] - found.range[0] < 0.5 * (observed.range[1] - observed.range[0])
    # Other values of the same kind, which the histograms never saw.
    fresh = drawn(50.0, seed=1)
    assert error(*fresh, addition, found) < (1 - LEAST_GAIN) * error(*fresh, addition, observed)


@pytest.mark.parametrize("bits", WIDTHS)
def test_near_the_best_of_a_grid(bits: int) -> None:
    values, others = (x[:4_000] for x in drawn(20.0))
    addition, observed = met(values, others, FUNCTIONS[1], bits)
    found = observe_addend(seen(values), seen(others), addition, observed)
    top = 2**bits - 1
    best = min(
        error(values, others, addition, Quantization(float(np.float32(scale)), zero, bits))
        for scale in np.geomspace(2 / top, 80 / top, 30)
        for zero in {round(share * top) for share in (0, 0.25, 0.4, 0.5, 0.6, 0.75, 1)}
    )
    assert error(values, others, addition, found) < 1.3 * best  # some grids add without rounding


@pytest.mark.parametrize("bits", WIDTHS)
def test_small_addends_keep_the_range(bits: int) -> None:
    values, others = drawn(0.5)
    addition, observed = met(values, others, FUNCTIONS[0], bits)
    assert observe_addend(seen(values), seen(others), addition, observed) == observed


def test_constants_and_tiny_values() -> None:
    _, others = drawn(1.0)
    for values in (np.zeros(9), np.full(9, 1e-38), np.full(9, 3.0)):
        addition, observed = met(np.resize(values, 40_000), others, FUNCTIONS[0], 4)
        found = observe_addend(seen(values), seen(others), addition, observed)
        assert found.bits == 4


def made(loudness: float = 1.0, **settings: object) -> Pipeline:
    """A GRU whose inputs are so many times as large."""
    case = replace(CASE, **settings)
    feeds = grus.feeds(case)
    feeds["X"] *= np.float32(loudness)
    return pipeline(grus.model(case), feeds, ranges="saturating")


def changed(pipe: Pipeline, bits: int) -> set[str]:
    """Rows of the cell whose ranges know of addends."""
    scheme = Scheme.uniform(pipe.layers, bits)

    def values(calibration: Calibration) -> dict[str, Quantization]:
        lower = Lowering(pipe.model.graph, pipe.layers, calibration, ranges="saturating")
        return dict(lower(scheme).values)

    # An overruled range is left alone: here by what the observer says itself.
    own = {
        name: pipe.calibration.range(name, "mse", bits)
        for name in pipe.calibration.histograms
        if name.endswith((".input", ".hidden", ".reset"))
    }
    kept = values(replace(pipe.calibration, overrides=own))
    return {
        name.rpartition("/")[2]
        for name, found in values(pipe.calibration).items()
        if found != kept[name]
    }


@pytest.mark.parametrize("reset", [0, 1])
def test_lowering_asks_for_addends_alone(reset: int) -> None:
    pipe = made(50.0, linear_before_reset=reset)
    assert {"reset.input", "update.input", "new.input"} <= changed(pipe, 6)
    addends = {f"{gate}.{row}" for gate in ("reset", "update") for row in ("input", "hidden")}
    addends |= {"new.input", "new.reset" if reset else "new.hidden"}
    assert changed(pipe, 6) <= addends
    assert changed(made(0.3, linear_before_reset=reset), 8) == set()


def test_only_where_ranges_and_observer_are_to_know_it() -> None:
    pipe = made(50.0)
    name = f"{pipe.layers[0].recurrences[0].name}/update.input"

    def value(ranges: str, observer: str = "mse") -> Quantization:
        lower = Lowering(pipe.model.graph, pipe.layers, pipe.calibration, ranges=ranges)
        return lower(Scheme.uniform(pipe.layers, 6, observer=observer)).values[name]

    def observed(observer: str) -> Quantization:
        return Quantization.of_range(*pipe.calibration.range(name, observer, 6), 6)

    assert value("plain") == observed("mse")
    assert value("saturating") == value("aligned") != observed("mse")
    assert value("saturating", "minmax") == observed("minmax")


def test_calibration_names_what_is_missing() -> None:
    values, others = drawn(50.0)
    addition, observed = met(values, others, FUNCTIONS[0], 8)
    calibration = Calibration({"a": seen(values), "b": seen(others)}, {}, "0" * 64, 1)
    found = calibration.addend("a", observed, addition)
    assert found == observe_addend(seen(values), seen(others), addition, observed)
    with pytest.raises(SchemeError, match="operator 'c' must be in the calibration"):
        calibration.addend("c", observed, addition)
    with pytest.raises(SchemeError, match="operator 'd' must be in the calibration"):
        calibration.addend("a", observed, replace(addition, other="d"))
    forced = replace(calibration, overrides={"a": (-1.0, 1.0)})
    assert forced.addend("a", observed, addition) == observed
    empty = replace(calibration, histograms={"a": seen(values), "b": Histogram()})
    assert empty.addend("a", observed, addition) == observed
