"""What a quantiser left of a model: sizes, the recurrence, and what of it is still float."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

CELLS = ("GRU", "LSTM", "RNN")
LOOPS = ("Scan", "Loop")
FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Found:
    """What is in a file.

    Parameters
    ----------
    bytes : int
        On disk, external data included.
    float_bytes : int
        Of them, initializers of a float type.
    recurrence : str
        The operators that step through time, and whether they compute in float.
    weights : str
        How the weights of the recurrence are stored.
    quantize, dequantize : int
        Nodes of QuantizeLinear and DequantizeLinear.
    """

    bytes: int
    float_bytes: int
    recurrence: str
    weights: str
    quantize: int
    dequantize: int


def look(path: Path) -> Found:
    """Read a model and say what is in it."""
    message = onnx.load(path, load_external_data=False)
    external = {
        ExternalDataInfo(tensor).location
        for graph in graphs(message.graph)
        for tensor in graph.initializer
        if uses_external_data(tensor)
    }
    message = shape_inference.infer_shapes(onnx.load(path))
    whole = list(graphs(message.graph))
    tensors = {tensor.name: tensor for graph in whole for tensor in graph.initializer}
    makers = {name: node for graph in whole for node in graph.node for name in node.output}
    kinds = Counter(node.op_type for graph in whole for node in graph.node)
    cells = [node for graph in whole for node in graph.node if node.op_type in CELLS]
    loops = [node for graph in whole for node in graph.node if node.op_type in LOOPS]
    if cells:
        recurrence = " and ".join(sorted({f"float {node.op_type}" for node in cells}))
        stored = [_stored(name, tensors, makers) for node in cells for name in node.input[1:3]]
    else:
        exact = all(_is_integer(graph) for node in loops for graph in bodies(node))
        recurrence = " and ".join(
            sorted({f"{'integer' if exact else 'float'} {node.op_type}" for node in loops})
        )
        whole_numbers = [t for t in tensors.values() if t.data_type not in FLOATS]
        stored = [_largest(whole_numbers if exact else list(tensors.values()))]
    return Found(
        bytes=path.stat().st_size + sum((path.parent / name).stat().st_size for name in external),
        float_bytes=sum(
            numpy_helper.to_array(t).nbytes for t in tensors.values() if t.data_type in FLOATS
        ),
        recurrence=recurrence or "none",
        weights=", ".join(dict.fromkeys(stored)),
        quantize=kinds["QuantizeLinear"],
        dequantize=kinds["DequantizeLinear"],
    )


def accuracy(path: Path, holdout: Path) -> float:
    """Percent of the hold-out sequences that a model names rightly, in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with np.load(holdout) as file:
        arrays = {value.name: file[value.name] for value in session.get_inputs()}
        labels = file["labels"]
    right = 0
    for start in range(0, len(labels), 250):
        part = slice(start, start + 250)
        found = session.run(None, {name: array[part] for name, array in arrays.items()})[0]
        right += int(np.sum(np.argmax(found, axis=-1) == labels[part]))
    return 100 * right / len(labels)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def _is_integer(body: onnx.GraphProto) -> bool:
    """Whether nothing in the body of a loop is of a float type, as far as inference knows."""
    values = [*body.value_info, *body.input, *body.output]
    return not any(value.type.tensor_type.elem_type in FLOATS for value in values)


def _stored(
    name: str, tensors: dict[str, onnx.TensorProto], makers: dict[str, onnx.NodeProto]
) -> str:
    """How a float operand of a cell is stored, and what makes it of that."""
    steps = []
    while name not in tensors and name in makers:
        steps.append(makers[name].op_type)
        name = makers[name].input[0]
    kind = _kind(tensors[name]) if name in tensors else "computed"
    if not steps:
        return kind
    return f"{kind} through {' and '.join(reversed(steps))}"


def _largest(tensors: list[onnx.TensorProto]) -> str:
    return _kind(max(tensors, key=lambda tensor: numpy_helper.to_array(tensor).nbytes))


def _kind(tensor: onnx.TensorProto) -> str:
    return str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
