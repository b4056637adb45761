"""`verify` runs the C code of an output folder beside its graph."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.cli import main
from onnxgru.core.errors import UsageError
from onnxgru.events import silent
from onnxgru.firmware import verifying
from onnxgru.firmware.emulators import MACHINES, Machine
from onnxgru.runtimes.table import DEVICES
from onnxgru.session.toolchains import ABSENT, DIFFERS, REFUSES, SAME
from tests import grus
from tests.firmware.libraries import needs_gcc

CASE = grus.Case(T=4, B=2, I=3, H=4)
NATIVE = "C (native)"


def quantized(place: Path, recurrence: str) -> Path:
    onnx.save(grus.model(CASE), place / "m.onnx")
    return onnxgru.quantize(
        place / "m.onnx", bits=3, recurrence=recurrence, golden=3, calibration=grus.feeds(CASE),
        output=place / recurrence, listener=silent,
    ).folder  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantized(tmp_path_factory.mktemp("step"), "step")


@needs_gcc
def test_c_gives_the_codes_of_the_graph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["verify", str(folder), "--runtime", "onnxruntime (all)", "c", "--quiet"]
    assert main([*given, "--format", "json"]) == 0
    first, *rows = json.loads(capsys.readouterr().out)["rows"]
    assert first["verdict"] == SAME
    assert [row["runtime"] for row in rows] == [device.name for device in DEVICES]
    assert (rows[0]["verdict"], rows[0]["codes"]) == (SAME, 3 * CASE.H)
    assert rows[0]["version"].startswith("cc ")
    for row in rows[1:]:
        name = row["runtime"].removeprefix("C (").removesuffix(")")
        there = not MACHINES[name].missing
        assert row["verdict"] == (SAME if there else ABSENT)
        assert there or row["detail"].startswith("apt install")


@needs_gcc
def test_a_loop_is_verified_on_data(tmp_path: Path) -> None:
    written = quantized(tmp_path, "scan")
    (row,) = onnxgru.verify(written, grus.feeds(CASE), [NATIVE]).rows
    assert (row.verdict, row.codes) == (SAME, CASE.T * CASE.H)


@needs_gcc
@pytest.mark.parametrize(
    ("code", "verdict", "detail"),
    [
        (66, DIFFERS, "2 of 12 codes differ"),
        (124, DIFFERS, "60 or more of 12 codes differ"),
        (125, REFUSES, "the self-test ended with exit code 125"),
        (-11, REFUSES, "the self-test ended with exit code -11"),
    ],
)
def test_wrong_codes_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, verdict: str, detail: str
) -> None:
    monkeypatch.setattr(Machine, "build", lambda *_: None)
    monkeypatch.setattr(Machine, "run", lambda *_, **__: code)
    (row,) = onnxgru.verify(folder, runtimes=[NATIVE]).rows
    assert (row.verdict, row.detail) == (verdict, detail)


@needs_gcc
def test_one_wrong_code_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = verifying.vector

    def changed(layer, x):
        found = made(layer, x)
        found.outputs[1, 2] ^= 1
        return found

    monkeypatch.setattr(verifying, "vector", changed)
    (row,) = onnxgru.verify(folder, runtimes=[NATIVE]).rows
    assert row.verdict == REFUSES
    assert "but /gru gives other codes; quantise again" in row.detail
    monkeypatch.setattr(np, "array_equal", lambda *_: True)
    (row,) = onnxgru.verify(folder, runtimes=[NATIVE]).rows
    assert (row.verdict, row.detail) == (DIFFERS, "1 of 12 codes differ")


@needs_gcc
def test_a_compiler_that_refuses_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "MAIN", "#error no luck\n{prefix}{base}{most}")
    (row,) = onnxgru.verify(folder, runtimes=[NATIVE]).rows
    assert row.verdict == REFUSES
    assert row.detail.startswith("cc ends with exit code 1: ") and "no luck" in row.detail


def test_what_is_missing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    rows = onnxgru.verify(folder, runtimes=["c"]).rows
    assert {row.verdict for row in rows} == {ABSENT}
    assert rows[0].detail == "a C compiler called cc"
    (row,) = onnxgru.verify(folder, runtimes=["cortex-m4"]).rows
    assert row.detail == "apt install gcc-arm-none-eabi qemu-system-arm"


def test_a_file_alone_has_no_c(folder: Path) -> None:
    file = folder / "integer.onnx"
    with pytest.raises(UsageError, match=r"C \(native\) needs an output folder, from which"):
        onnxgru.verify(file, runtimes=["c"])
    with pytest.raises(UsageError, match=r"there is no runtime 'caffe'; .*C \(rv32imac\)$"):
        onnxgru.verify(file, runtimes=["caffe"])
