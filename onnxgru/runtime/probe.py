"""Copies of emitted graphs that output what their integer layers read and compute."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxgru.core.program import IntegerProgram
from onnxgru.passes.forms.recurrence import last_name

Array = npt.NDArray[Any]


def probe(model: onnx.ModelProto, program: IntegerProgram) -> tuple[onnx.ModelProto, list[str]]:
    """Copy of an emitted model with the state codes of every layer as further outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    made = {name for node in model.graph.node for name in node.output}
    names = [
        name
        for layer in program.layers
        for output in ("y", *(last_name(layer, carry) for carry in layer.carries))
        if (name := f"{layer.name}/{output}") in made
    ]
    _show(result, names, {output.name for output in model.graph.output})
    return result, names


def _show(model: onnx.ModelProto, names: Iterable[str], known: Set[str]) -> None:
    """Make values outputs of a graph unless they are known; runtimes infer their types."""
    for name in dict.fromkeys(names):
        if name not in known:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))


@dataclass(frozen=True)
class Reading:
    """Where an emitted graph quantises a float value.

    Parameters
    ----------
    codes : str
        Name of the codes.
    source : str
        Name of the float value.
    """

    codes: str
    source: str


class Probe:
    """An emitted graph that outputs what its integer layers read and compute.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph that was emitted from `program`.
    program : IntegerProgram
        The program.
    """

    def __init__(self, model: onnx.ModelProto, program: IntegerProgram) -> None:
        self.model, self.names = probe(model, program)
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.inputs = {
            layer.name: self._reading(f"{layer.input.name}/codes")
            for layer in program.layers
            if not layer.reads_codes
        }
        self.initial = {
            grid: [
                reading
                for index in range(len(layer.recurrences))
                if (reading := self._reading(f"{grid}/codes/{index}"))
            ]
            for layer in program.layers
            for grid in layer.carries.values()
        }
        given = {value.name for value in self.model.graph.input}
        shown = {value.name for value in self.model.graph.output}
        readings = [*self.inputs.values(), *(r for rs in self.initial.values() for r in rs)]
        read = [name for r in readings if r is not None for name in (r.codes, r.source)]
        _show(self.model, read, given | shown | self._constants.keys())

    def _reading(self, codes: str) -> Reading | None:
        """Find the float value of codes backwards through Cast, Clip, Add, Round and Mul."""
        if codes not in self._producers:
            return None
        source = codes
        for _ in range(5):
            source = self._producers[source].input[0]
        return Reading(codes, source)

    def source(self, reading: Reading, values: Mapping[str, Array]) -> Array:
        """The float value of a reading, given the inputs and outputs of a call."""
        if reading.source in values:
            return values[reading.source]
        return self._constants[reading.source]
