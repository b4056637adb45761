"""Requantisation, written once over the primitives: the last part of linear, add and mul.

::

    v = clip((acc + 2^(p-1)) >> p, -2^c, 2^c)
    y = clip(Z_y + ((v M + 2^(s-1)) >> s), 0, 2^b - 1)

See `onnxgru.core.fixedpoint` for the derivation of M, s, p and c and for the error bound.
"""

from collections.abc import Mapping, Sequence

from onnxgru.core.primitives import Primitives, Value
from onnxgru.core.program import Output


def compute(
    p: Primitives[Value],
    parameters: Mapping[str, Value],
    outputs: Sequence[Output],
    accumulator: Value,
) -> Value:
    """Codes (uint8) of an accumulator (int32), both of shape (..., sum of channels)."""
    value = accumulator
    if p.general or any(output.requantization.pre_shift for output in outputs):
        rounded = p.add(value, parameters["pre_half"])
        value = p.floor_shift(rounded, parameters["pre_power"], parameters["pre_mask"])
    if p.general or any(output.clips for output in outputs):
        value = p.clip(value, parameters["low"], parameters["high"])
    product = p.mul(value, parameters["multiplier"])
    return finish(p, parameters, p.add(product, parameters["half"]))


def finish(p: Primitives[Value], parameters: Mapping[str, Value], rounded: Value) -> Value:
    """Shift a value to which half of the power has been added, add the zero point, saturate."""
    value = p.floor_shift(rounded, parameters["power"], parameters["mask"])
    value = p.add(value, parameters["zero_point"])
    return p.narrow(p.clip(value, parameters["zero"], parameters["top"]))
