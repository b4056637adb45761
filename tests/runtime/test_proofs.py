"""Accumulator proofs: their extremes are reached by some input, left by none, and refused if wide.

For every channel of every linear operator an input is built from the signs of its weights.
"""

import numpy as np
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import Quantization
from onnxgru.core.network import LinearOperator
from onnxgru.core.program import Boundary, IntegerProgram, Proof, ZeroPoints
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.runtime import oracle
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.observation import Observation, calibrate
from tests import grus
from tests.pipeline import dataset
from tests.runtime.exact import made

CASES = {reset: grus.Case(linear_before_reset=reset, I=9, H=8) for reset in (0, 1)}


def linears(program: IntegerProgram) -> list[Linear]:
    return [operator for operator in program.operators if isinstance(operator, Linear)]


def worst(operator: Linear, sign: int) -> np.ndarray:
    """Codes (channels, inputs) that drive every channel to one of its extremes."""
    weights = np.concatenate([part.weight for part in operator.parts]).astype(int)
    top = operator.operands[0].quantization.type.maximum
    return np.where(sign * weights > 0, top, 0).astype(np.uint8)


def accumulators(operator: Linear, codes: np.ndarray) -> np.ndarray:
    weights = np.concatenate([part.weight for part in operator.parts]).astype(np.int64)
    bias = np.concatenate([part.bias for part in operator.parts]).astype(np.int64)
    return (
        codes.astype(np.int64) - operator.operands[0].quantization.zero_point
    ) @ weights.T + bias


@pytest.mark.parametrize("name", [*map(str, WIDTHS), "mixed"])
@pytest.mark.parametrize("reset", [0, 1])
def test_extremes_are_reached(reset: int, name: str) -> None:
    model, _ = made(CASES[reset])
    program = model.mixed(5) if name == "mixed" else model.uniform(int(name))
    for operator in linears(program):
        low, high = (accumulators(operator, worst(operator, s)).diagonal() for s in (-1, 1))
        extremes = np.concatenate([part.extremes for part in operator.parts], axis=1)
        assert np.array_equal(extremes, np.stack([low, high]))
        start = 0
        for part, proof in zip(operator.parts, operator.proofs(), strict=True):
            stop = start + len(part.weight)
            assert proof.name == part.output.name
            assert (proof.minimum, proof.maximum) == (low[start:stop].min(), high[start:stop].max())
            start = stop


@pytest.mark.parametrize("reset", [0, 1])
def test_no_code_leaves_the_extremes(reset: int) -> None:
    model, _ = made(CASES[reset])
    rng = np.random.default_rng(0)
    for seed in range(6):
        for operator in linears(model.mixed(seed)):
            top = operator.operands[0].quantization.type.maximum
            width = operator.parts[0].weight.shape[1]
            codes = [
                rng.integers(0, top + 1, (200, width)),
                worst(operator, 1),
                worst(operator, -1),
            ]
            found = accumulators(operator, np.concatenate([*codes, np.eye(width, dtype=int) * top]))
            extremes = np.concatenate([part.extremes for part in operator.parts], axis=1)
            assert (found >= extremes[0]).all() and (found <= extremes[1]).all()


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("reset", [0, 1])
def test_oracle_and_evaluator_on_extreme_codes(reset: int, bits: int) -> None:
    """All codes 0 or largest, and the worst case of every channel: the oracle's checks hold."""
    model, _ = made(CASES[reset])
    program = model.uniform(
        bits,
    )
    (layer,) = program.layers
    tops = layer.input.quantization.type.maximum, layer.emitted.type.maximum
    first = next(o for o in linears(program) if o.inputs[0].endswith("/input"))
    rows = np.concatenate([worst(first, 1), worst(first, -1)])
    ends = np.asarray([[0] * rows.shape[1], [tops[0]] * rows.shape[1]], np.uint8)
    x = np.broadcast_to(np.concatenate([rows, ends]), (3, len(rows) + 2, rows.shape[1]))
    for code in (0, tops[1]):
        initial = {"state": np.full((1, x.shape[1], layer.hidden_size), code, np.uint8)}
        y, last, trace = oracle.run(layer, x, initial)
        found = LayerEvaluator(layer)(x, initial, trace=True)
        assert np.array_equal(found.y, y) and np.array_equal(found.last["state"], last["state"])
        for name, codes in trace.items():
            assert np.array_equal(found.trace[name], codes)


@pytest.mark.parametrize(("low", "high", "bits"), [
    (0, 1, 2), (-1, 0, 1), (-2, 1, 2), (-128, 127, 8), (-129, 0, 9), (0, 128, 9),
    (-(2**31), 2**31 - 1, 32),
])  # fmt: skip
def test_bits_of_a_register(low: int, high: int, bits: int) -> None:
    assert Proof("x", low, high).bits == bits


def part(weight: np.ndarray, bias: float, zero_point: int = 0) -> Linear:
    """One channel, all scales 1."""
    operand = Boundary("x", Quantization(1.0, zero_point, 8))
    result = Boundary("/gru/forward/new.input", Quantization(2.0**24, 0, 8))
    spec = LinearOperator(
        result.name, "new.input", ("x",), 1, weight, np.asarray([bias], "f4"), "W"
    )
    made_ = Part.derive(
        spec, Rounded(weight, np.ones(1, "f4"), spec.bias), 8, operand.quantization, result
    )
    return Linear((operand,), ("x",), (made_,), ZeroPoints("z", {"x": zero_point, result.name: 0}))


INPUTS = (2**31 - 1) // (127 * 255)


def test_an_accumulator_that_could_overflow_is_refused() -> None:
    part(np.full((1, INPUTS - 2), 127, np.int8), 0.0)  # just fits
    with pytest.raises(OverflowProofError) as error:
        part(np.full((1, INPUTS + 1), 127, np.int8), 0.0)
    assert str(error.value) == (
        "/gru/forward/new.input: its accumulator must fit 32 bits, but some input of "
        f"{INPUTS + 1} features makes it {(INPUTS + 1) * 127 * 255}; use fewer bits for its "
        "weights or its input"
    )
    with pytest.raises(OverflowProofError, match="must fit 32 bits"):
        part(np.full((1, INPUTS + 1), -127, np.int8), 0.0)


def test_a_product_that_only_its_bias_brings_back_is_refused() -> None:
    """The product is added to its bias afterwards: it has to fit by itself."""
    with pytest.raises(OverflowProofError, match="must fit 32 bits"):
        part(np.full((1, INPUTS + 1000), 127, np.int8), -(2.0**29))


def test_a_bias_that_makes_it_overflow_is_refused() -> None:
    part(np.full((1, INPUTS - 20000), 127, np.int8), 0.0)
    with pytest.raises(OverflowProofError, match="must fit 32 bits"):
        part(np.full((1, INPUTS - 20000), 127, np.int8), 2.0**30)


def test_accumulator_bits() -> None:
    """A narrower register: the widest proof fits exactly, one bit less is refused by name."""
    case = CASES[1]
    model, inputs = made(case)
    data = dataset(model.host, inputs)
    calibration = calibrate(Observation(model.model, model.layers), model.layers, [data], "0" * 64)
    scheme = Scheme.uniform(model.layers, 8)
    proofs = list(model.uniform(8).proofs())
    widest = max(proof.bits for proof in proofs)

    def lower(bits: int) -> IntegerProgram:
        return Lowering(model.model.graph, model.layers, calibration, bits)(scheme)

    assert lower(widest).proofs()
    with pytest.raises(OverflowProofError) as error:
        lower(widest - 1)
    first = next(proof for proof in proofs if proof.bits == widest)
    assert str(error.value) == (
        f"{first.name}: its accumulator must fit {widest - 1} bits, but some input needs {widest}; "
        "use fewer bits for its weights or its input"
    )


def test_oracle_refuses_what_a_wrong_proof_lets_through() -> None:
    """The oracle's checks are alive: an accumulator beyond int32 is noticed."""
    good = part(np.full((1, INPUTS - 2), 127, np.int8), 0.0)
    more = np.full((1, INPUTS + 10), 127, np.int8)
    object.__setattr__(good.parts[0], "weight", more)
    with pytest.raises(OverflowProofError, match="left int32"):
        oracle._step((good,), {"x": np.full((1, more.shape[1]), 255, np.uint8)})
