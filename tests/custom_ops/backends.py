"""One description over primitives, run by the array back end and by the graph back end."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import Storing
from onnxgru.core.tape import Tape
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.custom_ops.integer_graph.constants import Constant
from onnxgru.custom_ops.integer_graph.encode import Encoding
from onnxgru.custom_ops.integer_graph.primitives import GraphPrimitives
from onnxgru.custom_ops.integer_graph.record import Recorder
from onnxgru.custom_ops.integer_graph.storage import Storage
from onnxgru.custom_ops.integer_graph.terms import CodeTerm, Term
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.graph import source
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
    p = GraphPrimitives()
    given = {name: leaf(p, name, array) for name, array in inputs.items()}
    found = build(p, *given.values())
    terms = [one.term if isinstance(one, CodeTerm) else one for one in found]
    vocabulary, computed = Vocabulary(), [t for t in terms if isinstance(t, Term)]
    encode, storage = Encoding(p.terms, computed, vocabulary), Storage(tape)
    encoded = [encode(term) if isinstance(term, Term) else term for term in terms]
    computed = [term for term in encoded if isinstance(term, Term)]
    known = {(g.term if isinstance(g, CodeTerm) else g): values[n] for n, g in given.items()}
    recorder = Recorder(tape, storage, p.constants, known, computed, vocabulary, step=False)
    results = [
        storage(term)
        if isinstance(term, Constant)
        else recorder.codes(CodeTerm(term, one.kind))
        if isinstance(one, CodeTerm)
        else recorder(term)
        for term, one in zip(encoded, found, strict=True)
    ]
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


def leaf(p: GraphPrimitives, name: str, array: np.ndarray) -> CodeTerm | Term:
    """What is given: codes, or numbers of int32 of which nothing is known but what there is."""
    width = array.shape[-1] if array.ndim else 1
    kind = {1: IntegerType(8), 2: IntegerType(16)}.get(array.itemsize)
    low, high = (0, kind.maximum) if kind else (int(array.min()), int(array.max()))
    term = p.terms.leaf(name, low, high, width, early=False, kind=kind)
    return CodeTerm(term, kind) if kind else term


def arrays(build: Build, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The array back end's results."""
    primitives: Storing[Any] = ArrayPrimitives()
    return [np.asarray(result) for result in build(primitives, *inputs.values())]


def require_same(
    runtime: str, build: Build, inputs: Mapping[str, np.ndarray], *, pack: bool = False
) -> list[np.ndarray]:
    """Run both back ends and compare values, shapes and types exactly."""
    expected = arrays(build, inputs)
    message = graph(build, inputs, pack=pack)
    read = {name for node in message.graph.node for name in node.input}
    for value in [value for value in message.graph.input if value.name not in read]:
        message.graph.input.remove(value)  # such as of a delta that never moves
    found = runtimes()[runtime](message)({n: a for n, a in inputs.items() if n in read})
    for index, wanted in enumerate(expected):
        result = np.asarray(found[f"y{index}"])
        assert result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)
    return expected
