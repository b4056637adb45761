"""Torch devices for tests: the processor always, a GPU where there is one."""

from typing import Any

import pytest

DEVICES = ("cpu", "cuda")


def torch_device(name: str) -> Any:
    """The device, or the test is skipped with the reason."""
    torch = pytest.importorskip("torch")
    if name != "cpu" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    return torch.device(name)
