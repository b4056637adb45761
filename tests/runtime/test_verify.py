"""Verification: what must differ to be refused, and what may."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxgru.core.errors import VerificationError
from onnxgru.passes.forms.form import Form
from onnxgru.runtime.verify import verify
from tests import grus
from tests.pipeline import Pipeline, dataset, pipeline
from tests.runtime.exact import to_step

CASE = grus.Case(T=6, B=4, I=4, H=5)
STREAM = grus.Case(T=1, B=2, I=4, H=5, initial=True)


def checked(model: Pipeline, message: onnx.ModelProto, program, inputs, **others):
    return verify(message, model.host, program, dataset(model.host, inputs), **others)


def nudged(message: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The same graph with another float factor between the layers."""
    result = onnx.ModelProto()
    result.CopyFrom(message)
    for tensor in result.graph.initializer:
        if tensor.name == "gain":
            array = (numpy_helper.to_array(tensor) * np.float32(factor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, "gain"))
    return result


@pytest.fixture(scope="module")
def floats() -> tuple[Pipeline, dict[str, np.ndarray]]:
    """Two layers with float operators between them."""
    cases = [grus.Case(T=20, B=30, I=3, H=6, seed=1), grus.Case(I=6, H=5, seed=2)]
    inputs = grus.feeds(cases[0])
    return pipeline(grus.stacked(cases, "floats"), inputs), inputs


def test_rounding_errors_of_floats_are_counted_and_no_error(floats) -> None:
    model, inputs = floats
    program = model.uniform(8)
    message = model.emit(program)
    plain = checked(model, message, program, inputs)
    assert (plain.sequences, plain.calls, plain.ties) == (30, 1, 0)
    found = checked(model, nudged(message, 1 + 2e-4), program, inputs)
    assert 0 < found.ties < 100
    assert found.codes == plain.codes


@pytest.mark.parametrize("form", [Form(), Form("unrolled", steps=20)])
def test_other_floats_are_refused(floats, form: Form) -> None:
    model, inputs = floats
    program = model.uniform(8)
    message = nudged(model.emit(program, form), 1.1)
    with pytest.raises(
        VerificationError, match=r"in front of layer /gru1 .* widths of a code.* --exclude"
    ) as caught:
        checked(model, message, program, inputs)
    assert "report" not in str(caught.value)


def test_time_bounds_how_many_sequences_are_compared(floats) -> None:
    model, inputs = floats
    program = model.uniform(8)
    message = model.emit(program, Form("unrolled", steps=20))
    found = {}
    for seconds in (0.0, 1e9, None):
        made: list[tuple[int, int]] = []

        def report(done: int, total: int, made: list[tuple[int, int]] = made) -> None:
            made.append((done, total))

        result = checked(model, message, program, inputs, seconds=seconds, report=report)
        found[seconds] = result.sequences, result.codes, made
    (one, codes, first), (every, most, calls), (plain, same, _) = found.values()
    assert (one, len(first)) == (1, 1) and 0 < codes < most
    assert every == plain == 30 and most == same
    assert calls == [(n, 5) for n in range(1, 6)]  # 1, 2, 4, 8 and 15 sequences


def test_other_integers_are_refused(floats) -> None:
    model, inputs = floats
    program = model.uniform(8)
    with pytest.raises(VerificationError, match=r"/gru0/y must equal the oracle"):
        checked(model, model.emit(model.uniform(7)), program, inputs)


def cut(message: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph with an input that nothing reads any more: a constant stands in its place."""
    result = onnx.ModelProto()
    result.CopyFrom(message)
    value = next(v for v in result.graph.input if v.name == name)
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    sizes = [d.dim_value or 4 for d in value.type.tensor_type.shape.dim]
    constant = np.full(sizes, 100 if kind == np.uint8 else 0, kind)
    result.graph.initializer.append(numpy_helper.from_array(constant, "instead"))
    for node in result.graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = "instead"
    return result


@pytest.mark.parametrize("float_state", [False, True])
def test_a_lost_state_of_the_step_form_is_refused(float_state: bool) -> None:
    inputs = grus.feeds(CASE)
    model = pipeline(grus.model(CASE), inputs)
    program = model.uniform(8)
    message = to_step(model).emit(program, Form("step", float_state=float_state))
    found = checked(model, message, program, inputs, time_axes={"X": 0})
    assert (found.calls, found.sequences) == (6, 4)
    with pytest.raises(VerificationError, match=r"step \d: /gru/y must equal the oracle"):
        checked(model, cut(message, "/gru/forward/state"), program, inputs, time_axes={"X": 0})


def streaming() -> tuple[Pipeline, dict[str, np.ndarray]]:
    inputs = {
        "X": np.random.default_rng(3).standard_normal((1, 32, 4)).astype(np.float32),
        "initial_h": np.random.default_rng(4).uniform(-0.9, 0.9, (1, 32, 5)).astype(np.float32),
    }
    return pipeline(grus.model(STREAM), inputs), inputs


def test_states_of_a_streaming_model_are_handed_on() -> None:
    model, inputs = streaming()
    program = model.uniform(8)
    message = model.emit(program)
    calls: list[tuple[int, int]] = []
    found = checked(
        model, message, program, inputs, states={"initial_h": "Y_h"},
        report=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert (found.calls, found.sequences, found.ties) == (16, 32, 0)
    assert calls == [(i + 1, 16) for i in range(16)]
    assert checked(model, message, program, inputs).calls == 1


def test_a_streaming_model_that_hands_on_something_else_is_refused() -> None:
    model, inputs = streaming()
    program = model.uniform(8)
    message = model.emit(program)
    for node in message.graph.node:  # a state that does not come out
        for index, name in enumerate(node.output):
            if name == "Y_h":
                node.output[index] = "dropped"
    message.graph.node.append(helper.make_node("Neg", ["dropped"], ["Y_h"]))
    with pytest.raises(VerificationError, match=r"output Y_h, which the next call is given"):
        checked(model, message, program, inputs, states={"initial_h": "Y_h"})


def test_steps_of_a_model_with_a_state_of_its_own_are_handed_on_where_it_is_named() -> None:
    case = grus.Case(T=6, B=4, I=4, H=5, initial=True)
    inputs = grus.feeds(case)
    model = pipeline(grus.model(case), inputs)
    program = model.uniform(8)
    message = to_step(model).emit(program, Form("step"))
    named = {"time_axes": {"X": 0}, "states": {"initial_h": "Y_h"}}
    assert checked(model, message, program, inputs, **named).calls == 6
    assert checked(model, message, program, inputs, time_axes={"X": 0}).calls == 1


def test_operators_that_look_at_several_steps_have_no_step_form() -> None:
    message = grus.model(grus.Case(T=6, B=4, I=4, H=5))
    message.graph.node[0].input[0] = "normal"
    message.graph.node.insert(0, helper.make_node("Softmax", ["X"], ["normal"], axis=0))
    inputs = grus.feeds(CASE)
    model = pipeline(message, inputs)
    program = model.uniform(8)
    emitted = to_step(model).emit(program, Form("step"))
    with pytest.raises(VerificationError, match=r"several steps at once.*--recurrence scan"):
        checked(model, emitted, program, inputs, time_axes={"X": 0})
