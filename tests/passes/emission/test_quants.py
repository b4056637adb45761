"""The annotated graph in QONNX: its own conversion, its executor, and the Quant nodes we write."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core.metadata import BITS
from onnxgru.events import silent
from onnxgru.passes.emission.quants import DOMAIN
from onnxgru.runtime.sessions import onnxruntime_session
from tests import grus

CASE = grus.Case(T=3, B=1, I=3, H=4)

SCRIPT = """
import json, sys
import numpy as np
import onnx
onnx.IR_VERSION = 10  # its executor writes models of onnx's newest version, onnxruntime reads older
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant

given = dict(np.load(sys.argv[1]))
told = []
for path in sys.argv[2:]:
    model = ModelWrapper(path).transform(QCDQToQuant())
    widths = [model.get_initializer(n.input[3]).item() for n in model.graph.node
              if n.op_type == "Quant"]
    kinds = sorted({n.op_type for n in model.graph.node})
    outputs = {name: value.tolist() for name, value in execute_onnx(model, given).items()}
    told.append({"widths": widths, "kinds": kinds, "outputs": outputs})
print("TOLD", json.dumps(told))
"""
"""In a process of its own: warnings of another project are no errors of ours."""


def quantized(folder: Path, **settings) -> onnx.ModelProto:
    onnx.save(grus.model(CASE), folder / "m.onnx")
    onnxgru.quantize(
        folder / "m.onnx", calibration=grus.feeds(CASE), output=folder / "o", force=True,
        listener=silent, **settings,
    )  # fmt: skip
    return onnx.load(folder / "o" / "annotated.onnx")


def nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for body in inner for node in nodes(body))]


def scheme(folder: Path) -> Path:
    """Every width from 2 to 8 somewhere."""
    quantized(folder, bits=4)
    document = json.loads((folder / "o" / "scheme.json").read_text("utf-8"))
    for index, entry in enumerate(document["operators"].values()):
        entry["bits"] = 8 if "weight_bits" in entry else 2 + index % 7
        if "weight_bits" in entry:
            entry["weight_bits"] = 2 + index % 7
    (folder / "scheme.json").write_text(json.dumps(document), "utf-8")
    return folder / "scheme.json"


@pytest.mark.slow
def test_qonnx_reads_every_width_and_computes_the_same_values(tmp_path) -> None:
    settings = {"scheme": scheme(tmp_path), "recurrence": "step", "batch": 1}
    messages = {}
    for annotation in ("qcdq", "qonnx"):
        messages[annotation] = quantized(tmp_path, annotation=annotation, **settings)
        onnx.save(messages[annotation], tmp_path / f"{annotation}.onnx")
    state = messages["qcdq"].graph.input[1].name
    given = {"X": grus.feeds(CASE)["X"][:1], state: np.full((1, 4), 0.1, np.float32)}
    np.savez(tmp_path / "given.npz", **given)
    paths = [str(tmp_path / f"{name}.onnx") for name in messages]
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "given.npz"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.partition("TOLD ")[2])
    expected = onnxruntime_session(messages["qcdq"])(given)
    ends = [n for n in messages["qcdq"].graph.node if n.op_type == "DequantizeLinear"]
    wanted = Counter(next(int(e.value) for e in n.metadata_props if e.key == BITS) for n in ends)
    assert set(wanted) == {*range(2, 9), 32}
    for one in told:
        assert not {"QuantizeLinear", "DequantizeLinear", "Clip"} & set(one["kinds"])
        for name, values in one["outputs"].items():
            np.testing.assert_array_equal(np.asarray(values, np.float32), expected[name])
    converted, ours = (Counter(map(int, one["widths"])) for one in told)
    assert ours == wanted
    weights = sum(n.name.endswith("weight/dequantized") and BITS in str(n) and
                  any(e.key == BITS and e.value == "2" for e in n.metadata_props)
                  for n in ends)  # fmt: skip
    assert converted == wanted - Counter({2: weights}) + Counter({3: weights})  # -3 .. 3


@pytest.mark.parametrize("form", ["scan", "step"])
def test_bodies_have_quants_too(tmp_path, form) -> None:
    plain = quantized(tmp_path, recurrence=form, bits=2)
    message = quantized(tmp_path, recurrence=form, bits=2, annotation="qonnx")
    kinds = Counter(node.op_type for node in nodes(message.graph))
    before = Counter(node.op_type for node in nodes(plain.graph))
    assert kinds["Quant"] == before["DequantizeLinear"]
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(kinds)
    assert [o.version for o in message.opset_import if o.domain == DOMAIN] == [1]


def test_the_annotated_graph_stores_the_values_of_the_codes(tmp_path) -> None:
    message = quantized(tmp_path, bits=3)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in message.graph.initializer}
    for name, weight in stored.items():
        if name.endswith("/weight"):
            codes = weight / stored[f"{name}_scale"]
            assert np.abs(codes - np.rint(codes)).max() < 1e-5
            assert np.abs(codes).max() <= 3.00001
    ends = [n for n in nodes(message.graph) if n.op_type == "DequantizeLinear"]
    assert all(len(node.input) == 3 for node in ends)
