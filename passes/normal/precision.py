"""Precision: a model of float16 or double recurrences computes in float32.

Every value of the recurrences' type becomes float32: initializers, attributes, results of Cast,
values in subgraphs. Graph inputs and outputs keep their type, with a Cast after or before them. A
model with float32 recurrences is left as it is, whatever types its other operators have.
"""

import numpy as np
import onnx_ir as ir

from onnxgru.core.tape import Tape
from onnxgru.passes.graph.recurrent import recurrent_nodes
from onnxgru.passes.graph.shapes import Shapes
from onnxgru.passes.graph.values import constant, constant_value, graphs

OTHERS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
"""Types that are converted."""

_TYPES = ("to", "dtype", "output_datatype", "output_dtype", "stash_type")


class Precision(ir.passes.InPlacePass):
    """Convert models whose recurrent weights are float16, bfloat16 or double."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert every value of the types that recurrences have."""
        found = {_weight_type(node) for node in recurrent_nodes(model.graph)}
        kinds = {kind for kind in OTHERS if kind in found}
        if not kinds:
            return ir.passes.PassResult(model, modified=False)
        Shapes()(model)  # which gives inner values their types
        ends = {value for value in (*model.graph.inputs, *model.graph.outputs)}
        handed = {v for v in model.graph.outputs if v.producer() is None}  # inputs, or constants
        for scope in graphs(model.graph):
            for value in list(scope.initializers.values()):
                if value.dtype in kinds and value not in handed:
                    _convert(scope, value)
            for node in scope:
                for attribute in list(node.attributes.values()):
                    node.attributes[attribute.name] = _attribute(attribute, kinds)
            inner = (v for node in scope for v in node.outputs)
            for value in (*scope.inputs, *scope.outputs, *inner):
                if value not in ends and value.dtype in kinds:
                    value.type = ir.TensorType(ir.DataType.FLOAT)
        self._enter(model.graph, kinds)
        self._leave(model.graph, kinds, handed)
        self._forget(model.graph)
        return ir.passes.PassResult(model, modified=True)

    @staticmethod
    def _enter(graph: ir.Graph, kinds: set[ir.DataType]) -> None:
        tape = Tape(graph=graph)
        for value in graph.inputs:
            if value.dtype not in kinds or not value.uses():
                continue
            cast = tape.op("Cast", value, name=f"{value.name}/float", to=ir.DataType.FLOAT)
            cast.shape, cast.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
            node = cast.producer()
            for use, index in value.uses():
                if use is not node:
                    use.replace_input_with(index, cast)
        first = next(iter(graph), None)
        if first is not None:
            graph.insert_before(first, tape.nodes)

    @staticmethod
    def _leave(graph: ir.Graph, kinds: set[ir.DataType], handed: set[ir.Value]) -> None:
        tape = Tape(graph=graph)
        for index, value in enumerate(list(graph.outputs)):
            if value.dtype not in kinds or value in handed:
                continue
            kept, kind = value.name, value.dtype
            value.name = tape.name(f"{kept}/float")
            value.type = ir.TensorType(ir.DataType.FLOAT)
            cast = tape.op("Cast", value, name=value.name + "/cast", to=kind)
            cast.shape, cast.type = value.shape, ir.TensorType(kind)
            cast.name = kept
            graph.outputs[index] = cast
        graph.extend(tape.nodes)

    @staticmethod
    def _forget(graph: ir.Graph) -> None:
        """Remove casts from float32 to float32, because codes are not passed through a Cast."""
        for scope in graphs(graph):
            for node in list(scope):
                if node.op_type != "Cast" or node.inputs[0] is None:
                    continue
                source, result = node.inputs[0], node.outputs[0]
                wanted = node.attributes.get_int("to", 0)
                if {source.dtype, wanted} != {ir.DataType.FLOAT} or result.is_graph_output():
                    continue
                ir.convenience.replace_all_uses_with(result, source)
                scope.remove(node, safe=True)


def _weight_type(node: ir.Node) -> ir.DataType | None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.dtype is not None:
        return None if value is None else value.dtype
    array = constant_value(value)
    return None if array is None else ir.DataType.from_numpy(array.dtype)


def _convert(scope: ir.Graph, value: ir.Value) -> None:
    if value.const_value is None:
        return
    array = value.const_value.numpy().astype(np.float32)
    name = str(value.name)
    value.const_value = constant(name, array).const_value
    value.type = ir.TensorType(ir.DataType.FLOAT)


def _attribute(attribute: ir.Attr, kinds: set[ir.DataType]) -> ir.Attr:
    if attribute.type is ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.dtype in kinds:
            array = tensor.numpy().astype(np.float32)
            return ir.AttrTensor(attribute.name, ir.tensor(array, name=tensor.name))
    elif attribute.type is ir.AttributeType.INT and attribute.name in _TYPES:
        if attribute.as_int() in kinds:
            return ir.AttrInt64(attribute.name, ir.DataType.FLOAT)
    return attribute
