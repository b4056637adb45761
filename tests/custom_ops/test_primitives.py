"""Every primitive: the array back end equals exact integers, and the graph in every runtime."""

from typing import Any

import numpy as np
import pytest

from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import Storing
from tests.custom_ops.backends import RUNTIMES, arrays, require_same

P = Storing[Any]
LARGE = 2**30
EDGES = np.unique(
    np.concatenate(
        [
            [sign * (2**e + d) for e in range(31) for d in (-1, 0, 1) for sign in (1, -1)],
            np.random.default_rng(0).integers(-LARGE, LARGE, 300),
            range(-300, 301),
        ]
    ).clip(-LARGE, LARGE)
).astype(np.int32)
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


def column(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1)


@every_runtime
@pytest.mark.parametrize("shift", [7, 8, 15, 23, 30])
def test_floor_shift(runtime: str, shift: int) -> None:
    def build(p: P, value: Any) -> list[Any]:
        return [p.floor_shift(value, p.shift(p.constant(shift)))]

    (found,) = require_same(runtime, build, {"v": EDGES})
    assert found.tolist() == [int(v) // 2**shift for v in EDGES]


@every_runtime
def test_floor_shift_of_few_bits(runtime: str) -> None:
    """Shifts below 7 are exact everywhere up to 2^24, which fixed-point parameters keep to."""
    values = EDGES[np.abs(EDGES.astype(np.int64)) <= 2**24]

    def build(p: P, value: Any) -> list[Any]:
        return [p.floor_shift(value, p.shift(p.constant(shift))) for shift in range(8)]

    for shift, found in enumerate(require_same(runtime, build, {"v": values})):
        assert found.tolist() == [int(v) >> shift for v in values]


@every_runtime
def test_floor_shift_by_a_vector(runtime: str) -> None:
    shifts = [7, 9, 16, 30]

    def build(p: P, value: Any) -> list[Any]:
        return [p.floor_shift(value, p.shift(p.numbers(shifts)))]

    (found,) = require_same(runtime, build, {"v": column(EDGES)})
    assert found.tolist() == [[int(v) // 2 ** int(s) for s in shifts] for v in EDGES]


@every_runtime
def test_arithmetic(runtime: str) -> None:
    def build(p: P, a: Any, b: Any) -> list[Any]:
        return [p.add(a, b), p.sub(a, b)]

    left, right = column(EDGES), EDGES[::5][np.abs(EDGES[::5].astype(np.int64)) < LARGE]
    added, subtracted = require_same(runtime, build, {"a": left, "b": right})
    assert np.array_equal(added, left.astype(np.int64) + right)
    assert np.array_equal(subtracted, left.astype(np.int64) - right)


@every_runtime
def test_mul(runtime: str) -> None:
    rng = np.random.default_rng(1)
    small = np.concatenate([[-(2**15), -1, 0, 1, 2**15], rng.integers(-(2**15), 2**15, 200)])
    scale = np.concatenate([[0, 1, 2**15 - 1], rng.integers(0, 2**15, 60)])

    def build(p: P, a: Any, b: Any) -> list[Any]:
        return [p.mul(a, b)]

    inputs = {"a": column(small.astype(np.int32)), "b": scale.astype(np.int32)}
    (found,) = require_same(runtime, build, inputs)
    assert np.array_equal(found, np.outer(small, scale))


@every_runtime
def test_clip(runtime: str) -> None:
    high = np.asarray([1, 2, 2**7, 2**15, 2**24], np.int32)

    def build(p: P, value: Any) -> list[Any]:
        top = p.numbers(high.tolist())
        by_number = [
            p.clip(value, p.constant(low), p.constant(up))
            for low, up in ((0, 255), (0, 3), (-(2**15), 2**15), (-(2**24), 2**24))
        ]
        by_column = [
            p.clip(value, p.sub(p.constant(0), top), top),
            p.clip(value, p.constant(0), top),
        ]
        return by_number + by_column

    found = require_same(runtime, build, {"v": column(EDGES)})
    bounds = [(0, 255), (0, 3), (-(2**15), 2**15), (-(2**24), 2**24), (-high, high), (0, high)]
    for result, (low, up) in zip(found, bounds, strict=True):
        assert np.array_equal(result, np.clip(column(EDGES), low, up))


@every_runtime
@pytest.mark.parametrize("zero_point", [0, 1, 128, 255])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 7), (64, 32), (518, 24)])
def test_matmul(runtime: str, inputs: int, outputs: int, zero_point: int) -> None:
    """With zero points, and with all codes and weights at their ends: just below 2^24 for 518."""
    rng = np.random.default_rng(inputs)
    weights = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    weights[0], weights[-1] = 127, -127
    codes = rng.integers(0, 256, (6, inputs)).astype(np.uint8)
    codes[0], codes[1] = 0, 255

    def build(p: P, x: Any) -> list[Any]:
        stored = p.weights("w", weights, 8)
        zero = p.byte("z", np.asarray([7, zero_point, 9], np.uint8), 1)
        return [p.matmul(x, zero, stored)]

    (found,) = require_same(runtime, build, {"x": codes})
    exact = (codes.astype(np.int64) - zero_point) @ weights.astype(np.int64).T
    assert np.array_equal(found, exact)


@every_runtime
def test_matmul_of_several_steps_and_joined_weights(runtime: str) -> None:
    rng = np.random.default_rng(3)
    parts = [rng.integers(-7, 8, (n, 5)).astype(np.int8) for n in (4, 4, 4)]
    codes = rng.integers(0, 256, (2, 3, 5)).astype(np.uint8)

    def build(p: P, x: Any) -> list[Any]:
        stored = p.concatenate([p.weights(f"w{i}", w, 4) for i, w in enumerate(parts)])
        zero = p.byte("z", np.asarray([130], np.uint8), 0)
        return list(p.split(p.matmul(x, zero, stored), [4, 4, 4]))

    found = require_same(runtime, build, {"x": codes}, pack=True)
    for result, part in zip(found, parts, strict=True):
        assert np.array_equal(result, (codes.astype(int) - 130) @ part.T.astype(int))


@every_runtime
@pytest.mark.parametrize("bits", range(2, 9))
def test_gather(runtime: str, bits: int) -> None:
    table = np.random.default_rng(bits).integers(0, 256, 2**bits).astype(np.uint8)
    codes = np.arange(2**bits, dtype=np.uint8).reshape(2, 2, -1)

    def build(p: P, x: Any) -> list[Any]:
        return [p.gather(p.table("t", table), x)]

    (found,) = require_same(runtime, build, {"x": codes})
    assert np.array_equal(found, table.reshape(2, 2, -1))


@every_runtime
def test_widen_and_narrow(runtime: str) -> None:
    def build(p: P, codes: Any) -> list[Any]:
        wide = p.widen(codes)
        return [wide, p.narrow(p.sub(p.constant(255), wide), IntegerType(8))]

    codes = np.arange(256, dtype=np.uint8)
    wide, narrow = require_same(runtime, build, {"x": codes})
    assert wide.tolist() == list(range(256)) and wide.dtype == np.int32
    assert narrow.tolist() == list(range(255, -1, -1)) and narrow.dtype == np.uint8


@every_runtime
def test_powers_and_halves(runtime: str) -> None:
    def build(p: P) -> list[Any]:
        shift = p.shift(p.numbers(range(31)))
        return [shift.power, shift.half]

    power, half = require_same(runtime, build, {})
    assert power.tolist() == [2**e for e in range(31)]
    assert half.tolist() == [2**e // 2 for e in range(31)]


@every_runtime
@pytest.mark.parametrize("pack", [False, True])
def test_stored_numbers(runtime: str, pack: bool) -> None:
    """Bytes, words of 16 bits, biases of all sizes, numbers and columns."""
    stored = np.asarray([0, 1, 127, 128, 255], np.uint8)
    words = np.asarray([1, 255, 256, 2**15 - 1, 2**16 - 1], np.uint16)
    biases = np.asarray([-(2**31), -1, 0, 2**31 - 1], np.int32)
    short, small = np.asarray([-(2**15), 2**15 - 1], np.int16), np.asarray([-128, 127], np.int8)

    def build(p: P, x: Any) -> list[Any]:
        zero = x
        return [
            p.add(zero, p.bytes("b", stored)),
            p.add(zero, p.words("w", words)),
            p.add(zero, p.biases("q", biases)),
            p.add(zero, p.biases("short", short)),
            p.add(zero, p.biases("small", small)),
            p.add(zero, p.numbers([3, 15, 255])),
            p.add(zero, p.columns(p.bytes("b", stored), [4, 0, 2], 3)),
            *(p.add(zero, part) for part in p.split(p.bytes("b", stored), [1] * 5)),
        ]

    found = require_same(runtime, build, {"x": np.asarray([[0]], np.int32)}, pack=pack)
    assert [result.ravel().tolist() for result in found] == [
        stored.tolist(),
        words.tolist(),
        biases.tolist(),
        short.tolist(),
        small.tolist(),
        [3, 15, 255],
        [255, 255, 255, 0, 0, 0, 127, 127, 127],
        *([n] for n in stored.tolist()),
    ]


@every_runtime
def test_parts_of_unequal_sizes(runtime: str) -> None:
    def build(p: P, x: Any) -> list[Any]:
        first, second, third = p.split(x, [1, 4, 2])
        joined = p.concatenate([p.numbers([5, 6]), p.numbers([0, 1, 2])])
        return [first, second, third, joined]

    values = np.arange(14, dtype=np.int32).reshape(2, 7)
    found = require_same(runtime, build, {"x": values})
    assert found[2].tolist() == [[5, 6], [12, 13]]
    assert found[3].tolist() == [5, 6, 0, 1, 2]


@pytest.mark.parametrize("inputs", [513, 514, 515, 2000])
def test_float_products_are_exact_at_the_border_of_float32(inputs: int) -> None:
    """The array back end changes to float64 where a sum could leave 2^24."""
    weights = np.full((1, inputs), -128, np.int8)
    weights[0, ::7] = -127
    codes = np.full((1, inputs), 255, np.uint8)

    def build(p: P, x: Any) -> list[Any]:
        return [p.matmul(x, p.byte("z", np.zeros(1, np.uint8), 0), p.weights("w", weights, 8))]

    (found,) = arrays(build, {"x": codes})
    assert found.item() == int(weights.astype(int).sum()) * 255
