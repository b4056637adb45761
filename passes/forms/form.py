"""Form: which of its three forms a recurrence takes in a graph, and how many steps it has."""

from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.core.errors import ModelError, UsageError
from onnxgru.passes import FORMS

MANY = 32
"""Recordings per call from which it is faster that a step of a scan computes everything itself."""


@dataclass(frozen=True)
class Form:
    """Which form a recurrence takes.

    Parameters
    ----------
    name : {"scan", "step", "unrolled"}
        scan for any length, step for one time step a call with the state as graph input and
        output, unrolled for a fixed length.
    float_state : bool
        For step: the state's graph input and output are float32 instead of codes.
    steps : int, optional
        For unrolled: the length, where the model's input has none.
    batch : int, optional
        Recordings per call; any number, or the model's, where left out.

    Raises
    ------
    UsageError
        If the name is unknown or the number of steps is not positive.
    """

    name: str = "scan"
    float_state: bool = False
    steps: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.name not in FORMS:
            raise UsageError(f"a recurrence must be one of {', '.join(FORMS)}, got {self.name!r}")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"the number of steps must be at least 1, got {self.steps}")

    @property
    def length(self) -> int | None:
        """Time steps that every call takes, None for any number or that of the source model."""
        return {"step": 1, "unrolled": self.steps}.get(self.name)

    @property
    def whole(self) -> bool:
        """Whether a step reads its input, and nothing is computed of it for all steps before.

        Of many recordings, values of all steps do not fit a processor's cache.
        """
        many = self.batch is not None and self.batch >= MANY
        return self.name == "step" or (self.name == "scan" and many)


def length(form: Form, layer: str, x: ir.Value | None) -> int:
    """Steps of an unrolled layer: those of its sequence, or where that has any number, the form's.

    Raises
    ------
    ModelError
        If neither has any.
    """
    size = x.shape[0] if x is not None and x.shape is not None else None
    steps = size if isinstance(size, int) else form.steps
    if steps is None:
        raise ModelError(
            f"{layer} has no fixed number of steps, which the unrolled form needs; "
            "give it with --steps, or use --recurrence scan"
        )
    return steps
