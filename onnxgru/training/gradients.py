"""Which operators around the layers must pass gradients on, and which are only computed.

An output needs all nodes that it depends on. Gradients pass from it to the trained layers, and to
weights that are trained along::

    Conv -> MaxPool -> GRU -> MatMul -> y        Shape(GRU) -> Gather -> Concat -> Reshape

MaxPool lies in front of the first layer: it is computed, and the weights before it stay as they
are. Shapes of values carry no gradients, so what is computed from them is computed alone. What
lies behind a layer must have a gradient here.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxgru.core.errors import UsageError

Array = npt.NDArray[Any]

_SILENT = frozenset({"ArgMax", "ArgMin", "NonZero", "Shape", "Size"})
"""Operators whose outputs carry no gradients, whatever they read."""


@dataclass(frozen=True, eq=False)
class Flow:
    """How an output is computed.

    Parameters
    ----------
    nodes : tuple of NodeProto
        Those that it depends on, in order.
    computed : frozenset of str
        First outputs of nodes that are computed without gradients.
    frozen : frozenset of str
        Values that no gradient reaches, initializers among them: they depend on nothing behind
        which a gradient passes.
    """

    nodes: tuple[onnx.NodeProto, ...]
    computed: frozenset[str]
    frozen: frozenset[str]


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its subgraphs capture included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            own = {name for member in graph.node for name in member.output}
            own.update(value.name for value in (*graph.input, *graph.initializer))
            for member in graph.node:
                yield from (name for name in reads(member) if name not in own)
            yield from (value.name for value in graph.output if value.name not in own)


def needed(nodes: Sequence[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """Nodes that a value depends on, in order; the nodes are sorted."""
    wanted, found = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            found.append(node)
    return found[::-1]


def flow(
    model: onnx.ModelProto, layers: Container[str], known: Container[str], output: str
) -> Flow:
    """Find out how an output is computed.

    Parameters
    ----------
    model : onnx.ModelProto
        Normalised.
    layers : container of str
        Names of the recurrent nodes that are trained.
    known : container of str
        Operators whose gradients are known.
    output : str
        The output that is trained for.

    Raises
    ------
    UsageError
        If an operator that must pass gradients on is not known.
    """
    nodes = needed(model.graph.node, output)
    floats = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    unknown = [
        node
        for node in nodes
        if node.name not in layers
        and (node.op_type not in known or node.domain not in ("", "ai.onnx"))
    ]
    behind = _carrying(nodes, layers, set(), unknown)
    frozen = {name for node in unknown for name in _before(nodes, node)}
    reached = behind | _carrying(nodes, layers, floats - frozen, unknown)
    for node in unknown:
        if behind.intersection(reads(node)) and node.op_type not in _SILENT:
            raise _refusal(node, output)
    if unknown and output not in reached:
        raise _refusal(unknown[-1], output)
    return Flow(tuple(nodes), frozenset(node.output[0] for node in unknown), frozenset(frozen))


def _refusal(node: onnx.NodeProto, output: str) -> UsageError:
    return UsageError(
        f"fine-tuning must know the gradient of every operator that output {output!r} "
        f"depends on behind a trained layer, but does not of {node.op_type} (node {node.name!r}); "
        "quantise without fine-tuning"
    )


def _carrying(
    nodes: Sequence[onnx.NodeProto],
    layers: Container[str],
    trained: set[str],
    unknown: Sequence[onnx.NodeProto],
) -> set[str]:
    """Values that depend on a layer or on trained initializers by way of gradients."""
    carrying = set(trained)
    stopping = {node.output[0] for node in unknown}
    for node in nodes:
        if node.name in layers:
            carrying.update(node.output)
        elif node.op_type not in _SILENT and not stopping.intersection(node.output):
            if carrying.intersection(reads(node)):
                carrying.update(node.output)
    return carrying


def _before(nodes: Sequence[onnx.NodeProto], last: onnx.NodeProto) -> set[str]:
    """Values that a node depends on otherwise than by their shapes."""
    found = set(reads(last))
    place = next(index for index, node in enumerate(nodes) if node is last)
    for node in reversed(nodes[:place]):
        if found.intersection(node.output) and node.op_type not in _SILENT:
            found.update(reads(node))
    return found


class Computed:
    """Nodes that onnxruntime computes, one session for each and for the types that it reads."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._sessions: dict[tuple[object, ...], Any] = {}

    def __call__(self, node: onnx.NodeProto, values: Mapping[str, Array]) -> list[Array]:
        """Outputs of a node, from the values that it reads and that are no initializers."""
        given = {n: values[n] for n in dict.fromkeys(reads(node)) if n not in self._constants}
        key = (node.output[0], *((name, array.dtype.str) for name, array in given.items()))
        if key not in self._sessions:
            self._sessions[key] = self._session(node, given)
        outputs: list[Array] = self._sessions[key].run(None, given)
        return outputs

    def _session(self, node: onnx.NodeProto, given: Mapping[str, Array]) -> Any:
        import onnxruntime

        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
            )
            for name, array in given.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        stored = [t for n in dict.fromkeys(reads(node)) if (t := self._constants.get(n))]
        graph = helper.make_graph([node], "node", inputs, outputs, stored)
        message = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(
            message.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def as_arrays(values: Mapping[str, Any], names: Iterator[str]) -> dict[str, Array]:
    """Tensors of some names as arrays, without their gradients."""
    return {n: np.asarray(values[n].detach().cpu().numpy()) for n in names if n in values}
