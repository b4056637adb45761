"""The methods of rounding by name."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxgru.core.network import Layer
from onnxgru.rounding.bias import BiasCorrection
from onnxgru.rounding.gptq import Gptq
from onnxgru.rounding.nearest import Nearest, Rounding

Doubles = npt.NDArray[np.float64]


def resolve(
    layers: Sequence[Layer],
    name: str,
    *,
    bias_correction: bool,
    seconds: Mapping[str, Doubles],
    means: Mapping[str, Doubles],
) -> Rounding:
    """A method of rounding by its name.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    name : {"nearest", "gptq"}
        Which.
    bias_correction : bool
        Whether biases correct the mean error.
    seconds, means : mapping of str to ndarray of float64, shape (N, N) and (N,)
        E[x x^T] and E[x] of every operand of a linear operator; empty where the method needs none.
    """
    seconds, means = _pooled(layers, seconds), _pooled(layers, means)
    found: Rounding = Gptq(layers, seconds) if name == "gptq" else Nearest(layers)
    return BiasCorrection(found, means) if bias_correction else found


def _pooled(layers: Sequence[Layer], figures: Mapping[str, Doubles]) -> dict[str, Doubles]:
    """Figures that are averaged over recurrences with equal weights.

    Their codes are equal then, and equal codes are stored once.
    """
    pooled = dict(figures)
    groups: dict[object, list[list[str]]] = {}
    for layer in layers:
        for recurrence in layer.recurrences:
            linear = recurrence.linears
            key = tuple((o.row, o.weight.tobytes(), o.bias.tobytes()) for o in linear)
            groups.setdefault(key, []).append([operator.inputs[0] for operator in linear])
    for members in groups.values():
        for operands in zip(*members, strict=True) if len(members) > 1 else ():
            known = [figures[name] for name in operands if name in figures]
            pooled |= dict.fromkeys(operands, sum(known) / len(known)) if known else {}
    return pooled
