"""Run in the peer's environment: AMD Quark's default configuration A8W8."""

import sys

import numpy as np
import onnx
from quark.onnx import CalibrationDataReader, ModelQuantizer, QConfig

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


ModelQuantizer(QConfig.get_default_config("A8W8")).quantize_model(model, output, Reader())
