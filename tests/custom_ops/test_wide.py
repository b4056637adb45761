"""Operators with wide codes: back ends and oracle agree, at the ends of all ranges too.

Errors are within the bounds that the modules state. Codes are drawn, with their ends, both sides of
the zero point, and what is next to the steps of a byte.
"""

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from onnxgru.core.activations import Activation
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.fixedpoint import Requantization
from onnxgru.core.integers import Quantization
from onnxgru.core.network import (
    DeltaOperator,
    ElementwiseOperator,
    LinearOperator,
    LookupOperator,
    ScaleOperator,
)
from onnxgru.core.program import Boundary
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds.add import Add
from onnxgru.custom_ops.kinds.delta import Delta
from onnxgru.custom_ops.kinds.interpolation import FLAT, Interpolation, exact
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.custom_ops.kinds.lookup import Lookup
from onnxgru.custom_ops.kinds.mul import Mul
from onnxgru.custom_ops.kinds.scale import Scale
from onnxgru.custom_ops.kinds.table import KINDS
from tests.custom_ops.backends import RUNTIMES, arrays, require_same
from tests.custom_ops.test_operators import SLACK, by_oracle, description, steps, zero_points

every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)
SIZES = list(product((8, 16), repeat=3))


def boundary(name: str, bits: int, scale: float, zero_point: int) -> Boundary:
    return Boundary(name, Quantization(float(np.float32(scale)), zero_point, bits))


def some(b: Boundary, count: int, seed: int) -> np.ndarray:
    """Codes drawn from all, and those where something changes."""
    q = b.quantization
    near = [0, q.zero_point, q.type.maximum, 255, 256, 0x7F00, 0x8000, 0xFF00]
    edges = np.asarray([n + d for n in near for d in (-1, 0, 1)])
    drawn = np.random.default_rng(seed).integers(0, q.type.levels, count)
    return np.concatenate([edges, drawn]).clip(0, q.type.maximum).astype(q.type.container)


def pairs(left: Boundary, right: Boundary, seed: int = 0) -> list[np.ndarray]:
    grids = np.meshgrid(some(left, 30, seed), some(right, 30, seed + 1), indexing="ij")
    return [np.ascontiguousarray(grid) for grid in grids]


def binary(kind: type[Add] | type[Mul], sizes: tuple[int, int, int], seed: int) -> Any:
    """An operator between ranges of about the same size, zero points anywhere."""
    rng = np.random.default_rng(seed)
    ends = [(0, 1), (0.5, 1), (rng.random(), rng.uniform(0.6, 1.6)), (1, 1)]
    left, right, result = (
        boundary(name, bits, size / 2**bits, round(share * (2**bits - 1)))
        for name, bits, (share, size) in zip(
            "aby", sizes, rng.permutation(np.asarray(ends))[:3], strict=True
        )
    )
    spec = ElementwiseOperator("y", "y", ("a", "b"), 1, kind.kind)
    operator = kind.derive(spec, ("a", "b"), (left, right), result)
    return operator, left, right, result, zero_points(left, right, result)


@pytest.mark.parametrize("sizes", [s for s in SIZES if s != (8, 8, 8)], ids=str)
@pytest.mark.parametrize("kind", [Add, Mul])
@pytest.mark.parametrize("seed", range(8))
def test_sums_and_products(kind: Any, seed: int, sizes: tuple[int, int, int]) -> None:
    operator, left, right, result, stored = binary(kind, sizes, seed)
    codes = pairs(left, right, seed)
    (found,) = arrays(description(operator, stored), dict(zip("ab", codes, strict=True)))
    assert found.dtype == result.quantization.type.container
    np.testing.assert_array_equal(found, by_oracle(operator, *codes)[0])
    a, b, y = (Fraction(x.quantization.scale) for x in (left, right, result))
    first, second = (steps(c, x) for c, x in zip(codes, (left, right), strict=True))
    m = operator.output.requantization
    if kind is Add:
        bound, ideal = 0.5, first * float(a / y) + second * float(b / y)
        for step, ratio, scale, x in (
            (first, a / y, m.multipliers[0], left), (second, b / y, m.multipliers[1], right)
        ):  # fmt: skip
            wide = 8 * x.quantization.type.wide if 16 in sizes[:2] else 0
            bound = bound + np.abs(step) * abs(float(ratio) - int(scale) * 2.0 ** -(m.shift + wide))
    else:
        less = 8 if sizes[:2] == (16, 16) else 0
        ratio, ideal = float(a * b / y), first * second * float(a * b / y)
        (bound,) = m.error_bound(
            np.asarray([ratio * 2**less]), np.asarray([operator.output.extreme]), sizes[2]
        )
        bound += ratio * 2**less / 2 if less else 0.0
    top = result.quantization.type.maximum
    wanted = np.clip(ideal + result.quantization.zero_point, 0, top)
    assert (np.abs(found - wanted) <= bound + SLACK).all()
    assert np.max(bound) < (4.0 if sizes[2] == 16 else 0.75)
    (proof,) = operator.proofs()
    assert proof.bits <= 32


@every_runtime
@pytest.mark.parametrize("kind", [Add, Mul])
def test_graphs_of_sums_and_products(kind: Any, runtime: str) -> None:
    for seed, sizes in enumerate(SIZES[1:]):
        operator, left, right, _, stored = binary(kind, sizes, seed)
        inputs = dict(zip("ab", pairs(left, right), strict=True))
        require_same(runtime, description(operator, stored), inputs, pack=bool(seed % 2))


@pytest.mark.parametrize("factor", [1, 2, 3, 100])
def test_sums_on_one_grid_are_exact(factor: int) -> None:
    """What `aligned` makes: codes are added without rounding."""
    left, right = boundary("a", 16, 2.0**-12, 32768), boundary("b", 16, factor * 2.0**-12, 32768)
    result = boundary("y", 16, 2.0**-12, 32768)
    operator = Add.derive(ElementwiseOperator("y", "y", ("a", "b"), 1, "add"), ("a", "b"),
                          (left, right), result)  # fmt: skip
    codes = pairs(left, right)
    (found,) = by_oracle(operator, *codes)
    ideal = steps(codes[0], left) + factor * steps(codes[1], right) + 32768
    np.testing.assert_array_equal(found, np.clip(ideal, 0, 65535))


@every_runtime
@pytest.mark.parametrize(("operand_bits", "bits"), [(16, 16), (16, 8), (8, 16)])
@pytest.mark.parametrize("zero_point", [0, 0.3, 1])
def test_products_with_a_vector(
    zero_point: float, operand_bits: int, bits: int, runtime: str
) -> None:
    vector = np.asarray([1.0, -1.0, 0.37, -1e-4, 0.0, 200.0], np.float32)
    operand = boundary(
        "x", operand_bits, 2.0**-operand_bits, int(zero_point * (2**operand_bits - 1))
    )
    result = boundary("y", bits, 2.0**-bits, 2**bits // 3)
    spec = ScaleOperator("y", "y", ("x",), 6, vector)
    operator = Scale.derive(spec, ("x",), (operand,), result)
    codes = np.repeat(some(operand, 40, 0)[:, None], 6, axis=1)
    build = description(operator, zero_points(operand, result))
    (found,) = require_same(runtime, build, {"x": codes}, pack=True)
    np.testing.assert_array_equal(found, by_oracle(operator, codes)[0])
    ratio = vector.astype(np.float64) * 2.0 ** (bits - operand_bits)
    m, wide = operator.output.requantization, 8 * (operand_bits == 16)
    step = steps(codes, operand)
    bound = 0.5 + np.abs(step) * np.abs(ratio - m.multipliers * 2.0 ** -(m.shift + wide))
    wanted = np.clip(step * ratio + result.quantization.zero_point, 0, 2**bits - 1)
    assert (np.abs(found - wanted) <= bound + SLACK).all()


@every_runtime
@pytest.mark.parametrize("threshold", [0, 255, 256, 40000, 65535])
def test_what_was_last_propagated(threshold: int, runtime: str) -> None:
    operand = boundary("x", 16, 2.0**-16, 32768)
    spec = DeltaOperator("x.delta", "x.delta", ("x", "x.held"), 1, threshold, 1.0)
    operator = Delta.derive(spec, ("x", "x.held"), (operand, operand), operand)
    codes = dict(zip(("x", "h"), pairs(operand, operand), strict=True))
    build = description(operator, zero_points(operand))
    (found,) = require_same(runtime, build, codes, pack=True)
    x, held = (values.astype(np.int64) for values in codes.values())
    np.testing.assert_array_equal(found, np.where(np.abs(x - held) > threshold, x, held))


@pytest.mark.parametrize("exponent", range(-30, 16, 3))
@pytest.mark.parametrize("extreme", [9, 255**2, 255 * 65535, 2**24, 2**27 + 5, 2**31 - 2**15])
def test_requantisation(exponent: int, extreme: int) -> None:
    """Written once more in unbounded integers: within the bound, and nothing leaves int32."""
    for factor in (1.0, 1.37, 1.9999999):
        ratio = Fraction(factor) * Fraction(2) ** exponent
        parameters = Requantization.derive(np.asarray([float(ratio)]), np.asarray([extreme]), 16)
        p, c, w, s = parameters.pre_shift, parameters.limit, parameters.word, parameters.shift
        m = int(parameters.multipliers[0])
        assert p in (0, 1, 7, 8) and (p in (0, 7, 8) or extreme <= 2**24) and w in (0, 8) and s >= w
        (bound,) = parameters.error_bound(np.asarray([float(ratio)]), np.asarray([extreme]), 16)
        places = {0, 1, extreme, extreme // 3, 2**c, 2**c - 1, 255, 256, int(65535 / ratio)}
        for place in {min(n + d, extreme) for n in places for d in (-1, 0, 1)}:
            for accumulator in (place, -place):
                value = (accumulator + (1 << p >> 1)) >> p
                value = max(-(2**c), min(2**c, value))
                carried = ((value % 2**w) * m + (1 << s >> 1)) >> w
                total = (value >> w) * m + carried
                assert max(abs(total), abs((value % 2**w) * m + (1 << s >> 1))) < 2**31
                if s - w < 7:  # exact in float32, or clipped
                    assert abs(total) < 2**24 or abs(total >> s - w) > 2 * 65535
                for zero in (0, 32768, 65535):
                    found = max(0, min(65535, (total >> s - w) + zero))
                    wanted = max(Fraction(0), min(Fraction(65535), accumulator * ratio + zero))
                    assert abs(found - wanted) <= Fraction(float(bound)) + Fraction(1, 10**6)
        assert bound < 2.6 or float(ratio) > 2**14


FUNCTIONS = [
    Activation("Tanh"), Activation("Sigmoid"), Activation("Softsign"), Activation("Relu"),
    Activation("Complement"), Activation("Tanh", clip=0.7), Activation("LeakyRelu", 0.01),
]  # fmt: skip


def looked_up(function: Activation, size: float, bits: int) -> Any:
    operand = boundary("x", 16, 2 * size / 65535, 32768)
    if function.name == "Complement":
        operand = boundary("x", 16, 1 / 65535, 0)
    fixed = function.quantization(bits, "unit" if function.mirrors else None)
    result = Boundary("y", fixed or Quantization.of_range(-0.02 * size, size, bits))
    spec = LookupOperator("y", "y", ("x",), 1, function)
    operator = KINDS["lookup"].derived(spec, ("x",), (operand,), result)
    return operator, operand, result


@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("size", [0.01, 1.0, 8.0, 300.0])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.name} {f.clip}")
def test_functions_of_every_code(function: Activation, size: float, bits: int) -> None:
    operator, operand, result = looked_up(function, size, bits)
    assert isinstance(operator, Interpolation)
    codes = np.arange(65536, dtype=np.uint16)
    (found,) = by_oracle(operator, codes)
    (same,) = arrays(description(operator, zero_points(operand, result)), {"x": codes})
    np.testing.assert_array_equal(found, same)
    ideal = exact(function, codes.astype(np.float64), operand.quantization, result.quantization)
    h = 2**operator.curve.segment * operand.quantization.scale
    bend = {"Tanh": 0.77, "Sigmoid": 0.0963, "Softsign": 2.0}.get(function.name, 0.0)
    line = h**2 / 8 * bend / result.quantization.scale
    if function.clip is not None or not function.codomain():
        line += h / 4 / result.quantization.scale  # a bend, where the function or a code is clipped
    bound = 0.5 + 2.0 ** -(17 - bits) + max(FLAT, line)
    assert (np.abs(found - ideal) <= bound + SLACK).all()
    if function.name in ("Tanh", "Sigmoid") and function.clip is None:
        assert bound < (0.62 if bits <= 8 else 6.0)
    if function.name == "Relu":
        assert found[32768] == result.quantization.zero_point


@every_runtime
def test_graphs_of_functions(runtime: str) -> None:
    codes = np.arange(65536, dtype=np.uint16)
    for function, size, bits in (
        (FUNCTIONS[0], 8.0, 8), (FUNCTIONS[0], 300.0, 16), (FUNCTIONS[4], 1.0, 5),
    ):  # fmt: skip
        operator, operand, result = looked_up(function, size, bits)
        require_same(runtime, description(operator, zero_points(operand, result)), {"x": codes})


@every_runtime
def test_a_function_with_wide_results(runtime: str) -> None:
    operand = boundary("x", 8, 6 / 255, 128)
    result = Boundary("y", Activation("Tanh").quantization(16))
    spec = LookupOperator("y", "y", ("x",), 1, Activation("Tanh"))
    operator = KINDS["lookup"].derived(spec, ("x",), (operand,), result)
    assert isinstance(operator, Lookup)
    codes = np.arange(256, dtype=np.uint8)
    build = description(operator, zero_points(operand, result))
    (found,) = require_same(runtime, build, {"x": codes}, pack=True)
    assert found.dtype == np.uint16 and found[128] == 32768
    ideal = np.tanh(steps(codes, operand) * operand.quantization.scale) * 32767 + 32768
    assert np.abs(found - ideal).max() < 0.51


def linear(
    operand: Boundary, result: Boundary, inputs: int, *, extreme: bool = False, seed: int = 0
) -> Linear:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (3, inputs)).astype(np.int8)
    if extreme:
        codes[0], codes[1] = 127, -127
    scales = np.full(3, 2.0**-9, np.float32)
    bias = rng.uniform(-1, 1, 3).astype(np.float32)
    weight = codes * scales[:, None]
    spec = LinearOperator("y", "y", ("x",), 3, weight, bias, "W")
    part = Part.derive(spec, Rounded(codes, scales, bias), 8, operand.quantization, result)
    return Linear((operand,), ("x",), (part,), zero_points(operand, result))


@every_runtime
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("zero_point", [0, 255, 32768, 40000, 65535])
def test_products_with_wide_codes(zero_point: int, bits: int, runtime: str) -> None:
    operand = boundary("x", 16, 2.0**-15, zero_point)
    result = boundary("y", bits, 24 / 2**bits, 2 ** (bits - 1))
    operator = linear(operand, result, 200, extreme=True)
    codes = some(operand, 200 * 20, 1)[: 200 * 20].reshape(20, 200)
    codes[0], codes[1], codes[2, ::2] = 0, 65535, 255
    build = description(operator, zero_points(operand, result))
    (found,) = require_same(runtime, build, {"x": codes}, pack=True)
    np.testing.assert_array_equal(found, by_oracle(operator, codes)[0])
    (part,) = operator.parts
    total = steps(codes, operand) @ part.weight.astype(np.int64).T + part.bias
    assert (total >= part.extremes[0]).all() and (total <= part.extremes[1]).all()


def test_wide_products_that_leave_int32_are_refused() -> None:
    operand = boundary("x", 16, 2.0**-15, 0)
    linear(operand, boundary("y", 8, 1.0, 0), 256, extreme=True)
    with pytest.raises(OverflowProofError) as error:
        linear(operand, boundary("y", 8, 1.0, 0), 258, extreme=True)
    assert str(error.value) == (
        "y: its accumulator must fit 32 bits, but some input of 258 features makes it 2155675140; "
        "use fewer bits for its weights or its input"
    )
