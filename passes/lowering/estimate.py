"""Estimate: sizes of a model's recurrences at uniform widths, without any data.

Without data, ranges are unknown, and every value gets about the same range. The real size differs
by a few bytes of parameters that only some ranges need, and by biases that take a byte more or less
each. It is smaller by 256 bytes (at 8 bits) for every lookup table that equals another one, because
equal tables are stored once. This happens where inputs saturate gates, most often with hard
sigmoids.
"""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import onnx_ir as ir

from onnxgru.calibration.calibration import Calibration
from onnxgru.core.integers import Quantization
from onnxgru.core.network import Layer
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import Account, account
from onnxgru.passes.lowering.lower import Lowering


class _Anything(Calibration):
    """A calibration without data."""

    def range(self, name: str, observer: str, bits: int, **_: Any) -> tuple[float, float]:
        """Nearly the same range for all, but no two equal, because equal tables count once."""
        largest = 4.0 + crc32(name.encode()) / 2**32
        return -largest, largest

    def gate(self, name: str, codomain: Quantization, observer: str) -> Quantization:
        """The whole range of the function."""
        return codomain


def estimate(graph: ir.Graph, layers: Sequence[Layer], widths: Sequence[int]) -> dict[int, Account]:
    """Sizes at uniform widths.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Of a normalised model.
    layers : sequence of Layer
        Its layers.
    widths : sequence of int
        Bits of weights and values.

    Returns
    -------
    dict of int to Account
    """
    lower = Lowering(graph, layers, _Anything({}, {}, "0" * 64, 0))
    return {bits: account(lower(Scheme.uniform(layers, bits))) for bits in widths}
