"""Annotate: the decomposed graph with quantisers at the scheme's widths (QCDQ).

Every operator's value gets ``QuantizeLinear -> Clip -> DequantizeLinear``; the Clip is left out at
8 and at 16 bits, where the container does it. Both sides read the same scale and zero point, and
the Clip's bounds have rank 0, so that tools can read the width back (from -3 .. 3 of weights of 2
bits they read 3). Weights are int8 codes with zero point 0 behind a Clip and a DequantizeLinear,
biases int32 codes behind a DequantizeLinear. Codes of 16 bits need opset 21; weights of 16 bits
have no Clip, because runtimes have none of int16.

This is the float view of the quantised model: operators compute in float32 between quantisers.
How far it is from the integer graph is reported in codes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxgru.core.integers import Quantization
from onnxgru.core.metadata import BITS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.tape import OPERATOR, Tape
from onnxgru.custom_ops.linear import Linear, Part


class Annotate(ir.passes.InPlacePass):
    """Insert quantisers into a decomposed model.

    Parameters
    ----------
    program : IntegerProgram
        The lowered scheme: its quantisations, and the codes of weights and biases.
    """

    def __init__(self, program: IntegerProgram) -> None:
        super().__init__()
        self._values = program.values
        self._parts = {
            part.output.name: (part, operator.operands[0].quantization)
            for operator in program.operators
            if isinstance(operator, Linear)
            for part in operator.parts
        }

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Annotate values and weights that are not annotated yet."""
        graph = model.graph
        tape = Tape(graph=graph)
        marked = [
            node
            for node in graph.all_nodes()
            if node.metadata_props.get(OPERATOR) in self._values and not _annotated(node)
        ]
        for node in marked:
            self._value(tape, node, self._values[node.metadata_props[OPERATOR]])
        modified = bool(marked)
        for name, (part, operand) in self._parts.items():
            modified |= self._parameters(graph, tape, name, part, operand)
        for constant in tape.constants.values():
            if constant.name not in graph.initializers:
                graph.register_initializer(constant)
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _value(tape: Tape, node: ir.Node, quantization: Quantization) -> None:
        value = node.outputs[0]
        name = node.metadata_props[OPERATOR]
        result = ir.Value(shape=value.shape, type=value.type)
        ir.convenience.replace_all_uses_with(value, result, replace_graph_outputs=True)
        inner = Tape(tape)
        parameters = _parameters(tape, name, quantization)
        codes = inner.op("QuantizeLinear", value, *parameters, name=f"{name}/quantized")
        kind = quantization.type
        if kind.bits < 8 * kind.container.itemsize:
            codes = _clip(tape, inner, codes, kind.container.type, 0, kind.maximum, name)
        nodes = [*inner.nodes]
        result.name = tape.name(f"{name}/dequantized")
        nodes.append(
            ir.Node(
                "", "DequantizeLinear", [codes, *parameters], outputs=[result], name=result.name
            )
        )
        for added in nodes:
            added.metadata_props[BITS] = str(quantization.bits)
        node.append(nodes)

    @staticmethod
    def _parameters(
        graph: ir.Graph, tape: Tape, name: str, part: Part, operand: Quantization
    ) -> bool:
        weight, bias = (graph.initializers.get(f"{name}/{role}") for role in ("weight", "bias"))
        if weight is None or bias is None or weight.dtype != ir.DataType.FLOAT:
            return False
        top = part.type.maximum
        scale = tape.constant(f"{name}/weight_scale", part.weight_scale)
        zero = tape.constant(
            f"{name}/weight_zero_point", np.zeros(len(part.weight), part.weight.dtype)
        )
        bias_scale = tape.constant(
            f"{name}/bias_scale", part.weight_scale * np.float32(operand.scale * part.unit)
        )
        for value, codes, parameters, limited in (
            (weight, np.ascontiguousarray(part.weight.T), (scale, zero), True),
            (bias, part.bias, (bias_scale,), False),
        ):
            stored = tape.constant(f"{value.name}/codes", codes)
            for place, uses in _uses(value):
                inner = Tape(tape)
                source = stored
                if limited and not part.type.wide:
                    # At 8 bits too, to leave out -128.
                    source = _clip(tape, inner, stored, np.int8, -top, top, str(value.name))
                real = inner.op(
                    "DequantizeLinear",
                    source,
                    *parameters,
                    name=f"{value.name}/dequantized",
                    axis=value.shape.rank() - 1 if value.shape is not None else 0,
                )
                for added in inner.nodes:
                    added.metadata_props[BITS] = str(part.type.bits if limited else 32)
                for node, index in uses:
                    node.replace_input_with(index, real)
                place.insert_before(place[0], inner.nodes)
            del graph.initializers[str(value.name)]
        return True


def _annotated(node: ir.Node) -> bool:
    return any(use.op_type == "QuantizeLinear" for use, _ in node.outputs[0].uses())


def _uses(value: ir.Value) -> Iterator[tuple[ir.Graph, list[tuple[ir.Node, int]]]]:
    places: dict[ir.Graph, list[tuple[ir.Node, int]]] = {}
    for node, index in value.uses():
        if isinstance(node.graph, ir.Graph):
            places.setdefault(node.graph, []).append((node, index))
    yield from places.items()


def _parameters(tape: Tape, name: str, quantization: Quantization) -> tuple[ir.Value, ir.Value]:
    return (
        tape.constant(f"{name}/scale", np.asarray(quantization.scale, np.float32)),
        tape.constant(f"{name}/zero_point", np.asarray(quantization.zero)),
    )


def _clip(
    tape: Tape,
    inner: Tape,
    codes: ir.Value,
    kind: type[np.integer[Any]],
    low: int,
    high: int,
    name: str,
) -> ir.Value:
    limits = (
        tape.constant(f"onnxgru/{kind.__name__}/{v}", np.asarray(v, kind)) for v in (low, high)
    )
    return inner.op("Clip", codes, *limits, name=f"{name}/clipped")
