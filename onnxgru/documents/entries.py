"""Entries of ``report.json``: figures, sizes, operators and layers, each a record of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxgru.data.intervals import Interval
from onnxgru.documents.front import Metric
from onnxgru.documents.reading import named


@dataclass(frozen=True)
class Judging(Metric):
    """What programs were judged by.

    Parameters
    ----------
    target : {"labels", "reference"}
        What outputs are compared with; the reference is the float model.
    outputs : tuple of str
        The outputs that are judged.
    reason : str
        Why these; empty in reports of early versions.
    """

    target: str = "reference"
    outputs: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Quality:
    """Figures of one role's data.

    Parameters
    ----------
    integer, float_model : float or None
        Figures of the two models, in the metric's unit; None for infinite ones.
    sequences, counted : int
        Recordings, and what the figure counts: those, or their frames.
    float_interval, integer_interval : tuple of float, or None
        95 % intervals of the figures, low and high end.
    difference : float or None
        How much better the integer model is; None where the float model is the target.
    difference_interval : tuple of float, or None
        95 % interval of that.
    """

    integer: float | None
    float_model: float | None = named("float")
    sequences: int = 0
    counted: int = 0
    float_interval: Interval | None = None
    integer_interval: Interval | None = None
    difference: float | None = None
    difference_interval: Interval | None = None


@dataclass(frozen=True)
class OutputEntry:
    """One output of the model, on validation data.

    Parameters
    ----------
    name : str
        Its name.
    reached, state, judged : bool
        Whether a GRU reaches it, whether it is a state, and whether it is judged.
    metric, unit : str or None
        What its figures are; None where there are none.
    integer, float_model : float or None
        Figures of the two models.
    real : bool
        Whether it holds real numbers, and no classes.
    sqnr_db : float or None
        SQNR to the float model's output; None where both are equal, and for classes.
    """

    name: str
    reached: bool
    state: bool
    judged: bool
    metric: str | None
    unit: str | None
    integer: float | None
    float_model: float | None = named("float")
    real: bool = True
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Accumulator:
    """What the sum of a linear operator may reach.

    Parameters
    ----------
    bits : int
        Width that holds it.
    minimum, maximum : int
        Its extremes over all inputs.
    """

    bits: int
    minimum: int
    maximum: int


@dataclass(frozen=True)
class OperatorEntry:
    """One operator of the quantised model.

    Parameters
    ----------
    name, kind : str
        Its name, and what it computes.
    bits : int
        Width of its output.
    weight_bits : int or None
        Width of its weights, if it has any.
    sqnr_db : float or None
        SQNR of its output to that of the float model; None where both are equal.
    accumulator : Accumulator or None
        Extremes of its sum, if it has one.
    copy_bits : int or None
        Width of the copy of its output that narrow operators read, if there is one.
    """

    name: str
    kind: str
    bits: int
    weight_bits: int | None
    sqnr_db: float | None
    accumulator: Accumulator | None = None
    copy_bits: int | None = None


@dataclass(frozen=True)
class Widened:
    """The same program with 16 bits for inputs or for states.

    Parameters
    ----------
    validation : float or None
        Its figure on validation data; None where outputs are equal.
    before : float or None
        That of the program.
    layers : tuple of str
        Layers that have something of more bits.
    flash, ram : int
        Bytes that it has more of.
    """

    validation: float | None
    before: float | None
    layers: tuple[str, ...] = ()
    flash: int = 0
    ram: int = 0


@dataclass(frozen=True)
class Sizes:
    """What a program costs; see `onnxgru.cost.account.Account`.

    Parameters
    ----------
    flash : mapping of str to int
        Bytes by role.
    flash_bytes, weight_bits, ram, macs, dense_macs, accumulator_bits : int
        As there.
    mean_bits, reduction : float
        As there.
    """

    flash: Mapping[str, int] = field(default_factory=dict)
    flash_bytes: int = 0
    weight_bits: int = 0
    mean_bits: float = 0.0
    reduction: float = 0.0
    ram: int = 0
    macs: int = 0
    dense_macs: int = 0
    accumulator_bits: int = 0


@dataclass(frozen=True)
class Distance:
    """How far the annotated graph is from the integer one, in codes.

    Parameters
    ----------
    mean : float
        On average.
    largest : int
        At most.
    """

    mean: float
    largest: int = named("max")


@dataclass(frozen=True)
class Verified:
    """What was compared with the reference implementation.

    Parameters
    ----------
    runtime : str
        What ran the graph.
    sequences, codes, calls : int
        How much was compared.
    ties : int
        Codes at the border to float parts that rounding errors of these changed.
    """

    runtime: str
    sequences: int
    codes: int
    calls: int = 0
    ties: int = 0


@dataclass(frozen=True)
class StepState:
    """A state that is an input and output of the step form.

    Parameters
    ----------
    input, output, type : str
        Names in the graph, and type of the elements.
    shape : tuple of int, str or None
        Its shape (B, H); a name or None where B may be any number.
    scale : float
        Value of one code.
    zero_point : int
        Code of zero.
    first : any
        What the first call takes, as nested lists.
    """

    input: str
    output: str
    type: str
    shape: tuple[int | str | None, ...]
    scale: float
    zero_point: int
    first: Any


@dataclass(frozen=True)
class Stuck:
    """Units of a layer whose quantised state never changes.

    Parameters
    ----------
    layer : str
        The layer.
    units, of : int
        How many, of how many.
    bits : int
        Width of the state; 0 where it is not known.
    """

    layer: str
    units: int
    of: int
    bits: int = 0


@dataclass(frozen=True)
class Outlier:
    """Values of one input that no tail explains; see `onnxgru.calibration.glitches.Glitch`.

    Parameters
    ----------
    source, input : str
        Where the largest is.
    count : int
        How many values.
    recording : int
        Number of the recording with the largest, from 0.
    position : tuple of int
        Index of the largest.
    frames : bool
        Whether the position is that of a frame.
    value, limit : float
        The largest, and the largest magnitude of all other values.
    done : {"cut", "kept", "judged"}
        What was done about it.
    """

    source: str
    input: str
    count: int
    recording: int
    position: tuple[int, ...]
    frames: bool
    value: float
    limit: float
    done: str


@dataclass(frozen=True)
class LayerEntry:
    """A recurrent layer.

    Parameters
    ----------
    name, node, cell : str
        Its name, its node in the float model, and its kind of cell.
    recurrences : tuple of str
        Names of its directions.
    input_bits : int
        Width of its input.
    activations : str
        Names of functions, separated by commas, all directions one after the other.
    table : mapping or None
        The cell's table, where it is of no kind that is known by its name.
    input_copy_bits : int or None
        Width of the copy of its input that narrow operators read, if there is one.
    """

    name: str
    cell: str
    recurrences: tuple[str, ...]
    input_bits: int
    node: str = ""
    activations: str = ""
    table: Mapping[str, Any] | None = None
    input_copy_bits: int | None = None


@dataclass(frozen=True)
class Refused:
    """A node that stays in float.

    Parameters
    ----------
    node, reason : str
        Its name, and why.
    """

    node: str
    reason: str


@dataclass(frozen=True)
class Share:
    """Multiplications that a delta network eliminates on one role's data.

    Parameters
    ----------
    eliminated, eliminated_at_0 : float
        In per cent of all, with its thresholds and with thresholds of 0.
    difference : float or None
        How much higher the figure is than with thresholds of 0.
    difference_interval : tuple of float, or None
        95 % interval of that.
    """

    eliminated: float
    eliminated_at_0: float
    difference: float | None = None
    difference_interval: Interval | None = None


@dataclass(frozen=True)
class Operand:
    """A value that matrix products read where it changed.

    Parameters
    ----------
    name : str
        The value.
    threshold : int or None
        In codes; None where it has none, which is counted as 0.
    multiplications : int
        Per element that is read.
    eliminated : mapping of str to float
        Per cent by role.
    """

    name: str
    threshold: int | None
    multiplications: int
    eliminated: Mapping[str, float]


@dataclass(frozen=True)
class EliminatedByStep:
    """What is eliminated along the sequences.

    Parameters
    ----------
    role : str
        Of the data.
    steps : tuple of int
        Steps that are shown.
    whole : tuple of float
        Per cent of all multiplications, by step.
    operands : mapping of str to tuple of float
        The same for each operand.
    """

    role: str
    steps: tuple[int, ...]
    operands: Mapping[str, tuple[float, ...]]
    whole: tuple[float, ...] = named("all")


@dataclass(frozen=True)
class Delta:
    """What a delta network eliminates.

    Parameters
    ----------
    accumulator_bytes : int
        RAM a sequence of the accumulators that firmware keeps from step to step.
    roles : mapping of str to Share
        In all, by role.
    operands : tuple of Operand
        The values that are read where they changed.
    over_time : EliminatedByStep
        Along the sequences.
    """

    accumulator_bytes: int
    roles: Mapping[str, Share]
    operands: tuple[Operand, ...]
    over_time: EliminatedByStep
