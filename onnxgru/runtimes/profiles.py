"""Profiles: how graphs are written for a group of consumers.

A profile avoids the operators that its consumers lack, which `onnxgru.runtimes.table` lists.
"""

from dataclasses import dataclass, field

from onnxgru.runtimes.table import lacking

WEIGHTS = ("packed", "int8", "native")
"""How graphs store weights."""


@dataclass(frozen=True)
class Profile:
    """Default settings of graphs for a group of consumers.

    Parameters
    ----------
    recurrence : str
        Form of the recurrence.
    batch : int or None
        Recordings per call; None for the model's.
    weights : str
        One of `WEIGHTS`.
    serves : tuple of str
        Names of the consumers.
    lookup : str
        One of `onnxgru.custom_ops.integer_graph.vocabulary.LOOKUPS`.
    without : frozenset of str
        Operators that integer arithmetic does not use.
    """

    recurrence: str
    batch: int | None
    weights: str
    serves: tuple[str, ...]
    lookup: str = "Gather"
    without: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", frozenset(lacking(self.serves)))


ONNXRUNTIME = "onnxruntime"

PROFILES = {
    ONNXRUNTIME: Profile(
        "scan", None, "packed", ("onnxruntime", "onnx.reference", "OpenVINO", "onnxruntime-web")
    ),
    "host": Profile(
        "scan", None, "packed", ("onnxruntime", "OpenVINO", "onnxruntime-web"), "GatherElements"
    ),
    "compilers": Profile("step", 1, "int8", ("Apache TVM", "IREE", "tract", "tinygrad")),
    "plain": Profile("step", 1, "int8", ("emx-onnx-cgen", "onnx2c", "MNN", "ncnn")),
}
"""Every profile by name."""
