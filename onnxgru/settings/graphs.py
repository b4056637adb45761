"""The form of the graphs that are written."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from onnxgru import passes
from onnxgru.runtimes import profiles
from onnxgru.runtimes.profiles import Profile
from onnxgru.settings.declare import About, Settings, setting
from onnxgru.settings.kinds import Choice, Switch, Whole


@dataclass(frozen=True, kw_only=True)
class Graphs(Settings):
    """The form of the graphs that are written. All forms compute the same codes."""

    about = About("graphs", "graphs")

    profile: str = setting(
        profiles.ONNXRUNTIME,
        Choice(tuple(profiles.PROFILES)),
        "consumer that the graphs are for; onnxruntime: any length, also onnx.reference, OpenVINO "
        "and the web; host: the same without onnx.reference, faster in onnxruntime; compilers: one "
        "step and one recording per call, bytes for weights, for TVM, IREE, tract and tinygrad; "
        "plain: the same without BitwiseAnd, for generators of C",
        keyed=False,  # as all profiles and forms compute the same codes
    )
    recurrence: str | None = setting(
        None,
        Choice(passes.FORMS),
        "form of the recurrence; scan: takes any length; step: is called once per step, with the "
        "state as input and output; unrolled: has no loop",
        unset="the profile's",
        keyed=False,
        example="scan",
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
        unset="the profile's, or the model's",
        keyed=False,
        example=1,
    )
    weights: str | None = setting(
        None,
        Choice(profiles.WEIGHTS),
        "how integer.onnx stores weights; packed: at their true width, unpacked by the graph; "
        "int8: a byte each, and nothing to unpack; native: as int4 and int2 of ONNX",
        unset="the profile's",
        keyed=False,
        example="packed",
    )
    functions: bool = setting(
        False,
        Switch(),
        "write each direction of a recurrent layer as one node with a model-local function; layers "
        "of the same sizes share one",
        keyed=False,
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

    def chosen(self) -> Profile:
        """The profile, with the settings that are given in place of its own."""
        profile = profiles.PROFILES[self.profile]
        given = {name: getattr(self, name) for name in ("recurrence", "batch", "weights")}
        return replace(profile, **{n: value for n, value in given.items() if value is not None})

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Contradictions: settings that belong to another form of the recurrence."""
        recurrence = self.chosen().recurrence
        for name, form in (("steps", "unrolled"), ("float_state", "step")):
            yield (
                bool(getattr(self, name)) and recurrence != form,
                f"{name} belongs to recurrence {form}, got {recurrence}; "
                f"give {form}, or leave out {name}",
            )
