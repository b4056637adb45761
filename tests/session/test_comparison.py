"""`evaluate` reads what `quantize` reads."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxgru
from onnxgru.core import metadata
from onnxgru.core.errors import UsageError
from onnxgru.events import silent
from tests import grus


def odd(kind: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A file that onnxruntime does not take, or that is written in an unusual way."""
    case = grus.Case(layout=1) if kind == "layout 1" else grus.Case()
    message = grus.model(case)
    graph = message.graph
    if kind == "double":
        for tensor in graph.initializer:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        for value in [*graph.input, *graph.output]:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    if kind in ("unsorted", "names"):
        graph.node.append(helper.make_node("Relu", ["Y"], ["Z"], name="gru"))
        graph.output.append(helper.make_tensor_value_info("Z", TensorProto.FLOAT, None))
        graph.node.append(helper.make_node("Neg", ["Z"], ["N"]))
        graph.output.append(helper.make_tensor_value_info("N", TensorProto.FLOAT, None))
    if kind == "unsorted":
        nodes = list(graph.node)[::-1]
        del graph.node[:]
        graph.node.extend(nodes)
    if kind == "no shapes":
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
    inputs = grus.feeds(case)
    return message, {
        n: a.astype(np.float64 if kind == "double" else a.dtype) for n, a in inputs.items()
    }


@pytest.mark.parametrize("kind", ["layout 1", "double", "names", "unsorted", "no shapes"])
def test_evaluate_reads_what_quantize_reads(tmp_path: Path, kind: str) -> None:
    message, inputs = odd(kind)
    onnx.save(message, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", **inputs)
    data, folder = str(tmp_path / "d.npz"), tmp_path / "o"
    config = onnxgru.Config(calibration=data, output=folder)
    onnxgru.quantize(tmp_path / "m.onnx", config, listener=silent)
    found = onnxgru.evaluate([tmp_path / "m.onnx", str(folder / "integer.onnx")], data)
    assert found.sequences == 3
    assert found.rows[0].agreement_sqnr is None
    assert found.rows[1].quality == found.rows[1].agreement_sqnr
    assert found.rows[1].difference is found.rows[1].difference_interval is None
    assert found.rows[1].agreement_sqnr > 25


def test_one_path_is_enough(tmp_path: Path) -> None:
    """As text, too."""
    onnx.save(grus.model(grus.Case()), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", **grus.feeds(grus.Case()))
    found = onnxgru.evaluate(str(tmp_path / "m.onnx"), tmp_path / "d.npz")
    assert [row.path for row in found.rows] == [str(tmp_path / "m.onnx")]
    (row,) = found.rows
    assert found.metric == "sqnr"  # of a model to itself
    assert (row.quality, row.interval, row.difference) == (None, None, None)
    with pytest.raises(UsageError, match="evaluate takes at least one model"):
        onnxgru.evaluate([], tmp_path / "d.npz")


def test_equal_outputs_are_said_to_be_equal(tmp_path: Path) -> None:
    """Their SQNR is infinite, which JSON cannot hold."""
    message, data = grus.model(grus.Case()), grus.feeds(grus.Case())
    first, second = onnxgru.evaluate([message, message], data).rows
    assert (first.equal, second.equal) == (False, True)
    assert second.agreement_sqnr is second.quality is None


def test_a_graph_that_onnxgru_wrote_is_judged_by_what_it_was_judged_by(tmp_path: Path) -> None:
    """What no GRU reaches stays out, though the graph alone does not tell that."""
    message = grus.model(grus.Case(outputs=("Y",)))
    message.graph.node.append(helper.make_node("Abs", ["X"], ["energy"]))
    message.graph.output.insert(0, helper.make_tensor_value_info("energy", TensorProto.FLOAT, None))
    data = grus.feeds(grus.Case())
    result = onnxgru.quantize(
        message, calibration=data, validation=data, output=tmp_path / "o", listener=silent
    )
    for path in (result.integer, result.annotated):
        assert onnxgru.evaluate(path, data).outputs == ("Y",)
    other = onnx.load(result.integer)
    kept = next(entry for entry in other.metadata_props if entry.key == metadata.OUTPUTS)
    kept.value = '["energy"]'
    assert onnxgru.evaluate(other, data).outputs == ("energy",)
