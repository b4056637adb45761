"""Regions: the inputs and outputs of every direction of a recurrent layer in a graph.

`onnxgru.passes.forms.recurrence` notes them by name while it makes a graph, and passes that replace
whole layers read them. The notes stay in memory and are in no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

REGIONS = "onnxgru.regions"
"""Key of the notes in `onnx_ir.Graph.meta`, which no file holds."""


@dataclass(frozen=True)
class Region:
    """One direction of a recurrent layer in a graph.

    Parameters
    ----------
    name : str
        Of the recurrence.
    inputs : tuple of str
        The sequence (T, B, I); the mask (T, B, 1) where sequences have lengths; the value (B, N) of
        every carry before the first step.
    outputs : tuple of str
        What is emitted (T, B, H); the value (B, N) of every carry after the last step.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(
        cls,
        name: str,
        x: ir.Value,
        mask: ir.Value | None,
        first: Mapping[str, ir.Value],
        emitted: ir.Value,
        last: Mapping[str, ir.Value],
    ) -> "Region":
        """The region of these values; carries are given by name."""
        given = [x] if mask is None else [x, mask]
        inputs = (str(value.name) for value in (*given, *first.values()))
        return cls(name, tuple(inputs), tuple(str(v.name) for v in (emitted, *last.values())))


def mark(graph: ir.Graph, regions: Sequence[Region]) -> None:
    """Add regions to the notes of a graph."""
    graph.meta[REGIONS] = (*marked(graph), *regions)


def marked(graph: ir.Graph) -> tuple[Region, ...]:
    """Regions that a graph's notes hold."""
    found: tuple[Region, ...] = graph.meta.get(REGIONS, ())
    return found
