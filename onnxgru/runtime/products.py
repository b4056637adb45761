"""Integer matrix products for the fused evaluator, each exact, the fastest that is there.

``torch._int_mm`` multiplies int8 by int8; on processors without the right instructions its library
may saturate, so it is tried on extreme operands before it is used. onnxruntime's MatMulInteger of
uint8 by uint8 is exact everywhere.
"""

import sys
import time
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxgru.core.integers import Codes
from onnxgru.core.primitives import WEIGHT_OFFSET
from onnxgru.runtime.sessions import onnxruntime_session

Integers = npt.NDArray[np.int32]

_SIGN = np.uint8(128)

WORTH_TORCH = 2**29
"""Multiply-accumulates of an evaluation from which on importing torch pays."""

TRIAL_ROWS, TRIALS = 256, 5
LEAST_INPUTS = 16


class Product(Protocol):
    """codes @ weights, less what `offset` says is to be added to every row."""

    def __init__(self, weights: npt.NDArray[np.int8], zero_point: int) -> None:
        """Weights (inputs, outputs) and the operand's zero point."""

    offset: Integers
    """What a row's bias must be raised by, (outputs,)."""

    def __call__(self, codes: Codes) -> Integers:
        """Product of (rows, inputs) codes, int32, (rows, outputs)."""


class TorchProduct:
    """Product by torch; see `Product`."""

    def __init__(self, weights: npt.NDArray[np.int8], zero_point: int) -> None:
        import torch

        self._torch = torch
        self._weights = torch.from_numpy(np.ascontiguousarray(weights.T)).t()
        sums = weights.sum(axis=0, dtype=np.int32)
        self.offset: Integers = (int(_SIGN) - zero_point) * sums

    def __call__(self, codes: Codes) -> Integers:
        """Codes are moved to the signed range; `offset` makes up for it."""
        signed = self._torch.from_numpy(np.bitwise_xor(codes, _SIGN).view(np.int8))
        product: Integers = self._torch._int_mm(signed, self._weights).numpy()
        return product


class RuntimeProduct:
    """Product by onnxruntime; see `Product`."""

    def __init__(self, weights: npt.NDArray[np.int8], zero_point: int) -> None:
        self._weights = (weights.astype(np.int16) + WEIGHT_OFFSET).astype(np.uint8)
        self._zero_point = np.asarray(zero_point, np.uint8)
        self.offset: Integers = np.zeros(weights.shape[1], np.int32)

    def __call__(self, codes: Codes) -> Integers:
        """MatMulInteger with zero points."""
        feeds = {"codes": codes, "weights": self._weights, "zero": self._zero_point}
        product: Integers = _session()(feeds)["product"]
        return product


@cache
def _session() -> Any:
    kinds = onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "weights", "zero", "middle"], ["product"])],
        "product",
        [
            helper.make_tensor_value_info("codes", kinds.UINT8, [None, None]),
            helper.make_tensor_value_info("weights", kinds.UINT8, [None, None]),
            helper.make_tensor_value_info("zero", kinds.UINT8, []),
        ],
        [helper.make_tensor_value_info("product", kinds.INT32, [None, None])],
        [numpy_helper.from_array(np.asarray(WEIGHT_OFFSET, np.uint8), "middle")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnxruntime_session(model, threads=1)


Kind = type[TorchProduct] | type[RuntimeProduct]


def fastest(rows: int, inputs: int, outputs: int) -> Kind:
    """The product to use for (rows, inputs) by (inputs, outputs), rows counted over all steps.

    Importing torch takes a second or two, which only large evaluations win back; beyond that the
    two are timed once a shape, since torch is slow for some.
    """
    if "torch" not in sys.modules and rows * inputs * outputs < WORTH_TORCH:
        return RuntimeProduct
    return _measured(inputs, outputs)


@cache
def _measured(inputs: int, outputs: int) -> Kind:
    if find_spec("torch") is None or not torch_is_exact(inputs, outputs):
        return RuntimeProduct
    codes = np.zeros((TRIAL_ROWS, inputs), np.uint8)
    weights = np.zeros((inputs, outputs), np.int8)
    times: dict[Kind, float] = {}
    for kind in (TorchProduct, RuntimeProduct):
        product = kind(weights, 0)
        product(codes)
        started = time.perf_counter()
        for _ in range(TRIALS):
            product(codes)
        times[kind] = time.perf_counter() - started
    return min(times, key=lambda kind: times[kind])


@cache
def torch_is_exact(inputs: int, outputs: int) -> bool:
    """Whether torch multiplies extreme operands of this shape without saturating.

    Few inputs are not tried: with a single one, torch 2.13 gives wrong products now and then.
    """
    if inputs < LEAST_INPUTS:
        return False
    generator = np.random.default_rng(0)
    codes = generator.choice(np.asarray([0, 255], np.uint8), (TRIAL_ROWS, inputs))
    weights = generator.choice(np.asarray([-127, 127], np.int8), (inputs, outputs))
    codes[0], codes[1], weights[:, 0] = 255, 0, 127  # sums at both ends
    exact = codes.astype(np.int64) @ weights.astype(np.int64)
    try:
        product = TorchProduct(weights, 0)
        return bool((product(codes) + product.offset == exact).all())
    except (AttributeError, ImportError, RuntimeError):
        return False
