"""Run in the peer's environment: AIMET-ONNX, activations at 8 bits, weights as integers."""

import sys

import aimet_onnx
import numpy as np
import onnx

model, calibration, output, width = sys.argv[1:]
message = onnx.load(model)
with np.load(calibration) as file:
    arrays = {value.name: file[value.name] for value in message.graph.input}
count = len(next(iter(arrays.values())))
kind = {"int8": aimet_onnx.int8, "int4": aimet_onnx.int4}[width]
first = {name: array[:1] for name, array in arrays.items()}
simulated = aimet_onnx.QuantizationSimModel(message, param_type=kind, dummy_input=first)
simulated.compute_encodings([{n: a[i : i + 1] for n, a in arrays.items()} for i in range(count)])
onnx.save(simulated.to_onnx_qdq(prequantize_constants=True), output)
