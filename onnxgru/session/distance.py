"""How far the states of the annotated graph are from those of the integer graph."""

from typing import Any

import numpy as np
import onnx

from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.data.dataset import Recorded
from onnxgru.passes.forms.form import Form
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.sessions import onnxruntime_session
from onnxgru.session.emission import Emission


def distance(
    emission: Emission, program: IntegerProgram, scheme: Scheme, data: Recorded, most: int
) -> dict[str, Any]:
    """How far the annotated graph's states are from the integer graph's, in codes.

    Compared where a layer's states leave it as real numbers.

    Parameters
    ----------
    emission : Emission
        Makes the annotated graph.
    program, scheme : IntegerProgram, Scheme
        What both graphs compute.
    data : Dataset or Corpus
        Recordings to compare them on.
    most : int
        How many of these, the first ones.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(emission.annotated(program, scheme, Form()))
    names = {}
    for layer in program.layers:
        ports = layer.ports
        if name := ports.sequence or next(iter(ports.last.values()), ""):
            names[name] = layer
    known = {output.name for output in probed.graph.output}
    for name in names:
        if name not in known:
            probed.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    run = onnxruntime_session(probed)
    largest, total, count = 0, 0, 0
    part = data.take(min(data.size, most))
    for values, _ in Evaluator(emission.model.host, part, once=True).states(program):
        found = run(values)
        for name, layer in names.items():
            quantization = layer.emitted
            codes = [quantization.quantize(a).astype(int) for a in (found[name], values[name])]
            apart = np.abs(codes[0] - codes[1])
            largest = max(largest, int(apart.max(initial=0)))
            total += int(apart.sum())
            count += apart.size
    return {"max": largest, "mean": round(total / max(1, count), 6), "codes": count}
