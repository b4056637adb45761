"""The torch device on which candidates are evaluated."""

import warnings
from typing import Any

from onnxgru.core import install
from onnxgru.core.errors import UsageError


def resolve(name: str) -> Any:
    """The torch device of a name, after a check that it works.

    Parameters
    ----------
    name : str
        ``cuda`` or ``cuda:N``.

    Returns
    -------
    torch.device

    Raises
    ------
    UsageError
        If torch is not installed, finds no such GPU, or cannot use it.
    """
    try:
        import torch
    except ImportError as error:
        raise UsageError(
            f"device {name} needs torch, which cannot be imported ({error}); "
            f"{install.hint('torch')}, or leave out device"
        ) from error
    device = torch.device(name)
    with warnings.catch_warnings(record=True) as caught:  # why there is none is told by a warning
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        raise UsageError(
            f"device {name} needs a GPU that torch can use, but torch {torch.__version__} "
            f"{_obstacle(torch, caught)}; install what is missing, or leave out device"
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise UsageError(
            f"device {name} must be one of the GPUs that torch finds, cuda:0 to "
            f"cuda:{count - 1}; give one of them"
        )
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:  # too old for this torch, or taken by another process
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"device {name} must be able to compute, but torch {torch.__version__} fails on it "
            f"({reason}); give another device, or leave it out"
        ) from error
    return device


def _obstacle(torch: Any, caught: list[warnings.WarningMessage]) -> str:
    """Why torch has no GPU, in words."""
    if not torch.backends.cuda.is_built():
        return "is built without CUDA"
    reason = " ".join(str(caught[0].message).split()) if caught else "no driver, or no GPU"
    return f"finds none ({reason})"


def require_exact_products(torch: Any) -> None:
    """Refuse settings under which torch may round the operands of float32 products.

    The settings belong to the process, and other threads may rely on them. So they are read and
    never changed.

    Raises
    ------
    UsageError
        If TF32 is allowed.
    """
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and newer, where the older name may raise
        exact = matmul.fp32_precision in ("none", "ieee")
    else:
        exact = not matmul.allow_tf32
    if not exact:
        raise UsageError(
            "a search on a device needs float32 products of full precision, but this process "
            'allows torch to use TF32; call torch.set_float32_matmul_precision("highest") first'
        )
