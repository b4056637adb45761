"""Linear: y = W x + b; operators that read the same x share one product.

Float equation::

    y_j = sum_i W_ji x_i + b_j

Integer, for channel j of the outputs::

    acc_j = sum_i (q_x,i - Z_x) q_W,ji + 2^e q_b,j      q_b = round(b / (2^e S_x S_W,j))
    q_y,j = clip(Z_y + requantize(acc_j, S_x S_W,j / S_y), 0, 2^b - 1)

Biases are int32 in the arithmetic, and stored in few bytes: see `onnxgru.custom_ops.kinds.biases`.
A product of one input adds them after its multiplication, in a unit of the result::

    q_y,j = clip(Z_y + ((acc_j M_j + 2^e q_b,j + 2^(s-1)) >> s), 0, 2^b - 1)
    q_b = round(2^(s-e) b / S_y)

Multipliers have 8 bits where these are precise enough beside the rounding of weights or results,
and 15 elsewhere: see `onnxgru.core.fixedpoint`.

The zero point of x is corrected by the product itself (MatMulInteger), not by the bias. The
accumulator's extremes over all codes q_x in 0 .. q_max are reached by choosing each q_x,i at the
end that suits the sign of its weight (Colbert et al. 2023, A2Q, bound the same sum by a norm)::

    max acc_j = sum+ q_W (q_max - Z_x) + sum- |q_W| Z_x + q_b      and its mirror image

Where a product without its bias could reach 2^24, it is computed in blocks of features that could
not, and the blocks are added.

Wide codes are multiplied byte by byte, with q - Z = 2^8 u + v as differences of the bytes::

    acc_j = 2^8 sum_i u_i q_W,ji + sum_i v_i q_W,ji + q_b,j

Both sums are computed as above, in blocks below 2^24, and the extremes are proved with the upper
one alone too, so that no intermediate leaves int32. Operators with results in bytes and those with
wide results are in groups of their own, and so are those with weights of 16 bits. The latter are
computed in two planes of bytes, with both planes' extremes proved: see
`onnxgru.custom_ops.kinds.planes`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, cycle
from typing import Any, ClassVar, Generic

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core import weights
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.fixedpoint import (
    EXACT_IN_FLOAT32,
    INT32_MAXIMUM,
    MOST_CODES,
    Requantization,
)
from onnxgru.core.flash import FlashItem
from onnxgru.core.integers import (
    BYTE,
    BYTE_BITS,
    Floats,
    IntegerType,
    Quantization,
    WeightCodes,
    WeightType,
    narrowest,
)
from onnxgru.core.network import LinearOperator
from onnxgru.core.primitives import Computing, Prepared, Shift, Storing, Value
from onnxgru.core.program import (
    Boundary,
    IntegerOperator,
    Output,
    Proof,
    Work,
    ZeroPoints,
)
from onnxgru.core.tape import Tape, digest
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds import biases, requantize
from onnxgru.custom_ops.kinds.planes import planes
from onnxgru.custom_ops.kinds.words import byte_shift, split

BIAS_LIMIT = 2**30
"""Largest magnitude of a bias code: scales of weights are never so small that it is exceeded."""

TOLERANCE = 32
"""Small multipliers err by at most this fraction of the rounding error of the largest weight."""


def equation(tape: Tape, operator: LinearOperator, x: ir.Value) -> ir.Value:
    """Float nodes: MatMul and Add; x is (..., inputs), the result (..., outputs)."""
    weight = np.ascontiguousarray(operator.weight.T)
    stored = tape.constant(f"{operator.name}/weight", weight)
    product = tape.op("MatMul", x, stored, name=f"{operator.name}/product")
    return tape.op(
        "Add", product, tape.constant(f"{operator.name}/bias", operator.bias), name=operator.name
    )


@dataclass(frozen=True, eq=False)
class Part:
    """One linear operator of a group.

    Parameters
    ----------
    output : Output
        Its codes.
    weight : ndarray of int8, or int16 for 16 bits, shape (outputs, inputs)
        q_W, of their `type`.
    weight_scale : ndarray of float32, shape (outputs,)
        S_W.
    bias : ndarray of int32, shape (outputs,)
        q_b.
    type : WeightType
        Of the weights.
    extremes : ndarray of int64, shape (2, outputs)
        Proved minimum and maximum of the accumulator.
    dropped : int
        Bits of the sum of products that the accumulator drops: 8 where weights and operand have 16
        bits, else 0.
    exponent : int
        e: the biases are multiples of 2^e.
    after : bool
        Whether biases are added after the multiplication, and `extremes` are without them.
    """

    output: Output
    weight: WeightCodes
    weight_scale: Floats
    bias: npt.NDArray[np.int32]
    type: WeightType
    extremes: npt.NDArray[np.int64]
    dropped: int = 0
    exponent: int = 0
    after: bool = False

    @property
    def products(self) -> npt.NDArray[np.int64]:
        """Proved extremes of the accumulator without its bias, shape (2, outputs)."""
        return self.extremes if self.after else self.extremes - self.bias

    @property
    def bias_step(self) -> float:
        """What 1 in `bias` stands for, where biases are added after the multiplication."""
        output = self.output
        return math.ldexp(output.boundary.quantization.scale, -output.requantization.shift)

    @property
    def narrow(self) -> bool:
        """Whether its biases may be rounded to fit fewer bytes."""
        return min(self.type.bits, self.output.boundary.quantization.bits) <= biases.NARROW

    @property
    def unit(self) -> int:
        """Products of two codes per unit of the accumulator."""
        return 1 << self.dropped

    @cached_property
    def planes(self) -> dict[str, WeightCodes]:
        """Stored matrices of bytes, by name of the initializer."""
        name = f"{self.output.name}/weight"
        if not self.type.wide:
            return {name: self.weight}
        return dict(zip((f"{name}/high", f"{name}/low"), planes(self.weight), strict=True))

    @cached_property
    def stored_bias(self) -> npt.NDArray[np.signedinteger[Any]]:
        """The bias in units of 2^e, in the narrowest of int8, int16 and int32 that holds it."""
        codes = self.bias >> self.exponent
        return codes.astype(narrowest(codes))

    @cached_property
    def contents(self) -> tuple[bytes, bytes]:
        """Digests of the stored weight and bias; parts with equal digests share them."""
        return (
            digest(self.weight, self.type.bits),
            digest(self.stored_bias),
        )

    @classmethod
    def derive(
        cls,
        operator: LinearOperator,
        rounded: Rounded,
        weight_bits: int,
        operand: Quantization,
        result: Boundary,
    ) -> "Part":
        """Integer parameters of `operator` with given weight codes and scales.

        Raises
        ------
        OverflowProofError
            If some input could make the accumulator leave int32.
        """
        weight, kind = rounded.codes, WeightType(weight_bits)
        dropped = BYTE_BITS if kind.wide and operand.type.wide else 0
        scales = operand.scale * rounded.scales.astype(np.float64) * (1 << dropped)
        ratios = scales / result.quantization.scale
        narrow = min(weight_bits, result.quantization.bits) <= biases.NARROW
        wide = kind.wide or operand.type.wide or result.quantization.type.wide
        if weight.shape[1] == 1 and not wide:
            return cls._single(operator, rounded, kind, operand, result)
        codes, exponent = biases.stored(
            rounded.bias / scales, ratios, biases.LOSS if narrow else 0.0
        )
        extremes = (accumulator(rounded.sums, operand) + (1 << dropped >> 1) >> dropped) + codes
        largest = int(np.abs(extremes).max())
        product = _intermediate(weight, operand, extremes - codes)
        requantization = Requantization.derive(
            ratios,
            np.abs(extremes).max(0),
            result.quantization.bits,
            kind.rounding / TOLERANCE,
        )
        if max(product, largest + (1 << requantization.pre_shift >> 1)) > INT32_MAXIMUM:
            raise OverflowProofError(
                f"{operator.name}: its accumulator must fit 32 bits, but some input of "
                f"{weight.shape[1]} features makes it {max(product, largest)}; use fewer bits for "
                f"{'its weights (weight_bits)' if kind.wide else 'its weights'} or its input"
            )
        output = Output(operator.name, result, requantization, weight.shape[0], largest)
        bias = codes.astype(np.int32)
        return cls(output, weight, rounded.scales, bias, kind, extremes, dropped, exponent)

    @classmethod
    def _single(
        cls,
        operator: LinearOperator,
        rounded: Rounded,
        kind: WeightType,
        operand: Quantization,
        result: Boundary,
    ) -> "Part":
        """Parameters of a product of one input, the biases of which are added at last."""
        scale, bits = result.quantization.scale, result.quantization.bits
        ratios = operand.scale * rounded.scales.astype(np.float64) / scale
        codes = np.clip(rounded.bias / scale, 1 - MOST_CODES, MOST_CODES - 1)
        extremes = accumulator(rounded.sums, operand)
        largest = np.abs(extremes).max(0)
        requantization = Requantization.derive(
            ratios, largest, bits, kind.rounding / TOLERANCE, np.abs(codes)
        )
        shift = requantization.shift
        loss = biases.LOSS if min(kind.bits, bits) <= biases.NARROW else biases.SLIGHT_LOSS
        found, exponent = biases.stored(np.ldexp(codes, shift), np.ldexp(np.ones(1), -shift), loss)
        output = Output(operator.name, result, requantization, len(found), int(largest.max()))
        bias = found.astype(np.int32)
        return cls(
            output, rounded.codes, rounded.scales, bias, kind, extremes, 0, exponent, after=True
        )


def _intermediate(
    weight: WeightCodes, operand: Quantization, extremes: npt.NDArray[np.int64]
) -> int:
    """Largest magnitude of all intermediates of the accumulator, without its bias."""
    largest = int(np.abs(extremes).max())
    if weight.dtype == np.int8:
        if operand.type.wide:  # the product of the upper bytes
            largest += BYTE * int(np.abs(weight.astype(np.int64)).sum(axis=1).max())
        return largest
    for place, plane in enumerate(planes(weight)):
        found = weights.sums(plane)
        most = int(np.abs(accumulator(found, operand)).max())
        if operand.type.wide:
            most += BYTE * int((found[0] - found[1]).max()) + BYTE  # and what rounding adds
        elif not place:
            most <<= BYTE_BITS
        largest = max(largest, most)
    return largest


def accumulator(sums: npt.NDArray[np.int64], operand: Quantization) -> npt.NDArray[np.int64]:
    """Exact minimum and maximum of every channel's accumulator without its bias.

    Parameters
    ----------
    sums : ndarray of int64, shape (2, outputs)
        Sums of the positive and of the negative codes of the weights.
    operand : Quantization
        Of the operand of the product.

    Returns
    -------
    ndarray of int64, shape (2, outputs)
    """
    above, below = operand.type.maximum - operand.zero_point, operand.zero_point
    positive, negative = sums
    return np.stack([negative * above - positive * below, positive * above - negative * below])


@dataclass(frozen=True)
class Parameters(Generic[Value]):
    """What `Linear.compute` takes.

    Parameters
    ----------
    weights : tuple of Value
        (inputs, sum of outputs), in blocks of inputs.
    bias : Value, optional
        (sum of outputs,), where it is added to the accumulator.
    zero_points : tuple of Value
        Of the operand, uint8; of wide codes the upper and the lower byte.
    requantization : requantize.Parameters
        Of all columns.
    byte : Shift, optional
        By 8 bits, where weights have 16.
    """

    weights: tuple[Value, ...]
    bias: Value | None
    zero_points: tuple[Value, ...]
    requantization: requantize.Parameters[Value]
    byte: Shift[Value] | None = None


@dataclass(frozen=True, eq=False)
class Linear(IntegerOperator):
    """Linear operators that read the same codes.

    Parameters
    ----------
    operands : tuple of Boundary
        The codes they read, one.
    inputs : tuple of str
        Name of that operand as a value.
    parts : tuple of Part
        One per operator.
    zero_points : ZeroPoints
        Of the layer.
    """

    kind: ClassVar[str] = "linear"
    vectors: ClassVar[tuple[str, ...]] = (
        "bias", "requantization.multiplier", "requantization.offset",
    )  # fmt: skip
    operands: tuple[Boundary, ...]
    inputs: tuple[str, ...]
    parts: tuple[Part, ...]
    zero_points: ZeroPoints

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """One name per operator."""
        return tuple(part.output.name for part in self.parts)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Features per operator."""
        return tuple(part.output.channels for part in self.parts)

    @cached_property
    def results(self) -> tuple[Output, ...]:
        """One result per operator."""
        return tuple(part.output for part in self.parts)

    @cached_property
    def exponents(self) -> tuple[int, ...]:
        """Exponents of the biases of all parts, where the widths allow one to differ from 0."""
        some = any(part.narrow or part.after for part in self.parts)
        return tuple(part.exponent for part in self.parts) if some else ()

    @property
    def form(self) -> tuple[object, ...]:
        """With the container of the weights, and where biases are added."""
        return (*super().form, self.parts[0].weight.dtype, self.parts[0].after)

    @cached_property
    def matrices(self) -> list[WeightCodes]:
        """Matrices of bytes of all parts; for 16 bits all upper planes, then all lower ones."""
        groups = zip(*(part.planes.values() for part in self.parts), strict=True)
        return [matrix for group in groups for matrix in group]

    @property
    def gathers(self) -> int:
        """Columns of the weights."""
        return int(self.parts[0].weight.shape[1])

    @property
    def products(self) -> int:
        """Planes of the weights."""
        return len(self.parts[0].planes)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Features of every block of the product."""
        inputs, long = self.gathers, self.parts[0].type.wide
        wide = self.operands[0].quantization.type.wide
        if (
            not wide
            and not long
            and max(int(np.abs(p.products).max()) for p in self.parts) < EXACT_IN_FLOAT32
        ):
            return (inputs,)
        weight = np.concatenate(self.matrices)
        for count in range(1 if wide or long else 2, inputs + 1):
            pieces = np.array_split(weight, count, axis=1)
            if all(self._largest(piece) < EXACT_IN_FLOAT32 for piece in pieces):
                break
        return tuple(piece.shape[1] for piece in pieces)

    def _largest(self, weight: WeightCodes) -> int:
        """Largest magnitude of a product of some features; for wide codes, of its upper byte."""
        operand, (positive, negative) = self.operands[0].quantization, weights.sums(weight)
        if operand.type.wide:
            return BYTE * int((positive - negative).max())
        return int(np.abs(accumulator(np.stack([positive, negative]), operand)).max())

    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Parameters[Value]:
        """Weights (inputs, sum of outputs), biases, and the operand's zero point as uint8."""
        p = primitives
        widths = [min(part.type.bits, BYTE_BITS) for part in self.parts]
        names = chain.from_iterable(zip(*(part.planes for part in self.parts), strict=True))
        stored = [
            p.weights(name, matrix, width)
            for name, matrix, width in zip(names, self.matrices, cycle(widths), strict=False)
        ]
        found = [p.biases(f"{part.output.name}/bias", part.stored_bias) for part in self.parts]
        whole = p.concatenate(stored) if len(stored) > 1 else stored[0]
        blocks = tuple(p.rows(whole, self.blocks))
        bias = p.concatenate(found) if len(found) > 1 else found[0]
        if given.units is not None:
            bias = p.mul(bias, given.units)
        last, added = requantize.Parameters.of(given), None if self.parts[0].after else bias
        if added is None:
            last = replace(last, offset=p.add(last.finish.shift.half, bias))
        operand, stored_zeros = self.operands[0], self.zero_points
        zero_points: tuple[Value, ...]
        if operand.quantization.type.wide:
            parts = split(p, given.zero_points[0], byte_shift(p))
            zero_points = tuple(p.narrow(part, IntegerType(BYTE_BITS)) for part in parts)
        else:
            place = stored_zeros.position(operand)
            zero_points = (p.byte(stored_zeros.name, stored_zeros.codes, place),)
        byte = byte_shift(p) if self.parts[0].type.wide else None
        return Parameters(blocks, added, zero_points, last, byte)

    def compute(
        self, primitives: Computing[Value], parameters: Parameters[Value], *operands: Value
    ) -> Sequence[Value]:
        """Codes of every part, each (..., outputs), from codes (..., inputs)."""
        product = self.accumulate(primitives, parameters, *operands)
        value = self.finish(primitives, parameters, product)
        if len(self.parts) == 1:
            return (value,)
        return primitives.split(value, self.widths)

    def accumulate(
        self, primitives: Computing[Value], parameters: Parameters[Value], codes: Value
    ) -> Value:
        """Accumulators of all parts side by side, without their bias."""
        p = primitives
        zero_points = parameters.zero_points
        product, *others = (
            p.matmul(block, zero_points[0], weights)
            if len(zero_points) == 1
            else p.matmul_words(block, zero_points, weights)
            for block, weights in zip(p.split(codes, self.blocks), parameters.weights, strict=True)
        )
        for other in others:
            product = p.add(product, other)
        if parameters.byte is not None:
            dropped = self.parts[0].dropped
            product = p.joined(product, parameters.byte, sum(self.widths), dropped)
        return product

    def finish(
        self, primitives: Computing[Value], parameters: Parameters[Value], product: Value
    ) -> Value:
        """Codes of all parts side by side."""
        total = product if parameters.bias is None else primitives.add(product, parameters.bias)
        return requantize.compute(primitives, parameters.requantization, self.results, total)

    def flash(self) -> Iterator[FlashItem]:
        """Weights packed at their width, or two planes of bytes, and biases."""
        for part in self.parts:
            size, bits = part.weight.size, part.type.bits
            weight, bias = part.contents
            if part.type.wide:
                high, low = part.planes
                yield FlashItem(high, "weight", size, size, size * bits, weight + b"high")
                yield FlashItem(low, "weight", size, content=weight + b"low")
            else:
                name = f"{part.output.name}/weight"
                yield FlashItem(name, "weight", part.type.size(size), size, size * bits, weight)
            yield FlashItem(
                f"{part.output.name}/bias", "bias", part.stored_bias.nbytes, content=bias
            )

    def proofs(self) -> Iterator[Proof]:
        """Range over all channels, by part."""
        for part in self.parts:
            yield Proof(part.output.name, int(part.extremes[0].min()), int(part.extremes[1].max()))

    @property
    def work(self) -> Iterator[Work]:
        """One entry per operator: every weight is multiplied once per step."""
        for part in self.parts:
            yield Work(self.kind, part.weight.size, self.operand_bits, part.type.bits)
