"""Vocabulary: the choice between operators that compute the same in an integer graph."""

from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.core.integers import IntegerType

LOOKUPS = ("Gather", "GatherElements")


@dataclass(frozen=True)
class Vocabulary:
    """Operators of an integer graph, where there is a choice.

    Parameters
    ----------
    lookup : {"Gather", "GatherElements"}
        What reads tables. onnxruntime takes ten times as long for Gather of single numbers, and
        onnx.reference refuses GatherElements of tables with more than 64 entries.
    float_division : bool
        Whether divisions must be exact where a runtime computes them in float32, as OpenVINO does.
        If not, there is no BitwiseAnd before them.
    uint16 : bool
        Whether codes of 16 bits are uint16. If not, they are int32, for compilers without uint16.
    alike : bool
        Whether layers of equal sizes and widths must have the same nodes for all numbers. Then no
        node is left out because of a stored number that differs between layers.
    numbers : bool
        Whether Mul and Div may read one number for all columns. If not, they read one per column,
        because tract follows such numbers backwards through the graph, and its time doubles with
        every step of an unrolled recurrence.
    """

    lookup: str = "Gather"
    float_division: bool = True
    uint16: bool = True
    alike: bool = False
    numbers: bool = True

    def element(self, kind: IntegerType) -> ir.DataType:
        """Element type of tensors that hold codes."""
        if kind.wide and not self.uint16:
            return ir.DataType.INT32
        return ir.DataType.from_numpy(kind.container)
