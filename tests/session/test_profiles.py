"""Profiles and ways to store weights: the same codes, for consumers that lack operators."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from benchmarks.runtimes import HIDDEN, INPUTS, build
from onnxgru.core.errors import UsageError
from onnxgru.events import silent
from onnxgru.firmware.verifying import verify
from onnxgru.runtime.sessions import OPTIMISATIONS, onnxruntime_session, reference_session
from onnxgru.runtimes.profiles import PROFILES, WEIGHTS
from onnxgru.runtimes.table import NUMBERS, OTHERS, UINT16, find, lacking
from onnxgru.session.toolchains import SAME
from onnxgru.settings.config import Config
from tests import grus

pytestmark = pytest.mark.slow

CASE = grus.Case(T=4, B=3, I=3, H=4)


def scheme(folder: Path) -> Path:
    """Weights of every width from 2 to 8, of which 16-bit parameters follow."""
    onnx.save(grus.model(CASE), folder / "m.onnx")
    onnxgru.quantize(
        folder / "m.onnx", calibration=grus.feeds(CASE), output=folder / "o", listener=silent
    )
    document = json.loads((folder / "o" / "scheme.json").read_text("utf-8"))
    linear = [entry for entry in document["operators"].values() if "weight_bits" in entry]
    for bits, entry in zip((2, 3, 4, 5, 7, 8), linear, strict=True):
        entry["weight_bits"] = bits
    (folder / "scheme.json").write_text(json.dumps(document), "utf-8")
    return folder / "scheme.json"


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Output folders by form and by how weights are stored."""
    folder = tmp_path_factory.mktemp("weights")
    given = {"scheme": scheme(folder), "calibration": grus.feeds(CASE), "listener": silent}
    found = {}
    for form in ("scan", "step"):
        for weights in WEIGHTS:
            found[form, weights] = onnxgru.quantize(
                folder / "m.onnx", recurrence=form, weights=weights,
                output=folder / f"{form}-{weights}", **given,
            ).folder  # fmt: skip
    return found


def kinds(message: onnx.ModelProto) -> dict[str, set[str]]:
    """Types of initializers by name, and operators."""
    graph = message.graph
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    names = onnx.TensorProto.DataType.Name
    return {
        "types": {names(tensor.data_type) for tensor in graph.initializer},
        "operators": {node.op_type for scope in (graph, *bodies) for node in scope.node},
    }


@pytest.mark.parametrize("form", ["scan", "step"])
def test_weights_are_stored_as_asked_and_codes_stay(stored, form):
    outputs = []
    for weights in WEIGHTS:
        message = onnx.load(stored[form, weights] / "integer.onnx")
        onnx.checker.check_model(message, full_check=True)
        inputs = {"X": grus.feeds(CASE)["X"][: 1 if form == "step" else None]}
        if form == "step":
            inputs["/gru/forward/state"] = np.full((3, 4), 100, np.uint8)
        runs = [onnxruntime_session(message, level) for level in OPTIMISATIONS]
        outputs += [run(inputs) for run in (*runs, reference_session(message))]
        types = kinds(message)["types"]
        assert ({"INT2", "INT4"} <= types) == (weights == "native")
        assert ("ReduceSum" in kinds(message)["operators"]) == (weights == "packed")
    for found in outputs[1:]:
        for name, array in found.items():
            np.testing.assert_array_equal(array, outputs[0][name])


def test_native_weights_raise_the_opset_no_more_than_they_need(tmp_path):
    onnx.save(grus.model(CASE), tmp_path / "m.onnx")
    for bits, opset in ((2, 25), (4, 21), (8, 18)):
        folder = onnxgru.quantize(
            tmp_path / "m.onnx", bits=bits, weights="native", calibration=grus.feeds(CASE),
            output=tmp_path / str(bits), listener=silent,
        ).folder  # fmt: skip
        message = onnx.load(folder / "integer.onnx")
        assert message.opset_import[0].version == opset


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "onnxruntime"])
def test_profiles_write_what_their_consumers_take(tmp_path, profile):
    onnx.save(grus.model(CASE), tmp_path / "m.onnx")
    folder = onnxgru.quantize(
        tmp_path / "m.onnx", bits=4, profile=profile, calibration=grus.feeds(CASE),
        output=tmp_path / "o", listener=silent,
    ).folder  # fmt: skip
    message = onnx.load(folder / "integer.onnx")
    assert not PROFILES[profile].without & kinds(message)["operators"]
    read = {"Gather", "GatherElements"} & kinds(message)["operators"]
    assert ("GatherElements" in read) == (profile == "host")
    for value in (*message.graph.input, *message.graph.output) if profile != "host" else ():
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value
    found = verify(folder, runtimes=["onnxruntime (disabled)", "onnxruntime (all)", "OpenVINO"])
    assert {row.verdict for row in found.rows} == {SAME}


def test_compilers_get_codes_of_16_bits_as_int32(tmp_path):
    """IREE has no cast to uint16."""
    onnx.save(build("LSTM"), tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((3, 2, INPUTS)).astype(np.float32)
    found = []
    for profile, kind in (("compilers", "int32"), ("plain", "uint16")):
        folder = onnxgru.quantize(
            tmp_path / "m.onnx", profile=profile, batch=2, calibration={"X": x},
            output=tmp_path / profile, listener=silent,
        ).folder  # fmt: skip
        message = onnx.load(folder / "integer.onnx")
        casts = {a.i for n in message.graph.node if n.op_type == "Cast" for a in n.attribute}
        assert (onnx.TensorProto.UINT16 in casts) == (kind == "uint16")
        states = json.loads((folder / "report.json").read_text("utf-8"))["states"]
        assert [state["type"] for state in states] == ["uint8", kind]
        assert f"{kind}_t state1[{2 * HIDDEN}]" in (folder / "report.md").read_text("utf-8")
        first = {s["input"]: np.full((2, HIDDEN), s["first"], s["type"]) for s in states}
        for run in (onnxruntime_session(message), reference_session(message)):
            found.append(list(run({"X": x[:1], **first}).values()))
    for arrays in zip(*found, strict=True):
        for array in arrays[1:]:
            np.testing.assert_array_equal(array, arrays[0])


def test_a_setting_that_is_given_takes_precedence():
    chosen = Config(profile="compilers", recurrence="unrolled", steps=4, batch=2).chosen()
    assert (chosen.recurrence, chosen.batch, chosen.weights) == ("unrolled", 2, "int8")
    assert Config().chosen().recurrence == "scan"
    with pytest.raises(UsageError, match="steps belongs to recurrence unrolled, got step"):
        Config(profile="plain", steps=4)
    with pytest.raises(UsageError, match="profile must be"):
        Config(profile="caffe")


def test_what_profiles_serve_is_in_the_table():
    for profile in PROFILES.values():
        for name in profile.serves:
            assert find(name) or name in OTHERS
    assert lacking(["tract", "MNN"]) == {"Scan", "BitwiseAnd", NUMBERS}
    assert {UINT16, NUMBERS} <= PROFILES["compilers"].without
