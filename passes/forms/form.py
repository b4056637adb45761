"""Form: how a recurrence is written in a graph: as a Scan, as one step, or unrolled."""

from dataclasses import dataclass

import onnx_ir as ir

from onnxgru.core.errors import ModelError, UsageError
from onnxgru.passes import FORMS


@dataclass(frozen=True)
class Form:
    """How a recurrence is written in a graph.

    Parameters
    ----------
    name : {"scan", "step", "unrolled"}
        scan for any length; step for one time step per call, with the state as a graph input and
        output; unrolled for a fixed length.
    float_state : bool
        For step: the state's graph input and output are float32 instead of codes.
    steps : int, optional
        For unrolled: the length, where the model's input has no fixed one.
    batch : int, optional
        Recordings per call; the model's, or any number, where left out.

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
        """Time steps per call; None for any number, or for the number that the model fixes."""
        return {"step": 1, "unrolled": self.steps}.get(self.name)

    @property
    def whole(self) -> bool:
        """Whether a step computes everything itself, and nothing is computed for all steps before.

        The values of all steps of many recordings do not fit a processor's cache, and what follows
        a product is in the graph once, for the input and the state together.
        """
        return self.name != "unrolled"


def length(form: Form, layer: str, x: ir.Value | None) -> int:
    """Steps of an unrolled layer: those of its sequence if they are fixed, else the form's.

    Raises
    ------
    ModelError
        If neither is a number.
    """
    size = x.shape[0] if x is not None and x.shape is not None else None
    steps = size if isinstance(size, int) else form.steps
    if steps is None:
        raise ModelError(
            f"{layer} has no fixed number of steps, which the unrolled form needs; "
            "give it with --steps, or use --recurrence scan"
        )
    return steps
