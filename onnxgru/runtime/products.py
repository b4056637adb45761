"""Integer matrix products for the fused evaluator, each exact, the fastest that is there.

onnxruntime's MatMulInteger multiplies uint8 by int8 twice as fast as uint8 by uint8, but on
processors without the right instructions it saturates; so it is tried on extreme operands before
it is used. uint8 by uint8 is exact everywhere.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxgru.core.integers import BYTE, BYTE_BITS, Codes, Quantization
from onnxgru.core.primitives import WEIGHT_OFFSET
from onnxgru.runtime.sessions import onnxruntime_session

Integers = npt.NDArray[np.int32]

TRIAL_ROWS = 256


class Product(Protocol):
    """(codes - zero point) @ weights."""

    def __init__(self, weights: npt.NDArray[np.int8], zero_point: int) -> None:
        """Weights (inputs, outputs) and the operand's zero point."""

    def __call__(self, codes: Codes) -> Integers:
        """Product of (rows, inputs) codes, int32, (rows, outputs)."""


class UnsignedProduct:
    """Product by onnxruntime, uint8 by uint8; see `Product`."""

    def __init__(self, weights: npt.NDArray[np.int8], zero_point: int) -> None:
        self._weights = (weights.astype(np.int16) + WEIGHT_OFFSET).astype(np.uint8)
        self._zero_point = np.asarray(zero_point, np.uint8)

    def __call__(self, codes: Codes) -> Integers:
        """MatMulInteger with both zero points."""
        return _multiply(WEIGHT_OFFSET, codes, self._weights, self._zero_point)


class SignedProduct:
    """Product by onnxruntime, uint8 by int8; see `Product`."""

    def __init__(self, weights: npt.NDArray[np.int8], zero_point: int) -> None:
        self._weights = np.ascontiguousarray(weights)
        self._zero_point = np.asarray(zero_point, np.uint8)

    def __call__(self, codes: Codes) -> Integers:
        """MatMulInteger with the codes' zero point."""
        return _multiply(0, codes, self._weights, self._zero_point)


Kind = type[SignedProduct] | type[UnsignedProduct]


def _multiply(offset: int, codes: Codes, weights: npt.NDArray[Any], zero_point: Any) -> Integers:
    feeds = {"codes": codes, "weights": weights, "zero_point": zero_point}
    product: Integers = _session(offset)(feeds)["product"]
    return product


@cache
def _session(offset: int) -> Any:
    """Product by uint8 weights with a zero point, or by int8 weights without one."""
    kinds = onnx.TensorProto
    middle = np.asarray(offset, np.uint8 if offset else np.int8)
    inputs = ["codes", "weights", "zero_point", "middle"]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", inputs, ["product"])],
        "product",
        [
            helper.make_tensor_value_info("codes", kinds.UINT8, [None, None]),
            helper.make_tensor_value_info(
                "weights", helper.np_dtype_to_tensor_dtype(middle.dtype), [None, None]
            ),
            helper.make_tensor_value_info("zero_point", kinds.UINT8, []),
        ],
        [helper.make_tensor_value_info("product", kinds.INT32, [None, None])],
        [numpy_helper.from_array(middle, "middle")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnxruntime_session(model, threads=1)


def fastest(inputs: int, outputs: int) -> Kind:
    """The product to use for (rows, inputs) by (inputs, outputs)."""
    return SignedProduct if signed_is_exact(inputs, outputs) else UnsignedProduct


def product(weights: npt.NDArray[np.int8], operand: Quantization) -> Callable[[Codes], Integers]:
    """Product (rows, inputs) by weights (inputs, outputs), exact and fast.

    Of wide codes it is that of the upper bytes, times 256, and of the lower ones.
    """
    kind = fastest(*weights.shape)
    if not operand.type.wide:
        return kind(weights, operand.zero_point)
    upper, lower = (
        kind(weights, part) for part in (operand.zero_point >> BYTE_BITS, operand.zero_point & BYTE)
    )

    def multiplied(codes: Codes) -> Integers:
        high, low = (part.astype(np.uint8) for part in (codes >> BYTE_BITS, codes & BYTE))
        return upper(high) * np.int32(BYTE + 1) + lower(low)

    return multiplied


@cache
def signed_is_exact(inputs: int, outputs: int) -> bool:
    """Whether this processor multiplies extreme operands of this shape without saturation."""
    generator = np.random.default_rng(0)
    codes = generator.choice(np.asarray([0, 255], np.uint8), (TRIAL_ROWS, inputs))
    weights = generator.choice(np.asarray([-127, 127], np.int8), (inputs, outputs))
    codes[0], codes[1], weights[:, 0] = 255, 0, 127  # sums at both ends
    exact = codes.astype(np.int64) @ weights.astype(np.int64)
    product = SignedProduct(weights, 0)
    return all(  # few rows may be computed in another way
        np.array_equal(product(codes[:rows]), exact[:rows]) for rows in (TRIAL_ROWS, 1)
    )
