"""The elementwise operators of a cell on codes, and their derivatives, compiled.

Values of a step lie beside each other, codes (rows, slots, H), a row for every sequence at every
step, so that a row passes all operators of a stage within the processor's nearest cache.

An instruction is a row of integers::

    PRODUCT   slot of the output   first column in the products   -
    ADD, MUL  slot of the output   slot                           slot
    SCALE     slot of the output   slot                           vector
    LOOKUP    slot of the output   slot                           table
"""

import numpy as np
import numpy.typing as npt

from onnxgru.core.compiled import compiled
from onnxgru.core.integers import Codes, Floats

PRODUCT, ADD, MUL, SCALE, LOOKUP = range(5)

Instructions = npt.NDArray[np.int64]

FAR = np.float32(2.0**20)
"""Beyond all codes, and small enough for the sum that rounds."""
ROUNDING = np.float32(1.5 * 2.0**23)
"""Added and taken away, it rounds half to even; the sum vectorises where a function would not."""
NONE = np.float32(0.0)


@compiled
def _rounded(ratio: np.float32) -> np.float32:
    return (min(max(ratio, -FAR), FAR) + ROUNDING) - ROUNDING


@compiled
def _passed(
    gradient: np.float32, ratio: np.float32, low: np.float32, high: np.float32
) -> np.float32:
    """Gradient before rounding: what is within the codes' range lets it through."""
    return gradient if low <= _rounded(ratio) <= high else NONE


@compiled
def _growth(ratio: np.float32, low: np.float32, high: np.float32) -> np.float32:
    """Derivative of the rounded value by its scale, see `onnxgru.training.quantizers`."""
    steps = _rounded(ratio)
    limited = min(max(steps, low), high)
    return limited - ratio if limited == steps else limited


@compiled
def _of_scale(
    kind: int,
    gradient: Floats,
    codes: Codes,
    products: Floats,
    first: int,
    second: int,
    vectors: Floats,
    scales: Floats,
    zero_points: Floats,
    inverse: np.float32,
    low: np.float32,
    high: np.float32,
    growths: Floats,
) -> float:
    """Gradient of the scale of an instruction's output, of one row."""
    total = 0.0
    for h in range(len(gradient)):
        if kind == LOOKUP:
            total += gradient[h] * growths[second, codes[first, h]]
            continue
        if kind == PRODUCT:
            value = products[first + h]
        else:
            a = (np.float32(codes[first, h]) - zero_points[first]) * scales[first]
            if kind == SCALE:
                value = a * vectors[second, h]
            else:
                b = (np.float32(codes[second, h]) - zero_points[second]) * scales[second]
                value = a + b if kind == ADD else a * b
        total += gradient[h] * _growth(value * inverse, low, high)
    return total


@compiled
def forward(
    codes: Codes,
    products: Floats,
    instructions: Instructions,
    vectors: Floats,
    scales: Floats,
    zero_points: Floats,
    tops: Floats,
    tables: Codes,
    going: npt.NDArray[np.bool_],
    start: int,
    stop: int,
    kept: npt.NDArray[np.int64],
) -> None:
    """Compute the operators of a stage for some rows.

    Parameters
    ----------
    codes : ndarray of uint8 or uint16, shape (rows, slots, H)
        Written where the outputs are.
    products : ndarray of float32, shape (rows, columns)
        Of the linear operators, biases included.
    instructions : ndarray of int64, shape (N, 4)
        The operators, in order.
    vectors : ndarray of float32, shape (vectors, H)
        What values are scaled with.
    scales, zero_points, tops : ndarray of float32, shape (slots,)
        Of the values in the slots, and their largest codes.
    tables : ndarray of uint8 or uint16, shape (tables, levels)
        Codes by codes.
    going : ndarray of bool, shape (rows,)
        Where a sequence has ended, what it carries gets the codes of the step before.
    start, stop : int
        The rows.
    kept : ndarray of int64, shape (C, 2)
        Slots of every carry before and after the step.
    """
    width = codes.shape[2]
    for row in range(start, stop):
        if not going[row]:
            for index in range(len(kept)):
                codes[row, kept[index, 1]] = codes[row, kept[index, 0]]
            continue
        for index in range(len(instructions)):
            kind, out, first, second = instructions[index]
            written = codes[row, out]
            if kind == LOOKUP:
                table, read = tables[second], codes[row, first]
                for h in range(width):
                    written[h] = table[read[h]]
                continue
            inverse = np.float32(1.0) / scales[out]
            zero_point, top = zero_points[out], tops[out]
            if kind == PRODUCT:
                product = products[row, first : first + width]
                for h in range(width):
                    code = _rounded(product[h] * inverse) + zero_point
                    written[h] = min(max(code, NONE), top)
                continue
            left = codes[row, first]
            scale_left, zero_left = scales[first], zero_points[first]
            if kind == SCALE:
                vector = vectors[second]
                for h in range(width):
                    a = (np.float32(left[h]) - zero_left) * scale_left
                    code = _rounded(a * vector[h] * inverse) + zero_point
                    written[h] = min(max(code, NONE), top)
                continue
            right = codes[row, second]
            scale_right, zero_right = scales[second], zero_points[second]
            for h in range(width):
                a = (np.float32(left[h]) - zero_left) * scale_left
                b = (np.float32(right[h]) - zero_right) * scale_right
                value = a + b if kind == ADD else a * b
                code = _rounded(value * inverse) + zero_point
                written[h] = min(max(code, NONE), top)


@compiled
def backward(  # noqa: PLR0912 - a branch an operator, in one loop for speed
    codes: Codes,
    products: Floats,
    instructions: Instructions,
    vectors: Floats,
    scales: Floats,
    zero_points: Floats,
    tops: Floats,
    slopes: Floats,
    growths: Floats,
    going: npt.NDArray[np.bool_],
    start: int,
    stop: int,
    gradients: Floats,
    of_products: Floats,
    of_vectors: npt.NDArray[np.float64],
    of_scales: npt.NDArray[np.float64],
    learned: bool,
) -> None:
    """Pass gradients back through the operators of a stage, for some rows.

    Parameters
    ----------
    codes, products, instructions, vectors, scales, zero_points, tops, going, start, stop
        As for `forward`, which has been run.
    slopes, growths : ndarray of float32, shape (tables, levels)
        Derivatives of a table's values by what it is looked up with, and by the values' scale.
    gradients : ndarray of float32, shape (stop - start, slots, H)
        Of the values; those of the operands are added to.
    of_products : ndarray of float32, shape (rows, columns)
        Written; zero where a sequence has ended.
    of_vectors : ndarray of float64, shape (vectors, H)
        Added to.
    of_scales : ndarray of float64, shape (slots,)
        Added to, if scales are learned.
    learned : bool
        Whether they are.
    """
    width = codes.shape[2]
    for row in range(start, stop):
        if not going[row]:
            of_products[row] = NONE
            continue
        for index in range(len(instructions) - 1, -1, -1):
            kind, out, first, second = instructions[index]
            gradient, to_first = gradients[row - start, out], gradients[row - start, first]
            low, high = -zero_points[out], tops[out] - zero_points[out]
            inverse = np.float32(1.0) / scales[out]
            if learned:
                of_scales[out] += _of_scale(
                    kind, gradient, codes[row], products[row], first, second, vectors, scales,
                    zero_points, inverse, low, high, growths,
                )  # fmt: skip
            if kind == LOOKUP:
                slope, read = slopes[second], codes[row, first]
                for h in range(width):
                    to_first[h] += gradient[h] * slope[read[h]]
            elif kind == PRODUCT:
                product = products[row, first : first + width]
                target = of_products[row, first : first + width]
                for h in range(width):
                    target[h] = _passed(gradient[h], product[h] * inverse, low, high)
            elif kind == SCALE:
                left, vector, to_vector = codes[row, first], vectors[second], of_vectors[second]
                scale_left, zero_left = scales[first], zero_points[first]
                for h in range(width):
                    a = (np.float32(left[h]) - zero_left) * scale_left
                    passed = _passed(gradient[h], a * vector[h] * inverse, low, high)
                    to_first[h] += passed * vector[h]
                    to_vector[h] += passed * a
            else:
                left, right = codes[row, first], codes[row, second]
                scale_left, zero_left = scales[first], zero_points[first]
                scale_right, zero_right = scales[second], zero_points[second]
                to_second = gradients[row - start, second]
                if kind == ADD:  # two loops, because one with a branch does not vectorise
                    for h in range(width):
                        a = (np.float32(left[h]) - zero_left) * scale_left
                        b = (np.float32(right[h]) - zero_right) * scale_right
                        passed = _passed(gradient[h], (a + b) * inverse, low, high)
                        to_first[h] += passed
                        to_second[h] += passed
                else:
                    for h in range(width):
                        a = (np.float32(left[h]) - zero_left) * scale_left
                        b = (np.float32(right[h]) - zero_right) * scale_right
                        passed = _passed(gradient[h], (a * b) * inverse, low, high)
                        to_first[h] += passed * b
                        to_second[h] += passed * a


@compiled
def decode(
    codes: Codes,
    slot: int,
    scale: np.float32,
    zero_point: np.float32,
    start: int,
    stop: int,
    values: Floats,
) -> None:
    """Write the values (rows, H) of a slot's codes, of some rows."""
    for row in range(start, stop):
        read, written = codes[row, slot], values[row]
        for h in range(len(read)):
            written[h] = (np.float32(read[h]) - zero_point) * scale
