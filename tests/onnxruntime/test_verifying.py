"""`verify` runs the compiled operators in the place of a graph's functions."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import onnxgru
from onnxgru.core.errors import UsageError
from onnxgru.events import Event, Stage
from onnxgru.firmware import verifying as verify
from onnxgru.onnxruntime import library, verifying
from onnxgru.session.toolchains import DIFFERS, REFUSES, SAME
from tests.onnxruntime.test_register import LSTM, needs_compiler, quantized

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantized(LSTM, tmp_path_factory.mktemp("functions"), golden=2)


@needs_compiler
def test_operators_are_a_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    (row,) = onnxgru.verify(folder, runtimes=["operator"], listener=told.append).rows
    assert told == [Stage("verifying the compiled operators in onnxruntime")]
    assert (row.verdict, row.version, row.detail) == (SAME, onnxruntime.__version__, "")
    assert row.codes > 0
    called = verifying.called

    def wrong(session: object, calls: object) -> list[dict[str, np.ndarray]]:
        found = called(session, calls)
        name = next(
            n for n, array in found[0].items() if array.dtype == np.uint8 and array.ndim > 2
        )
        found[0][name] = found[0][name] ^ 1
        return found

    monkeypatch.setattr(verifying, "called", wrong)
    found = onnxgru.verify(folder, runtimes=["operator"])
    assert found.differs and found.rows[0].verdict == DIFFERS
    assert "codes differ, first at" in found.rows[0].detail


def test_reasons_of_operators_are_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="operator needs an output folder, from which its code"):
        onnxgru.verify(folder / "integer.onnx", runtimes=["operator"])
    monkeypatch.setattr(verify, "rows", lambda *_, **__: [])
    monkeypatch.setattr(verify, "_devices", lambda *_: [])
    monkeypatch.setattr(library, "_compilers", lambda: iter(()))
    monkeypatch.setattr(library.cache, "folder", lambda: tmp_path / "cache")
    (row,) = onnxgru.verify(folder).rows
    assert (row.runtime, row.verdict) == ("operator", REFUSES)
    assert row.detail.startswith("operators for onnxruntime need a C compiler, and there is none")
    plain = quantized(LSTM, tmp_path, functions=False)
    assert onnxgru.verify(plain).rows == ()
    (row,) = onnxgru.verify(plain, runtimes=["operator"]).rows
    assert row.verdict == REFUSES
    assert row.detail.startswith("it has no functions that operators could replace")
