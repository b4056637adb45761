"""Sessions of other limits and other weights are new ones, and leave the first as it was."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxgru import Config
from onnxgru.core.choices import ACCUMULATOR_BITS
from onnxgru.core.errors import ModelError
from onnxgru.core.weights import Tuned
from onnxgru.session.model import Model
from onnxgru.session.session import Session
from tests import grus


@pytest.fixture
def session(tmp_path: Path) -> Session:
    onnx.save(grus.model(grus.Case()), tmp_path / "m.onnx")
    x = grus.feeds(grus.Case())["X"]
    np.savez(tmp_path / "data.npz", X=x)
    data = str(tmp_path / "data.npz")
    config = Config(accumulator_bits=24, calibration=data, validation=data)
    return Session.open(tmp_path / "m.onnx", config)


@pytest.mark.parametrize(("steps", "ranges"), [(59, "saturating"), (60, "aligned")])
@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_long_recordings_get_aligned_ranges(tmp_path: Path, steps: int, ranges: str) -> None:
    case = grus.Case(T=steps, B=2)
    onnx.save(grus.model(case), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", X=grus.feeds(case)["X"])
    data = str(tmp_path / "data.npz")
    session = Session.open(tmp_path / "m.onnx", Config(calibration=data, validation=data))
    assert session.config.ranges == ranges


def test_wider_limits_share_statistics_and_rounding(session: Session) -> None:
    wide = session.quantizer.unbounded
    assert wide is session.quantizer.unbounded
    assert wide.unbounded is wide
    assert wide.limits.accumulator_bits == ACCUMULATOR_BITS
    assert session.quantizer.limits.accumulator_bits == 24
    assert wide.statistics is session.quantizer.statistics
    assert wide.rounding is session.quantizer.rounding


def test_other_weights_leave_the_first_model_alone(session: Session) -> None:
    before = session.model.serialized()
    scheme = session.uniform(8)
    figure = session.yardstick.quality(session.quantizer(scheme), "validation")
    weights = {o.name: (2 * o.weight, o.bias) for o in session.model.layers[0].linears}
    started = session.quantizer.started(Tuned({}, weights, {}, {}), session.config)
    other = session.on(started, session.yardstick.on(started.model.host))
    assert other.model.serialized() != before
    for name, (weight, _) in weights.items():
        (found,) = (o for o in other.model.layers[0].linears if o.name == name)
        np.testing.assert_array_equal(found.weight, weight)
    assert other.yardstick.reference("validation") is session.yardstick.reference("validation")
    assert other.yardstick.quality(other.quantizer(scheme), "validation") < figure
    assert session.model.serialized() == before
    assert session.yardstick.quality(session.quantizer(scheme), "validation") == figure


def test_a_model_that_is_read_again_is_the_same(session: Session) -> None:
    again = Model.read(session.model.serialized())
    assert [layer.name for layer in again.layers] == [x.name for x in session.model.layers]
    assert again.serialized() == session.model.serialized()


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[2] x) => (float[2] y) { y = Relu (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    model = Model.read(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: holds no GRU"):
        _ = model.layers


def test_weights_without_ranges_keep_the_ranges_that_were_chosen(session: Session) -> None:
    statistics = session.quantizer.statistics
    assert statistics.retuned({}) is statistics
    name = next(iter(session.uniform(8).operators))
    other = statistics.retuned({name: (-1.0, 2.0)})
    assert other.calibration.overrides[name] == (-1.0, 2.0)
    assert name not in statistics.calibration.overrides
