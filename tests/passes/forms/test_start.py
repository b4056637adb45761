"""First states of the step form: which are constants, which stay, and which are refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.errors import ModelError
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.start import Start
from onnxgru.passes.forms.states import first_values, recorded
from tests import grus
from tests.pipeline import Pipeline, pipeline
from tests.runtime.exact import to_step

CASE = grus.Case(T=6, B=3, I=4, H=5, initial=True)
FIRST = np.linspace(-0.9, 0.9, 5, dtype=np.float32).reshape(1, 1, 5)


def with_state(
    nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], case: grus.Case = CASE
) -> onnx.ModelProto:
    """The model of a case whose initial state is computed."""
    message = grus.model(case)
    graph = message.graph
    for node in reversed(nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    del graph.input[1]
    return message


def expanded(value: str = "learned") -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Expand of (1, 1, H) to the batch, as Shape arithmetic."""
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "zero"], ["batch"]),
        helper.make_node("Concat", ["ones", "batch", "hidden"], ["wanted"], axis=0),
        helper.make_node("Expand", [value, "wanted"], ["initial_h"]),
    ]
    numbers = {"one": np.array(1), "zero": np.array([0]), "ones": np.array([1])}
    return nodes, {"learned": FIRST, "hidden": np.array([5]), **numbers}


def made(message: onnx.ModelProto, **others: np.ndarray) -> Pipeline:
    return pipeline(message, {"X": grus.feeds(CASE)["X"], **others})


def tiled() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Another way, with arithmetic behind it: Tile, and Tanh."""
    nodes = [
        helper.make_node("Shape", ["X"], ["batch"], start=1, end=2),
        helper.make_node("Concat", ["ones", "batch", "ones"], ["repeats"], axis=0),
        helper.make_node("Tile", ["learned", "repeats"], ["wide"]),
        helper.make_node("Tanh", ["wide"], ["initial_h"]),
    ]
    return nodes, {"learned": np.arctanh(FIRST), "ones": np.array([1])}


@pytest.mark.parametrize("parts", [expanded(), tiled()], ids=["Expand", "Tile"])
@pytest.mark.parametrize("float_state", [False, True])
def test_a_learned_state_is_an_input_whose_first_value_is_written(parts, float_state) -> None:
    model = made(with_state(*parts))
    program = model.uniform(8)
    message = to_step(model).emit(program, Form("step", float_state=float_state))
    assert [value.name for value in message.graph.input] == ["X", "/gru/forward/state"]
    assert [value.name for value in message.graph.output][-1] == "/gru/forward/next_state"
    (state,) = recorded(message)
    quantization = program.layers[0].emitted
    assert (state["scale"], state["zero_point"]) == (quantization.scale, quantization.zero_point)
    assert state["shape"] == ["B", 5]
    first = first_values([state], 2)["/gru/forward/state"]
    assert first.shape == (2, 5)
    if float_state:
        assert np.allclose(first, FIRST[0], atol=1e-6)
    else:
        assert (first == quantization.quantize(FIRST[0])).all()
    given, following = message.graph.input[-1], message.graph.output[-1]
    assert "First call: [" in given.doc_string
    assert "the output /gru/forward/next_state of the call before" in given.doc_string
    assert "Give it to the input /gru/forward/state" in following.doc_string
    if not float_state:
        assert f"zero point {quantization.zero_point}" in given.doc_string
    onnx.checker.check_model(message, full_check=True)


def test_a_constant_state_for_every_sequence_keeps_its_rows() -> None:
    rows = np.linspace(-0.9, 0.9, 15, dtype=np.float32).reshape(1, 3, 5)
    model = made(with_state([], {"initial_h": rows}))
    program = model.uniform(8)
    (state,) = recorded(to_step(model).emit(program, Form("step")))
    first = first_values([state], 3)["/gru/forward/state"]
    assert (first == program.layers[0].emitted.quantize(rows[0])).all()


def test_a_state_of_zero_is_one_code() -> None:
    case = grus.Case()
    model = pipeline(grus.model(case), grus.feeds(case))
    program = model.uniform(8)
    message = to_step(model).emit(program, Form("step"))
    (state,) = recorded(message)
    zero = program.layers[0].emitted.zero_point
    assert state["first"] == zero
    assert f"First call: {zero} everywhere." in message.graph.input[-1].doc_string
    assert not recorded(model.emit(program))


def test_a_long_first_state_is_in_the_metadata_only() -> None:
    case = grus.Case(H=40, initial=True)
    first = np.linspace(-0.9, 0.9, 40, dtype=np.float32).reshape(1, 1, 40).repeat(3, axis=1)
    model = pipeline(with_state([], {"initial_h": first}, case), {"X": grus.feeds(case)["X"]})
    message = to_step(model).emit(model.uniform(8), Form("step"))
    assert "as the metadata onnxgru.states list" in message.graph.input[-1].doc_string
    assert len(recorded(message)[0]["first"]) == 40


def test_a_state_that_callers_hand_on_stays() -> None:
    model = pipeline(grus.model(CASE), grus.feeds(CASE))
    clone = model.model.clone()
    assert not Start(model.layers)(clone).modified
    message = to_step(model).emit(model.uniform(8), Form("step"))
    assert [value.name for value in message.graph.input] == ["X", "initial_h"]
    assert not recorded(message)


def computed() -> onnx.ModelProto:
    """An initial state that a dense layer computes of another input."""
    message = with_state(
        [helper.make_node("MatMul", ["features", "dense"], ["initial_h"])],
        {"dense": np.full((2, 5), 0.1, np.float32)},
    )
    shape = [1, "B", 2]
    message.graph.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, shape))
    return message


def of_the_recording() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceMean", ["X", "time"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", "dense"], ["initial_h"]),
    ]
    return with_state(nodes, {"time": np.array([0]), "dense": np.full((4, 5), 0.1, np.float32)})


def lost() -> onnx.ModelProto:
    """A state that is an input, but of which nothing comes out."""
    message = grus.model(CASE)
    graph = message.graph
    graph.node.append(helper.make_node("Relu", ["Y"], ["positive"]))
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("positive", TensorProto.FLOAT, ["T", 1, "B", 5])
    )
    return message


def of_another() -> onnx.ModelProto:
    """A decoder that starts from the encoder's last state."""
    message = grus.model(grus.Case(T=6, I=4, H=5))
    graph = message.graph
    decoder = helper.make_node(
        "GRU", ["X", "W", "R", "B", "", "Y_h"], ["Y2"], name="decoder", hidden_size=5,
        linear_before_reset=1,
    )  # fmt: skip
    graph.node.append(decoder)
    graph.output.append(helper.make_tensor_value_info("Y2", TensorProto.FLOAT, ["T", 1, "B", 5]))
    return message


def drawn() -> onnx.ModelProto:
    return with_state(
        [helper.make_node("RandomUniform", [], ["initial_h"], shape=[1, 3, 5], name="noise")], {}
    )


def uneven() -> onnx.ModelProto:
    """An initial state that counts the sequences."""
    nodes, arrays = expanded("scaled")
    nodes[-1:-1] = [
        helper.make_node("Cast", ["batch"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["learned", "count"], ["scaled"]),
    ]
    return with_state(nodes, arrays)


def two_axes() -> onnx.ModelProto:
    """Two layers, one along time and the other along the sequences."""
    message = grus.model(grus.Case(T=6, I=4, H=5))
    graph = message.graph
    graph.node.append(helper.make_node("Transpose", ["X"], ["turned"], perm=[1, 0, 2]))
    graph.node.append(
        helper.make_node(
            "GRU", ["turned", "W", "R", "B"], ["Y2"], name="across", hidden_size=5,
            linear_before_reset=1,
        )
    )  # fmt: skip
    graph.output.append(helper.make_tensor_value_info("Y2", TensorProto.FLOAT, ["B", 1, "T", 5]))
    return message


FEATURES = {"features": np.ones((1, 3, 2), np.float32)}
REFUSED = {
    "computed": (computed, FEATURES, "computed from input features|itself as input and output"),
    "recording": (of_the_recording, {}, "computed from input X|--recurrence scan"),
    "lost": (lost, {"initial_h": grus.feeds(CASE)["initial_h"]}, "initial_h|no output|lose it"),
    "another": (of_another, {}, "/decoder starts from the last state of gru|--recurrence scan"),
    "random": (drawn, {}, "drawn by noise|--recurrence scan"),
    "uneven": (uneven, {}, "depends on the number of steps or of sequences"),
    "axes": (two_axes, {}, "/across runs along axis 1 of input 'X'|axis 0|--recurrence scan"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name: str) -> None:
    build, _, words = REFUSED[name]
    import onnx_ir as ir

    from onnxgru.passes.normal.normalize import Normalize
    from onnxgru.passes.recognize.layers import recognize, require

    model = ir.from_proto(build())
    Normalize()(model)
    layers = require(recognize(model), "test")
    with pytest.raises(ModelError) as caught:
        Start(layers)(model)
    for word in words.split("|"):
        assert word in str(caught.value)
    assert "report" not in str(caught.value)
