"""Annotate: the decomposed graph with quantisers at the scheme's widths (QCDQ).

Every operator's value gets ``QuantizeLinear -> Clip -> DequantizeLinear``. The Clip is left out at
8 and 16 bits, where the container limits codes. Both quantisers read the same scale and zero point,
and the Clip's bounds have rank 0, so that tools can read the width back (for weights of 2 bits,
-3 .. 3, they read 3 bits). Weights are floats, multiples of their scale, followed by the same three
nodes with zero point 0, because tools read their width from no other pattern. Biases are int32
codes followed by a DequantizeLinear. Codes of 16 bits need opset 21. Weights of 16 bits are int16
codes followed by a DequantizeLinear, because runtimes have no Clip of int16.

This graph is the float view of the quantised model: operators compute in float32 between
quantisers. The report gives its distance from the integer graph in codes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.integers import Quantization, WeightType
from onnxgru.core.metadata import BITS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.tape import OPERATOR, Tape
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.passes.graph.values import uses_by_graph


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
        tape.register(graph)
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
        if any(node.op_type == "QuantizeLinear" for node, _ in weight.uses()):
            return False
        codes = np.ascontiguousarray(part.weight.T)
        scale = tape.constant(f"{name}/weight_scale", part.weight_scale)
        zero = tape.constant(
            f"{name}/weight_zero_point", np.zeros(len(part.weight), part.weight.dtype)
        )
        factors = part.weight_scale * np.float32(operand.scale * part.unit)
        if part.after:
            factors = np.full(len(factors), part.bias_step, np.float32)
        bias_scale = tape.constant(f"{name}/bias_scale", factors)
        bias_zero = tape.constant(f"{name}/bias_zero_point", np.zeros(len(factors), np.int32))
        if part.type.wide:
            stored = tape.constant(f"{weight.name}/codes", codes)
            _read(tape, weight, stored, (scale, zero), part.type.bits)
            del graph.initializers[str(weight.name)]
        else:
            real = codes.astype(np.float32) * part.weight_scale
            _quantized(tape, weight, real, (scale, zero), part.type)
        stored = tape.constant(f"{bias.name}/codes", part.bias)
        _read(tape, bias, stored, (bias_scale, bias_zero), 32)
        del graph.initializers[str(bias.name)]
        return True


def _read(
    tape: Tape, value: ir.Value, codes: ir.Value, parameters: Sequence[ir.Value], bits: int
) -> None:
    """Make all readers of a parameter read its codes."""
    for place, uses in uses_by_graph(value).items():
        inner = Tape(tape)
        real = inner.op(
            "DequantizeLinear",
            codes,
            *parameters,
            name=f"{value.name}/dequantized",
            axis=_columns(value),
        )
        _insert(place, inner, uses, real, bits)


def _quantized(
    tape: Tape,
    value: ir.Value,
    real: npt.NDArray[np.float32],
    parameters: Sequence[ir.Value],
    kind: WeightType,
) -> None:
    """Give weights the values of their codes, and put quantisers between them and their readers."""
    value.const_value = ir.tensor(real, name=value.name)
    axis = _columns(value)
    for place, uses in uses_by_graph(value).items():
        inner = Tape(tape)
        name = str(value.name)
        codes = inner.op("QuantizeLinear", value, *parameters, name=f"{name}/quantized", axis=axis)
        # At 8 bits too, to leave out -128.
        codes = _clip(tape, inner, codes, np.int8, -kind.maximum, kind.maximum, name)
        result = inner.op(
            "DequantizeLinear", codes, *parameters, name=f"{name}/dequantized", axis=axis
        )
        _insert(place, inner, uses, result, kind.bits)


def _columns(value: ir.Value) -> int:
    """The axis of the output channels."""
    return value.shape.rank() - 1 if value.shape is not None else 0


def _insert(
    place: ir.Graph,
    inner: Tape,
    uses: Sequence[tuple[ir.Node, int]],
    result: ir.Value,
    bits: int,
) -> None:
    """Insert nodes at the front of a graph and give their result to the readers of a parameter."""
    for added in inner.nodes:
        added.metadata_props[BITS] = str(bits)
    for node, index in uses:
        node.replace_input_with(index, result)
    place.insert_before(place[0], inner.nodes)


def _annotated(node: ir.Node) -> bool:
    return any(use.op_type == "QuantizeLinear" for use, _ in node.outputs[0].uses())


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
