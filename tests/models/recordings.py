"""Where the tests find MNIST and Speech Commands, which are not part of the repository."""

import os

import pytest

from onnxgru.models.sources import VARIABLE

needs_data = pytest.mark.skipif(
    VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder with MNIST and Speech Commands"
)
