"""Packing: any width, any count, there and back; and the packed graph computes the same."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxgru.core.choices import WIDTHS
from onnxgru.core.integers import IntegerType
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.pack import Pack, pack
from onnxgru.passes.graph import source
from onnxgru.runtime.sessions import runtimes
from tests import grus
from tests.pipeline import pipeline

CASE = grus.Case(I=5, H=7, direction="bidirectional")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(bits=st.sampled_from(WIDTHS), count=st.integers(1, 70), seed=st.integers(0, 99))
def test_round_trip(bits: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint8)
    stream = pack(codes, bits)
    assert stream.dtype == np.uint8 and stream.shape == (IntegerType(bits).size(count),)
    flags = np.unpackbits(stream, bitorder="little")[: count * bits].reshape(count, bits)
    assert np.array_equal((flags << np.arange(bits, dtype=np.uint8)).sum(axis=1), codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_stream_is_least_significant_bit_first(bits: int) -> None:
    codes = np.asarray([[1, 2**bits - 1, 0], [2 ** (bits - 1), 3, 1]])
    number = sum(int(code) << (bits * i) for i, code in enumerate(codes.ravel()))
    size = IntegerType(bits).size(codes.size)
    assert pack(codes, bits).tobytes() == number.to_bytes(size, "little")


def emitted(program: object, model: object) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The integer graph before and after packing."""
    clone = model.model.clone()
    Emit(program)(clone)
    before = source.compact(source.proto(clone))
    Pack()(clone)
    return before, source.compact(source.proto(clone))


@pytest.mark.parametrize("name", ["2", "3", "4", "5", "6", "7", "8", "mixed"])
def test_packed_graph_equals_unpacked(name: str) -> None:
    inputs = grus.feeds(CASE)
    model = pipeline(grus.model(CASE), inputs)
    program = model.mixed(3) if name == "mixed" else model.uniform(int(name))
    before, after = emitted(program, model)
    onnx.checker.check_model(after, full_check=True)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in after.graph.initializer}
    plain = {t.name: onnx.numpy_helper.to_array(t) for t in before.graph.initializer}
    for item in program.flash():
        if item.role == "weight":
            bits = item.weight_bits // plain[item.name].size
            assert stored[item.name].dtype == np.uint8
            assert stored[item.name].size == -(-plain[item.name].size * bits // 8)
            assert item.weight_bits == plain[item.name].size * bits
    for runtime in ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference"):
        expected, found = (runtimes()[runtime](m)(inputs) for m in (before, after))
        for output, array in expected.items():
            np.testing.assert_array_equal(found[output], array)


def test_packing_makes_the_file_smaller() -> None:
    case = grus.Case(I=80, H=96)
    model = pipeline(grus.model(case), grus.feeds(case))
    before, after = emitted(model.uniform(3), model)
    weights = 3 * case.H * (case.I + case.H)
    assert before.ByteSize() - after.ByteSize() > 0.8 * weights * 5 / 8
