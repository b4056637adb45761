"""The form of the graphs that are written."""

from collections.abc import Iterator
from dataclasses import dataclass

from onnxgru import passes
from onnxgru.settings.declare import About, Settings, setting
from onnxgru.settings.kinds import Choice, Switch, Whole


@dataclass(frozen=True, kw_only=True)
class Graphs(Settings):
    """The form of the graphs that are written. All forms compute the same codes."""

    about = About("graphs", "graphs")

    recurrence: str = setting(
        "scan",
        Choice(passes.FORMS),
        "form of the recurrence; scan: takes any length; step: is called once per step, with the "
        "state as input and output; unrolled: has no loop",
        keyed=False,  # as all forms compute the same codes
    )
    steps: int | None = setting(
        None,
        Whole(1, metavar="T"),
        "length of the unrolled form",
        unset="the model's",
        keyed=False,
        example=16,
    )
    batch: int | None = setting(
        None,
        Whole(1, metavar="N"),
        "recordings that the graphs take per call; several compilers need a fixed number",
        unset="the model's",
        keyed=False,
        example=1,
    )
    float_state: bool = setting(
        False,
        Switch(),
        "step form: the states at the graph's boundary are float32 instead of integer codes",
        keyed=False,
    )

    annotation: str = setting(
        "qcdq",
        Choice(passes.ANNOTATIONS),
        "quantisers of annotated.onnx; qcdq: QuantizeLinear, Clip and DequantizeLinear; qonnx: "
        "the Quant nodes of QONNX",
        keyed=False,
    )
    golden: int = setting(
        1,
        Whole(1),
        "test data sets to write, one call each; in step form the states are handed on",
        keyed=False,
    )

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Some settings belong to one form."""
        for name, form in (("steps", "unrolled"), ("float_state", "step")):
            yield (
                bool(getattr(self, name)) and self.recurrence != form,
                f"{name} belongs to recurrence {form}, got {self.recurrence}; "
                f"give {form}, or leave out {name}",
            )
