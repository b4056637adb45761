"""How weights and values become integers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxgru import passes
from onnxgru.core.choices import (
    ACCUMULATOR_BITS,
    CELL_STATES,
    GRANULARITIES,
    MAXIMUM_BITS,
    MINIMUM_BITS,
    OBSERVERS,
    WIDE_BITS,
)
from onnxgru.rounding import METHODS
from onnxgru.settings.declare import About, Settings, declared, setting
from onnxgru.settings.kinds import (
    Choice,
    Location,
    Number,
    Switch,
    Texts,
    Thresholds,
    Whole,
)

AUTO = "auto"
"""Value of `ranges`: aligned where recordings are long, else saturating."""

BITS = 8
"""Width of all weights and outputs where nothing else is asked for."""

_WIDTH = Whole(MINIMUM_BITS, MAXIMUM_BITS)
_NODES = Texts("a list of node names or patterns", "NODE")


@dataclass(frozen=True, kw_only=True)
class Quantization(Settings):
    """How weights and values become integers."""

    about = About("quantization", "quantisation")

    bits: int | None = setting(
        None,
        _WIDTH,
        "one width for all weights and outputs; cell_state, wide_states and skip give some of them "
        "16 bits",
        unset=str(BITS),
        basic=True,
        keyed=False,  # a search has widths of its own, here and below
        example=4,
    )
    scheme: Path | str | None = setting(
        None,
        Location(),
        "take the widths of every operator from a scheme.json instead",
        basic=True,
        keyed=False,
        example="scheme.json",
    )
    weights_file: Path | str | None = setting(
        None,
        Location(),
        "read the integers of the weights from a finetuned.weights.npz; needs scheme",
        keyed=False,
        example="finetuned.weights.npz",
    )
    granularity: str = setting(
        "channel", Choice(GRANULARITIES), "part of a weight matrix that has a scale of its own"
    )
    observer: str = setting(
        "mse", Choice(OBSERVERS), "how ranges are chosen from the statistics of calibration"
    )
    ranges: str = setting(
        AUTO,
        Choice((AUTO, *passes.RANGES)),
        "which error the observer mse minimises; plain: the error of each value; saturating: the "
        "error behind sigmoid and tanh, where large values do not matter; aligned: as saturating, "
        "and both terms of the state's sum share the state's scale (for long sequences); auto: "
        "aligned if states are handed on from call to call or recordings have 60 steps or more, "
        "else saturating",
    )
    rounding: str = setting(
        "gptq",
        Choice(METHODS),
        "how weights are rounded; nearest: each weight by itself; gptq: the errors of all weights "
        "of one output cancel as far as possible on the calibration data",
    )
    bias_correction: bool = setting(
        False, Switch(), "correct the biases for the mean error of the rounded weights"
    )
    input_bits: int = setting(
        MAXIMUM_BITS,
        Whole(MINIMUM_BITS, MAXIMUM_BITS, also=WIDE_BITS),
        "width of the codes of a layer's float input; 16 helps where both quiet and loud values "
        "matter, as in spectra",
    )
    cell_state: str = setting(
        CELL_STATES[0],
        Choice(CELL_STATES),
        "width of a cell state, such as an LSTM's, which every step adds to and no matrix product "
        "reads; wide: 16 bits, or fewer if a search finds them enough; plain: as everything else",
    )
    wide_states: bool = setting(
        False,
        Switch(),
        "give 16 bits to states that every step adds to, such as a GRU's, and to what is added: "
        "for units that change slowly, and for few bits; matrix products and other operators read "
        "them in codes of the usual width",
    )
    skip: tuple[str, ...] = setting(
        (),
        Texts("a list of linear operators or layers, such as new.hidden", "NAME"),
        "keep these matrix products wide: their weights and inputs have 16 bits, and other "
        "operators read narrow copies of the inputs; NAME is an operator such as new.hidden or "
        "/gru/forward/new.hidden, a layer, or a shell pattern; with first: before it, only the "
        "first layer is meant; a search may choose between 16 bits and narrow codes",
        unset="none",
        example=("*.hidden",),
    )
    accumulator_bits: int = setting(
        ACCUMULATOR_BITS,
        Whole(8, ACCUMULATOR_BITS),
        "refuse schemes whose accumulators could need more bits",
    )
    delta: str | int | None = setting(
        None,
        Thresholds(),
        "make a delta network: matrix products read only elements that changed by more than so "
        "many codes since they were last read; a number, or numbers for some of first (the first "
        "layer's input), inputs (of the layers behind it) and hidden, such as "
        "hidden=8,inputs=2; auto: chosen on validation data",
        unset="none",
        keyed=False,  # chosen after a search
        example="auto",
    )
    delta_drop: float | None = setting(
        None,
        Number("of at least 0", lambda value: value >= 0),
        "with delta auto: how far thresholds may lower the validation figure; for accuracy and "
        "agreement, the answers that change, plus one standard error, must also be at most four "
        "times this many percent",
        unset="the default of max_drop",
        keyed=False,
        example=0.5,
    )
    include: tuple[str, ...] = setting(
        (), _NODES, "quantise only the recurrent nodes with this name or shell pattern", unset="all"
    )
    exclude: tuple[str, ...] = setting(
        (),
        _NODES,
        "keep the recurrent nodes with this name or shell pattern in float",
        unset="none",
    )
    head: bool = setting(
        False,
        Switch(),
        "quantise the dense layers around the recurrent ones too, with their activations: MatMul "
        "or Gemm with constant weights",
    )

    @property
    def needs_moments(self) -> bool:
        """Whether weights or biases are computed from the inputs of linear operators."""
        return self.weights_file is None and (self.rounding != "nearest" or self.bias_correction)

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Contradictions: settings that a scheme holds too, and a drop without thresholds."""
        usual = declared(Quantization)
        yield (
            self.delta_drop is not None and self.delta != AUTO,
            "delta_drop says how thresholds are chosen; give delta auto too, or leave out "
            "delta_drop",
        )
        for name in ("granularity", "observer", "input_bits", "cell_state", "skip", "wide_states"):
            yield (
                self.scheme is not None and getattr(self, name) != usual[name].default,
                f"a scheme says its own {name}; leave out {name}, or the scheme",
            )
