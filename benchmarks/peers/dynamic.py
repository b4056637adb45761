"""Run in the peer's environment: `onnxruntime.quantization.quantize_dynamic` as it comes."""

import sys

from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

model, _, output = sys.argv[1:]
prepared = f"{output}.prepared.onnx"
quant_pre_process(model, prepared)  # without it onnxruntime #25890 stops the models of the zoo
quantize_dynamic(prepared, output)
