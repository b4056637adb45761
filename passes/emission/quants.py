"""Quants: an annotated graph with QONNX's ``Quant`` nodes in place of standard quantisers.

``Quant`` rounds x / s + z to q, limits q to the integers of its width and returns (q - z) s. Its
scale s, zero point z and width are float inputs. Weights of 2 bits have the codes -3, -1, 1 and 3
in steps of s. ``Quant`` has the integers -2 to 1 for them, with the scale 2 s and the zero point
-1/2. Where x / s lies halfway between two integers and z is odd, ``Quant`` rounds to the other side
than QuantizeLinear, which adds z after rounding.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.metadata import BITS
from onnxgru.core.tape import Tape
from onnxgru.passes.graph.values import drop_unused, take_place

Array = npt.NDArray[Any]

DOMAIN = "qonnx.custom_op.general"


class Quants(ir.passes.InPlacePass):
    """Replace every quantiser of an annotated model, in subgraphs too."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace QuantizeLinear, Clip and DequantizeLinear, and DequantizeLinear of codes."""
        tape = Tape(graph=model.graph)
        found = [node for node in model.graph.all_nodes() if node.op_type == "DequantizeLinear"]
        modified = False
        for node in found:
            if BITS in node.metadata_props:
                modified = True
                _replace(model.graph, tape, node)
        tape.register(model.graph)
        if modified:
            model.opset_imports[DOMAIN] = 1
            drop_unused(model.graph, model.graph.initializers.values())
        return ir.passes.PassResult(model, modified)


def _replace(graph: ir.Graph, tape: Tape, node: ir.Node) -> None:
    """Replace a DequantizeLinear and the nodes in front of it by one Quant."""
    codes, scale, zero = node.inputs
    assert codes is not None and scale is not None and zero is not None
    bits = int(node.metadata_props[BITS])
    name, result = str(node.name), node.outputs[0]
    factors, zeros = _array(scale), _array(zero)
    signed = zeros.dtype.kind == "i"
    real, removed = _source(graph, codes, factors)
    rank = real.shape.rank() if real.shape is not None else 2
    axis = node.attributes.get_int("axis", 1)
    factors, offset = factors.astype(np.float32), zeros.astype(np.float32)
    narrow = signed and bits < 32
    if signed and bits == 2:
        factors, offset, narrow = 2 * factors, offset - np.float32(0.5), False
    if factors.ndim:
        factors = factors.reshape([-1 if place == axis else 1 for place in range(rank)])
    offset = offset.reshape(-1)[:1].reshape(())  # all channels have the same zero point
    prefix = name.removesuffix("/dequantized")
    quant = ir.Node(
        DOMAIN,
        "Quant",
        [
            real,
            tape.constant(f"{prefix}/quant_scale", factors),
            tape.constant(f"onnxgru/quant/zero/{float(offset):g}", offset),
            tape.constant(f"onnxgru/quant/bits/{bits}", np.asarray(bits, np.float32)),
        ],
        attributes=ir.convenience.convert_attributes(
            {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        ),
        outputs=[ir.Value(name=None)],
        name=f"{prefix}/quant",
        metadata_props={BITS: str(bits)},
    )
    take_place(result, quant.outputs[0])
    place = node.graph
    assert isinstance(place, ir.Graph)
    place.insert_before(node, [quant])
    for old in (node, *removed):
        place.remove(old, safe=True)


def _source(graph: ir.Graph, codes: ir.Value, factors: Array) -> tuple[ir.Value, list[ir.Node]]:
    """The float value in front of the codes, and the nodes between. Stored codes become floats."""
    removed = []
    value = codes
    while (node := value.producer()) is not None and node.op_type in ("Clip", "QuantizeLinear"):
        removed.append(node)
        first = node.inputs[0]
        assert first is not None
        value = first
        if node.op_type == "QuantizeLinear":
            return value, removed
    if codes.dtype == ir.DataType.FLOAT:  # replaced already, for another reader of these codes
        return codes, removed
    values = _array(codes).astype(np.float32) * factors
    real = ir.tensor(values, name=codes.name)
    stored = ir.Value(
        name=codes.name,
        shape=ir.Shape(values.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=real,
    )
    ir.convenience.replace_all_uses_with(codes, stored)
    if codes.name in graph.initializers:
        del graph.initializers[str(codes.name)]
    graph.register_initializer(stored)
    return stored, removed


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    found: Array = value.const_value.numpy()
    return found
