"""Weights of two nodes that are the same are stored once, and counted once."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.cost.account import account
from onnxgru.passes.forms.form import Form
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.rounding import methods
from onnxgru.runtime.evaluator import Evaluator
from tests import grus
from tests.pipeline import Pipeline, dataset, pipeline, singles

CASE = grus.Case(I=6, seed=4)
INPUTS = grus.feeds(CASE)


def twins(*, equal_arrays: bool = False) -> onnx.ModelProto:
    """Two layers that read the same initializers, or others that hold the same."""
    message = grus.stacked([CASE, replace(CASE)])
    second = next(node for node in message.graph.node if node.name == "gru1")
    arrays = {t.name: t for t in message.graph.initializer}
    for index, role in ((1, "W"), (2, "R"), (3, "B")):
        if equal_arrays:
            copy = numpy_helper.from_array(
                numpy_helper.to_array(arrays[f"l0_{role}"]), f"l1_{role}"
            )
            arrays[f"l1_{role}"].CopyFrom(copy)
        else:
            second.input[index] = f"l0_{role}"
            message.graph.initializer.remove(arrays[f"l1_{role}"])
    return message


@pytest.fixture(scope="module", params=[False, True])
def made(request: pytest.FixtureRequest) -> Pipeline:
    return pipeline(twins(equal_arrays=request.param), INPUTS)


def stored(made: Pipeline, program: IntegerProgram, form: Form | None = None) -> dict[str, int]:
    message = made.emit(program, form)
    arrays = {t.name: numpy_helper.to_array(t) for t in message.graph.initializer}
    host = Evaluator(made.host, dataset(made.host, INPUTS))
    ((_, expected),) = host.states(program)
    if form is None or form.name == "unrolled":
        y, y_h = grus.run(message, INPUTS)
        last = program.layers[-1].emitted
        np.testing.assert_array_equal(y, last.dequantize(expected["/gru1"].y))
        np.testing.assert_array_equal(y_h, last.dequantize(expected["/gru1"].last["state"]))
    return {name: array.nbytes for name, array in arrays.items()}


@pytest.mark.parametrize("form", [None, Form("unrolled", steps=5)])
@pytest.mark.parametrize("bits", [8, 3])
def test_equal_weights_are_stored_once(made: Pipeline, bits: int, form: Form | None) -> None:
    program = made.uniform(bits)
    sizes = stored(made, program, form)
    items = [item for item in program.flash() if item.name not in singles(program)]
    assert {item.name: item.size for item in items} == {n.name: sizes[n.name] for n in items}
    weights = [name for name in sizes if name.endswith("/weight")]
    assert len(weights) == 6 and all(name.startswith("/gru0/") for name in weights)
    single = pipeline(grus.model(CASE), INPUTS).uniform(bits)
    both, one = account(program), account(single)
    assert (both.weights, both.weight_bits) == (one.weights, one.weight_bits)
    assert both.mean_bits == bits
    assert both.macs == 2 * one.macs


def test_weights_of_two_widths_are_stored_twice(made: Pipeline) -> None:
    """Only the operators that a scheme gives one width share."""
    scheme = Scheme.uniform(made.layers, 8)
    name = "/gru1/forward/new.hidden"
    entry = scheme.operators[name]
    assert isinstance(entry, LinearScheme)
    other = Scheme(scheme.inputs, {**scheme.operators, name: replace(entry, weight_bits=4)})
    program = made.lower(other)
    sizes = stored(made, program)
    assert sum(n.endswith("/weight") for n in sizes) == 7
    assert sizes[f"{name}/weight"] == CASE.H * CASE.H // 2
    assert account(program).weights == 3 * CASE.H * (CASE.I + CASE.H) + CASE.H * CASE.H


@pytest.mark.parametrize("bias_correction", [False, True])
def test_gptq_gives_equal_weights_equal_codes(made: Pipeline, bias_correction: bool) -> None:
    """By the moments of both, which differ."""
    generator = np.random.default_rng(1)
    operands = {
        operator.inputs[0]: operator.weight.shape[1]
        for layer in made.layers
        for operator in layer.operators
        if operator.kind == "linear"
    }
    samples = {n: generator.standard_normal((40, size)) for n, size in operands.items()}
    rounding = methods.resolve(
        made.layers,
        "gptq",
        bias_correction=bias_correction,
        seconds={n: x.T @ x / len(x) for n, x in samples.items()},
        means={n: x.mean(0) for n, x in samples.items()},
    )
    lower = Lowering(made.model.graph, made.layers, made.calibration, rounding=rounding)
    program = lower(Scheme.uniform(made.layers, 3))
    sizes = stored(made, program)
    assert sum(n.endswith("/weight") for n in sizes) == 6
    alone = singles(program)
    items = {item.name: item.size for item in program.flash() if item.name not in alone}
    assert items.items() <= sizes.items()


def test_other_weights_are_not_shared() -> None:
    program = pipeline(grus.stacked([CASE, replace(CASE, seed=5)]), INPUTS).uniform(8)
    assert len([item for item in program.flash() if item.role == "weight"]) == 12
