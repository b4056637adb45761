"""Operators in the place of functions: the same codes as the bodies and as the evaluator."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import onnxgru
import onnxgru.onnxruntime
from onnxgru.core.errors import UsageError
from onnxgru.events import silent
from onnxgru.onnxruntime import library, operators
from tests import grus

pytestmark = pytest.mark.slow

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
BOTH_WAYS = grus.Case(direction="bidirectional", lengths=(5, 2, 0), initial=True)
LSTM = grus.Case(operator="LSTM", outputs=("Y", "Y_h", "Y_c"))


def quantized(case: grus.Case, folder: Path, **settings: object) -> Path:
    onnx.save(grus.model(case), folder / "m.onnx")
    np.savez(folder / "c.npz", **grus.feeds(case))
    settings = {"functions": True, "head": False, **settings}
    onnxgru.quantize(
        folder / "m.onnx", bits=4, calibration=folder / "c.npz", validation=folder / "c.npz",
        output=folder / "out", listener=silent, **settings,
    )  # fmt: skip
    return folder / "out"


def session(place: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(place / "integer.onnx"), options)


def nodes(place: Path, options: onnxruntime.SessionOptions) -> list[str]:
    """Operators that onnxruntime runs."""
    options.optimized_model_filepath = str(place.parent / "optimised.onnx")
    session(place, options)
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


@needs_compiler
@pytest.mark.parametrize("case", [BOTH_WAYS, LSTM], ids=["GRU both ways", "LSTM"])
def test_operators_give_the_codes_of_bodies_and_evaluator(case: grus.Case, tmp_path: Path) -> None:
    place = quantized(case, tmp_path)
    options = onnxruntime.SessionOptions()
    sides = ("forward", "reverse") if case.direction == "bidirectional" else ("forward",)
    names = onnxgru.onnxruntime.register(options, place)
    assert sorted(name.rpartition("/")[2] for name in names) == sorted(sides)
    feeds = grus.feeds(case)
    found = session(place, options).run(None, feeds)
    bodies = session(place, onnxruntime.SessionOptions()).run(None, feeds)
    for one, body, evaluated in zip(
        found, bodies, onnxgru.load(place).run(None, feeds), strict=True
    ):
        np.testing.assert_array_equal(one, body)
        np.testing.assert_array_equal(one, evaluated)
    if case.initial:
        feeds["initial_h"] = feeds["initial_h"][:, :2]
        with pytest.raises(Fail, match="onnxgru: sequences, masks and states must have one batch"):
            session(place, options).run(None, feeds)
    ran = nodes(place, options)
    refusing = SimpleNamespace(register_custom_ops_library=refused)
    with pytest.warns(onnxgru.OnnxgruWarning) as told:
        assert onnxgru.onnxruntime.register(refusing, place) == ()
    assert str(told[0].message) == (
        "onnxruntime must take the operators of onnxgru, but refuses them: another version; the "
        "portable bodies run"
    )
    assert len([name for name in ran if name.startswith("Recurrence")]) == len(sides)
    assert "Scan" not in ran


def test_options_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"must be onnxruntime\.SessionOptions, it is of type None"
    ):
        onnxgru.onnxruntime.register(None, tmp_path)


def refused(_path: str) -> None:
    raise RuntimeError("another version")


def warned(place: Path) -> str:
    """The one warning of a registration after which the portable bodies run."""
    options = onnxruntime.SessionOptions()
    with pytest.warns(onnxgru.OnnxgruWarning) as told:
        assert onnxgru.onnxruntime.register(options, place) == ()
    (one,) = told
    case = grus.Case()
    found = session(place, options).run(None, grus.feeds(case))
    expected = session(place, onnxruntime.SessionOptions()).run(None, grus.feeds(case))
    np.testing.assert_array_equal(found[0], expected[0])
    return str(one.message).replace(str(place), "out")


def test_what_is_missing_is_told_and_bodies_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = quantized(grus.Case(), tmp_path)
    monkeypatch.setenv("ONNXGRU_CACHE", str(tmp_path / "cache"))
    library._built.cache_clear()
    monkeypatch.setattr(library, "_compilers", lambda: iter(()))
    assert warned(place) == (
        "operators for onnxruntime need a C compiler, and there is none; install gcc or clang, or "
        "pip install ziglang; the portable bodies run"
    )
    monkeypatch.setattr(library, "_compilers", lambda: iter([["no-such-compiler"]]))
    text = warned(place)
    assert text.startswith(
        "operators for onnxruntime need a C compiler, and no-such-compiler fails: [Errno 2]"
    )
    assert text.endswith("; set CC to another one; the portable bodies run")
    broken = tmp_path / "broken.so"
    broken.write_text("nothing")
    monkeypatch.setattr(library, "_built", lambda *_: broken)
    text = warned(place)
    assert text.startswith(f"{broken}: must be the library of onnxgru's operators, but ")
    assert text.endswith("; delete it; the portable bodies run")

    graph = onnx.load(place / "integer.onnx")
    (node,) = (node for node in graph.graph.node if node.domain == "onnxgru")
    node.attribute[0].s = b"/other/forward"
    onnx.save(graph, place / "integer.onnx")
    assert warned(place) == (
        "out/integer.onnx: /other/forward is no recurrence that kernels compute; the portable body "
        "runs"
    )


def test_layers_that_kernels_do_not_compute_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = quantized(LSTM, tmp_path, profile="compilers")
    options = onnxruntime.SessionOptions()
    told = "has codes of int32, and kernels compute uint16"
    with pytest.warns(onnxgru.OnnxgruWarning, match=told):
        assert onnxgru.onnxruntime.register(options, place) == ()
    session(place, options)
    monkeypatch.setattr(operators, "LONGEST", 5)
    place = quantized(grus.Case(), tmp_path, force=True)
    assert warned(place) == (
        "out/integer.onnx: /gru/forward has more than 12 states, or more than 5 letters; the "
        "portable body runs"
    )


def test_a_graph_without_functions_is_told(tmp_path: Path) -> None:
    place = quantized(grus.Case(), tmp_path, functions=False)
    assert warned(place) == (
        "out/integer.onnx: it has no functions that operators could replace; quantise with "
        "functions; the portable body runs"
    )
