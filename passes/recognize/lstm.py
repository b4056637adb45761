"""LSTM: ``input_forget`` and peepholes choose the table; gates are input, output, forget, new."""

import onnx_ir as ir

from onnxgru.core.cells import LSTMS, MEMORY, STATE, Cell
from onnxgru.passes.graph import recurrent
from onnxgru.passes.recognize.stacked import OnnxCell


def _coupled(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("input_forget", 0))


def _cell(node: ir.Node) -> Cell:
    return LSTMS[_coupled(node), "P" in recurrent.inputs(node)]


CELL = OnnxCell(
    "LSTM",
    gates=("input", "output", "forget", "new"),
    functions={"f": "Sigmoid", "g": "Tanh", "h": "Tanh"},
    cell=_cell,
    attributes=("input_forget",),
    shown=lambda node: {"input_forget": str(int(_coupled(node)))},
    carries={STATE: ("initial_h", "Y_h"), MEMORY: ("initial_c", "Y_c")},
    unclipped=("h",),
    peepholes=("input", "output", "forget"),
)
"""The operator as `onnxgru.passes.recognize.layers` finds it."""
