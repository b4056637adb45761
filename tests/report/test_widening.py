"""Inputs and states of 16 bits: measured where a program is far from the float model, and said."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core import skip
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from tests import grus

CASE = grus.Case(I=6, H=8, T=20, B=60)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GRU whose weights are great where its input is quiet."""
    message = grus.model(CASE)
    tensor = next(i for i in message.graph.initializer if i.name == "W")
    weights = onnx.numpy_helper.to_array(tensor) * np.array([0.01, 40, 40, 40, 40, 40], np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights.astype(np.float32), "W"))
    onnx.save(message, tmp_path / "gru.onnx")
    return tmp_path / "gru.onnx"


def recordings(quiet: float) -> dict[str, dict[str, np.ndarray]]:
    """One loud input, the others as quiet as said."""
    found = {"calibration": grus.feeds(CASE, 1), "validation": grus.feeds(CASE, 2)}
    for inputs in found.values():
        inputs["X"] *= np.array([20, *[quiet] * 5], np.float32)
    return found


def test_what_layers_read_is_too_coarse(model: Path) -> None:
    data = recordings(0.02)
    folders = {bits: model.parent / str(bits) for bits in (8, 16)}
    with pytest.warns(
        onnxgru.OnnxgruWarning, match="with input_bits 16 SQNR on validation data is "
    ):
        plain = onnxgru.quantize(model, output=folders[8], **data)
    found = plain.parsed.wide_inputs
    assert found is not None and found.validation is not None and found.before is not None
    assert found.validation > found.before + 10

    wide = onnxgru.quantize(model, output=folders[16], input_bits=16, **data)
    assert wide.parsed.quality["validation"].integer == pytest.approx(found.validation, abs=1e-4)
    assert wide.parsed.wide_inputs is None
    assert [entry.bits for entry in wide.scheme.inputs.values()] == [16]
    assert wide.ram_bytes >= plain.ram_bytes


def test_inputs_near_the_float_model_are_not_measured(tmp_path: Path) -> None:
    data = {"calibration": grus.feeds(CASE, 1), "validation": grus.feeds(CASE, 2)}
    found = onnxgru.quantize(grus.model(CASE), output=tmp_path / "out", **data)
    assert found.parsed.wide_inputs is None
    assert found.parsed.wide_states is None


SLOW = grus.Case(I=4, H=12, T=80, B=50, seed=3)


def slow(seed: int) -> dict[str, np.ndarray]:
    """Recordings with a mean, which slow units add up."""
    inputs = grus.feeds(SLOW, seed)
    means = np.random.default_rng(seed).standard_normal((1, SLOW.B, SLOW.I))
    inputs["X"] = (0.3 * inputs["X"] + means).astype(np.float32)
    return inputs


@pytest.fixture
def forgetful() -> onnx.ModelProto:
    """A GRU half of whose units change by about a 150th at every step."""
    message = grus.model(SLOW)
    tensor = next(i for i in message.graph.initializer if i.name == "B")
    biases = onnx.numpy_helper.to_array(tensor).copy()
    biases[0, : SLOW.H // 2] += 5.0  # of the update gate
    tensor.CopyFrom(onnx.numpy_helper.from_array(biases, "B"))
    return message


def test_states_are_too_coarse_for_slow_units(forgetful: onnx.ModelProto, tmp_path: Path) -> None:
    data = {"calibration": slow(1), "validation": slow(2)}
    with pytest.warns(onnxgru.OnnxgruWarning) as said:
        plain = onnxgru.quantize(forgetful, output=tmp_path / "plain", **data)
    (advice,) = (str(w.message) for w in said if "loses the most" in str(w.message))
    found = plain.parsed.wide_states
    assert found is not None and found.validation is not None and found.before is not None
    assert found.validation > found.before + 5
    assert advice == (
        f"the rounding of the states of /gru loses the most: with wide_states SQNR on validation "
        f"data is {found.validation:.2f} dB instead of {found.before:.2f} dB, for {found.flash} "
        f"bytes of flash and {found.ram} bytes of RAM"
    )
    for document in ("report.md", "report.html"):
        assert "with --wide-states SQNR" in (tmp_path / "plain" / document).read_text()

    wide = onnxgru.quantize(forgetful, output=tmp_path / "wide", wide_states=True, **data)
    assert wide.parsed.quality["validation"].integer == pytest.approx(found.validation, abs=1e-4)
    assert wide.parsed.wide_states is None
    assert wide.flash_bytes == plain.flash_bytes + found.flash
    assert wide.ram_bytes == plain.ram_bytes + found.ram


def test_gates_of_wide_states_have_ranges_of_their_own(forgetful: onnx.ModelProto) -> None:
    """By how long an error stays in a state that can hold it; other gates have what they had."""
    session = Session.open(forgetful, Config(calibration=slow(1), validation=slow(2)))
    narrow = session.uniform(8)
    wide = skip.with_wide_states(narrow, session.model.layers)
    for gate, same in (("update", False), ("reset", True)):
        ranges = {session.quantizer(s).values[f"/gru/forward/{gate}.sum"] for s in (narrow, wide)}
        assert (len(ranges) == 1) == same
