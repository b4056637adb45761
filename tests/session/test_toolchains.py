"""`verify` runs a written graph in every runtime, and finds what differs."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxgru
from onnxgru.cli import main
from onnxgru.core.errors import DataError, ModelError, UsageError, VerificationError
from onnxgru.events import silent
from onnxgru.firmware.verifying import verify
from onnxgru.runtimes import process
from onnxgru.runtimes.table import RUNTIMES
from onnxgru.session import toolchains
from onnxgru.session.toolchains import ABSENT, DIFFERS, REFUSES, SAME
from tests import grus
from tests.journeys import unfolded

pytestmark = pytest.mark.slow

INSTALLED = ["onnxruntime", "onnx.reference", "OpenVINO"]
"""What the test requirements hold."""

CASE = grus.Case(T=4, B=3, I=3, H=4)


def written(folder: Path, **settings: object) -> Path:
    """An output folder."""
    onnx.save(grus.model(CASE), folder / "m.onnx")
    np.savez(folder / "d.npz", **grus.feeds(CASE))
    config = onnxgru.Config(calibration=str(folder / "d.npz"), output=folder / "o", **settings)
    onnxgru.quantize(folder / "m.onnx", config, listener=silent)
    return folder / "o"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {
        form: written(tmp_path_factory.mktemp(form), recurrence=form) for form in ("scan", "step")
    }


@pytest.fixture(scope="module")
def unrolled(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("unrolled"), recurrence="unrolled", steps=4)


def test_all_runtimes_that_are_installed_compute_the_same_codes(folders):
    found = verify(folders["scan"], runtimes=INSTALLED)
    assert [row.runtime for row in found.rows][-2:] == ["onnx.reference", "OpenVINO"]
    assert {row.verdict for row in found.rows} == {SAME}, found
    assert len({row.codes for row in found.rows}) == 1
    assert not found.differs
    assert all(row.version for row in found.rows)


@pytest.mark.parametrize("form", ["step", "unrolled"])
def test_other_forms(form, folders, request):
    folder = folders[form] if form == "step" else request.getfixturevalue("unrolled")
    found = verify(folder, runtimes=["onnxruntime (all)", "OpenVINO"])
    assert {row.verdict for row in found.rows} == {SAME}, found


def test_recordings_step_by_step_are_a_row_of_calls(folders):
    data = str(folders["step"].parent / "d.npz")
    (row,) = verify(folders["step"], data, ["onnxruntime (all)"]).rows
    (one,) = verify(folders["step"], runtimes=["onnxruntime (all)"]).rows
    assert row.verdict == one.verdict == SAME
    assert row.codes == CASE.T * CASE.B * one.codes // 2  # two sequences in the test data set
    (row,) = verify(folders["scan"], data, ["onnxruntime (all)"]).rows
    assert row.verdict == SAME


def test_a_lone_file_is_run_on_random_numbers(folders, tmp_path):
    for form in ("scan", "step"):
        (tmp_path / f"{form}.onnx").write_bytes((folders[form] / "integer.onnx").read_bytes())
        found = verify(tmp_path / f"{form}.onnx", runtimes=["onnxruntime (all)"])
        assert found.inputs == "random numbers"
        assert [row.verdict for row in found.rows] == [SAME]


def wrong(change) -> object:
    """A runtime that computes the right outputs, changed."""

    def run(runtime, model, calls, **_):
        session = toolchains.onnxruntime_session(onnx.load_from_string(model), "disabled", 1)
        outputs = tuple(change(session(dict(inputs))) for inputs in calls.inputs)
        return process.Ran(process.RAN, "", "1", outputs)

    return run


def test_a_single_wrong_code_is_found(folders, monkeypatch, capsys):
    def change(outputs):
        states = next(name for name in outputs if name.endswith("/states"))
        outputs[states] = outputs[states].copy()
        outputs[states][-1, 1, 2] ^= 1
        return outputs

    monkeypatch.setattr(toolchains, "run", wrong(change))
    (row,) = verify(folders["scan"], runtimes=["tract"]).rows
    assert row.verdict == DIFFERS
    assert "/gru/forward/states: 1 of 32 codes differ, first at [3, 1, 2]" in row.detail
    with pytest.raises(VerificationError, match="tract must compute the codes of the reference"):
        verify(folders["scan"], runtimes=["tract"]).require_same()
    assert (
        main(["verify", str(folders["scan"]), "--runtime", "tract", "--format", "json", "-q"]) == 1
    )
    written, told = capsys.readouterr()
    assert json.loads(written)["rows"][0]["verdict"] == "DIFFERS"
    assert "do not use it for this graph" in unfolded(told)


def test_floats_may_differ_in_their_last_bits(folders, monkeypatch):
    def change(outputs):
        return {n: a * np.float32(1 + 1e-7) if n == "Y" else a for n, a in outputs.items()}

    monkeypatch.setattr(toolchains, "run", wrong(change))
    (row,) = verify(folders["scan"], runtimes=["OpenVINO"]).rows
    assert row.verdict == SAME
    assert "floats within" in row.detail


def computed_front(folder: Path) -> Path:
    """A model whose recurrent layer reads what float operators compute."""
    message = grus.model(CASE)
    first = message.graph.node[0]
    first.input[0] = "scaled"
    message.graph.node.insert(0, helper.make_node("Tanh", ["X"], ["scaled"]))
    onnx.save(message, folder / "m.onnx")
    np.savez(folder / "d.npz", **grus.feeds(CASE))
    config = onnxgru.Config(calibration=str(folder / "d.npz"), output=folder / "o")
    onnxgru.quantize(folder / "m.onnx", config, listener=silent)
    return folder / "o"


def shifted(folder: Path, entries: int) -> object:
    """A runtime whose float operators put some codes on the other side of a tie."""
    model = onnx.load(folder / "integer.onnx")
    shown = toolchains.crossings(model)
    ((code, rounded),) = shown.entries.items()

    def run(runtime, _, calls, **__):
        session = toolchains.onnxruntime_session(shown.model, "disabled", 1)
        following = toolchains.onnxruntime_session(toolchains.from_codes(shown), "disabled", 1)
        results = []
        for inputs in calls.inputs:
            given = session(dict(inputs))[code].copy()
            given.reshape(-1)[:entries] ^= 1
            found = following({**inputs, code: given})
            results.append(found | {code: given, rounded: given.astype(np.float32)})
        return process.Ran(process.RAN, "", "1", tuple(results))

    return run


def test_a_tie_of_a_computed_float_is_no_difference(tmp_path, monkeypatch):
    folder = computed_front(tmp_path)
    monkeypatch.setattr(toolchains, "run", shifted(folder, 1))
    (row,) = verify(folder, runtimes=["OpenVINO"]).rows
    assert (row.verdict, row.detail.partition(";")[0]) == (
        SAME,
        "1 code of computed floats one apart, at ties",
    )
    monkeypatch.setattr(toolchains, "run", shifted(folder, 3))
    (row,) = verify(folder, runtimes=["OpenVINO"]).rows
    assert row.verdict == DIFFERS
    assert "3 of 24 codes are one apart, too many for ties" in row.detail


def test_codes_of_graph_inputs_have_no_ties(folders, monkeypatch):
    monkeypatch.setattr(toolchains, "run", shifted(folders["scan"], 1))
    (row,) = verify(folders["scan"], runtimes=["OpenVINO"]).rows
    assert row.verdict == DIFFERS
    assert row.detail.startswith("/gru/input/codes: 1 of 24 codes differ")


def test_refusals_and_absence_are_told(folders, monkeypatch):
    refusal = process.Ran(process.REFUSED, "declutter fails", "2")
    monkeypatch.setattr(toolchains, "run", lambda *_, **__: refusal)
    (row,) = verify(folders["step"], runtimes=["tract"]).rows
    assert (row.verdict, row.detail, row.version) == (REFUSES, "declutter fails", "2")
    monkeypatch.setattr(toolchains, "run", lambda *_, **__: process.Ran(process.MISSING))
    rows = verify(folders["scan"] / "integer.onnx").rows
    assert len(rows) == len(RUNTIMES)
    assert {row.verdict for row in rows} == {ABSENT}
    assert rows[-1].detail == RUNTIMES[-1].install


def test_only_runtimes_that_are_installed_are_announced(folders, monkeypatch):
    there, away = "OpenVINO", "tract"
    monkeypatch.setattr(toolchains, "lacking", lambda runtime: "" if runtime.name == there else "x")
    monkeypatch.setattr(toolchains, "run", lambda *_, **__: process.Ran(process.MISSING))
    told = []
    verify(folders["scan"], runtimes=[there, away], listener=told.append)
    assert [event.text for event in told] == ["verifying in OpenVINO"]


@pytest.mark.parametrize(
    ("runtime", "form", "functions", "reason"),
    [
        ("OpenVINO", "scan", True, "does not take model-local functions; quantize without"),
        ("tract", "scan", False, "does not take Scan; quantize with --profile compilers for it"),
        ("LiteRT", "scan", False, "does not take Scan"),
        ("OpenVINO", "scan", False, "check 'false' failed"),
    ],
)
def test_what_a_runtime_is_known_not_to_take_is_its_reason(
    folders, tmp_path, monkeypatch, capsys, runtime, form, functions, reason
):
    model = onnx.load(folders[form] / "integer.onnx")
    if functions:
        model.functions.append(helper.make_function("own", "f", [], [], [], []))
    onnx.save(model, tmp_path / "m.onnx")
    refusal = process.Ran(process.REFUSED, "check 'false' failed", "2")
    monkeypatch.setattr(toolchains, "run", lambda *_, **__: refusal)
    assert main(["verify", str(tmp_path / "m.onnx"), "--runtime", runtime, "-q"]) == 0
    text = unfolded(capsys.readouterr().out)
    assert f"\n{runtime}: {reason}" in text
    assert all(len(line) <= 80 for line in text.splitlines()[:2])


def test_runtimes_of_fixed_sizes_get_fixed_sizes(folders, monkeypatch):
    seen = []

    def run(runtime, model, calls, **_):
        seen.append(onnx.load_from_string(model))
        return process.Ran(process.MISSING)

    monkeypatch.setattr(toolchains, "run", run)
    verify(folders["step"], runtimes=["tract", "onnxruntime (all)"])
    fixed, free = (
        [
            [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in [*model.graph.input, *model.graph.output]
        ]
        for model in seen
    )
    assert all(size > 0 for shape in fixed for size in shape)
    assert fixed[0][1] != free[0][1]


def test_what_is_wrong_is_said(folders, tmp_path):
    scan = folders["scan"]
    with pytest.raises(UsageError, match="there is no runtime 'caffe'; there are onnxruntime"):
        verify(scan, runtimes=["caffe"])
    with pytest.raises(UsageError, match=r"tract must be at .* '/nowhere' does not exist"):
        verify(scan, where={"tract": "/nowhere"})
    with pytest.raises(ModelError, match="must be a graph with integer codes, has none"):
        verify(scan.parent / "m.onnx")
    (tmp_path / "integer.onnx").write_bytes((scan / "integer.onnx").read_bytes())
    golden = tmp_path / "test_data_set_0"
    golden.mkdir()
    with pytest.raises(DataError, match="must have one file per input of the graph, 1, has 0"):
        verify(tmp_path)
    (golden / "input_0.pb").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"input_0.pb: cannot be read as a tensor"):
        verify(tmp_path)
    tensor = helper.make_tensor("other", TensorProto.FLOAT, [1], [0.0])
    (golden / "input_0.pb").write_bytes(tensor.SerializeToString())
    with pytest.raises(DataError, match="must hold input 'X' of the graph, holds 'other'"):
        verify(tmp_path)


def test_test_data_sets_of_another_graph_are_refused(folders, tmp_path):
    step = folders["step"]
    (tmp_path / "integer.onnx").write_bytes((step / "integer.onnx").read_bytes())
    golden = tmp_path / "test_data_set_0"
    golden.mkdir()
    for path in (step / "test_data_set_0").iterdir():
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        array = onnx.numpy_helper.to_array(tensor)
        if path.name.startswith("output") and array.dtype == np.uint8:
            tensor = onnx.numpy_helper.from_array(array ^ 1, tensor.name)
        (golden / path.name).write_bytes(tensor.SerializeToString())
    with pytest.raises(DataError, match="must be what onnxruntime computes without optimisation"):
        verify(tmp_path)


def test_command_line(folders, capsys):
    assert main(["verify", str(folders["step"]), "--runtime", "onnxruntime (all)", "-q"]) == 0
    assert "same codes" in capsys.readouterr().out
    several = ["--runtime", "onnxruntime (all)", "--runtime", "reference", "--format", "json"]
    assert main(["verify", str(folders["step"]), *several, "-q"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    assert main(["verify", str(folders["step"]), "--at", "tract"]) == 2
    assert "must be RUNTIME=PATH, got 'tract'" in unfolded(capsys.readouterr().err)
