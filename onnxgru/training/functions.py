"""The functions of `onnxgru.core.activations` in torch, which knows their gradients."""

from typing import Any

from onnxgru.core.activations import Activation

Tensor = Any


def apply(function: Activation, x: Tensor) -> Tensor:
    """Value of a function at `x`, a tensor of any shape."""
    import torch
    from torch.nn import functional

    alpha, beta = function.alpha, function.beta
    if function.clip is not None:
        x = torch.clamp(x, -function.clip, function.clip)
    match function.name:
        case "Sigmoid":
            return torch.sigmoid(x)
        case "HardSigmoid":
            return torch.clamp(alpha * x + beta, 0.0, 1.0)
        case "Tanh":
            return torch.tanh(x)
        case "Softsign":
            return functional.softsign(x)
        case "Relu":
            return torch.relu(x)
        case "LeakyRelu":
            return functional.leaky_relu(x, alpha)
        case "ThresholdedRelu":
            return functional.threshold(x, alpha, 0.0)
        case "Elu":
            return functional.elu(x, alpha)
        case "Softplus":
            return functional.softplus(x)
        case "Affine":
            return alpha * x + beta
        case "ScaledTanh":
            return alpha * torch.tanh(beta * x)
        case "Complement":
            return 1.0 - x
    raise ValueError(f"{function.name} is no function of a cell")
