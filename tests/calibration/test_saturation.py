"""Ranges by the error of a function's codes, judged through the codes and the table themselves."""

import numpy as np
import pytest

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import observe
from onnxgru.calibration.saturation import Reader, observe_saturation
from onnxgru.core.activations import Activation
from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import DataError
from onnxgru.core.integers import Quantization
from onnxgru.custom_ops.kinds import lookup

SIGMOID, TANH, RELU = (Activation(name) for name in ("Sigmoid", "Tanh", "Relu"))


def reader(function: Activation, bits: int) -> Reader:
    return Reader(function, function.quantization(bits) or Quantization.of_range(0, 9, bits))


def drawn(kind: str) -> np.ndarray:
    normal = np.random.default_rng(5).normal(size=20_000)
    return {
        "wide": 6.0 * normal + 1.0,
        "narrow": 0.3 * normal - 0.1,
        "one side": np.abs(4.0 * normal),
        "outlier": np.append(normal, 80.0),
    }[kind].astype(np.float32)


def of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.update(values)
    return histogram


def error(values: np.ndarray, limits: tuple[float, float], bits: int, to: Reader) -> float:
    """Mean squared error of the table's values, by the codes that a program would compute."""
    operand = Quantization.of_range(*limits, bits)
    table = lookup.entries(to.function, operand, to.result)
    found = to.result.dequantize(table[operand.quantize(values)])
    return float(np.mean((to.function(values.astype(np.float64)) - found) ** 2))


@pytest.mark.parametrize("kind", ["wide", "narrow", "one side", "outlier"])
@pytest.mark.parametrize("function", [SIGMOID, TANH, RELU], ids=lambda f: f.name)
@pytest.mark.parametrize("bits", WIDTHS)
def test_less_error_than_plain_ranges(bits: int, function: Activation, kind: str) -> None:
    values = drawn(kind)
    histogram = of(values)
    for result_bits in (3, 8):
        to = reader(function, result_bits)
        ours = error(values, observe_saturation(histogram, to, bits), bits, to)
        for observer in ("minmax", "mse"):
            # A bin's values are counted as its middle, which tells at many codes a bin.
            plain = error(values, observe(histogram, observer, bits), bits, to)
            assert ours <= 1.02 * plain + 1e-7
    wide = reader(function, 8)
    if kind == "wide" and function is not RELU and bits <= 5:
        limits = observe(histogram, "mse", bits), observe_saturation(histogram, wide, bits)
        plain, ours = (error(values, found, bits, wide) for found in limits)
        assert ours < 0.6 * plain


@pytest.mark.parametrize("decay", ["value", "complement"])
def test_gates_that_states_decay_by(decay: str) -> None:
    """Values of a slow gate, 0.997 to 0.9995, are told apart from 1, mirrored where 1 - f is."""
    generator = np.random.default_rng(5)
    sign = 1 if decay == "value" else -1
    values = np.append(2 * generator.normal(size=9_000), generator.uniform(5.8, 7.6, 1_000))
    values = (sign * values).astype(np.float32)
    plain = reader(SIGMOID, 8)
    to = Reader(plain.function, plain.result, decay)

    def lost(limits: tuple[float, float]) -> float:
        operand = Quantization.of_range(*limits, 8)
        table = to.result.dequantize(lookup.entries(SIGMOID, operand, to.result))
        kept = SIGMOID(values.astype(np.float64)), table[operand.quantize(values)]
        exact, found = kept if decay == "value" else (1 - kept[0], 1 - kept[1])
        return float(np.mean((exact - found) ** 2 / (1 - exact + to.result.scale)))

    near, far = (observe_saturation(of(values), one, 8) for one in (plain, to))
    assert lost(far) < 0.9 * lost(near)
    assert max(sign * end for end in far) > max(sign * end for end in near)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_least_error_of_a_grid(bits: int) -> None:
    values = drawn("wide")[:4000]
    histogram = of(values)
    for to in (reader(SIGMOID, 8), reader(TANH, bits)):
        ours = error(values, observe_saturation(histogram, to, bits), bits, to)
        top = 2**bits - 1
        best = min(
            error(values, (-z * scale, (top - z) * scale), bits, to)
            for scale in np.geomspace(0.05, 20.0, 150)
            for z in range(top + 1)
        )
        assert ours <= 1.05 * best  # a threshold may fall within a bin


def test_range_reaches_no_further_than_the_function_changes() -> None:
    low, high = observe_saturation(of(drawn("wide")), reader(SIGMOID, 8), 8)
    assert -9 < low < -4 and 4 < high < 9  # the values reach from -23 to 25
    low, high = observe_saturation(of(drawn("wide")), reader(RELU, 8), 8)
    assert low == 0.0


def test_values_without_a_range() -> None:
    assert observe_saturation(of(np.full(9, 2.0)), reader(SIGMOID, 8), 4) == (0.0, 2.0)
    assert observe_saturation(of(np.zeros(3)), reader(SIGMOID, 8), 4) == (0.0, 0.0)
    with pytest.raises(DataError, match="calibration saw none of this tensor"):
        observe_saturation(Histogram(), reader(SIGMOID, 8), 4)


def test_calibration_asks_for_it_with_mse_alone() -> None:
    histogram = of(drawn("wide"))
    calibration = Calibration({"a": histogram, "b": histogram}, {"b": (-1.0, 2.0)}, "0" * 64, 1)
    to = reader(SIGMOID, 8)
    assert calibration.range("a", "mse", 4, reader=to) == observe_saturation(histogram, to, 4)
    for observer, given in (("mse", None), ("minmax", to), ("entropy", to)):
        found = calibration.range("a", observer, 4, reader=given)
        assert found == observe(histogram, observer, 4)
    assert calibration.range("b", "mse", 4, reader=to) == (-1.0, 2.0)
