"""Run in the peer's environment: `onnxruntime.quantization.quantize_static` as it comes."""

import sys

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

model, calibration, output = sys.argv[1:]
names = [value.name for value in onnx.load(model).graph.input]
with np.load(calibration) as file:
    arrays = {name: file[name] for name in names}


class Reader(CalibrationDataReader):
    """The calibration data, a sequence at a time."""

    def __init__(self) -> None:
        count = len(next(iter(arrays.values())))
        self.rest = iter({n: a[i : i + 1] for n, a in arrays.items()} for i in range(count))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sequence."""
        return next(self.rest, None)


prepared = f"{output}.prepared.onnx"
quant_pre_process(model, prepared)
quantize_static(prepared, output, Reader())
