"""The configuration of a quantisation, from Python, a TOML file, or the command line."""

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxgru.core import objectives
from onnxgru.core.errors import UsageError
from onnxgru.core.integers import ACCUMULATOR_BITS, widths
from onnxgru.core.reading import KINDS, Held, Source

GENOMES = ("split", "coupled")
GENES = ("bits", "observer", "granularity")
SHARES = ("none", "layer", "kind", "gate")
STRATEGIES = ("explore-exploit", "plain")
SCALES = ("weights", "all", "none")
ROUNDINGS = ("nearest", "gptq")
RANGES = ("plain", "saturating", "aligned")
AUTO = "auto"
"""Ranges as the data suggest: aligned where calls hand states on, else saturating."""
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "granularity": ("tensor", "gate", "channel"),
    "observer": ("minmax", "percentile", "mse", "entropy"),
    "rounding": ROUNDINGS,
    "ranges": (AUTO, *RANGES),
    "recurrence": ("scan", "step", "unrolled"),
    "genome": GENOMES,
    "share": SHARES,
    "strategy": STRATEGIES,
    "learned_scales": SCALES,
}
PROCESSOR = "cpu"
"""The device that everything runs on where nothing else is asked for."""

BITS = 8
"""Width of all weights and outputs where nothing else is asked for."""

TASKS = ("bits", "scheme", "search")
"""Settings of which one says what to do."""

OF_SEARCH = (
    "population", "generations", "jobs", "device", "scheduler", "genome", "search_inputs", "widths",
    "genes", "share", "objectives", "strategy", "max_drop",
)  # fmt: skip
"""Settings that say how to search."""

OF_FINETUNING = (
    "epochs", "teacher_epochs", "batch_size", "learning_rate", "distillation", "learned_scales",
    "averaging",
)  # fmt: skip
"""Settings that say how to fine-tune."""

_BITS = (2, 8)
_RANGES: Mapping[str, tuple[int, int | None]] = {
    "bits": _BITS,
    "input_bits": _BITS,
    "accumulator_bits": (8, ACCUMULATOR_BITS),
    "population": (4, None),
    "generations": (1, None),
    "seed": (0, None),
    "steps": (1, None),
    "verify": (1, None),
    "jobs": (1, None),
    "epochs": (1, None),
    "teacher_epochs": (0, None),
    "batch_size": (1, None),
}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?", re.ASCII)
_FLAGS = (
    "search", "force", "resume", "float_state", "search_inputs", "bias_correction",
    "finetune_candidates",
)  # fmt: skip
_DATA = ("calibration", "validation", "holdout", "finetune")
_TEXTS = {"batch_axis": "a list of texts such as x=1", "state": "a list of texts such as hn=h"}
_PATHS = ("scheme", "calibration_file", "weights_file", "output", *_DATA)
_OPTIONAL = ("bits", "steps", "jobs", "scheduler", "max_drop", "output_name", *_PATHS)
_ADDRESS = re.compile(r"([a-z]+://)?(\[[0-9a-fA-F:.%]+\]|[^\s/:\[\]]+):\d{1,5}/?")


@dataclass(frozen=True)
class Config:
    """Everything `quantize` can be told.

    Parameters
    ----------
    bits : int, optional
        Width of all weights and outputs, 2 to 8; `BITS` where neither it nor `scheme` nor `search`
        is given.
    scheme : path, optional
        Scheme file to use instead.
    search : bool
        Search for widths instead.
    calibration, validation, holdout : str, path or object, optional
        Data: a path, ``package.module:name``, or a Python object, `onnxgru.core.reading.Held`;
        ``<model>.<role>.npz`` beside the model where left out.
    calibration_file : path, optional
        Calibration to use instead of calibrating.
    weights_file : path, optional
        Integers of weights as fine-tuning left them, instead of rounding.
    finetune : str, path or object, optional
        Training data: fine-tune the scheme on them.
    epochs, batch_size, learning_rate, distillation, learned_scales, averaging
        How, `onnxgru.training.finetune.Settings`.
    teacher_epochs : int
        How many of the epochs go first to the model at 8 bits, which then starts and teaches the
        scheme in the float model's place.
    output : path, optional
        Output folder; ``<model>-onnxgru`` in the current folder where left out.
    force : bool
        Replace an existing output folder.
    resume : bool
        Continue the search or the fine-tuning in an existing output folder.
    granularity : {"channel", "gate", "tensor"}
        What shares a weight scale.
    observer : {"mse", "minmax", "percentile", "entropy"}
        How ranges are chosen from the statistics.
    ranges : {"auto", "plain", "saturating", "aligned"}
        Whether the observer ``mse`` counts the error of a function's operand, or of its codes; and
        whether what is added up to a state has the state's scale, or a multiple of it.
    rounding : {"nearest", "gptq"}
        How weights become codes: each by itself, or by the second moments of what they multiply.
    bias_correction : bool
        Take the mean error of rounded weights out of the biases.
    input_bits : int
        Width of the codes that a layer reads, 2 to 8.
    accumulator_bits : int
        Width that every accumulator must provably fit, up to 32.
    recurrence : {"scan", "step", "unrolled"}
        Form of the recurrence in the graphs.
    steps : int, optional
        Length of the unrolled form, where the model has none.
    float_state : bool
        Step form: float32 states at the graph's boundary.
    include, exclude : tuple of str
        GRU nodes by name or shell pattern.
    batch_axis : tuple of str
        Axes that hold the recordings, such as ``x=1``, or ``x=none`` for an input that is given
        once; found without being told where the graph or a measurement tells.
    state : tuple of str
        States that are handed on from call to call, such as ``hn=h`` (output = input), or
        ``none``; found without being told where names or shapes leave no doubt.
    metric : str or callable
        ``auto``, a name in `onnxgru.core.metrics.METRICS`, ``package.module:function``, or a
        function ``(outputs, labels) -> float``, higher is better.
    output_name : str, optional
        The output that is judged, or several, comma-separated; where left out, the one that labels
        fit, or all that a GRU reaches (`onnxgru.outputs`).
    genome : {"split", "coupled"}
        Genes of weights and outputs apart, or tied as in the published method.
    search_inputs : bool
        Give the width of every layer's input a gene.
    widths : str
        Widths that genes may take, such as ``2-8`` or ``2,4,8``.
    genes : str
        What genes decide: ``bits``, and ``observer`` and ``granularity`` if asked for.
    share : {"none", "layer", "kind", "gate"}
        Which operators have genes in common, `onnxgru.encoding.Encoding`.
    objectives : str
        What is minimised, `onnxgru.core.objectives`: ``error`` and one or two sizes, of which the
        last is the one that a member is chosen by.
    strategy : {"explore-exploit", "plain"}
        How the search goes, `onnxgru.search.nsga.Settings`.
    max_drop : float, optional
        How far the chosen member may fall below the best figure found on validation, in points or
        dB; exploitation searches no further down from uniform 8 bits. Where left out, what suits
        the metric (`onnxgru.core.metrics.Metric.default_drop`): 0.5 points, 3 dB against the float
        model, 0.5 dB against targets in the data.
    population, generations, seed : int
        Of NSGA-II.
    verify : int
        Sequences on which ``integer.onnx`` is compared with the oracle.
    jobs : int, optional
        Candidates evaluated at the same time; as many as there are cores where left out. The
        front does not depend on it.
    device : str
        What candidates of a search are evaluated on: ``cpu``, or ``cuda`` or ``cuda:N`` for a GPU
        through torch. The front does not depend on it.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``, on whose workers candidates
        are evaluated instead, one a thread. The front does not depend on it either.

    Raises
    ------
    UsageError
        If a value is wrong, or two contradict each other.
    """

    bits: int | None = None
    scheme: Path | str | None = None
    search: bool = False
    calibration: Source = None
    validation: Source = None
    holdout: Source = None
    calibration_file: Path | str | None = None
    weights_file: Path | str | None = None
    finetune: Source = None
    epochs: int = 10
    teacher_epochs: int = 0
    batch_size: int = 64
    learning_rate: float = 1e-3
    distillation: float = 0.5
    learned_scales: str = "weights"
    averaging: float = 0.0
    finetune_candidates: bool = False
    output: Path | str | None = None
    force: bool = False
    resume: bool = False
    granularity: str = "channel"
    observer: str = "mse"
    ranges: str = AUTO
    rounding: str = "gptq"
    bias_correction: bool = False
    input_bits: int = 8
    accumulator_bits: int = ACCUMULATOR_BITS
    recurrence: str = "scan"
    steps: int | None = None
    float_state: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    batch_axis: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    metric: str | Callable[..., float] = "auto"
    output_name: str | None = None
    genome: str = "split"
    search_inputs: bool = False
    widths: str = "2-8"
    genes: str = "bits"
    share: str = "none"
    objectives: str = "error,flash"
    strategy: str = "explore-exploit"
    max_drop: float | None = None
    population: int = 40
    generations: int = 20
    seed: int = 0
    verify: int = 256
    jobs: int | None = None
    device: str = PROCESSOR
    scheduler: str | None = None

    def __new__(cls, *_values: object, **settings: object) -> "Config":
        """Refuse settings that there are not, in one sentence."""
        check_names(settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in fields(self):
            check(field.name, getattr(self, field.name))
        for name in _DATA:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | Path | Held):
                object.__setattr__(self, name, Held(value))
        for contradicts, sentence in self._contradictions():
            if contradicts:
                raise UsageError(sentence)

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        """What settings must not say together, and whether they do."""
        asked = [name for name in TASKS if getattr(self, name) not in (None, False)]
        yield len(asked) > 1, f"{' and '.join(asked)} exclude each other; give one of them"
        yield (
            self.resume and not self.search and self.finetune is None,
            "resume continues a search or a fine-tuning; give search or finetune too",
        )
        yield self.resume and self.force, "resume and force exclude each other; give one of them"
        on_device, on_cluster = self.device != PROCESSOR, self.scheduler is not None
        yield (
            on_device and not self.search,
            f"device {self.device} evaluates candidates of a search; give search too, or leave out "
            "device",
        )
        yield (
            on_cluster and not self.search,
            "scheduler says where a search evaluates; give search too",
        )
        yield (
            on_cluster and self.jobs is not None,
            "scheduler and jobs exclude each other: a Dask worker evaluates as many candidates "
            "at a time as it has threads; give one of them",
        )
        yield (
            on_cluster and on_device,
            "scheduler and device exclude each other: workers of Dask evaluate on their "
            "processors; give one of them",
        )
        yield (
            on_cluster and not isinstance(self.metric, str),
            "workers of a scheduler import the metric by its name; give it as package.module:name",
        )
        every = self.finetune_candidates
        yield (
            every and not (self.search and self.finetune is not None),
            "finetune_candidates fine-tunes every candidate of a search; give search and finetune "
            "too",
        )
        yield (
            every and (on_device or on_cluster),
            "finetune_candidates trains on this machine's processor; leave out device and "
            "scheduler",
        )
        yield (
            self.teacher_epochs >= self.epochs,
            f"teacher_epochs are a part of epochs, {self.epochs}, and must be fewer, got "
            f"{self.teacher_epochs}; give fewer, or more epochs",
        )
        for name, form in (("steps", "unrolled"), ("float_state", "step")):
            yield (
                bool(getattr(self, name)) and self.recurrence != form,
                f"{name} belongs to recurrence {form}, got {self.recurrence}; "
                f"give {form}, or leave out {name}",
            )
        yield (
            self.weights_file is not None and (self.scheme is None or self.finetune is not None),
            "weights_file holds the integers of one scheme; give that scheme, and leave out "
            "finetune",
        )
        for name in ("granularity", "observer", "input_bits"):
            yield (
                self.scheme is not None and getattr(self, name) != _DEFAULTS[name],
                f"a scheme says its own {name}; leave out {name}, or the scheme",
            )

    @property
    def needs_moments(self) -> bool:
        """Whether weights or biases depend on what linear operators read in calibration."""
        return self.weights_file is None and (self.rounding != "nearest" or self.bias_correction)

    def merged(self, settings: Mapping[str, Any]) -> "Config":
        """Configuration with other values for the settings named."""
        return replace(self, **settings)


_DEFAULTS = {field.name: field.default for field in fields(Config)}


def check_names(settings: Iterable[str], where: str = "") -> None:
    """Refuse names that are none of a setting.

    Parameters
    ----------
    settings : iterable of str
        Names.
    where : str
        What the sentence begins with.

    Raises
    ------
    UsageError
        If there is none of such a name.
    """
    for name in settings:
        if name not in _DEFAULTS:
            close = get_close_matches(str(name), _DEFAULTS, n=1)
            raise UsageError(
                f"{where}there is no setting {name!r}; "
                + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_DEFAULTS)}")
            )


def check(name: str, value: object) -> None:
    """Check the value of one setting, apart from all others.

    Raises
    ------
    UsageError
        If it is none that the setting takes.
    """
    if value is None and name in _OPTIONAL:
        return
    wanted, fits = _wanted(name)
    if not fits(value):
        raise UsageError(f"{name} must be {wanted}, got {_shown(value)}")
    if name in _LISTS and isinstance(value, str):
        _LISTS[name][1](value)


def _shown(value: object) -> str:
    """A value in a message: never an array in full."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def _genes(text: str) -> None:
    """Check what genes decide."""
    names = [name.strip() for name in text.split(",")]
    if names[0] != "bits" or len(set(names)) < len(names) or not set(names) <= set(GENES):
        raise UsageError(
            f"genes must be bits, and observer or granularity if wanted, such as bits,observer, "
            f"got {text!r}"
        )


_LISTS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "widths": ("2-8", widths),
    "genes": ("bits,observer", _genes),
    "objectives": ("error,flash", objectives.parse),
}
"""Settings that are lists in a text: an example, and what refuses wrong ones."""


_NUMBERS: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "max_drop": ("of at least 0", lambda v: v >= 0),
    "learning_rate": ("above 0", lambda v: 0 < v < math.inf),
    "distillation": ("from 0 to 1", lambda v: 0 <= v <= 1),
    "averaging": ("from 0 to below 1", lambda v: 0 <= v < 1),
}
"""Settings that are numbers: what they must be, in words and as a test."""


def _wanted(name: str) -> tuple[str, Callable[[Any], bool]]:
    """What the values of a setting must be, in words and as a test."""
    if name in _CHOICES:
        return f"one of {', '.join(_CHOICES[name])}", lambda v: v in _CHOICES[name]
    if name in _RANGES:
        low, high = _RANGES[name]
        reach = f"from {low} to {high}" if high is not None else f"of at least {low}"
        return (
            f"a whole number {reach}",
            lambda v: type(v) is int and low <= v and (high is None or v <= high),
        )
    if name in _FLAGS:
        return "true or false", lambda v: isinstance(v, bool)
    if name in _LISTS:
        return f"a text such as {_LISTS[name][0]}", lambda v: isinstance(v, str)
    if name == "device":
        return "cpu, cuda or cuda:N", lambda v: isinstance(v, str) and bool(_DEVICE.fullmatch(v))
    if name in _NUMBERS:
        reach, within = _NUMBERS[name]
        return f"a number {reach}", lambda v: type(v) in (int, float) and within(v)
    if name == "scheduler":
        return (
            "an address such as tcp://10.0.0.1:8786",
            lambda v: isinstance(v, str) and _ADDRESS.fullmatch(v) is not None,
        )
    if name == "metric":
        return "a name or a function", lambda v: isinstance(v, str) or callable(v)
    if name == "output_name":
        return "names of outputs, such as score,mask", lambda v: isinstance(v, str) and bool(v)
    if name in ("include", "exclude", "batch_axis", "state"):
        return (
            _TEXTS.get(name, "a list of node names or patterns"),
            lambda v: isinstance(v, tuple) and all(isinstance(pattern, str) for pattern in v),
        )
    if name in _DATA:
        return KINDS, _is_source
    return "a path", lambda v: isinstance(v, str | Path) and str(v) != ""


def _is_source(value: object) -> bool:
    """Whether a value may be data: a path that is not empty, or what can be read."""
    if isinstance(value, str | Path):
        return str(value) != ""
    try:
        return isinstance(value, Held) or bool(Held(value))
    except UsageError:
        return False


def load(path: Path) -> dict[str, Any]:
    """Settings of a TOML file: keys are the names of `Config`, with dashes or underscores.

    Relative paths in it are relative to its folder.

    Raises
    ------
    UsageError
        If it is missing, is not TOML, or has an unknown key or a value that its key does not take.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: the configuration cannot be read ({error.strerror}); give another path"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path}: the configuration must be TOML, but {error}; correct the file"
        ) from error
    settings: dict[str, Any] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        check_names([name], f"{path}: ")
        settings[name] = tuple(value) if isinstance(value, list) else value
        try:
            check(name, settings[name])
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    for name in _PATHS:
        value = settings.get(name)
        if isinstance(value, str) and ":" not in value:
            settings[name] = path.parent / value
    if "objectives" in settings:
        cost = objectives.COST
        settings["objectives"] = ",".join(
            f"{cost}{path.parent / name.removeprefix(cost)}" if name.startswith(cost) else name
            for name in objectives.parse(settings["objectives"])
        )
    return settings
