"""A cell of two carries, one of which is not emitted, from a table in this test alone.

It is an LSTM without peepholes (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et
al. 2000), in the form of the ONNX operator specification::

    i, o, f = sigma(W x + R h + b)    c' = f c + i g(W_c x + R_c h + b_c)    h' = o tanh(c')
"""

from itertools import product

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.cells import INPUT, STATE, Carry, Cell, Row
from onnxgru.passes.form import Form
from onnxgru.passes.recognize import layers
from onnxgru.passes.recognize.stacked import OnnxCell
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.passes.test_decompose import TOLERANCE, decompose, distance
from tests.pipeline import Pipeline, first_job, pipeline
from tests.runtime.exact import require_exact, to_step

QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference")
T, B, I, H = 5, 3, 4, 6  # noqa: E741 - the letters of the project


def gate(name: str, function: str = "f") -> tuple[Row, ...]:
    return (
        Row(f"{name}.input", "linear", (INPUT,), f"W.{name}"),
        Row(f"{name}.hidden", "linear", (STATE,), f"R.{name}"),
        Row(f"{name}.sum", "add", (f"{name}.input", f"{name}.hidden")),
        Row(f"{name}.gate", "lookup", (f"{name}.sum",), function),
    )


TABLE = Cell(
    "two carries",
    (
        *gate("enter"),
        *gate("leave"),
        *gate("forget"),
        *gate("new", "g"),
        Row("cell.keep", "mul", ("forget.gate", "cell")),
        Row("cell.new", "mul", ("enter.gate", "new.gate")),
        Row("cell.sum", "add", ("cell.new", "cell.keep")),
        Row("cell.tanh", "lookup", ("cell.sum",), "h"),
        Row("state.out", "mul", ("leave.gate", "cell.tanh")),
    ),
    carries=(Carry(STATE, "state.out"), Carry("cell", "cell.sum")),
    emits="state.out",
)
KIND = OnnxCell(
    "LSTM",
    gates=("enter", "leave", "forget", "new"),
    functions={"f": "Sigmoid", "g": "Tanh", "h": "Tanh"},
    cell=lambda _node: TABLE,
    carries={STATE: ("initial_h", "Y_h"), "cell": ("initial_c", "Y_c")},
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recognition with one operator more."""
    more = {**layers.operators(), KIND.operator: KIND}
    monkeypatch.setattr(layers, "operators", lambda: more)


def drawn(direction: str, *, initial: bool, lengths: bool) -> tuple[onnx.ModelProto, dict]:
    generator = np.random.default_rng(1)
    count = 2 if direction == "bidirectional" else 1
    shapes = {"W": (count, 4 * H, I), "R": (count, 4 * H, H), "b": (count, 8 * H)}
    weights = {
        name: (0.5 * generator.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    inputs: dict[str, np.ndarray] = {"X": generator.standard_normal((T, B, I), np.float32)}
    names = ["X", "W", "R", "b", "", "", ""]
    if lengths:
        inputs["lengths"], names[4] = np.asarray([5, 2, 0], np.int32), "lengths"
    if initial:
        for place, name in ((5, "initial_h"), (6, "initial_c")):
            inputs[name] = generator.uniform(-0.9, 0.9, (count, B, H)).astype(np.float32)
            names[place] = name
    shapes = {"Y": ["T", count, "B", H], "Y_h": [count, "B", H], "Y_c": [count, "B", H]}
    node = helper.make_node("LSTM", names, list(shapes), "lstm", hidden_size=H, direction=direction)
    axes = {"X": ["T", "B", I], "lengths": ["B"]}
    graph = helper.make_graph(
        [node],
        "test",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), axes.get(name, [count, "B", H])
            )
            for name, array in inputs.items()
        ],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model, inputs


CASES = list(product(("forward", "reverse", "bidirectional"), (False, True), (False, True)))


def made(direction: str, initial: bool, lengths: bool) -> tuple[Pipeline, dict]:
    model, inputs = drawn(direction, initial=initial, lengths=lengths)
    return pipeline(model, inputs), inputs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_floats_are_those_of_onnxruntime(case: tuple[str, bool, bool]) -> None:
    direction, initial, lengths = case
    model, inputs = drawn(direction, initial=initial, lengths=lengths)
    found = grus.run(decompose(model), inputs)
    assert distance(grus.run(model, inputs), found) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_the_oracles(case: tuple[str, bool, bool]) -> None:
    model, inputs = made(*case)
    for program in (model.uniform(8), model.mixed(3)):
        require_exact(model, program, inputs, names=QUICK)
        require_exact(model, program, inputs, Form("unrolled", steps=T), names=QUICK)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_evaluators_are_the_oracle(case: tuple[str, bool, bool]) -> None:
    model, inputs = made(*case)
    for program in (model.uniform(5), model.mixed(4)):
        (layer,) = program.layers
        job = first_job(model, layer, inputs)
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
        for engine in (LayerEvaluator(layer), FusedEngine(layer)):
            found = engine(job.x, job.initial, job.lengths)
            np.testing.assert_array_equal(found.y, wanted.y)
            assert found.last.keys() == {STATE, "cell"}
            for carry, codes in wanted.last.items():
                np.testing.assert_array_equal(found.last[carry], codes)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_device_is_the_oracle(case: tuple[str, bool, bool]) -> None:
    torch = pytest.importorskip("torch")
    model, inputs = made(*case)
    stack = [program.layers[0] for program in (model.uniform(5), model.mixed(4))]
    jobs = [first_job(model, layer, inputs) for layer in stack]
    engine = PopulationEngine(stack, torch.device("cpu"))
    results = engine([j.x for j in jobs], [j.initial for j in jobs], [j.lengths for j in jobs])
    for layer, job, (y, last) in zip(stack, jobs, results, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
        np.testing.assert_array_equal(y, wanted.y)
        for carry, codes in wanted.last.items():
            np.testing.assert_array_equal(last[carry], codes)


def test_the_step_form_has_a_state_for_every_carry() -> None:
    model, _ = made("forward", False, False)
    message = to_step(model).emit(model.mixed(2), Form("step"))
    names = [value.name for value in message.graph.input]
    assert names == ["X", "/lstm/forward/state", "/lstm/forward/cell"]
    outputs = [value.name for value in message.graph.output]
    assert outputs[-2:] == ["/lstm/forward/next_state", "/lstm/forward/next_state/cell"]


def test_carries_have_quantisations_of_their_own() -> None:
    model, _ = made("bidirectional", False, False)
    (layer,) = model.mixed(5).layers
    assert layer.carries == {STATE: "/lstm/state", "cell": "/lstm/cell"}
    assert layer.output == "/lstm/state"
    assert layer.carried("cell") != layer.emitted
