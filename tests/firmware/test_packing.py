"""Packed weights come back, and take not a bit more than their width."""

import numpy as np
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.integers import WeightType
from onnxgru.firmware.packing import BLOCK, PAIRS, UNIT, Packed, pack, pairs


def bits_of(value: int, first: int, count: int) -> int:
    return value >> first & (1 << count) - 1


def unpacked(packed: Packed) -> np.ndarray:
    """Weights as the C code reads them, written a second time, one by one."""
    shape = packed.shape
    kind, bits = WeightType(shape.bits), shape.bits
    stream = int.from_bytes(packed.bytes.tobytes(), "little")
    found = np.zeros((shape.rows, shape.columns), np.int64)
    for row in range(shape.rows):
        column = 0
        for block in range(shape.blocks):
            words = packed.words[(row * shape.blocks + block) * bits :][:bits].tolist()
            for pair, pieces in enumerate(pairs(bits)):
                for half in range(2):
                    for piece in pieces:
                        part = bits_of(words[piece.word], 16 * half + piece.place, piece.count)
                        found[row, column + 2 * pair + half] |= part << piece.first
            column += BLOCK
        for unit in range(shape.units):
            start = (row * shape.units + unit) * UNIT * bits
            for place, offset in enumerate((0, 2, 1, 3)):
                found[row, column + offset] = bits_of(stream, start + place * bits, bits)
            column += UNIT
        for single in range(shape.singles):
            start = shape.singles_start + (row * shape.singles + single) * bits
            found[row, column + single] = bits_of(stream, start, bits)
    return kind.spacing * found - kind.maximum - (kind.spacing == 1)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("columns", [1, 4, 7, 28, 32, 71])
def test_weights_come_back(bits: int, columns: int) -> None:
    generator = np.random.default_rng(bits)
    kind = WeightType(bits)
    codes = kind.nearest(generator.uniform(-130, 130, (5, columns))).astype(np.int8)
    packed = pack(codes, bits)
    np.testing.assert_array_equal(unpacked(packed), codes)
    assert packed.words.nbytes + packed.bytes.nbytes == kind.size(codes.size)


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_block_has_no_bit_twice_and_none_left(bits: int) -> None:
    places = [
        (piece.word, piece.place + bit)
        for pieces in pairs(bits)
        for piece in pieces
        for bit in range(piece.count)
    ]
    assert len(pairs(bits)) == PAIRS
    assert sorted(places) == [(word, place) for word in range(bits) for place in range(16)]
