"""Each kind of operator: array back end, oracle and graph agree, and lie within the stated bounds.

Add and mul are tried on every pair of codes, lookup on every code, linear on random codes and on
all-zero, all-largest and worst-case ones.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from onnxgru.core.activations import ACTIVATIONS, Activation
from onnxgru.core.choices import WIDTHS
from onnxgru.core.fixedpoint import signed_multiplier
from onnxgru.core.integers import Quantization, WeightType
from onnxgru.core.network import (
    DeltaOperator,
    ElementwiseOperator,
    LinearOperator,
    LookupOperator,
    ScaleOperator,
)
from onnxgru.core.primitives import Prepared, Storing
from onnxgru.core.program import Boundary, IntegerOperator, Stage, ZeroPoints
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kernels import stage
from onnxgru.custom_ops.kinds.add import Add
from onnxgru.custom_ops.kinds.delta import Delta
from onnxgru.custom_ops.kinds.linear import TOLERANCE, Linear, Part
from onnxgru.custom_ops.kinds.lookup import Lookup
from onnxgru.custom_ops.kinds.mul import Mul
from onnxgru.custom_ops.kinds.scale import Scale
from onnxgru.runtime import oracle
from tests.custom_ops.backends import RUNTIMES, arrays, require_same

SOME_RUNTIMES = [RUNTIMES[0], *RUNTIMES[3:]]
SLACK = 1e-9


def boundary(name: str, rng: np.random.Generator, bits: int, size: float = 1.0) -> Boundary:
    scale = float(np.float32(size * 2.0 ** rng.uniform(-2, 2) / 2**bits))
    return Boundary(name, Quantization(scale, int(rng.integers(0, 2**bits)), bits))


def zero_points(*boundaries: Boundary) -> ZeroPoints:
    return ZeroPoints("/t/zero_point", {b.name: b.quantization for b in boundaries})


def description(operator: IntegerOperator, stored: ZeroPoints) -> Any:
    """Build function of one operator in a stage of its own."""

    def build(p: Storing[Any], *codes: Any) -> Sequence[Any]:
        if not operator.results:
            return operator.compute(p, operator.prepare(p, Prepared((), ())), *codes)
        prepared = stage.prepare(p, Stage("/t/body", (operator,), stored))
        return operator.compute(p, prepared[operator.outputs], *codes)

    return build


def by_oracle(operator: IntegerOperator, *codes: np.ndarray) -> list[np.ndarray]:
    values = dict(zip(operator.inputs, codes, strict=True))
    oracle._step((operator,), values)
    return [values[name] for name in operator.outputs]


def every_pair(left: Boundary, right: Boundary) -> list[np.ndarray]:
    ranges = [np.arange(b.quantization.type.levels, dtype=np.uint8) for b in (left, right)]
    return [np.ascontiguousarray(a) for a in np.meshgrid(*ranges, indexing="ij")]


def steps(codes: np.ndarray, b: Boundary) -> np.ndarray:
    return codes.astype(np.int64) - b.quantization.zero_point


def binary(kind: type[Add] | type[Mul], seed: int, widths: tuple[int, int, int]) -> Any:
    rng = np.random.default_rng(seed)
    left, right = (boundary(n, rng, b) for n, b in zip("ab", widths, strict=False))
    size = 2.0 if kind is Add else 0.5
    result = boundary("y", rng, widths[2], size)
    if seed % 2:  # like a gate
        left = Boundary("a", Quantization(left.quantization.scale, 0, widths[0]))
    spec = ElementwiseOperator("y", "y", ("a", "b"), 1, kind.kind)
    operator = kind.derive(spec, ("a", "b"), (left, right), result)
    return operator, left, right, result, zero_points(left, right, result)


def saturated(exact: np.ndarray, result: Boundary) -> np.ndarray:
    q = result.quantization
    return np.clip(exact + q.zero_point, 0, q.type.maximum)


PAIRS = [(8, 8, 8), (2, 2, 2), (2, 8, 3), (8, 3, 8), (4, 4, 8), (5, 7, 6)]


@pytest.mark.parametrize("widths", PAIRS)
@pytest.mark.parametrize("seed", range(6))
def test_add(seed: int, widths: tuple[int, int, int]) -> None:
    operator, left, right, result, stored = binary(Add, seed, widths)
    codes = every_pair(left, right)
    (found,) = arrays(description(operator, stored), dict(zip("ab", codes, strict=True)))
    assert np.array_equal(found, by_oracle(operator, *codes)[0])
    parameters, top = operator.output.requantization, result.quantization.type.maximum
    exact, bound, total = 0.0, 0.5, 0
    for c, b, m in zip(codes, (left, right), parameters.multipliers, strict=True):
        ratio = b.quantization.scale / result.quantization.scale
        exact = exact + steps(c, b) * ratio
        bound = bound + np.abs(steps(c, b)) * abs(ratio - int(m) * 2.0**-parameters.shift)
        total = total + steps(c, b) * int(m)
    rounded = (total + (1 << parameters.shift) // 2) // (1 << parameters.shift)
    wanted = np.clip(rounded + result.quantization.zero_point, 0, top)
    assert np.array_equal(found, wanted)
    assert (np.abs(found - saturated(exact, result)) <= bound + SLACK).all()
    assert bound.max() < 1.0


@pytest.mark.parametrize("widths", PAIRS)
@pytest.mark.parametrize("seed", range(6))
def test_mul(seed: int, widths: tuple[int, int, int]) -> None:
    operator, left, right, result, stored = binary(Mul, seed, widths)
    codes = every_pair(left, right)
    (found,) = arrays(description(operator, stored), dict(zip("ab", codes, strict=True)))
    assert np.array_equal(found, by_oracle(operator, *codes)[0])
    a, b, y = (x.quantization for x in (left, right, result))
    ratio = Fraction(a.scale) * Fraction(b.scale) / Fraction(y.scale)
    product = steps(codes[0], left) * steps(codes[1], right)
    (bound,) = operator.output.requantization.error_bound(
        np.asarray([float(ratio)]), np.asarray([operator.output.extreme]), y.bits
    )
    assert bound < 0.65
    assert (np.abs(found - saturated(product * float(ratio), result)) <= bound + SLACK).all()
    proof = next(operator.proofs())
    assert (proof.minimum, proof.maximum) == (product.min(), product.max())


def scaled(seed: int, widths: tuple[int, int]) -> tuple[Scale, ZeroPoints, np.ndarray]:
    """A product with a vector of both signs and a zero, and all codes of all its channels."""
    rng = np.random.default_rng(seed)
    operand, result = boundary("a", rng, widths[0]), boundary("y", rng, widths[1], 0.7)
    vector = rng.standard_normal(5).astype(np.float32) * np.float32(10.0 ** rng.uniform(-3, 3))
    vector[seed % 5] = 0.0
    operator = Scale.derive(ScaleOperator("y", "y", ("a",), 5, vector), ("a",), (operand,), result)
    codes = np.arange(operand.quantization.type.levels, dtype=np.uint8)
    return operator, zero_points(operand, result), np.repeat(codes[:, None], 5, axis=1)


@pytest.mark.parametrize("widths", [(8, 8), (2, 8), (8, 2), (5, 6)])
@pytest.mark.parametrize("seed", range(6))
def test_scale(seed: int, widths: tuple[int, int]) -> None:
    operator, stored, codes = scaled(seed, widths)
    (found,) = arrays(description(operator, stored), {"a": codes})
    assert np.array_equal(found, by_oracle(operator, codes)[0])
    (operand,), result = operator.operands, operator.output.boundary
    parameters = operator.output.requantization
    proof = next(operator.proofs())
    product = steps(codes, operand) * parameters.multipliers
    assert (proof.minimum, proof.maximum) == (product.min(), product.max())
    assert abs(proof.minimum) < 2**23 and proof.maximum < 2**23
    rounded = (product + (1 << parameters.shift) // 2) >> parameters.shift
    q = result.quantization
    assert np.array_equal(found, np.clip(rounded + q.zero_point, 0, q.type.maximum))


@pytest.mark.parametrize("seed", range(20))
def test_signed_multipliers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ratios = rng.standard_normal(7) * 10.0 ** rng.uniform(-6, 4)
    multipliers, shift = signed_multiplier(ratios)
    assert np.abs(multipliers).max() <= 2**15 - 1 and 0 <= shift <= 30
    if shift:  # else too large for 15 bits: everything saturates
        assert (np.abs(ratios - multipliers * 2.0**-shift) <= 2.0 ** -(shift + 1) + SLACK).all()
    assert not signed_multiplier(np.zeros(3))[0].any()


@pytest.mark.parametrize("runtime", SOME_RUNTIMES)
@pytest.mark.parametrize("seed", range(3))
def test_graph_of_scale(seed: int, runtime: str) -> None:
    operator, stored, codes = scaled(seed, (8, 8))
    require_same(runtime, description(operator, stored), {"a": codes}, pack=True)


@pytest.mark.parametrize("runtime", SOME_RUNTIMES)
@pytest.mark.parametrize("kind", [Add, Mul])
@pytest.mark.parametrize("seed", range(4))
def test_graph_of_every_pair(kind: Any, seed: int, runtime: str) -> None:
    operator, left, right, _, stored = binary(kind, seed, PAIRS[seed % 2])
    inputs = dict(zip("ab", every_pair(left, right), strict=True))
    require_same(runtime, description(operator, stored), inputs, pack=True)


@pytest.mark.parametrize("scales", [(1e-6, 0.01, 1.0), (1.0, 1e-5, 0.001), (100.0, 3.0, 1e-3)])
@pytest.mark.parametrize("kind", [Add, Mul])
def test_scales_far_apart(kind: Any, scales: tuple[float, float, float]) -> None:
    """Shifts of 30 and ratios that saturate at once: still in int32, and still the oracle's."""
    named = zip("aby", scales, (0, 128, 7), strict=True)
    left, right, result = (
        Boundary(name, Quantization(float(np.float32(s)), z, 8)) for name, s, z in named
    )
    operator = kind.derive(
        ElementwiseOperator("y", "y", ("a", "b"), 1, kind.kind), ("a", "b"), (left, right), result
    )
    codes = every_pair(left, right)
    inputs = dict(zip("ab", codes, strict=True))
    build = description(operator, zero_points(left, right, result))
    for runtime in (SOME_RUNTIMES[0], "onnx.reference"):
        (found,) = require_same(runtime, build, inputs)
    assert np.array_equal(found, by_oracle(operator, *codes)[0])


@pytest.mark.parametrize("runtime", [None, *SOME_RUNTIMES])
@pytest.mark.parametrize(("bits", "threshold"), [(8, 0), (8, 3), (8, 255), (3, 1), (2, 2)])
def test_delta(bits: int, threshold: int, runtime: str | None) -> None:
    x = boundary("x", np.random.default_rng(bits), bits)
    spec = DeltaOperator("x.delta", "x.delta", ("x", "x.held"), 1, threshold, 1.0)
    operator = Delta.derive(spec, ("x", "x.held"), (x, x), x)
    codes = every_pair(x, x)
    inputs = dict(zip(("x", "x.held"), codes, strict=True))
    if runtime is not None:
        require_same(runtime, description(operator, zero_points(x)), inputs, pack=True)
        return
    (found,) = arrays(description(operator, zero_points(x)), inputs)
    assert np.array_equal(found, by_oracle(operator, *codes)[0])
    apart = np.abs(codes[0].astype(int) - codes[1])
    assert np.array_equal(found, np.where(apart > threshold, *codes))


def test_delta_keeps_the_quantisation() -> None:
    x, y = (boundary("x", np.random.default_rng(seed), 8) for seed in (0, 1))
    spec = DeltaOperator("x.delta", "x.delta", ("x", "x.held"), 1, 0, 1.0)
    with pytest.raises(ValueError, match=r"x\.delta must keep the quantisation of its operand"):
        Delta.derive(spec, ("x", "x.held"), (x, x), y)


FUNCTIONS = [Activation(n, 0.3, 0.4, c) for n in ACTIVATIONS for c in (None, 0.7)]


@pytest.mark.parametrize("function", [*FUNCTIONS, Activation("Complement")], ids=str)
def test_lookup(function: Activation) -> None:
    rng = np.random.default_rng(5)
    for bits, wide in [(2, 8), (8, 2), (8, 8), (5, 4)]:
        operand, result = boundary("x", rng, bits, 4.0), boundary("y", rng, wide, 2.0)
        spec = LookupOperator("y", "y", ("x",), 1, function)
        operator = Lookup.derive(spec, ("x",), (operand,), result)
        codes = np.arange(2**bits, dtype=np.uint8).reshape(1, -1)
        (found,) = arrays(description(operator, zero_points(operand)), {"x": codes})
        assert np.array_equal(found, by_oracle(operator, codes)[0])
        exact = function(steps(codes, operand) * operand.quantization.scale)
        wanted = saturated(exact / result.quantization.scale, result)
        assert (np.abs(found - wanted) <= 0.5 + SLACK).all()


def group(seed: int, inputs: int, bits: int, outputs: Sequence[int]) -> tuple[Linear, ZeroPoints]:
    """Linear operators over one operand, each with a width of its own."""
    rng = np.random.default_rng(seed)
    operand = boundary("x", rng, bits)
    results = [boundary(f"y{i}", rng, b, inputs**0.5) for i, b in enumerate(outputs)]
    stored = zero_points(operand, *results)
    parts = []
    for index, result in enumerate(results):
        width = int(rng.choice(WIDTHS)) if index else 8
        type_ = WeightType(width)
        top = type_.maximum
        weight = type_.nearest(rng.integers(-top, top + 1, (5, inputs)).astype(float))
        weight = weight.astype(np.int8)
        weight[0], weight[1] = top, -top
        scale = (2.0 ** rng.uniform(-2, 2, 5) / top).astype(np.float32)
        bias = rng.standard_normal(5).astype(np.float32)
        spec = LinearOperator(f"y{index}", "y", ("x",), 5, weight * scale[:, None], bias, "W")
        parts.append(
            Part.derive(
                spec, Rounded(weight, scale, spec.bias), width, operand.quantization, result
            )
        )
    return Linear((operand,), ("x",), tuple(parts), stored), stored


def tried(operator: Linear, inputs: int) -> np.ndarray:
    """Random codes, all 0, all largest, and the worst case of every channel both ways."""
    top = operator.operands[0].quantization.type.maximum
    rng = np.random.default_rng(9)
    weights = np.concatenate([part.weight for part in operator.parts])
    worst = [np.where(weights * sign > 0, top, 0) for sign in (1, -1)]
    ends = np.asarray([[0] * inputs, [top] * inputs])
    rows = np.concatenate([rng.integers(0, top + 1, (20, inputs)), ends, *worst])
    return rows.astype(np.uint8)


LINEAR = [(0, 1, 8, (8,)), (1, 7, 8, (8, 8, 8)), (2, 33, 3, (4, 2, 8)), (3, 128, 8, (8, 5))]
LINEAR += [(4, 700, 8, (8, 4)), (5, 2500, 8, (8, 8)), (6, 2500, 2, (3,)), (7, 1, 8, (2, 4, 8))]


@pytest.mark.parametrize(("seed", "inputs", "bits", "outputs"), LINEAR)
def test_linear(seed: int, inputs: int, bits: int, outputs: tuple[int, ...]) -> None:
    operator, stored = group(seed, inputs, bits, outputs)
    codes = tried(operator, inputs)
    found = arrays(description(operator, stored), {"x": codes})
    for part, result, expected in zip(
        operator.parts, found, by_oracle(operator, codes), strict=True
    ):
        assert np.array_equal(result, expected)
        assert part.after == (inputs == 1)
        accumulator = steps(codes, operator.operands[0]) @ part.weight.astype(np.int64).T
        accumulator += 0 if part.after else part.bias
        assert np.array_equal(accumulator.min(0), part.extremes[0])
        assert np.array_equal(accumulator.max(0), part.extremes[1])
        y = part.output.boundary.quantization
        ratios = part.weight_scale.astype(np.float64) * operator.operands[0].quantization.scale
        ratios /= y.scale
        multipliers = part.output.requantization
        added = part.bias * 2.0**-multipliers.shift if part.after else np.zeros(5)
        bound = multipliers.error_bound(ratios, np.abs(part.extremes).max(0), y.bits, np.abs(added))
        exact = ratios * 2.0 ** (multipliers.shift + multipliers.pre_shift)
        near = np.abs(multipliers.multipliers / exact - 1) <= part.type.rounding / TOLERANCE
        assert (near & multipliers.small | (bound < 1.0)).all()
        wanted = saturated(accumulator * ratios + added, part.output.boundary)
        assert (np.abs(result - wanted) <= bound + SLACK).all()


@pytest.mark.parametrize(
    ("weights", "bits", "stored"),
    [(2, 2, "int8"), (2, 8, "int16"), (8, 2, "int8"), (5, 8, "int32"), (8, 8, "int32")],
)
def test_biases_of_narrow_widths_have_few_bytes(weights: int, bits: int, stored: str) -> None:
    """Within a 16th of a code, in the least unit that allows so few bytes."""
    rng = np.random.default_rng(bits)
    operand = Quantization(2.0**-13, 100, 8)
    result = Boundary("y", Quantization(4 / 2**bits, 1, bits))
    scale = np.linspace(0.5, 1.0, 6, dtype=np.float32)
    codes = WeightType(weights).nearest(rng.standard_normal((6, 3))).astype(np.int8)
    bias = np.linspace(-4, 4, 6, dtype=np.float32)
    spec = LinearOperator("y", "y", ("x",), 6, codes * scale[:, None], bias, "W")
    part = Part.derive(spec, Rounded(codes, scale, bias), weights, operand, result)
    unit = operand.scale * scale.astype(np.float64)
    lost = np.abs(part.bias * unit - bias) / result.quantization.scale
    assert part.stored_bias.dtype == stored
    assert np.array_equal(part.stored_bias.astype(np.int64) << part.exponent, part.bias)
    group = Linear((Boundary("x", operand),), ("x",), (part,), zero_points(result))
    if min(weights, bits) > 4:
        assert part.exponent == 0 and group.exponents == ()
        return
    assert group.exponents == (part.exponent,) and part.exponent > 0
    assert lost.max() <= 1 / 16
    finer = np.rint(bias / unit / 2 ** (part.exponent - 1))
    assert np.abs(finer).max() > np.iinfo(stored).max


@pytest.mark.parametrize(
    ("weights", "bits", "stored"),
    [(2, 2, "int8"), (2, 8, "int16"), (8, 2, "int8"), (5, 8, "int16"), (8, 8, "int16")],
)
def test_biases_of_one_input_need_few_bytes(weights: int, bits: int, stored: str) -> None:
    """Although scales differ by a factor of thousands."""
    operand = Quantization(2.0**-8, 0, 8)
    result = Boundary("y", Quantization(4 / 2**bits, 1, bits))
    scale = np.geomspace(0.001, 1.0, 6, dtype=np.float32)
    codes = np.full((6, 1), WeightType(weights).maximum, np.int8)
    bias = np.linspace(-3, 3, 6, dtype=np.float32)
    spec = LinearOperator("y", "y", ("x",), 6, codes * scale[:, None], bias, "W")
    part = Part.derive(spec, Rounded(codes, scale, bias), weights, operand, result)
    assert part.after and part.stored_bias.dtype == stored
    assert part.output.requantization.small == (weights == bits == 2)
    assert not part.output.reaches
    lost = np.abs(part.bias * part.bias_step - bias) / result.quantization.scale
    assert lost.max() <= (1 / 16 if min(weights, bits) <= 4 else 1 / 64)
    assert np.array_equal(part.products, part.extremes)


def test_a_bias_far_beyond_the_codes_fits_int32() -> None:
    operand, result = Quantization(1.0, 3, 8), Boundary("y", Quantization(2.0**-20, 1, 8))
    codes, scale = np.ones((2, 1), np.int8), np.asarray([1e-9, 2.0**-30], np.float32)
    bias = np.asarray([1e6, -1e6], np.float32)
    spec = LinearOperator("y", "y", ("x",), 2, codes * scale[:, None], bias, "W")
    part = Part.derive(spec, Rounded(codes, scale, bias), 8, operand, result)
    operator = Linear((Boundary("x", operand),), ("x",), (part,), zero_points(*[result]))
    found = by_oracle(operator, np.asarray([[0], [255]], np.uint8))
    assert np.array_equal(found[0], [[255, 0], [255, 0]])


@pytest.mark.parametrize("runtime", SOME_RUNTIMES)
@pytest.mark.parametrize(("seed", "inputs", "bits", "outputs"), LINEAR)
def test_graph_of_linear(
    seed: int, inputs: int, bits: int, outputs: tuple[int, ...], runtime: str
) -> None:
    """Also where the product alone leaves 2^24, at its worst cases."""
    operator, stored = group(seed, inputs, bits, outputs)
    assert (len(operator.blocks) > 1) == (seed in (4, 5))
    inputs_ = {"x": tried(operator, inputs).reshape(-1, 1, inputs)}
    require_same(runtime, description(operator, stored), inputs_, pack=True)
