"""Weights of 16 bits and copies of wide codes: bounds at the ends of ranges, in every runtime."""

from typing import Any

import numpy as np
import pytest

from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import WeightType
from onnxgru.core.network import CopyOperator, LinearOperator
from onnxgru.core.program import Boundary
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds.copy import Copy
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.custom_ops.kinds.planes import planes
from tests.custom_ops.backends import arrays, require_same
from tests.custom_ops.test_operators import SLACK, by_oracle, description, steps, zero_points
from tests.custom_ops.test_wide import boundary, every_runtime, some

TOP = WeightType(16).maximum


def linear(operand: Boundary, result: Boundary, codes: np.ndarray) -> Linear:
    """A linear operator with weights of 16 bits, whose results are about the result's range."""
    rng = np.random.default_rng(0)
    outputs = len(codes)
    scales = np.full(outputs, 2.0**-15, np.float32)
    bias = rng.uniform(-1, 1, outputs).astype(np.float32)
    spec = LinearOperator("y", "y", ("x",), outputs, codes * scales[:, None], bias, "W")
    part = Part.derive(spec, Rounded(codes, scales, bias), 16, operand.quantization, result)
    return Linear((operand,), ("x",), (part,), zero_points(operand, result))


def weights(inputs: int) -> np.ndarray:
    """Drawn ones, both ends, and those whose lower plane is at its ends."""
    codes = np.random.default_rng(1).integers(-TOP, TOP + 1, (6, inputs)).astype(np.int16)
    codes[0], codes[1], codes[2], codes[3] = TOP, -TOP, 127, -128
    return codes


def test_planes_hold_every_code() -> None:
    codes = np.arange(-TOP, TOP + 1).astype(np.int16)
    upper, lower = planes(codes)
    assert upper.dtype == lower.dtype == np.int8
    assert (upper.min(), upper.max(), lower.min(), lower.max()) == (-127, 127, -128, 127)
    np.testing.assert_array_equal(256 * upper.astype(int) + lower, codes)


@every_runtime
@pytest.mark.parametrize("result_bits", [8, 16])
@pytest.mark.parametrize(
    ("bits", "zero_point"), [(8, 0), (8, 128), (8, 255), (16, 0), (16, 40000), (16, 65535)]
)
def test_products(bits: int, zero_point: int, result_bits: int, runtime: str) -> None:
    inputs = 100
    operand = boundary("x", bits, 2.0 ** (1 - bits), zero_point)
    result = boundary("y", result_bits, 40 / 2**result_bits, 2 ** (result_bits - 1))
    operator = linear(operand, result, weights(inputs))
    codes = some(operand, inputs * 20, 1)[: inputs * 20].reshape(20, inputs)
    codes[0], codes[1], codes[2, ::2] = 0, operand.quantization.type.maximum, 255
    build = description(operator, zero_points(operand, result))
    (found,) = require_same(runtime, build, {"x": codes}, pack=True)
    np.testing.assert_array_equal(found, by_oracle(operator, codes)[0])
    (part,) = operator.parts
    whole = steps(codes, operand) @ part.weight.astype(np.int64).T
    assert (part.dropped, part.unit) == ((8, 256) if bits == 16 else (0, 1))
    total = (whole + part.unit // 2) // part.unit + part.bias
    assert (total >= part.extremes[0]).all() and (total <= part.extremes[1]).all()
    ratios = np.full(6, operand.quantization.scale * 2.0**-15 / result.quantization.scale)
    bound = part.output.requantization.error_bound(
        ratios * part.unit, np.abs(part.extremes).max(0), result_bits
    )
    bound += (part.unit > 1) * ratios * part.unit / 2
    assert bound.max() < (4.0 if result_bits == 16 else 0.6)
    ideal = (whole + part.bias * part.unit) * ratios + result.quantization.zero_point
    wanted = np.clip(ideal, 0, result.quantization.type.maximum)
    assert (np.abs(found - wanted) <= bound + SLACK).all()


@pytest.mark.parametrize(("bits", "most"), [(8, 258), (16, 256)])
def test_sums_that_leave_int32_are_refused(bits: int, most: int) -> None:
    """All weights and codes at their ends; below, nothing leaves int32: the oracle looks."""
    operand, result = boundary("x", bits, 2.0**-bits, 0), boundary("y", 8, 1.0, 0)

    def made(inputs: int, value: int) -> Any:
        return linear(operand, result, np.full((1, inputs), value, np.int16))

    for value in (TOP, -TOP, -128):
        inputs = most - 3
        codes = np.full((1, inputs), 2**bits - 1, operand.quantization.type.container)
        operator = made(inputs, value)
        build = description(operator, zero_points(operand, result))
        np.testing.assert_array_equal(arrays(build, {"x": codes})[0], by_oracle(operator, codes)[0])
    with pytest.raises(OverflowProofError) as error:
        made(most + 3, TOP if bits == 8 else -128)
    assert str(error.value).startswith("y: its accumulator must fit 32 bits, but some input of ")
    assert str(error.value).endswith("; use fewer bits for its weights (weight_bits) or its input")


@every_runtime
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("zero_point", [0, 32768, 65535])
def test_copies(zero_point: int, bits: int, runtime: str) -> None:
    """Of a range as large as the value's, and of one half as large."""
    operand = boundary("x", 16, 2.0**-15, zero_point)
    for share in (1.0, 0.5):
        zero = round(zero_point / 65535 * (2**bits - 1))
        result = boundary("y", bits, share * 65535 / (2**bits - 1) * 2.0**-15, zero)
        spec = CopyOperator("y", "y", ("x",), 1)
        operator = Copy.derive(spec, ("x",), (operand,), result)
        codes = some(operand, 4000, 3)
        build = description(operator, zero_points(operand, result))
        (found,) = require_same(runtime, build, {"x": codes}, pack=True)
        np.testing.assert_array_equal(found, by_oracle(operator, codes)[0])
        assert found.dtype == np.uint8
        ratio = operand.quantization.scale / result.quantization.scale
        (bound,) = operator.output.requantization.error_bound(
            np.asarray([ratio]), np.asarray([operator.output.extreme]), bits
        )
        assert bound < 0.52
        ideal = np.clip(steps(codes, operand) * ratio + zero, 0, 2**bits - 1)
        assert (np.abs(found - ideal) <= bound + SLACK).all()
        (proof,) = operator.proofs()
        assert proof.bits <= 17
