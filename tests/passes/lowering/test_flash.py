"""Flash bytes are honest: every item is an initializer of the packed graph with those bytes.

Items with one number per operator may be missing: the graph holds what is computed from them.
`tests/firmware` finds them all in the C code. Nothing else is in the graph but overhead named
``onnxgru/...`` and the model's own initializers.
"""

import onnx
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.program import IntegerProgram
from onnxgru.custom_ops.kinds.linear import Linear
from tests import grus
from tests.pipeline import Pipeline, pipeline, random_scheme, singles, thresholded

STACK = [grus.Case(direction="bidirectional"), grus.Case(I=12, H=5, seed=2)]
GIVEN = [grus.Case(), grus.Case(I=6, H=5, seed=2)]
MODELS = {
    "reset after": grus.model(grus.Case()),
    "reset before, both ways": grus.model(
        grus.Case(linear_before_reset=0, direction="bidirectional", lengths=(5, 2, 0))
    ),
    "initial state": grus.model(grus.Case(initial=True, outputs=("Y_h",))),
    "one feature": grus.model(grus.Case(T=2, I=1, H=1, bias=False)),
    "passing codes": grus.stacked(STACK),
    "floats between": grus.stacked(STACK, "floats"),
    "initial state, passing codes": grus.stacked([grus.Case(initial=True), GIVEN[1]]),
}
INPUTS = {
    "reset before, both ways": grus.feeds(grus.Case(lengths=(5, 2, 0))),
    "initial state": grus.feeds(grus.Case(initial=True)),
    "initial state, passing codes": grus.feeds(grus.Case(initial=True)),
    "one feature": grus.feeds(grus.Case(T=2, I=1, H=1)),
}
SCHEMES = [*map(str, WIDTHS), *(f"mixed {seed}" for seed in range(4)), "delta 0"]


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Pipeline:
    inputs = INPUTS.get(request.param, grus.feeds(grus.Case()))
    return pipeline(MODELS[request.param], inputs)


def lower(model: Pipeline, scheme: str) -> IntegerProgram:
    kind, _, seed = scheme.partition(" ")
    if kind == "delta":
        return model.lower(thresholded(model.layers, random_scheme(model.layers, 0), int))
    return model.mixed(int(seed)) if seed else model.uniform(int(kind))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_item_is_stored_in_its_bytes(model: Pipeline, scheme: str) -> None:
    program = lower(model, scheme)
    items = program.flash()
    names = [item.name for item in items]
    assert len(set(names)) == len(names)
    message = model.emit(program)
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor).nbytes
        for tensor in message.graph.initializer
    }
    stored = {item.name: item.size for item in items if item.name in singles(program)} | stored
    assert {item.name: stored.get(item.name) for item in items} == {
        item.name: item.size for item in items
    }
    own = {tensor.name for tensor in model.host._proto.graph.initializer}
    others = {n for n in stored if n not in names and not n.startswith("onnxgru/")}
    assert others <= own


def held(low: int, high: int) -> int:
    """Bytes of the narrowest signed number that holds all of a range."""
    return next(n for n in (1, 2, 4) if -(2 ** (8 * n - 1)) <= low <= high < 2 ** (8 * n - 1))


@pytest.mark.parametrize("bits", WIDTHS)
def test_sizes_by_role(bits: int) -> None:
    """A GRU of I = 4, H = 6 by hand."""
    case = grus.Case()
    program = pipeline(grus.model(case), grus.feeds(case)).uniform(bits)
    items = program.flash()
    total: dict[str, int] = {}
    for item in items:
        total[item.role] = total.get(item.role, 0) + item.size
    sizes = [case.I * case.H] * 3 + [case.H * case.H] * 3
    assert total["weight"] == sum((n * bits + 7) // 8 for n in sizes)
    assert sum(item.weight_bits for item in items) == bits * sum(sizes)
    parts = [part for o in program.operators if isinstance(o, Linear) for part in o.parts]
    biases = [part.bias for part in parts]
    assert [b.size for b in biases] == [case.H] * 6
    biases = [part.bias >> part.exponent for part in parts]
    assert total["bias"] == sum(case.H * held(bias.min(), bias.max()) for bias in biases)
    small = [part.output.requantization.small for part in parts]
    assert bits > 3 or all(small)
    assert bits < 7 or not any(small)
    assert total["multiplier"] == case.H * (12 - sum(small)) + 2 * (4 * 2 + 3)
    exponents = sum(len(operator.exponents) for operator in program.operators)
    assert total["shift"] == 6 + 4 + 3 + exponents
    assert total["table"] == 4 * 2**bits
    assert total["scale"] == 8
