"""Eliminated operations equal a count by brute force over the oracle's codes."""

import json

import numpy as np
import pytest
from onnx import helper

from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.runtime import counting
from onnxgru.runtime.elimination import Measuring
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.pipeline import Pipeline, dataset, pipeline, random_scheme, thresholded


def counted(
    made: Pipeline,
    program: IntegerProgram,
    inputs: dict[str, np.ndarray],
    theta: int,
) -> tuple[int, int]:
    """Multiplications, and those needed, from the codes of a program, element by element.

    What is propagated is worked out here again, from what the oracle's operators read.
    """
    data = dataset(made.host, inputs)
    ((values, states),) = Evaluator(made.host, data, oracle_engine).states(program, trace=True)
    total = needed = 0
    for layer in program.layers:
        codes = layer.input.quantization.quantize(values[layer.ports.x])
        steps, batch = codes.shape[:2]
        lengths = values.get("lengths", np.full(batch, steps))
        first = values.get("initial_h")
        for index, recurrence in enumerate(layer.recurrences):
            trace = states[layer.name].trace
            for operator in (o for o in recurrence.operators if isinstance(o, Linear)):
                operand = operator.inputs[0].removesuffix(".delta")
                zero = operator.operands[0].quantization.zero_point
                outputs = sum(operator.widths)
                for b in range(batch):
                    order = range(lengths[b])
                    order = reversed(order) if recurrence.reverse else order
                    held, before = None, None
                    for t in order:
                        if operand == recurrence.input:
                            x = codes[t, b]
                        elif operand in trace:
                            x = trace[operand][t, b]
                        elif before is not None:
                            x = trace[recurrence.carries[0].written_by][before, b]
                        elif first is not None:
                            x = layer.carried("state").quantize(first[index, b])
                        else:
                            x = np.full(layer.hidden_size, zero)
                        held = np.full(len(x), zero) if held is None else held
                        for i, (new, old) in enumerate(zip(x.tolist(), held.tolist(), strict=True)):
                            total += outputs
                            if abs(new - old) > theta:
                                needed += outputs
                                held[i] = new
                        before = t
    return total, needed


CASES = {
    "lengths": grus.Case(T=5, B=4, direction="bidirectional", lengths=(5, 2, 0, 4), initial=True),
    "reset before": grus.Case(T=6, linear_before_reset=0, direction="reverse"),
}


@pytest.mark.parametrize("theta", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_eliminated_operations_are_counted(name: str, theta: int) -> None:
    case = CASES[name]
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    plain = Scheme.uniform(made.layers, 4, input_bits=3)
    program = made.lower(thresholded(made.layers, plain, lambda: theta))
    _, found = Measuring(made.host, dataset(made.host, inputs))(program)
    total, needed = counted(made, program, inputs, theta)
    assert found.operations == total
    assert found.share == 1 - needed / total
    assert 0.05 < found.share < 0.95
    time = found.over_time(3)
    assert len(time["steps"]) == len(time["all"]) == 3
    assert time["operands"].keys() == {one.name for one in found.operands}


@pytest.mark.parametrize("name", CASES)
def test_a_graph_counts_for_itself(name: str) -> None:
    inputs = grus.feeds(CASES[name])
    made = pipeline(grus.model(CASES[name]), inputs)
    scheme = thresholded(made.layers, Scheme.uniform(made.layers, 4), lambda: 1)
    program = made.lower(scheme)
    message = made.emit(program)
    assert counting.share(message, [(inputs, 9)]) is None  # it says nothing of itself
    helper.set_model_props(message, {counting.NOTE: json.dumps(counting.note(program))})
    _, found = Measuring(made.host, dataset(made.host, inputs), ())(program)
    assert counting.share(message, [(inputs, 9)]) == pytest.approx(found.share)
    some = scheme.with_thresholds(
        made.layers, lambda _layer, operand, _entry: 1 if operand == "state" else None
    )
    program = made.lower(some)
    message = made.emit(program)
    helper.set_model_props(message, {counting.NOTE: json.dumps(counting.note(program))})
    least, most = sorted([0.0, found.share])
    assert least < counting.share(message, [(inputs, 9)]) < most
    assert counting.note(made.uniform(8)) is None


def test_operators_of_one_operand_have_its_share() -> None:
    case = grus.Case(T=6)
    made = pipeline(grus.model(case), grus.feeds(case))
    program = made.lower(thresholded(made.layers, random_scheme(made.layers, 0), int))
    _, found = Measuring(made.host, dataset(made.host, grus.feeds(case)), ())(program)
    names = [(one.name, one.outputs, len(one.operators)) for one in found.operands]
    assert names == [("/gru/forward/input", 18, 3), ("/gru/forward/state", 18, 3)]
    assert len({len(one.elements) for one in found.operands}) == 1
    weight = [one.outputs * one.elements.sum() for one in found.operands]
    assert found.share == pytest.approx(
        np.average([one.share for one in found.operands], weights=weight)
    )
