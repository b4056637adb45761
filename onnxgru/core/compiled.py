"""Loops in Python compiled by Numba: every sum in one order, nothing fused, no GIL."""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function at its first call; the machine code is cached where that is possible."""
    try:
        made: Function = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # there is no folder that could hold a cache
        made = njit(nogil=True, error_model="numpy")(function)
    return made
