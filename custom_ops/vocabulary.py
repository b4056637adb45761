"""Vocabulary: which of several operators that compute the same an integer graph uses."""

from dataclasses import dataclass

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
    """

    lookup: str = "Gather"
    float_division: bool = True
