"""The cache folder, which holds files that can be made or fetched again."""

import os
from pathlib import Path


def folder() -> Path:
    """Path of the cache folder: ``ONNXGRU_CACHE``, or one in the user's cache; it may not exist."""
    given = os.environ.get("ONNXGRU_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onnxgru"


def holds_kernels() -> bool:
    """Whether a kernel has been compiled on this machine before."""
    return any((folder() / "__pycache__").glob("kernel_*.nbc"))
