"""Products that 32 bits do not hold are refused."""

import numpy as np
import pytest

from onnxgru.core.errors import ModelError
from onnxgru.core.integers import Quantization
from onnxgru.firmware.calls import require_fit
from onnxgru.firmware.expressions import Weights


def test_sums_that_leave_32_bits() -> None:
    operand = Quantization(1.0, 0, 8)
    require_fit(Weights("w", np.zeros((1, 33025), np.int8), 8), operand)
    with pytest.raises(ModelError) as caught:
        require_fit(Weights("w", np.zeros((1, 33026), np.int8), 8), operand)
    assert str(caught.value) == (
        "w: C code sums products in 32 bits, which 33026 features could exceed; use fewer bits "
        "for the weights or for what they multiply"
    )
