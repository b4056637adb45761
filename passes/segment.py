"""Segment: the part of a graph that lies between given values.

The evaluator runs the integer layers itself and leaves what is before, between and after them to
onnxruntime: one segment for the inputs of every layer, one for the model's outputs.
"""

from collections.abc import Iterable, Iterator

import onnx
from onnx import helper


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node reads, those that its subgraphs capture included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            inner = {name for member in graph.node for name in member.output}
            inner.update(value.name for value in graph.input)
            inner.update(tensor.name for tensor in graph.initializer)
            for member in graph.node:
                yield from (name for name in _reads(member) if name not in inner)
            yield from (value.name for value in graph.output if value.name not in inner)


def segment(
    model: onnx.ModelProto, outputs: Iterable[str], cuts: Iterable[str]
) -> onnx.ModelProto | None:
    """Model that computes `outputs` from the graph's inputs and the values in `cuts`.

    Parameters
    ----------
    model : onnx.ModelProto
        Topologically sorted.
    outputs : iterable of str
        Values to compute; those that are graph inputs or cuts themselves are left out.
    cuts : iterable of str
        float32 values that become inputs.

    Returns
    -------
    onnx.ModelProto or None
        None if there is nothing to compute.
    """
    graph = model.graph
    given = {value.name: value for value in graph.input}
    cut = {n: helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in cuts}
    known = given | cut
    outputs = [name for name in dict.fromkeys(outputs) if name and name not in known]
    if not outputs:
        return None
    needed, nodes = set(outputs), []
    for node in reversed(graph.node):
        if any(name in needed and name not in cut for name in node.output):
            nodes.append(node)
            needed.update(_reads(node))
    typed = {v.name: v for v in [*graph.value_info, *graph.output, *graph.input]}
    result = helper.make_graph(
        nodes[::-1],
        "segment",
        [value for name, value in known.items() if name in needed],
        [typed.get(name, onnx.ValueInfoProto(name=name)) for name in outputs],
        [tensor for tensor in graph.initializer if tensor.name in needed],
    )
    return helper.make_model(result, opset_imports=model.opset_import, ir_version=model.ir_version)
