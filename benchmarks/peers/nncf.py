"""Run in the peer's environment: `nncf.quantize` or `nncf.compress_weights` as they come."""

import sys

import nncf
import numpy as np
import onnx

model, calibration, output, verb = sys.argv[1:]
message = onnx.load(model)
if verb == "compress_weights":
    onnx.save(nncf.compress_weights(message), output)
else:
    with np.load(calibration) as file:
        arrays = {value.name: file[value.name] for value in message.graph.input}
    count = len(next(iter(arrays.values())))
    items = [{name: a[i : i + 1] for name, a in arrays.items()} for i in range(count)]
    onnx.save(nncf.quantize(message, nncf.Dataset(items), subset_size=count), output)
