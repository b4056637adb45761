"""Calls: the text of the calls that multiply packed rows, see `onnxgru.firmware.packing`."""

from collections.abc import Iterator

from onnxgru.core.errors import ModelError
from onnxgru.core.integers import Quantization
from onnxgru.firmware.expressions import Weights
from onnxgru.firmware.packing import BLOCK, UNIT, Shape

LIMIT = 2**31


def require_fit(weights: Weights, operand: Quantization) -> None:
    """Refuse a product whose sums could leave 32 bits.

    Sums are those of stored codes of weights, which are not negative, times steps from the zero
    point.

    Raises
    ------
    ModelError
        If they could.
    """
    most = max(operand.zero_point, operand.type.maximum - operand.zero_point)
    largest = most * ((1 << weights.bits) - 1) * weights.codes.shape[1]
    if largest >= LIMIT:
        raise ModelError(
            f"{weights.name}: C code sums products in 32 bits, which {weights.codes.shape[1]} "
            f"features could exceed; use fewer bits for the weights or for what they multiply"
        )


def chain(
    form: str, shape: Shape, start: str, steps: str, words: str, stream: str, row: str
) -> str:
    """Calls that add up one row: blocks, units, single columns, as far as there are any."""
    bits, text, done = shape.bits, start, 0
    if shape.blocks:
        first = f"{words} + {row} * {shape.blocks * bits}"
        text = f"{form}_blocks_{bits}({text}, {steps}, {first}, {shape.blocks})"
        done = BLOCK * shape.blocks
    if shape.units:
        first = f"{row} * {shape.units}" if shape.units > 1 else row
        inner = f"{steps} + {done}" if done else steps
        text = f"{form}_units_{bits}({text}, {inner}, {stream}, {first}, {shape.units})"
        done += UNIT * shape.units
    if shape.singles:
        bit = f"{row} * {shape.singles * bits}"
        if shape.singles_start:
            bit = f"{shape.singles_start} + {bit}"
        inner = f"{steps} + {done}" if done else steps
        text = f"{form}_singles_{bits}({text}, {inner}, {stream}, {bit}, {shape.singles})"
    return text


def spread(
    form: str, shape: Shape, sums: str, change: str, words: str, stream: str
) -> Iterator[str]:
    """Calls that add one changed element's row to kept sums."""
    bits, done = shape.bits, 0
    if shape.blocks:
        first = f"{words} + j * {shape.blocks * bits}"
        yield f"{form}_blocks_{bits}({sums}, {change}, {first}, {shape.blocks})"
        done = BLOCK * shape.blocks
    if shape.units:
        inner = f"{sums} + {done}" if done else sums
        first = f"j * {shape.units}" if shape.units > 1 else "j"
        yield f"{form}_units_{bits}({inner}, {change}, {stream}, {first}, {shape.units})"
        done += UNIT * shape.units
    if shape.singles:
        inner = f"{sums} + {done}" if done else sums
        bit = f"j * {shape.singles * bits}"
        if shape.singles_start:
            bit = f"{shape.singles_start} + {bit}"
        yield f"{form}_singles_{bits}({inner}, {change}, {stream}, {bit}, {shape.singles})"
