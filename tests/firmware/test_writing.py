"""The command `c`, from an output folder to a self-test that passes."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.cli import main
from onnxgru.core.errors import UsageError
from onnxgru.events import silent
from onnxgru.firmware.writing import STEPS
from tests import journeys
from tests.firmware.libraries import needs_gcc
from tests.journeys import unfolded
from tests.runtime import streaming


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("firmware")
    journeys.copy_digits(place, 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        journeys.quantize(place, "small", "--bits", "3")
    return place


@needs_gcc
def test_a_folder_becomes_sources_that_test_themselves(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["c", "small", "--quiet", "--format", "json"]) == 0
    written = json.loads(capsys.readouterr().out)
    report = journeys.read(place / "small" / "report.json")
    assert written["flash"] == report["sizes"]["flash_bytes"]
    assert written["folder"] == "small/c" and written["steps"] == 8
    assert set(written["files"]) == journeys.names(place / "small" / "c")
    done = subprocess.run(
        ["make", "test"], cwd=place / "small" / "c", check=True, capture_output=True, text=True
    )
    assert "all codes are right" in done.stdout
    assert main(["c", "small"]) == 1
    told = unfolded(capsys.readouterr().err)
    assert "is not empty; replace its results with --force" in told
    assert main(["c", "small", "--force", "--quiet"]) == 0
    assert "bytes of flash; states: " in capsys.readouterr().out


def test_another_graph_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C is written of what integer.onnx holds, or not at all."""
    monkeypatch.chdir(place)
    (place / "other").mkdir()
    for path in (place / "small").iterdir():
        if path.is_file():
            (place / "other" / path.name).write_bytes(path.read_bytes())
    graph = onnx.load(place / "small" / "integer.onnx")
    weight = next(
        one for one in graph.graph.initializer if one.name.endswith("/reset.input/weight")
    )
    weight.raw_data = weight.raw_data[:-1] + bytes([weight.raw_data[-1] ^ 1])
    onnx.save(graph, place / "other" / "integer.onnx")
    assert main(["c", "other"]) == 1
    assert "other/integer.onnx: must hold what its scheme and calibration make of the model" in (
        " ".join(capsys.readouterr().err.split())
    )
    assert not (place / "other" / "c").exists()


def test_what_is_no_output_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["c", str(place)]) == 1
    assert "must be an output folder, it has no report.json" in unfolded(capsys.readouterr().err)
    with pytest.raises(UsageError) as one:
        onnxgru.write_c(3)
    assert str(one.value) == "folder must be a path, it is of type int"


@needs_gcc
def test_conversions_are_those_of_the_program(tmp_path: Path) -> None:
    """Quantising in C is what NumPy does: a product in float32, rounded half to even."""
    import ctypes

    from onnxgru.firmware.sources import Library
    from tests import grus
    from tests.firmware.libraries import codes_for, compile_with, write
    from tests.pipeline import pipeline

    case = grus.Case(I=3, H=2)
    program = pipeline(grus.model(case), grus.feeds(case)).uniform(4)
    library = Library(program, "net", "net")
    sources = [s for s in write(library, codes_for(program, 1), tmp_path) if "_test" not in s.name]
    compile_with("gcc", sources, tmp_path / "net.so", "-O2", "-shared", "-fPIC")
    called = ctypes.CDLL(str(tmp_path / "net.so"))
    (layer,) = program.layers
    grid = layer.input.quantization
    halves = (np.arange(-20, 20, dtype=np.float32) - np.float32(0.5)) * np.float32(grid.scale)
    values = np.concatenate(
        [halves, [np.inf, -np.inf, 1e30, -1e30, 0], np.random.default_rng(0).normal(0, 2, 500)]
    ).astype(np.float32)
    codes = np.empty(values.size, np.uint8)
    called.net_gru_quantize_input(values.ctypes, codes.ctypes, values.size)
    np.testing.assert_array_equal(codes, grid.quantize(values))
    back = np.empty(16, np.float32)
    every = np.arange(16, dtype=np.uint8)
    called.net_gru_dequantize_state(every.ctypes, back.ctypes, 16)
    np.testing.assert_array_equal(back, layer.emitted.dequantize(every))


def test_the_self_test_of_a_model_called_per_frame_has_many_frames(tmp_path: Path) -> None:
    onnx.save(streaming.stacked(), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((40, 1, streaming.I)).astype(np.float32)
    place = tmp_path / "o"
    data = {"calibration": {"x": x}, "validation": {"x": x}}
    onnxgru.quantize(tmp_path / "m.onnx", output=place, listener=silent, **data)
    written = onnxgru.write_c(place, validation={"x": x}, listener=silent)
    assert written.steps == STEPS
    written = onnxgru.write_c(place, validation={"x": x[:5]}, force=True, listener=silent)
    assert written.steps == 5
