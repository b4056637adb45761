"""Inspecting a model: its recurrent layers, operators, sizes, and nodes that stay in float."""

import json
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from onnxgru.core import brief, metadata
from onnxgru.core.network import Layer, LinearOperator
from onnxgru.core.scheme import LinearScheme
from onnxgru.passes.graph import recurrent, source
from onnxgru.passes.graph.source import Origin
from onnxgru.passes.lowering.estimate import estimate
from onnxgru.passes.normal.elsewhere import Refusal
from onnxgru.session.model import Model

FLOAT_BITS = 32
WIDTHS = (8, 4, 2)


@dataclass(frozen=True)
class OperatorRow:
    """One operator.

    Parameters
    ----------
    name, kind : str
        Name, and kind such as ``linear``; empty where the graph does not tell it.
    bits : int
        Width of its output; 32 for float.
    weight_bits : int or None
        Width of its weights; 32 for float, None where it has none.
    weights : int
        Number of its weights.
    """

    name: str
    kind: str
    bits: int
    weight_bits: int | None
    weights: int


@dataclass(frozen=True)
class LayerRow:
    """One layer of a float model.

    Parameters
    ----------
    name, node : str
        Name of the layer, and of its node in the graph.
    input_size, hidden_size : int
        I and H.
    attributes : dict of str
        Direction, linear_before_reset, activations, clip.
    input_shape : str
        Type and shape of the sequence that it reads.
    inputs, outputs : tuple of str
        Optional inputs that are given, and outputs that are read.
    operators : tuple of OperatorRow
        In computing order.
    """

    name: str
    node: str
    input_size: int
    hidden_size: int
    attributes: dict[str, str]
    input_shape: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[OperatorRow, ...]


@dataclass(frozen=True)
class Inspection:
    """The content of a model.

    Parameters
    ----------
    path : str
        The file.
    file_bytes : int
        Its size.
    opset, producer : str
        As written in it.
    inputs, outputs : dict of str
        Shape and type by name.
    layers : tuple of LayerRow
        Recurrent layers that can be quantised.
    refusals : tuple of Refusal
        Recurrent nodes that cannot, and why.
    notes : tuple of str
        Warnings.
    sizes : dict
        Weight bits, flash bytes, RAM and MACs per step; those of float32 for a float model.
    quantized : bool
        Whether onnxgru wrote it.
    operators : tuple of OperatorRow
        For a model that onnxgru wrote: the operators of its scheme.
    nothing : str
        Why there is nothing to quantise; empty where there is something.
    flash : dict of int to int
        For a float model: flash bytes of its recurrent layers by uniform width, estimated without
        data.
    """

    path: str
    file_bytes: int
    opset: str
    producer: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    layers: tuple[LayerRow, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    sizes: dict[str, Any]
    quantized: bool
    operators: tuple[OperatorRow, ...] = field(default=())
    nothing: str = ""
    flash: dict[int, int] = field(default_factory=dict)


def inspect(model: object, *, head: bool = False) -> Inspection:
    """List the layers and operators of a model, its sizes, and nodes that stay in float.

    Parameters
    ----------
    model : str, path, bytes, ModelProto or onnx_ir.Model
        The model, or its file.
    head : bool
        Count dense layers around recurrent layers too, as ``quantize --head`` quantises them.

    Returns
    -------
    Inspection
        Everything that ``onnxgru inspect`` prints.

    Raises
    ------
    ModelError
        If the model cannot be read.
    UsageError
        If the argument is no model.
    """
    return _inspected(source.origin(model), head=head)


def _inspected(origin: Origin, *, head: bool) -> Inspection:
    path, model = origin.path, source.read(origin)
    inputs = {str(v.name): _typed(v) for v in model.graph.inputs}
    outputs = {str(v.name): _typed(v) for v in model.graph.outputs}
    opset = ", ".join(f"{name or 'ai.onnx'} {v}" for name, v in model.opset_imports.items())
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    written = metadata.SCHEME in model.metadata_props
    sizes: dict[str, Any]
    rows: tuple[OperatorRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    nothing, flash = "", {}
    if written:
        scheme = brief.parsed(json.loads(model.metadata_props[metadata.SCHEME]), str(path))
        sizes = json.loads(model.metadata_props[metadata.SIZES])
        rows = tuple(_scheme_row(name, entry) for name, entry in scheme.operators.items())
    else:
        found = Model.of(origin, model, head=head).recognition
        layers = tuple(_layer_row(model, layer) for layer in found.layers)
        refusals, notes = found.refusals, found.notes
        nothing = "" if found.layers else found.nothing
        sizes = _float_sizes(found.layers)
        accounts = estimate(model.graph, found.layers, WIDTHS)
        flash = {bits: each.flash_bytes for bits, each in accounts.items() if found.layers}
    return Inspection(
        str(path),
        len(origin.content),
        opset,
        producer,
        inputs,
        outputs,
        layers,
        refusals,
        notes,
        sizes,
        written,
        rows,
        nothing,
        flash,
    )


def _typed(value: ir.Value) -> str:
    shape = "?" if value.shape is None else ", ".join(str(size) for size in value.shape)
    kind = str(value.dtype).lower() if value.dtype is not None else "?"
    return f"{kind} ({shape})"


def _scheme_row(name: str, entry: Any) -> OperatorRow:
    if isinstance(entry, LinearScheme):
        count = entry.shape[0] * entry.shape[1] if entry.shape else 0
        return OperatorRow(name, "linear", entry.bits, entry.weight_bits, count)
    return OperatorRow(name, "", entry.bits, None, 0)


def _layer_row(model: ir.Model, layer: Layer) -> LayerRow:
    node = model.graph.node(layer.node)
    zero = {recurrent.first(carry) for carry in layer.carries if carry not in layer.ports.initial}
    hidden = {"X", "W", "R", *zero}
    given = tuple(role for role in recurrent.inputs(node) if role not in hidden)
    read = tuple(recurrent.read(node))
    operators = tuple(
        OperatorRow(
            o.name,
            o.kind,
            FLOAT_BITS,
            FLOAT_BITS if isinstance(o, LinearOperator) else None,
            o.weight.size if isinstance(o, LinearOperator) else 0,
        )
        for o in layer.operators
    )
    x = recurrent.inputs(node).get("X")
    return LayerRow(
        layer.name,
        layer.node,
        layer.input_size,
        layer.hidden_size,
        layer.attributes,
        _typed(x) if x is not None else "?",
        given,
        read,
        operators,
    )


def _float_sizes(layers: tuple[Layer, ...]) -> dict[str, Any]:
    weights = biases = values = dense = 0
    for layer in layers:
        values += layer.input_size
        for operator in layer.operators:
            values += operator.width
            if isinstance(operator, LinearOperator):
                weights += operator.weight.size
                biases += operator.width
                dense += 0 if layer.recurrent else operator.weight.size
        for recurrence in layer.recurrences:
            values += sum(recurrence.widths[carry.written_by] for carry in recurrence.carries)
    return {
        "weights": weights,
        "weight_bits": FLOAT_BITS * weights,
        "bias_bits": FLOAT_BITS * biases,
        "flash": {"weight": 4 * weights, "bias": 4 * biases},
        "flash_bytes": 4 * (weights + biases),
        "mean_bits": float(FLOAT_BITS),
        "reduction": -1.0,
        "ram": 4 * values,
        "macs": weights,
        "dense_macs": dense,
    }
