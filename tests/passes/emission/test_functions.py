"""Directions of layers as model-local functions: the same codes as the flat graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import onnxgru
from onnxgru.core.metadata import DOMAIN, RECURRENCE
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.passes.emission.functions import inlined
from onnxgru.passes.emission.plan import agreement
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.step import Step
from tests import grus
from tests.pipeline import Pipeline, pipeline, random_scheme, thresholded

ALIKE = Vocabulary(alike=True)
CASE = grus.Case()
CASES = {
    "one": CASE,
    "last value alone": replace(CASE, outputs=("Y_h",), linear_before_reset=0),
    "both ways": replace(CASE, direction="bidirectional", lengths=(5, 2, 0)),
    "initial": replace(CASE, initial=True),
    "LSTM": replace(CASE, operator="LSTM", outputs=("Y", "Y_h", "Y_c")),
}
FORMS = {"scan": Form(), "step": Form("step"), "unrolled": Form("unrolled", steps=CASE.T)}


def made_of(message: onnx.ModelProto, inputs: dict[str, np.ndarray], form: Form) -> Pipeline:
    made = pipeline(message, inputs)
    if form.name == "step":
        Step(made.layers, 1)(made.model)
    return made


def fed(message: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One step and first codes where a graph takes them."""
    found = {}
    for value in message.graph.input:
        axes, kind = value.type.tensor_type.shape.dim, value.type.tensor_type.elem_type
        if value.name not in inputs:
            found[value.name] = np.full(
                (CASE.B, axes[1].dim_value), 7, helper.tensor_dtype_to_np_dtype(kind)
            )
        else:
            one = axes[0].dim_value == 1 and value.name == "X"
            found[value.name] = inputs[value.name][:1] if one else inputs[value.name]
    return found


def unoptimised(message: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        message.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def calls(message: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in message.graph.node if node.domain == DOMAIN]


def equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, "scan") for name in CASES),
        *((name, "step") for name in CASES if name != "both ways"),
        ("last value alone", "unrolled"),
    ],
)
def test_same_codes(name: str, form: str) -> None:
    case = CASES[name]
    inputs = grus.feeds(case)
    made = made_of(grus.model(case), inputs, FORMS[form])
    program = made.uniform(5, observer="minmax")
    flat = made.emit(program, FORMS[form])
    message = made.emit(program, FORMS[form], ALIKE, functions=True)
    onnx.checker.check_model(message, full_check=True)
    told = [a.s.decode() for n in calls(message) for a in n.attribute if a.name == RECURRENCE]
    (layer,) = program.layers
    assert told == [node.name for node in calls(message)] == [r.name for r in layer.recurrences]
    assert {node.op_type for node in message.graph.node}.isdisjoint({"Scan", "MatMulInteger"})
    feeds = fed(message, inputs)
    expected = grus.run(flat, feeds)
    equal(grus.run(message, feeds), expected)
    equal(unoptimised(message, feeds), expected)
    if form == "step":
        equal(ReferenceEvaluator(message).run(None, feeds), expected)
    equal(grus.run(inlined(message), feeds), expected)


def test_the_signature() -> None:
    """The sequence, the mask and the first values; then what is stored."""
    case = replace(CASES["LSTM"], direction="bidirectional", lengths=(5, 2, 0))
    made = pipeline(grus.model(case), grus.feeds(case))
    message = made.emit(made.uniform(4, observer="minmax"), vocabulary=ALIKE, functions=True)
    forward, backward = message.functions  # the backward one reverses its sequence
    for function in (forward, backward):
        assert function.input[:4] == ["x", "mask", "first_0", "first_1"]
        assert len(function.output) == 3
        assert {"forget.hidden/weight", "zero_point", "body/multiplier"} <= set(function.input)
        assert list(function.attribute) == [RECURRENCE]
    assert [forward.name, backward.name] == ["Recurrence", "Recurrence_2"]


@pytest.mark.parametrize("form", ["scan", "step"])
def test_layers_of_the_same_sizes_share_a_function(form: str) -> None:
    layers = [grus.Case(I=6, seed=seed, gain=0.3 + seed / 10) for seed in range(3)]
    inputs = grus.feeds(layers[0])
    made = made_of(grus.stacked(layers), inputs, FORMS[form])
    program = made.uniform(8, observer="minmax")
    flat = made.emit(program, FORMS[form])
    message = made.emit(program, FORMS[form], ALIKE, functions=True)
    assert len(calls(message)) == 3
    assert len(message.functions) == 1
    feeds = fed(message, inputs)
    equal(grus.run(message, feeds), grus.run(flat, feeds))


def test_layers_that_share_weights_share_them_with_functions_too() -> None:
    layers = [grus.Case(I=6), grus.Case(I=6)]
    made = pipeline(grus.stacked(layers), grus.feeds(layers[0]))
    message = made.emit(made.uniform(8, observer="minmax"), vocabulary=ALIKE, functions=True)
    first, second = calls(message)
    assert set(first.input) & set(second.input) >= {"/gru0/forward/reset.input/weight"}
    equal(
        grus.run(message, grus.feeds(layers[0])),
        grus.run(made.emit(made.uniform(8, observer="minmax")), grus.feeds(layers[0])),
    )


def test_names_are_back_where_bodies_are() -> None:
    """A delta network is counted by the names of what it holds."""
    made = pipeline(grus.model(CASE), grus.feeds(CASE))
    program = made.lower(thresholded(made.layers, random_scheme(made.layers, 0), lambda: 1))
    flat = made.emit(program)
    message = inlined(made.emit(program, functions=True))

    def held(model: onnx.ModelProto) -> list[str]:
        (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
        (body,) = (a.g for a in scan.attribute if a.name == "body")
        return [value.name for value in body.input]

    assert held(message) == held(flat)


def test_all_verbs_take_such_a_folder(tmp_path: Path) -> None:
    case = grus.Case(T=6, B=8)
    model, data, folder = tmp_path / "m.onnx", tmp_path / "data.npz", tmp_path / "out"
    onnx.save(grus.model(case), model)
    feeds = grus.feeds(case)
    np.savez(data, **feeds)
    onnxgru.quantize(
        model, bits=4, calibration=data, validation=data, output=folder,
        functions=True, delta="1", listener=lambda event: None,
    )  # fmt: skip
    integer = folder / "integer.onnx"
    assert len(onnx.load(integer).functions) == 1
    (verdict,) = onnxgru.verify(folder, runtimes=("reference",)).rows
    assert verdict.verdict == "same codes"
    row = onnxgru.evaluate([model, integer], data=data).rows[1]
    assert row.eliminated is not None and row.eliminated > 0
    assert onnxgru.inspect(integer).quantized
    expected = dict(zip(("Y", "Y_h"), grus.run(onnx.load(integer), feeds), strict=True))
    (y,) = onnxgru.load(folder).run(["Y"], feeds)
    np.testing.assert_array_equal(y, expected["Y"])
    assert onnxgru.write_c(folder).flash > 0


def test_what_all_layers_agree_on_is_known() -> None:
    """A vector is compared entry by entry; layers of other sizes are no matter."""
    layers = [grus.Case(I=6, seed=seed, gain=0.3 + seed / 10) for seed in range(2)]
    layers.append(grus.Case(I=6, H=5, seed=3))
    made = pipeline(grus.stacked(layers), grus.feeds(layers[0]))
    program = made.uniform(8, observer="minmax")
    found = agreement(program.layers)
    for name, same in found.items():
        if name.startswith("/gru2/"):
            assert same.all(), name
    bias = found["/gru0/forward/reset.input/bias"]
    assert bias.shape == (6,) and not bias.all()
    assert found["/gru0/forward/body/shift"].tolist() == found["/gru1/forward/body/shift"].tolist()
