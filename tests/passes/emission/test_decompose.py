"""The decomposed float graph equals onnxruntime's GRU, and the official cases of all operators."""

from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import source
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from tests import grus

TOLERANCE = 1e-5


def decompose(message: onnx.ModelProto, form: Form | None = None) -> onnx.ModelProto:
    model = ir.from_proto(message)
    Normalize()(model)
    layers = require(recognize(model), "test")
    Decompose(layers, form)(model)
    assert not any(node.op_type in grus.GATES for node in model.graph)
    result = source.proto(model)
    onnx.checker.check_model(result, full_check=True)
    return result


def distance(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """Largest difference, relative to the largest output."""
    largest = max(float(np.abs(e).max()) for e in expected)
    worst = max(float(np.abs(e - f).max()) for e, f in zip(expected, found, strict=True))
    return worst / max(largest, 1e-30)


GRID = [
    grus.Case(
        linear_before_reset=reset,
        direction=direction,
        initial=initial,
        lengths=lengths,
        clip=clip,
        bias=bias,
        layout=layout,
    )
    for reset, direction, initial, lengths, clip, bias, layout in product(
        (0, 1),
        ("forward", "reverse", "bidirectional"),
        (False, True),
        (None, (5, 2, 0)),
        (None, 0.7),
        (False, True),
        (0, 1),
    )
]


@pytest.mark.parametrize("case", GRID, ids=str)
def test_grid(case: grus.Case) -> None:
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


PLAIN = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", "HardSigmoid", "LeakyRelu", "Elu")
PLAIN += ("ThresholdedRelu", "ScaledTanh", "Affine")
PARAMETERS = {
    "HardSigmoid": ((0.3,), (0.4,)),
    "LeakyRelu": ((0.05,), ()),
    "Elu": ((0.7,), ()),
    "ThresholdedRelu": ((0.2,), ()),
    "ScaledTanh": ((0.9,), (0.8,)),
    "Affine": ((0.6,), (0.1,)),
}


@pytest.mark.parametrize(("f", "g"), list(product(PLAIN, PLAIN)))
@pytest.mark.parametrize("reset", [0, 1])
def test_activations(f: str, g: str, reset: int) -> None:
    parameters = [PARAMETERS.get(name, ((), ())) for name in (f, g)]
    case = grus.Case(
        linear_before_reset=reset,
        activations=(f, g),
        alphas=sum((p[0] for p in parameters), ()),
        betas=sum((p[1] for p in parameters), ()),
        direction="bidirectional",
        gain=0.2,
    )
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert np.isfinite(found[0]).all()
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_default_parameters(name: str) -> None:
    case = grus.Case(activations=("Sigmoid", name), gain=0.2)
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


SHAPES = [(1, 1, 1, 1), (1, 3, 2, 4), (4, 1, 3, 5), (6, 2, 1, 3), (3, 2, 4, 1), (28, 4, 28, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reset", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_shapes(shape: tuple[int, ...], reset: int, direction: str) -> None:
    T, B, I, H = shape  # noqa: E741, N806 - the letters of the specification
    case = grus.Case(T, B, I, H, direction=direction, linear_before_reset=reset, gain=0.3)
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case)), inputs)
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


@pytest.mark.parametrize("outputs", [("Y",), ("Y_h",), ("Y", "Y_h")])
def test_outputs(outputs: tuple[str, ...]) -> None:
    case = grus.Case(outputs=outputs, direction="bidirectional")
    inputs = grus.feeds(case)
    message = decompose(grus.model(case))
    assert [o.name for o in message.graph.output] == list(outputs)
    assert distance(grus.reference(case, inputs), grus.run(message, inputs)) < TOLERANCE


def test_disturbance_is_seen() -> None:
    case = grus.Case()
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(replace(case, gain=0.5005))), inputs)
    assert distance(grus.reference(case, inputs), found) > TOLERANCE


@pytest.mark.parametrize("reset", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_unrolled_equals_scan(reset: int, direction: str) -> None:
    case = grus.Case(
        linear_before_reset=reset, direction=direction, initial=True, lengths=(5, 2, 0),
        dynamic=False,
    )  # fmt: skip
    inputs = grus.feeds(case)
    found = grus.run(decompose(grus.model(case), Form("unrolled")), inputs)
    assert distance(grus.reference(case, inputs), found) < TOLERANCE


def official(module: str, *prefixes: str) -> dict[str, tuple[onnx.ModelProto, list, list]]:
    """Cases of the onnx package, whose weights are graph inputs: made initializers."""
    import importlib

    from onnx.backend.test.case import node

    importlib.import_module(f"onnx.backend.test.case.node.{module}")  # its classes register cases
    cases = {}
    for case in node._NodeTestCases:
        if not case.name.startswith(prefixes):
            continue
        message = onnx.ModelProto()
        message.CopyFrom(case.model)
        (arrays, expected), *_ = case.data_sets
        names = [value.name for value in message.graph.input]
        for name, array in list(zip(names, arrays, strict=True))[1:]:
            if name in ("W", "R", "B", "P"):
                message.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        kept = [value for value in message.graph.input if value.name not in ("W", "R", "B", "P")]
        feeds = [a for n, a in zip(names, arrays, strict=True) if n not in ("W", "R", "B", "P")]
        del message.graph.input[:]
        message.graph.input.extend(kept)
        cases[case.name] = (message, feeds, expected)
    return cases


OFFICIAL = {
    "gru": official("gru", "test_gru"),
    "lstm": official("lstm", "test_lstm"),
    "rnn": official("rnn", "test_simple_rnn", "test_rnn"),
}


def test_official_cases_are_there() -> None:
    assert all(len(cases) >= 6 for cases in OFFICIAL.values())


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, found in OFFICIAL.items() for n in found])
def test_official(kind: str, name: str) -> None:
    message, arrays, expected = OFFICIAL[kind][name]
    inputs = dict(zip([i.name for i in message.graph.input], arrays, strict=True))
    assert distance(expected, grus.run(decompose(message), inputs)) < TOLERANCE
