"""One description over primitives, run by the array back end and by the graph back end."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxgru.core.primitives import Storing
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.custom_ops.graph import GraphPrimitives
from onnxgru.passes import source
from onnxgru.passes.pack import Pack
from onnxgru.runtime.sessions import runtimes

Build = Callable[..., Sequence[Any]]
RUNTIMES = [
    *(name for name in runtimes() if name != "OpenVINO"),
    pytest.param(
        "OpenVINO",
        marks=pytest.mark.skipif("OpenVINO" not in runtimes(), reason="OpenVINO is not installed"),
    ),
]


def graph(build: Build, inputs: Mapping[str, np.ndarray], *, pack: bool = False) -> onnx.ModelProto:
    """Model of ``build(primitives, *inputs)``; its outputs are named y0, y1, ..."""
    tape = Tape()
    values = {
        name: ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        )
        for name, array in inputs.items()
    }
    results = build(GraphPrimitives(tape), *values.values())
    outputs = [tape.op("Identity", r, name=f"y{i}") for i, r in enumerate(results)]
    kept = ir.Graph(
        list(values.values()),
        outputs,
        nodes=tape.nodes,
        name="test",
        opset_imports={"": 18},
        initializers=list(tape.constants.values()),
    )
    model = ir.Model(kept, ir_version=9)
    if pack:
        Pack()(model)
    for name in [n for n, v in kept.initializers.items() if not v.uses()]:
        del kept.initializers[name]
    message = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    types = {v.name: v.type for v in message.graph.value_info}
    for output, result in zip(message.graph.output, results, strict=True):
        output.type.CopyFrom(types.get(result.name, output.type))
    return source.proto(ir.from_proto(message))


def arrays(build: Build, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The array back end's results."""
    primitives: Storing[Any] = ArrayPrimitives()
    return [np.asarray(result) for result in build(primitives, *inputs.values())]


def require_same(
    runtime: str, build: Build, inputs: Mapping[str, np.ndarray], *, pack: bool = False
) -> list[np.ndarray]:
    """Run both back ends and compare values, shapes and types exactly."""
    expected = arrays(build, inputs)
    found = runtimes()[runtime](graph(build, inputs, pack=pack))(inputs)
    for index, wanted in enumerate(expected):
        result = np.asarray(found[f"y{index}"])
        assert result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)
    return expected
