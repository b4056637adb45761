"""Packing: weights of 2 to 8 bits in an order that suits registers, without padding.

A row of a matrix (what one output needs, or in a delta network what one input changes) is cut into

- blocks of 32 columns, b words of 32 bits each;
- units of 4 columns, 4 b bits each, of what is left;
- single columns, b bits each, at most 3.

Blocks stand in an array of words, row by row. All units of the matrix and then all its single
columns are one stream of bits in an array of bytes, least significant bit first. So the two arrays
together have exactly the bytes of `WeightType.size`.

Columns come in pairs, the even one in the lower half of a word and the odd one in the upper half,
at the same place: one mask takes a pair out of a word, and one instruction multiplies it
(``SMLAD``). A half of 16 bits holds 16 / b pairs of a block; the bits that are left over in all
words hold the others. Codes are stored as u = 0 .. 2^b - 1::

    q_W = u - 2^(b-1)          and at 2 bits        q_W = 2 u - 3
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import WeightType

BLOCK, UNIT, PAIRS = 32, 4, 16
HALF = 16

Words = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Piece:
    """Some bits of both codes of a pair in a block.

    Parameters
    ----------
    word : int
        Which word of the block.
    place : int
        Of the lowest of the bits in both halves of the word.
    first : int
        Which bit of the code that is.
    count : int
        Number of bits.
    """

    word: int
    place: int
    first: int
    count: int

    @property
    def mask(self) -> int:
        """Of the bits in both codes, where the codes begin at bit 0."""
        return ((1 << self.count) - 1 << self.first) * 0x10001


def pairs(bits: int) -> tuple[tuple[Piece, ...], ...]:
    """Where the 16 pairs of a block are: those that are whole first, word by word."""
    whole = HALF // bits
    left = HALF - whole * bits
    found: list[tuple[Piece, ...]] = [
        (Piece(word, i * bits, 0, bits),) for word in range(bits) for i in range(whole)
    ]
    stream = 0
    while len(found) < PAIRS:
        pieces, first = [], 0
        while first < bits:
            word, inside = divmod(stream, left)
            count = min(left - inside, bits - first)
            pieces.append(Piece(word, whole * bits + inside, first, count))
            stream, first = stream + count, first + count
        found.append(tuple(pieces))
    return tuple(found)


@dataclass(frozen=True)
class Shape:
    """How a row of some columns is cut.

    Parameters
    ----------
    rows, columns : int
        Of the matrix.
    bits : int
        Width of the weights.
    """

    rows: int
    columns: int
    bits: int

    @property
    def blocks(self) -> int:
        """Blocks of a row."""
        return self.columns // BLOCK

    @property
    def units(self) -> int:
        """Units of a row."""
        return self.columns % BLOCK // UNIT

    @property
    def singles(self) -> int:
        """Single columns of a row."""
        return self.columns % UNIT

    @property
    def words(self) -> int:
        """Length of the array of words."""
        return self.rows * self.blocks * self.bits

    @property
    def bytes(self) -> int:
        """Length of the array of bytes."""
        return WeightType(self.bits).size(self.rows * (self.columns - BLOCK * self.blocks))

    @property
    def singles_start(self) -> int:
        """Bit at which single columns begin in the array of bytes."""
        return UNIT * self.bits * self.units * self.rows


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed matrix.

    Parameters
    ----------
    shape : Shape
        Of the matrix.
    words : ndarray of uint32
        Blocks.
    bytes : ndarray of uint8
        Units, then single columns.
    """

    shape: Shape
    words: Words
    bytes: Bytes


def pack(codes: npt.NDArray[np.int8], bits: int) -> Packed:
    """Pack a matrix.

    Parameters
    ----------
    codes : ndarray of int8, shape (rows, columns)
        q_W.
    bits : int
        Their width, 2 to 8.
    """
    rows, columns = codes.shape
    shape = Shape(rows, columns, bits)
    kind = WeightType(bits)
    stored = ((codes.astype(np.int64) + kind.maximum) // kind.spacing).astype(np.uint32)
    if kind.spacing == 1:
        stored += 1  # the lowest code of two's complement is left out
    limit = shape.blocks * BLOCK
    blocks = stored[:, :limit].reshape(rows, shape.blocks, PAIRS, 2)
    halves = blocks[..., 0] | blocks[..., 1] << HALF
    words = np.zeros((rows, shape.blocks, bits), np.uint32)
    for pair, pieces in enumerate(pairs(bits)):
        for piece in pieces:
            taken = (halves[..., pair] & np.uint32(piece.mask)) >> piece.first
            words[..., piece.word] |= (taken << piece.place).astype(np.uint32)
    units = stored[:, limit : limit + UNIT * shape.units].reshape(-1, UNIT)
    crossed = units[:, [0, 2, 1, 3]]  # both codes of a pair at the same place of a half
    fields = np.concatenate([crossed.reshape(-1), stored[:, columns - shape.singles :].reshape(-1)])
    places = fields[:, None] >> np.arange(bits, dtype=np.uint32) & 1
    stream = np.packbits(places.astype(np.uint8).reshape(-1), bitorder="little")
    return Packed(shape, words.reshape(-1), stream)
