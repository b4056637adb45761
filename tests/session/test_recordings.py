"""Recordings of any number and length, from the data to the report and `evaluate`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import onnxgru
from onnxgru.events import silent
from tests import grus
from tests.runtime import streaming

Array = npt.NDArray[Any]


def fixed(batch: int) -> onnx.ModelProto:
    return grus.model(grus.Case(T=4, B=batch, I=3, H=4, dynamic=False, outputs=("Y_h",)))


@pytest.mark.parametrize(("batch", "count"), [(1, 5), (4, 10), (4, 2)])
def test_recordings_of_a_fixed_batch(tmp_path: Path, batch: int, count: int) -> None:
    """Figures count every recording once, whatever the last call was filled up with."""
    x = np.random.default_rng(0).standard_normal((4, count, 3)).astype(np.float32)
    result = onnxgru.quantize(
        fixed(batch),
        bits=8,
        calibration={"X": x},
        validation={"X": x},
        output=tmp_path / "o",
        listener=silent,
    )
    free = onnxgru.quantize(
        grus.model(grus.Case(T=4, I=3, H=4, outputs=("Y_h",))),
        bits=8,
        calibration={"X": x},
        validation={"X": x},
        output=tmp_path / "free",
        listener=silent,
    )
    assert result.report["data"]["validation"]["sequences"] == count
    assert result.report["quality"] == free.report["quality"]
    assert result.report["verification"]["sequences"] == count
    path = tmp_path / "o" / "integer.onnx"
    found = onnxgru.evaluate([fixed(batch), path], {"X": x})
    assert (found.sequences, found.counted) == (count, count)
    run = [grus.run(onnx.load(path), {"X": x[:, [min(i, count - 1) for i in call]]})[0]
           for call in np.arange(-(-count // batch) * batch).reshape(-1, batch)]  # fmt: skip
    integer = np.concatenate(run, axis=1)[:, :count]
    reference = grus.run(grus.model(grus.Case(T=4, I=3, H=4, outputs=("Y_h",))), {"X": x})[0]
    noise = float(np.sum((integer.astype(float) - reference) ** 2))
    expected = 10 * np.log10(float(np.sum(reference.astype(float) ** 2)) / noise)
    assert found.rows[1].quality == pytest.approx(expected, abs=1e-6)


def odd() -> onnx.ModelProto:
    """A streaming model whose states nothing tells."""
    message = streaming.single()
    for graph_value in (*message.graph.input, *message.graph.output):
        graph_value.name = {"h": "one", "hn": "two"}.get(graph_value.name, graph_value.name)
    for node in message.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"h": "one", "hn": "two"}.get(name, name) for name in names]
    return message


@pytest.mark.parametrize(("message", "told"), [(odd(), ("two=one",)), (streaming.flat(), ())])
def test_states_go_on_in_evaluate(
    tmp_path: Path, message: onnx.ModelProto, told: tuple[str, ...]
) -> None:
    """As they were told, or found; of states without an axis of recordings, too."""
    x = np.random.default_rng(0).standard_normal((3, 6, 4)).astype(np.float32)
    data = {"x": x}
    result = onnxgru.quantize(
        message,
        bits=8,
        state=told,
        calibration=data,
        validation=data,
        output=tmp_path / "o",
        listener=silent,
    )
    assert result.report["data"]["validation"]["sequences"] == 18
    integer = tmp_path / "o" / "integer.onnx"
    found = onnxgru.evaluate([message, integer], data)
    assert found.sequences == 3
    assert found.rows[1].quality == pytest.approx(
        result.report["quality"]["validation"]["integer"], abs=1e-3
    )
    alone = onnxgru.evaluate(integer, data)
    assert alone.sequences == 3
