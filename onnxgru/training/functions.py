"""The functions of `onnxgru.core.activations` in torch, which knows their gradients."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from onnxgru.core.activations import Activation

Tensor = Any


def apply(function: Activation, x: Tensor) -> Tensor:
    """Value of a function at `x`, a tensor of any shape."""
    import torch

    if function.clip is not None:
        x = torch.clamp(x, -function.clip, function.clip)
    return _functions()[function.name](x, function.alpha, function.beta)


@cache
def _functions() -> Mapping[str, Callable[[Tensor, float, float], Tensor]]:
    """A function for every row of `onnxgru.core.activations.FORMS`; torch is not loaded before."""
    import torch
    from torch.nn import functional

    return {
        "Sigmoid": lambda x, _alpha, _beta: torch.sigmoid(x),
        "HardSigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0.0, 1.0),
        "Tanh": lambda x, _alpha, _beta: torch.tanh(x),
        "Softsign": lambda x, _alpha, _beta: functional.softsign(x),
        "Relu": lambda x, _alpha, _beta: torch.relu(x),
        "LeakyRelu": lambda x, alpha, _beta: functional.leaky_relu(x, alpha),
        "ThresholdedRelu": lambda x, alpha, _beta: functional.threshold(x, alpha, 0.0),
        "Elu": lambda x, alpha, _beta: functional.elu(x, alpha),
        "Softplus": lambda x, _alpha, _beta: functional.softplus(x),
        "Affine": lambda x, alpha, beta: alpha * x + beta,
        "ScaledTanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
        "Complement": lambda x, _alpha, _beta: 1.0 - x,
    }
