"""Crossings: where a graph goes from floats to integers and back, found in the graph itself.

Integer graphs are compared by their codes, because floats may differ in their last bits from
runtime to runtime and codes may not. Only the file is needed: codes begin where a float value is
cast to an integer type, and end where an integer value that depends on the inputs is cast to float.
Outputs of a Scan and of our functions are shown too, because another layer may read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, TensorShapeProto, helper, shape_inference

from onnxgru.core.errors import ModelError
from onnxgru.core.metadata import DOMAIN
from onnxgru.passes.graph.segment import graphs
from onnxgru.passes.lowering.codes import MOVEMENTS

CODES = frozenset(
    {TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32}
)
"""Types of codes, and of sums of them."""

_ALIKE = frozenset({"Mul", "Round", "Add", "Clip", "Cast"}) | MOVEMENTS
"""Operators that quantise by one factor and one offset, and operators that move values."""


@dataclass(frozen=True, eq=False)
class Crossings:
    """A graph with its codes as further outputs.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph.
    outputs : mapping of str to int
        ONNX's numbers of the types of all graph outputs, in their order.
    codes : tuple of str
        Outputs that hold codes and are compared bit for bit.
    entries : mapping of str to str
        Codes that are cast from floats: name of the rounded float value, by name of the codes.
    computed : frozenset of str
        Those of the entries that do not come directly from a graph input.
    """

    model: onnx.ModelProto
    outputs: dict[str, int]
    codes: tuple[str, ...]
    entries: dict[str, str]
    computed: frozenset[str]


def crossings(model: onnx.ModelProto) -> Crossings:
    """Show the codes of a graph.

    Raises
    ------
    ModelError
        If types cannot be inferred in it.
    """
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=False)
    except Exception as error:  # onnx raises a class of its own, which is no ValueError
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"the graph's types cannot be inferred ({text}); export it again") from (
            error
        )
    graph = inferred.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    recorded = {value.name for value in graph.input} - {t.name for t in graph.initializer}
    entries: dict[str, str] = {}
    codes: list[str] = []
    for node in graph.node:
        if not _depends(node, recorded) or node.op_type in ("Shape", "Size"):
            continue
        recorded.update(node.output)
        if node.op_type == "Cast":
            before, after = types.get(node.input[0]), types.get(node.output[0])
            if before == TensorProto.FLOAT and after in CODES:
                entries[node.output[0]] = node.input[0]
            elif before in CODES and after == TensorProto.FLOAT:
                codes.append(node.input[0])
        elif node.op_type == "Scan" or node.domain == DOMAIN:
            codes.extend(name for name in node.output if types.get(name) in CODES)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    outputs = {value.name: types[value.name] for value in model.graph.output}
    codes.extend(name for name, kind in outputs.items() if kind in CODES)
    given = {value.name for value in model.graph.input}
    for name in dict.fromkeys([*entries, *entries.values(), *codes]):
        if name and name not in outputs and name not in given:
            outputs[name] = types[name]
            result.graph.output.append(helper.make_tensor_value_info(name, types[name], None))
    shown = tuple(n for n in dict.fromkeys([*entries, *codes]) if n in outputs)
    makers = {name: node for node in graph.node for name in node.output}
    computed = frozenset(name for name in entries if _is_computed(entries[name], makers))
    return Crossings(result, outputs, shown, entries, computed)


def _is_computed(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a float value is more than a rounded graph input, which all runtimes round alike."""
    while name in makers:
        node = makers[name]
        if node.op_type not in _ALIKE:
            return True
        name = node.input[0]
    return False


def from_codes(shown: Crossings) -> onnx.ModelProto:
    """The same graph with the codes of `Crossings.entries` as inputs instead of computed."""
    result = onnx.ModelProto()
    result.CopyFrom(shown.model)
    graph = result.graph
    for name in shown.entries:
        node = next(node for node in graph.node if name in node.output)
        graph.node.remove(node)
        kept = [value for value in graph.output if value.name != name]
        del graph.output[:]
        graph.output.extend(kept)
        graph.input.append(helper.make_tensor_value_info(name, shown.outputs[name], None))
    return result


def sized(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Copy of a graph whose inputs and outputs have these shapes, by name.

    Axes that have the name of one of these sizes have that size everywhere, in bodies too.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    sizes: dict[str, int] = {}
    for value in (*result.graph.input, *result.graph.output):
        axes = value.type.tensor_type.shape.dim
        if value.name not in shapes:
            continue
        if not axes:
            axes.extend(TensorShapeProto.Dimension() for _ in shapes[value.name])
        for axis, size in zip(axes, shapes[value.name], strict=True):
            if axis.dim_param:
                sizes[axis.dim_param] = size
            axis.dim_value = size
    for graph in graphs(result.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for axis in value.type.tensor_type.shape.dim:
                if axis.dim_param in sizes:
                    axis.dim_value = sizes[axis.dim_param]
    return result


def _depends(node: onnx.NodeProto, recorded: set[str]) -> bool:
    return any(name in recorded for name in node.input)
