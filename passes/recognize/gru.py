"""GRU: ``linear_before_reset`` chooses the table; the gates are stacked as update, reset, new."""

import onnx_ir as ir

from onnxgru.core.cells import GRU_RESET_AFTER, GRU_RESET_BEFORE, Cell
from onnxgru.passes.recognize.stacked import OnnxCell


def _reset_after(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("linear_before_reset", 0))


def _cell(node: ir.Node) -> Cell:
    return GRU_RESET_AFTER if _reset_after(node) else GRU_RESET_BEFORE


def _suspicion(node: ir.Node, producer: str) -> str:
    if producer != "pytorch" or _reset_after(node):
        return ""
    return (
        "linear_before_reset is 0 in a model from pytorch, whose GRUs have 1; torch 2.9 and 2.10 "
        "wrote it wrongly: compare the model with its source"
    )


CELL = OnnxCell(
    "GRU",
    gates=("update", "reset", "new"),
    functions={"f": "Sigmoid", "g": "Tanh"},
    cell=_cell,
    attributes=("linear_before_reset",),
    shown=lambda node: {"linear_before_reset": str(int(_reset_after(node)))},
    suspicion=_suspicion,
)
"""The operator as `onnxgru.passes.recognize.layers` finds it."""
