"""Retune: the same weights compute the same, others what a model made with them does."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxgru.passes.graph import source
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.passes.recognize.retune import Retune
from tests import grus, scans

CASES = [
    grus.Case(direction=direction, bias=bias, linear_before_reset=reset, initial=bias != reset)
    for direction in ("forward", "reverse", "bidirectional")
    for bias in (True, False)
    for reset in (0, 1)
]
CASES += [grus.Case(bias=False, lengths=(5, 2, 1)), grus.Case(layout=1)]


def normal(message: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(message)
    Normalize()(model)
    return model


def weights(model: ir.Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    layers = require(recognize(model), "test")
    return {o.name: (o.weight, o.bias) for layer in layers for o in layer.linears}


def retuned(model: ir.Model, found: dict[str, tuple[np.ndarray, ...]]) -> onnx.ModelProto:
    Retune(require(recognize(model), "test"), found, {})(model)
    message = source.proto(model)
    onnx.checker.check_model(message, full_check=True)
    return message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_arrive_where_they_belong(case):
    inputs = grus.feeds(case)
    model, other = normal(grus.model(case)), replace(case, seed=9, bias=True)
    before = grus.run(source.proto(model), inputs)
    for found, expected in (
        (weights(model), before),
        (
            weights(normal(grus.model(other))),
            grus.run(source.proto(normal(grus.model(other))), inputs),
        ),
    ):  # the second time over the first
        after = grus.run(retuned(model, found), inputs)
        for wanted, value in zip(expected, after, strict=True):
            np.testing.assert_array_equal(value, wanted)
    assert not np.array_equal(before[0], after[0])
    names = [str(name) for name in model.graph.initializers]
    assert {"W", "R", "B"}.isdisjoint(names), names


def test_initializers_of_the_graph_around_are_replaced():
    message = grus.stacked([grus.Case(), grus.Case(I=6, H=3)], "floats")
    inputs = grus.feeds(grus.Case())
    model = normal(message)
    layers = require(recognize(model), "test")
    Retune(layers, weights(model), {"gain": np.asarray(0.5, np.float32)})(model)
    (gain,) = (t for t in message.graph.initializer if t.name == "gain")
    gain.CopyFrom(onnx.numpy_helper.from_array(np.asarray(0.5, np.float32), "gain"))
    for found, wanted in zip(
        grus.run(source.proto(model), inputs), grus.run(message, inputs), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_weights_in_the_body_of_a_scan_arrive() -> None:
    message = scans.model(scans.LSTM)
    inputs = scans.feeds(message)
    model = normal(message)
    doubled = {name: (2 * w, b - 1) for name, (w, b) in weights(model).items()}
    after = grus.run(retuned(model, doubled), inputs)
    assert not np.array_equal(after[0], grus.run(message, inputs)[0])
    for name, (weight, bias) in weights(model).items():
        np.testing.assert_array_equal(weight, doubled[name][0])
        np.testing.assert_array_equal(bias, doubled[name][1])


VECTORS = {
    "peepholes": (
        grus.model(PEEPHOLES := grus.Case(operator="LSTM", peepholes=True)),
        grus.feeds(PEEPHOLES),
    ),
    "sru": (sru := scans.model(scans.sru()), scans.feeds(sru)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_arrive_alone_and_weights_stay(name: str) -> None:
    message, inputs = VECTORS[name]
    model = normal(message)
    (layer,) = require(recognize(model), "test")
    vectors = {o.name: (-2 * o.numbers[0],) for o in layer.operators if o.kind == "scale"}
    assert len(vectors) == {"peepholes": 3, "sru": 2}[name]
    before, kept = grus.run(source.proto(model), inputs), weights(model)
    after = grus.run(retuned(model, vectors), inputs)
    assert not np.array_equal(after[0], before[0])
    (found,) = require(recognize(model), "test")
    for operator in found.operators:
        wanted = vectors.get(operator.name, kept.get(operator.name, ()))
        assert len(wanted) == len(operator.numbers)
        for array, other in zip(operator.numbers, wanted, strict=True):
            np.testing.assert_array_equal(array, other)
