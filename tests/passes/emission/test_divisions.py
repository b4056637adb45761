"""Floors and remainders without BitwiseAnd are exact over all of int32, in every runtime."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.errors import ModelError
from onnxgru.passes.emission.divisions import Divisions
from onnxgru.passes.graph import source
from onnxgru.runtime.sessions import runtimes


def graph(mask: np.ndarray) -> onnx.ModelProto:
    value, result = (
        helper.make_tensor_value_info(name, TensorProto.INT32, ["n", None]) for name in "vy"
    )
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("BitwiseAnd", ["v", "mask"], ["y"], name="and")],
            "g", [value], [result], [numpy_helper.from_array(mask, "mask")],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=9,
    )  # fmt: skip


def without(mask: np.ndarray) -> onnx.ModelProto:
    model = ir.from_proto(graph(mask))
    assert Divisions()(model).modified
    assert not Divisions()(model).modified
    message = source.proto(model)
    assert "BitwiseAnd" not in {node.op_type for node in message.graph.node}
    onnx.checker.check_model(message, full_check=True)
    return message


def values(shifts: np.ndarray) -> np.ndarray:
    """Ends of int32, neighbours of multiples of the powers, and random numbers: (n, columns)."""
    generator = np.random.default_rng(0)
    columns = []
    for shift in shifts:
        power = 1 << int(shift)
        edges = np.concatenate([power * np.arange(-9, 10) + d for d in (-1, 0, 1)])
        far = np.arange(2**31 // power - 3, 2**31 // power) * power
        drawn = generator.integers(-(2**31), 2**31, 2000)
        ends = np.asarray([-(2**31), -(2**31) + 1, 2**31 - 1, 2**24 + 1, -(2**24) - 1, 0])
        found = np.concatenate([edges, far, -far, far + 1, -far - 1, ends, drawn])
        columns.append(np.clip(found, -(2**31) + 2 * power, 2**31 - 1 - 2 * power))
    return np.stack([column[: min(map(len, columns))] for column in columns], 1).astype(np.int32)


@pytest.mark.parametrize("floor", [False, True])
def test_floors_and_remainders(floor):
    shifts = np.asarray([7, 9, 15, 16, 20, 21, 24, 28])
    powers = (1 << shifts).astype(np.int32)
    masks = -powers if floor else powers - 1
    given = values(shifts)
    expected = given & masks
    message = without(masks)
    for name, load in runtimes().items():
        np.testing.assert_array_equal(load(message)({"v": given})["y"], expected, name)


def test_a_single_mask():
    given = values(np.asarray([8]))
    message = without(np.asarray(255, np.int32))
    for name, load in runtimes().items():
        np.testing.assert_array_equal(load(message)({"v": given})["y"], given & 255, name)


def test_other_masks_are_refused():
    with pytest.raises(ModelError, match="only a BitwiseAnd with the mask -p or p - 1"):
        Divisions()(ir.from_proto(graph(np.asarray(6, np.int32))))
    message = graph(np.asarray(7, np.int32))
    message.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT32, []))
    del message.graph.initializer[:]
    with pytest.raises(ModelError, match="only a BitwiseAnd with a stored int32 mask"):
        Divisions()(ir.from_proto(message))
