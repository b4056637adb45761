"""RNN: one gate, whose function's value is the state."""

from onnxgru.core.cells import RNN
from onnxgru.passes.recognize.stacked import OnnxCell

CELL = OnnxCell("RNN", gates=("state",), functions={"f": "Tanh"}, cell=lambda _node: RNN)
"""The operator as `onnxgru.passes.recognize.layers` finds it."""
