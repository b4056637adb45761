"""Run in the peer's environment: ESP-PPQ for ESP-DL at 8 bits, also written for onnxruntime."""

import sys

import numpy as np
import onnx
import torch
from esp_ppq.api import espdl_quantize_onnx, export_ppq_graph
from esp_ppq.core import TargetPlatform

model, calibration, output = sys.argv[1:]
[value] = onnx.load(model).graph.input
with np.load(calibration) as file:
    array = file[value.name]
loader = torch.utils.data.DataLoader(torch.from_numpy(array), batch_size=1)
quantised = espdl_quantize_onnx(
    model, f"{output}.espdl", loader, len(loader), [[1, *array.shape[1:]]], error_report=False
)
export_ppq_graph(quantised, TargetPlatform.ONNXRUNTIME, output)
