"""Copies of emitted graphs that show what their integer layers read and compute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxgru.core.integers import Quantization
from onnxgru.core.program import IntegerProgram
from onnxgru.passes.recurrence import last_name

Array = npt.NDArray[Any]


def probe(model: onnx.ModelProto, program: IntegerProgram) -> tuple[onnx.ModelProto, list[str]]:
    """Copy of an emitted model with the state codes of every layer as further outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    made = {name for node in model.graph.node for name in node.output}
    kinds = {
        f"{layer.name}/{output}": layer.grids[grid].quantization
        for layer in program.layers
        for output, grid in (
            ("y", layer.output),
            *((last_name(layer, carry), grid) for carry, grid in layer.carries.items()),
        )
        if f"{layer.name}/{output}" in made
    }
    known = {output.name for output in model.graph.output}
    for name, quantization in kinds.items():
        if name not in known:
            result.graph.output.append(
                helper.make_tensor_value_info(name, _element(quantization), None)
            )
    return result, list(kinds)


def _element(quantization: Quantization) -> int:
    """ONNX's number of the type of codes."""
    return int(helper.np_dtype_to_tensor_dtype(quantization.type.container))


@dataclass(frozen=True)
class Reading:
    """Where an emitted graph quantises a float value.

    Parameters
    ----------
    codes : str
        Name of the codes.
    source : str
        Name of the float value.
    element : int
        ONNX's number of the type of the codes.
    """

    codes: str
    source: str
    element: int


class Probe:
    """An emitted graph that shows what its integer layers read and compute.

    Parameters
    ----------
    model : onnx.ModelProto
        What was emitted from `program`.
    program : IntegerProgram
        The program.
    """

    def __init__(self, model: onnx.ModelProto, program: IntegerProgram) -> None:
        self.model, self.names = probe(model, program)
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.inputs = {
            layer.name: self._reading(f"{layer.input.name}/codes", layer.input.quantization)
            for layer in program.layers
            if not layer.reads_codes
        }
        self.initial = {
            grid: [
                reading
                for index in range(len(layer.recurrences))
                if (reading := self._reading(f"{grid}/codes/{index}", layer.carried(carry)))
            ]
            for layer in program.layers
            for carry, grid in layer.carries.items()
        }
        given = {value.name for value in self.model.graph.input}
        shown = {value.name for value in self.model.graph.output}
        for reading in [*self.inputs.values(), *(r for rs in self.initial.values() for r in rs)]:
            if reading is None:
                continue
            for name, kind in (
                (reading.codes, reading.element),
                (reading.source, onnx.TensorProto.FLOAT),
            ):
                if name not in given | shown | self._constants.keys():
                    shown.add(name)
                    self.model.graph.output.append(helper.make_tensor_value_info(name, kind, None))

    def _reading(self, codes: str, quantization: Quantization) -> Reading | None:
        """Back from codes through Cast, Clip, Add, Round and Mul to the float value."""
        if codes not in self._producers:
            return None
        source = codes
        for _ in range(5):
            source = self._producers[source].input[0]
        return Reading(codes, source, _element(quantization))

    def source(self, reading: Reading, values: Mapping[str, Array]) -> Array:
        """The float value of a reading, given the inputs and outputs of a call."""
        if reading.source in values:
            return values[reading.source]
        return self._constants[reading.source]
