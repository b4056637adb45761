"""Normalize: one form for every model that follows.

1. opset 18 or later (BitwiseAnd and Split's ``num_outputs`` need it), model-local functions
   inlined, constants lifted to initializers;
2. nodes topologically sorted, each with a unique name;
3. W, R, B and initial_h of every GRU an initializer where they are constant, whatever
   Constant, Unsqueeze, Concat or Identity nodes they came through;
4. an initial_h that is zero for every batch (Expand or ConstantOfShape of 0, as exporters write
   it) left out;
5. ``layout=1`` rewritten to ``layout=0`` by transposing around the node: onnxruntime refuses it;
6. shapes inferred.

Graph inputs and outputs keep name, order and type.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.core.errors import ModelError
from onnxgru.core.tape import Tape

_INITIAL = 5
_MOVING = frozenset(
    {"Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)

OPSET = 18
"""Lowest opset of a normalised model."""


def constant_value(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array that a value always has, evaluated through constant nodes; None if it varies."""
    if value is None:
        return None
    if value.is_graph_input():  # an initializer that callers may override is not constant
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or not _computable(node):
        return None
    from onnx.reference import ReferenceEvaluator

    operands = [constant_value(operand) for operand in node.inputs]
    feeds = {str(v.name): a for v, a in zip(node.inputs, operands, strict=True) if v is not None}
    results: Any = ReferenceEvaluator(ir.to_proto(node)).run(None, feeds)
    return np.asarray(results[value.index() or 0])


def _computable(node: ir.Node) -> bool:
    """Whether everything a node is computed from is constant; every node is looked at once."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if current.op_type.startswith("Random") or current.domain not in ("", "ai.onnx"):
            return False
        if any(a.type is ir.AttributeType.GRAPH for a in current.attributes.values()):
            return False
        for value in current.inputs:
            if value is None or (value.const_value is not None and not value.is_graph_input()):
                continue
            producer = value.producer()
            if producer is None:
                return False
            if producer not in seen:
                seen.add(producer)
                pending.append(producer)
    return True


def _is_zero(value: ir.Value | None) -> bool:
    """Whether a value is zero everywhere, whatever its shape."""
    array = constant_value(value)
    if array is not None:
        return not array.any()
    node = value.producer() if value is not None else None
    if node is None:
        return False
    if node.op_type == "ConstantOfShape":
        tensor = node.attributes.get_tensor("value", None)
        return tensor is None or not tensor.numpy().any()
    if node.op_type == "Concat":
        return all(_is_zero(operand) for operand in node.inputs)
    return node.op_type in _MOVING and _is_zero(node.inputs[0])


def recurrent_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """GRU nodes of the main graph, in graph order."""
    for node in graph:
        if node.op_type == "GRU" and node.domain in ("", "ai.onnx"):
            yield node


class Normalize(ir.passes.InPlacePass):
    """Bring a model into the normal form."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run all steps; `modified` tells whether any changed the model."""
        modified = False
        if model.functions:
            modified |= common.InlinePass()(model).modified
        modified |= self._upgrade(model)
        modified |= common.LiftConstantsToInitializersPass()(model).modified
        modified |= self._lift_small(model)
        modified |= common.TopologicalSortPass()(model).modified
        modified |= self._name(model.graph)
        for node in list(recurrent_nodes(model.graph)):
            modified |= self._fold(model.graph, node)
            modified |= self._forget_zero(node)
            modified |= self._transpose(model.graph, node)
        modified |= common.RemoveUnusedNodesPass()(model).modified
        modified |= common.ShapeInferencePass()(model).modified
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        """The normal form."""
        if model.opset_imports.get("", 0) < OPSET:
            raise ir.passes.PostconditionError("opset is too old")
        names = [node.name for node in model.graph]
        if len(set(names)) != len(names) or not all(names):
            raise ir.passes.PostconditionError("nodes must have unique names")
        if any(node.attributes.get_int("layout", 0) for node in recurrent_nodes(model.graph)):
            raise ir.passes.PostconditionError("layout=1 is left")

    @staticmethod
    def _upgrade(model: ir.Model) -> bool:
        version = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
        if version >= OPSET:
            return False
        try:
            message = onnx.version_converter.convert_version(ir.to_proto(model), OPSET)
        except Exception as error:  # the converter raises RuntimeError and its own errors
            raise ModelError(
                f"the model has opset {version} and cannot be brought to opset {OPSET} "
                f"({str(error).splitlines()[0]}); export it again with a later opset"
            ) from error
        model.graph = ir.from_proto(message).graph
        model.ir_version = max(model.ir_version, 8)
        return True

    @staticmethod
    def _lift_small(model: ir.Model) -> bool:
        """Constant nodes hold numbers too: float, int and string attributes."""
        modified = False
        for node in list(model.graph):
            if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
                continue
            value = node.outputs[0]
            array = constant_value(value)
            if array is None or value.is_graph_output():
                continue
            tensor = ir.tensor(array, name=value.name)
            lifted = ir.Value(
                name=value.name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            ir.convenience.replace_all_uses_with(value, lifted)
            model.graph.remove(node, safe=True)
            model.graph.register_initializer(lifted)
            modified = True
        return modified

    @staticmethod
    def _name(graph: ir.Graph) -> bool:
        modified, names = False, set()
        taken = {node.name for node in graph}
        counts: dict[str, int] = {}
        for node in graph:
            wanted = node.name or ""
            if not wanted or wanted in names:
                base = wanted or node.op_type.lower()
                while not wanted or wanted in taken:
                    wanted = f"{base}_{counts.setdefault(base, 0)}"
                    counts[base] += 1
                node.name = wanted
                modified = True
            names.add(wanted)
            taken.add(wanted)
        return modified

    @staticmethod
    def _fold(graph: ir.Graph, node: ir.Node) -> bool:
        modified = False
        for index, role in ((1, "W"), (2, "R"), (3, "B"), (5, "initial_h")):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or value.is_initializer():
                continue
            array = constant_value(value)
            if array is None:
                continue
            tensor = ir.tensor(array, name=f"{node.name}/{role}")
            folded = ir.Value(
                name=tensor.name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            graph.register_initializer(folded)
            node.replace_input_with(index, folded)
            modified = True
        return modified

    @staticmethod
    def _forget_zero(node: ir.Node) -> bool:
        if len(node.inputs) <= _INITIAL or not _is_zero(node.inputs[_INITIAL]):
            return False
        node.replace_input_with(_INITIAL, None)
        return True

    @staticmethod
    def _transpose(graph: ir.Graph, node: ir.Node) -> bool:
        if not node.attributes.get_int("layout", 0):
            return False
        before, after = Tape(), Tape()
        for index in (0, _INITIAL):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None:
                new = before.op(
                    "Transpose", value, name=f"{node.name}/time_first_{index}", perm=[1, 0, 2]
                )
                node.replace_input_with(index, new)
        graph.insert_before(node, before.nodes)
        orders: tuple[tuple[int, ...], ...] = ((2, 0, 1, 3), (1, 0, 2))
        for index, order in enumerate(orders):
            if index >= len(node.outputs) or not node.outputs[index].name:
                continue
            old = node.outputs[index]
            new = after.op(
                "Transpose", old, name=f"{node.name}/batch_first_{index}", perm=list(order)
            )
            new.shape, new.type = old.shape, old.type
            producer = new.producer()
            old.shape = None
            kept, old.name = old.name, f"{node.name}/output_{index}"
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            if producer is not None:
                producer.replace_input_with(0, old)
            new.name = kept
        graph.insert_after(node, after.nodes)
        node.attributes["layout"] = ir.AttrInt64("layout", 0)
        return True
