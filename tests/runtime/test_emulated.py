"""The same codes in onnxruntime on a processor without VNNI, emulated by qemu-user.

There onnxruntime's uint8 x int8 product saturates in 16 bits; that it gives wrong numbers in the
very process that runs the emitted models shows that the emulated processor really has no VNNI.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core import skip
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.runtime.probe import probe
from tests import grus, scans
from tests.pipeline import Pipeline, pipeline
from tests.runtime.exact import expect, made

QEMU = shutil.which("qemu-x86_64")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 (qemu-user) is not installed"),
]

SCRIPT = """
import json, sys
import numpy as np, onnxruntime

folder = sys.argv[1]
found = {}
for name in json.load(open(f"{folder}/names.json")):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        f"{folder}/{name}.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = dict(np.load(f"{folder}/{name}_inputs.npz"))
    expected = dict(np.load(f"{folder}/{name}_expected.npz"))
    outputs = [output.name for output in session.get_outputs()]
    results = dict(zip(outputs, session.run(outputs, inputs)))
    found[name] = {
        key: int((results[key.replace("|", "/")] != array).sum())
        for key, array in expected.items()
    }
print(json.dumps(found))
"""


def control() -> tuple[onnx.ModelProto, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A product of uint8 by int8 whose pairs exceed 16 bits."""
    codes, weights = np.full((4, 64), 255, np.uint8), np.full((64, 32), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "control",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return message, {"x": codes}, {"y": codes.astype(np.int32) @ weights.astype(np.int32)}


def save(
    folder: Path,
    name: str,
    message: onnx.ModelProto,
    inputs: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
) -> None:
    (folder / f"{name}.onnx").write_bytes(message.SerializeToString())
    np.savez(folder / f"{name}_inputs.npz", **inputs)
    np.savez(
        folder / f"{name}_expected.npz", **{k.replace("/", "|"): v for k, v in expected.items()}
    )


def cases() -> Iterator[tuple[str, Pipeline, dict[str, np.ndarray], IntegerProgram]]:
    """Names, models with inputs, and programs; an LSTM's cell state has 16 bits."""
    gru = made(grus.Case(T=6, B=3, I=20, H=24, direction="bidirectional", gain=1.0))
    lstm = made(grus.Case(T=5, I=20, H=24, operator="LSTM", gain=1.0, outputs=("Y", "Y_h", "Y_c")))
    peepholes = made(grus.Case(I=20, H=24, operator="LSTM", gain=1.0, peepholes=True))
    rnn = made(grus.Case(I=20, H=24, operator="RNN", gain=1.0))
    yield "uniform", *gru, gru[0].uniform(8)
    yield "mixed", *gru, gru[0].mixed(1)
    layers = gru[0].layers
    skipped = skip.applied(Scheme.uniform(layers, 8), layers, skip.named(layers, ("new.hidden",)))
    yield "skipped", *gru, gru[0].lower(skipped)
    yield "lstm", *lstm, lstm[0].uniform(8)
    yield "peepholes", *peepholes, peepholes[0].mixed(2)
    yield "rnn", *rnn, rnn[0].uniform(8)
    for name, body in (("ligru", scans.LIGRU), ("sru", scans.sru())):
        message = scans.model(body)
        inputs = scans.feeds(message)
        written = pipeline(message, inputs)
        yield name, written, inputs, written.uniform(8)
    plain = Scheme.uniform(layers, 8)
    yield "delta", *gru, gru[0].lower(plain.with_thresholds(layers, lambda *_: 2))


def test_a_processor_without_vnni(tmp_path: Path) -> None:
    save(tmp_path, "control", *control())
    counts = {}
    for name, model, inputs, program in cases():
        expected = expect(model, program, inputs)
        message, codes = probe(model.emit(program), program)
        arrays = {**expected.outputs, **{n: expected.codes[n] for n in codes}}
        counts[name] = len(arrays)
        save(tmp_path, name, message, inputs, arrays)
    assert counts["uniform"] == 4 and min(counts.values()) >= 2
    (tmp_path / "names.json").write_text(json.dumps(["control", *counts]))
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = subprocess.run(
        [str(QEMU), "-cpu", "Haswell", sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    differing = json.loads(ran.stdout.splitlines()[-1])
    assert differing["control"]["y"] > 0, "the emulated processor has VNNI after all"
    for name, count in counts.items():
        assert len(differing[name]) == count
        assert set(differing[name].values()) == {0}, differing[name]
