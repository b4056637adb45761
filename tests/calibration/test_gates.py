"""Codes of functions with a bounded codomain: the whole of it, or what they use of it."""

import numpy as np
import pytest

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.histogram import Histogram
from onnxgru.core.activations import Activation
from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.core.integers import Quantization
from tests import grus
from tests.pipeline import pipeline

SIGMOID, TANH = Activation("Sigmoid"), Activation("Tanh")


def calibration(values: np.ndarray, **overrides: tuple[float, float]) -> Calibration:
    histogram = Histogram()
    histogram.update(values.astype(np.float32))
    return Calibration({"gate": histogram}, overrides, "0" * 64, 1)


def whole(function: Activation, bits: int) -> Quantization:
    found = function.quantization(bits)
    assert found is not None
    return found


def error(values: np.ndarray, quantization: Quantization) -> float:
    found = quantization.dequantize(quantization.quantize(values))
    return float(np.mean((values - found) ** 2))


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_quiet_gate_gets_the_codes_it_uses(bits: int) -> None:
    values = np.tanh(0.02 * np.random.default_rng(1).normal(size=20_000))
    found = calibration(values).gate("gate", whole(TANH, bits), "mse")
    assert found.bits == bits
    assert error(values, found) < 0.2 * error(values, whole(TANH, bits))
    if bits == 8:  # room for values that were not seen
        assert found.range[0] < values.min() and values.max() < found.range[1]


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_loud_gate_keeps_its_codomain(bits: int) -> None:
    normal = np.random.default_rng(2).normal(size=20_000)
    for function, values in ((TANH, np.tanh(2 * normal)), (SIGMOID, 1 / (1 + np.exp(-4 * normal)))):
        codomain = whole(function, bits)
        assert calibration(values).gate("gate", codomain, "mse") == codomain


def test_codes_never_leave_the_codomain() -> None:
    values = np.append(np.full(5000, 0.1), np.linspace(0, 0.13, 5000))
    found = calibration(values).gate("gate", whole(SIGMOID, 8), "minmax")
    assert found.range[0] == 0.0 and 0.13 < found.range[1] < 0.15


def test_a_range_in_the_file_overrules() -> None:
    values = np.tanh(0.02 * np.random.default_rng(1).normal(size=2000))
    found = calibration(values, gate=(-0.5, 0.5)).gate("gate", whole(TANH, 8), "mse")
    assert found == Quantization.of_range(-0.5, 0.5, 8)
    for bits in WIDTHS:  # as fine-tuning writes the codomain itself
        codomain = whole(TANH, bits)
        assert calibration(values, gate=codomain.range).gate("gate", codomain, "mse") == codomain


def test_no_values_and_wrong_names() -> None:
    assert calibration(np.zeros(0)).gate("gate", whole(TANH, 8), "mse") == whole(TANH, 8)
    assert calibration(np.zeros(9)).gate("gate", whole(TANH, 8), "mse") == whole(TANH, 8)
    with pytest.raises(SchemeError, match="operator 'gete' must be in the calibration"):
        calibration(np.zeros(9)).gate("gete", whole(TANH, 8), "mse")
    with pytest.raises(UsageError, match="must be one of minmax, percentile, mse, entropy"):
        calibration(np.zeros(9)).gate("gate", whole(TANH, 8), "mes")


def test_lowering_leaves_a_gate_with_a_complement_as_it_is() -> None:
    case = grus.Case(T=10, B=16, H=12, gain=0.02)
    made = pipeline(grus.model(case), grus.feeds(case))
    for bits in (4, 8):
        values = made.uniform(bits).values
        name = made.layers[0].recurrences[0].name
        assert values[f"{name}/update.gate"] == whole(SIGMOID, bits)
        assert values[f"{name}/update.complement"] == whole(SIGMOID, bits)
        assert 0.4 < values[f"{name}/reset.gate"].range[1] < 0.7  # values lie around 0.5
        assert values[f"{name}/new.gate"].scale < 0.3 * whole(TANH, bits).scale
