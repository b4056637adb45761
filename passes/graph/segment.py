"""Segments of ONNX protobufs: nodes that run on their own, and what nodes read.

The evaluator runs the integer layers itself. onnxruntime runs the nodes before, between and after
them.
"""

from collections.abc import Iterable, Iterator, Sequence

import onnx
from onnx import helper


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of a node itself, such as the branches of an ``If``."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the subgraphs of its nodes, at any depth."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, those that its subgraphs capture included."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        inner = {name for member in graph.node for name in member.output}
        inner.update(value.name for value in graph.input)
        inner.update(tensor.name for tensor in graph.initializer)
        for member in graph.node:
            yield from (name for name in reads(member) if name not in inner)
        yield from (value.name for value in graph.output if value.name not in inner)


def carve(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> onnx.ModelProto:
    """A model that consists of some nodes of another one.

    Parameters
    ----------
    model : onnx.ModelProto
        With shapes; values whose type is not known are float32.
    nodes : sequence of onnx.NodeProto
        Topologically sorted.
    inputs : iterable of str
        Values that become inputs.
    outputs : iterable of str
        Values that the nodes compute and that become outputs.
    """
    graph = model.graph
    typed: dict[str, onnx.ValueInfoProto] = {
        v.name: v for v in [*graph.value_info, *graph.output, *graph.input]
    }

    def info(name: str) -> onnx.ValueInfoProto:
        known = typed.get(name)
        if known is None or not known.type.tensor_type.elem_type:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        if all(size.HasField("dim_value") for size in known.type.tensor_type.shape.dim):
            return known
        return helper.make_tensor_value_info(name, known.type.tensor_type.elem_type, None)

    names = {name for node in nodes for name in reads(node)}
    result = helper.make_graph(
        nodes,
        "segment",
        [info(name) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for tensor in graph.initializer if tensor.name in names],
    )
    return helper.make_model(result, opset_imports=model.opset_import, ir_version=model.ir_version)
