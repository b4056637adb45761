"""Verification: the emitted graph, run in onnxruntime, against the oracle, code for code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxgru.core.data import Dataset
from onnxgru.core.integers import Codes
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.runtime import oracle
from onnxgru.runtime.evaluator import Engine, Evaluator, States
from onnxgru.runtime.host import Host
from onnxgru.runtime.sessions import Run, onnxruntime_session, require_equal

Array = npt.NDArray[Any]
Loader = Callable[[onnx.ModelProto], Run]


@dataclass(frozen=True)
class Verification:
    """What was compared and found equal.

    Parameters
    ----------
    sequences : int
        Sequences run.
    codes : int
        State codes compared.
    """

    sequences: int
    codes: int


def oracle_engine(layer: IntegerLayer) -> Engine:
    """The oracle as an engine of `Evaluator`."""

    def run(
        x: Codes, initial: Codes | None, lengths: npt.NDArray[np.integer] | None, *, trace: bool
    ) -> States:
        y, y_h, values = oracle.run(layer, x, initial, lengths)
        return States(y, y_h, values if trace else {})

    return run


def probe(model: onnx.ModelProto, program: IntegerProgram) -> tuple[onnx.ModelProto, list[str]]:
    """Copy of an emitted model with the state codes of every layer as further outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    made = {name for node in model.graph.node for name in node.output}
    names = [
        f"{layer.name}/{output}"
        for layer in program.layers
        for output in ("y", "y_h")
        if f"{layer.name}/{output}" in made
    ]
    known = {output.name for output in model.graph.output}
    for name in names:
        if name not in known:
            result.graph.output.append(
                helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
            )
    return result, names


def _codes(states: Mapping[str, States]) -> dict[str, Array]:
    return {
        f"{layer}/{name}": value
        for layer, found in states.items()
        for name, value in (("y", found.y), ("y_h", found.y_h))
    }


def verify(
    model: onnx.ModelProto,
    host: Host,
    program: IntegerProgram,
    data: Dataset,
    *,
    load: Loader = onnxruntime_session,
    time_axes: Mapping[str, int] | None = None,
) -> Verification:
    """Run an emitted model and compare the state codes of every layer with the oracle's.

    Parameters
    ----------
    model : onnx.ModelProto
        What was emitted from `program`.
    host : Host
        The float parts of the model it came from.
    program : IntegerProgram
        The program.
    data : Dataset
        Sequences to run.
    load : callable
        Loads the model in a runtime.
    time_axes : mapping of str to int, optional
        For a model in step form: the time axis of its inputs. It is then called once a step, its
        states handed on.

    Raises
    ------
    VerificationError
        If a code differs.
    """
    probed, names = probe(model, program)
    run = load(probed)
    compared = sequences = 0
    for values, states in Evaluator(host, data, oracle_engine).states(program):
        expected = _codes(states)
        inputs = {spec.name: values[spec.name] for spec in host.signature}
        if time_axes is None:
            found = run(inputs)
            require_equal(expected, found, names, "integer.onnx in onnxruntime")
            compared += sum(int(np.size(found[name])) for name in names)
        else:
            compared += _steps(run, model, program, inputs, expected, time_axes)
        first = host.signature[0]
        sequences += inputs[first.name].shape[first.batch_axis]
    return Verification(sequences, compared)


def _steps(
    run: Run,
    model: onnx.ModelProto,
    program: IntegerProgram,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    time_axes: Mapping[str, int],
) -> int:
    """Call a model in step form once a step; codes compared."""
    first = program.layers[0].name
    state_inputs = zero_states(model, program, expected[f"{first}/y"].shape[2])
    length = min(inputs[name].shape[axis] for name, axis in time_axes.items())
    if len(state_inputs) < len(program.layers):
        length = 1  # states that are inputs of the source model are the caller's to hand on
    current = dict(state_inputs)
    compared = 0
    for t in range(length):
        now = {
            name: np.take(array, [t], axis=time_axes[name]) if name in time_axes else array
            for name, array in inputs.items()
        }
        found = run({**now, **current})
        for layer in program.layers:
            codes = expected[f"{layer.name}/y"][t]
            step = {f"{layer.name}/y": codes[None]}
            for recurrence in layer.recurrences:  # one: only forward layers have a step form
                following = f"{recurrence.name}/next_state"
                real = found.get(following, codes[0]).dtype == np.float32
                step[following] = (
                    layer.state.quantization.dequantize(codes[0]) if real else codes[0]
                )
            outputs = [name for name in step if name in found]
            require_equal(step, found, outputs, f"integer.onnx in onnxruntime, step {t}")
            compared += sum(int(np.size(found[name])) for name in outputs)
        current = {
            name: found[name.removesuffix("/state") + "/next_state"] for name in state_inputs
        }
    return compared


def zero_states(model: onnx.ModelProto, program: IntegerProgram, batch: int) -> dict[str, Array]:
    """The state 0.0, (B, H), for every state that the step form made a graph input, by name."""
    elements = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    states: dict[str, Array] = {}
    for layer in program.layers:
        for recurrence in layer.recurrences:
            if recurrence.state not in elements:
                continue
            shape = (batch, layer.hidden_size)
            if elements[recurrence.state] == onnx.TensorProto.FLOAT:
                states[recurrence.state] = np.zeros(shape, np.float32)
            else:
                zero = layer.state.quantization.zero_point
                states[recurrence.state] = np.full(shape, zero, np.uint8)
    return states


def golden(
    model: onnx.ModelProto,
    program: IntegerProgram,
    data: Dataset,
    time_axes: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """Inputs and outputs of an emitted graph as files, in ONNX's own convention.

    Parameters
    ----------
    model : onnx.ModelProto
        The emitted graph.
    program : IntegerProgram
        What it computes.
    data : Dataset
        Sequences.
    time_axes : mapping of str to int, optional
        In step form, the time axis of every input that has one; the first step is taken.
    """
    inputs = dict(data.inputs)
    for name, axis in (time_axes or {}).items():
        inputs[name] = np.take(inputs[name], [0], axis=axis)
    inputs |= zero_states(model, program, data.size)
    outputs = onnxruntime_session(model)(inputs)
    contents = {}
    for kind, values, arrays in (
        ("input", model.graph.input, inputs),
        ("output", model.graph.output, outputs),
    ):
        for index, value in enumerate(values):
            tensor = numpy_helper.from_array(np.ascontiguousarray(arrays[value.name]), value.name)
            contents[f"test_data_set_0/{kind}_{index}.pb"] = tensor.SerializeToString()
    return contents
