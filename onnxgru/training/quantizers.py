"""Quantisers that gradients pass: rounding whose derivative is 1, with a scale that can be learned.

Forward, codes are what the integer program has::

    q = clip(round(x / s) + z, low, high)        y = s (q - z)

with the spacing of `WeightType` where that is not 1.

Backward, the gradient of x passes where x is within the codes' range (the straight-through
estimator, Bengio et al. 2013, arXiv 1308.3432), and that of a learned scale is, as in LSQ (Esser
et al. 2020, arXiv 1902.08153)::

    dy/ds = q - z - x / s   within the range,    q - z   beyond it

times 1 / sqrt(N high), N the elements of the tensor, or of a row that has its own scale. What is
trained is the logarithm of the scale's growth, so that scales of all magnitudes are learned at one
pace and start exactly where they were.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from onnxgru.core.activations import Activation
from onnxgru.core.choices import MAXIMUM_BITS
from onnxgru.core.integers import Codes, Floats, Quantization, WeightType
from onnxgru.core.weights import SPREAD
from onnxgru.training.functions import apply

Tensor = Any

MOST_LEVELS = 1 << MAXIMUM_BITS
"""Of codes that are bytes."""


@cache
def _learned() -> Any:
    """The function ``apply(x, scale, *codes)``, see `_rounded`; torch is not loaded before."""
    import torch

    class Learned(torch.autograd.Function):  # type: ignore[misc]  # torch is loaded late
        """Quantises with a scale that has a gradient: one number, or one a row, (N, 1)."""

        @staticmethod
        def forward(
            context: Any,
            x: Tensor,
            scale: Tensor,
            zero_point: int,
            low: int,
            high: int,
            spacing: int,
        ) -> Tensor:
            steps, within, growth = _rounded(x, scale, zero_point, low, high, spacing)
            context.save_for_backward(within, growth, scale)
            context.high = high
            return steps * scale

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            within, growth, scale = context.saved_tensors
            slope = gradient * growth
            factor = 1 / math.sqrt(growth.numel() // scale.numel() * context.high)
            total = slope.sum(dim=-1, keepdim=True) if scale.dim() else slope.sum()
            return gradient * within, total * factor, None, None, None, None

    return Learned.apply


def _rounded(
    x: Tensor, scale: Tensor, zero_point: int, low: int, high: int, spacing: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes less the zero point, whether they are within the range, and dy/ds."""
    ratio = x * (1 / scale)  # as `Quantization.quantize` does
    offset = spacing - 1
    codes = ((ratio - offset) / spacing).round() * spacing + offset + zero_point
    limited = codes.clamp(low, high)
    within, steps = codes == limited, limited - zero_point
    return steps, within, steps - ratio * within


class ValueQuantizer:
    """Quantiser of a value, one scale a tensor.

    Parameters
    ----------
    quantization : Quantization
        Scale, zero point and width to start with.
    learned : bool
        Whether the scale is trained; the zero point never is.
    follows : ValueQuantizer, optional
        Another one, with whose scale this one's grows.
    """

    def __init__(
        self,
        quantization: Quantization,
        *,
        learned: bool = False,
        follows: "ValueQuantizer | None" = None,
    ) -> None:
        import torch

        self._torch = torch
        self._start = quantization
        own = [torch.zeros((), requires_grad=True)] if learned else []
        self.parameters: list[Tensor] = own if follows is None else follows.parameters
        """Logarithm of the scale's growth, if it is trained."""

    @property
    def scale(self) -> Tensor:
        """Of the codes, as trained."""
        start = self._torch.tensor(self._start.scale)
        return start * self._torch.exp(self.parameters[0]) if self.parameters else start

    def __call__(self, x: Tensor) -> Tensor:
        """Values (float32) on the grid, from values of any shape, float32 or float64."""
        start, top = self._start, self._start.type.maximum
        if not self.parameters and x.dtype == self._torch.float32:
            return self._torch.fake_quantize_per_tensor_affine(
                x, start.scale, start.zero_point, 0, top
            )
        found = _learned()(x, self.scale.to(x.dtype), start.zero_point, 0, top, 1)
        return found.to(self._torch.float32)

    @property
    def quantization(self) -> Quantization:
        """What it began with: zero point and width stay."""
        return self._start

    def table(self, function: Activation, read: "ValueQuantizer") -> tuple[Codes, Floats, Floats]:
        """A function of everything that another quantiser has codes for.

        Computed in float64 as tables are made: half of a gate lies between two codes of every
        width.

        Parameters
        ----------
        function : Activation
            The function.
        read : ValueQuantizer
            Of what it is computed of.

        Returns
        -------
        codes : ndarray of uint8 or uint16, shape (levels,)
            By the code that is read; 0 beyond the largest. There are 256, or 65,536 of wide codes.
        slopes, growths : ndarray of float32, shape (levels,)
            Derivatives of the value by what is read, and by its own scale.
        """
        torch, entry = self._torch, read.quantization
        levels = entry.type.levels
        with torch.enable_grad():
            x = (torch.arange(levels) - entry.zero_point) * read.scale.detach()
            y = apply(function, x.requires_grad_().double())
            (slope,) = torch.autograd.grad(y.sum(), x)
        zero_point, top = self._start.zero_point, self._start.type.maximum
        scale = self.scale.detach().double()
        steps, within, growth = _rounded(y.detach(), scale, zero_point, 0, top)
        found = np.zeros((3, max(MOST_LEVELS, levels)))
        found[:, :levels] = torch.stack((steps + zero_point, slope * within, growth)).numpy()
        # Scales that diverged have no codes.
        codes = np.nan_to_num(found[0]).astype(self._start.type.container)
        return codes, found[1].astype(np.float32), found[2].astype(np.float32)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that has a code, of the scale as trained."""
        low, high = self._start.range
        growth = self._torch.exp(self.parameters[0]).item() if self.parameters else 1.0
        return low * growth, high * growth


class WeightQuantizer:
    """Symmetric quantiser of a matrix, one scale a row.

    Computed in float64, as `onnxgru.core.weights` does, so that it finds the same codes.

    Parameters
    ----------
    scales : ndarray of float32, shape (outputs,)
        To start with.
    bits : int
        Width, 2 to 8.
    growth : tensor of float32, shape (outputs, 1) or (1, 1), optional
        Logarithms of what scales are multiplied by, of every row or of all rows alike; scales stay
        where left out.
    """

    def __init__(self, scales: Floats, bits: int, growth: Tensor | None = None) -> None:
        import torch

        self._torch = torch
        self._type = WeightType(bits)
        self._start = torch.from_numpy(np.array(scales))[:, None]
        self._growth = growth

    @property
    def scales(self) -> Tensor:
        """S_W, (outputs, 1), none far below the largest: see `onnxgru.core.weights`."""
        if self._growth is None:
            return self._start
        scales = self._start * self._torch.exp(self._growth)
        return self._torch.maximum(scales, scales.detach().max() / SPREAD)

    def __call__(self, weight: Tensor) -> Tensor:
        """Weights (outputs, inputs) on the grid."""
        top, spacing = self._type.maximum, self._type.spacing
        wide = _learned()(weight.double(), self.scales.double(), 0, -top, top, spacing)
        return wide.to(weight.dtype)

    def codes(self, weight: Tensor) -> Tensor:
        """Codes of weights, as float64."""
        top, spacing = self._type.maximum, self._type.spacing
        return _rounded(weight.double(), self.scales.double(), 0, -top, top, spacing)[0]
