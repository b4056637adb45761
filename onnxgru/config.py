"""The configuration of a quantisation, from Python, a TOML file, or the command line."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxgru.core.errors import UsageError

Source = str | Path | Callable[[], object] | None

GENOMES = ("split", "coupled")
SIZES = ("flash", "weights")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "granularity": ("tensor", "gate", "channel"),
    "observer": ("minmax", "percentile", "mse", "entropy"),
    "recurrence": ("scan", "step", "unrolled"),
    "genome": GENOMES,
    "size_metric": SIZES,
}
_BITS = (2, 8)
_RANGES: Mapping[str, tuple[int, int | None]] = {
    "bits": _BITS,
    "input_bits": _BITS,
    "accumulator_bits": (8, 32),
    "population": (4, None),
    "generations": (1, None),
    "seed": (0, None),
    "steps": (1, None),
    "verify": (1, None),
}


@dataclass(frozen=True)
class Config:
    """Everything `quantize` can be told.

    Parameters
    ----------
    bits : int
        Width of all weights and outputs, 2 to 8, where neither `scheme` nor `search` is given.
    scheme : path, optional
        Scheme file to use instead.
    search : bool
        Search for widths instead.
    calibration, validation, holdout : str, path or callable, optional
        Data; ``<model>.<role>.npz`` beside the model where left out.
    calibration_file : path, optional
        Calibration to use instead of calibrating.
    output : path, optional
        Output folder; ``<model>-onnxgru`` in the current folder where left out.
    force : bool
        Replace an existing output folder.
    resume : bool
        Continue the search in an existing output folder.
    granularity : {"channel", "gate", "tensor"}
        What shares a weight scale.
    observer : {"mse", "minmax", "percentile", "entropy"}
        How ranges are chosen from the statistics.
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
    metric : str
        ``auto``, a name in `onnxgru.core.metrics.METRICS`, or ``package.module:function``.
    genome : {"split", "coupled"}
        Genes of weights and outputs apart, or tied as in the published method.
    search_inputs : bool
        Give the width of every layer's input a gene.
    size_metric : {"flash", "weights"}
        Second objective: flash bytes, or bits of the weights as published.
    max_drop : float
        How far the chosen member may fall below uniform 8 bits on validation, in the metric's
        unit.
    population, generations, seed : int
        Of NSGA-II.
    verify : int
        Sequences on which ``integer.onnx`` is compared with the oracle.

    Raises
    ------
    UsageError
        If a value is wrong, or two contradict each other.
    """

    bits: int = 8
    scheme: Path | str | None = None
    search: bool = False
    calibration: Source = None
    validation: Source = None
    holdout: Source = None
    calibration_file: Path | str | None = None
    output: Path | str | None = None
    force: bool = False
    resume: bool = False
    granularity: str = "channel"
    observer: str = "mse"
    input_bits: int = 8
    accumulator_bits: int = 32
    recurrence: str = "scan"
    steps: int | None = None
    float_state: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    metric: str = "auto"
    genome: str = "split"
    search_inputs: bool = False
    size_metric: str = "flash"
    max_drop: float = 0.5
    population: int = 40
    generations: int = 20
    seed: int = 0
    verify: int = 256

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "steps":
                continue
            if type(value) is not int or value < low or (high is not None and value > high):
                reach = f"from {low} to {high}" if high is not None else f"of at least {low}"
                raise UsageError(f"{name} must be a whole number {reach}, got {value!r}")
        if not isinstance(self.max_drop, int | float) or not self.max_drop >= 0:
            raise UsageError(f"max_drop must be a number of at least 0, got {self.max_drop!r}")
        for name in ("search", "force", "resume", "float_state", "search_inputs"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.scheme is not None and self.search:
            raise UsageError("scheme and search exclude each other; give one of them")
        if self.resume and not self.search:
            raise UsageError("resume continues a search; give search too")
        if self.resume and self.force:
            raise UsageError("resume and force exclude each other; give one of them")

    def merged(self, settings: Mapping[str, Any]) -> "Config":
        """Configuration with other values for the settings named."""
        return replace(self, **settings)


def load(path: Path) -> dict[str, Any]:
    """Settings of a TOML file: keys are the names of `Config`, with dashes or underscores.

    Relative paths in it are relative to its folder.

    Raises
    ------
    UsageError
        If it is missing, is not TOML, or has an unknown key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: the configuration cannot be read ({error.strerror}); give another path"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: the configuration must be TOML, but {error}") from error
    names = [field.name for field in fields(Config)]
    settings: dict[str, Any] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if name not in names:
            close = get_close_matches(name, names, n=1)
            raise UsageError(
                f"{path}: there is no setting {key!r}; "
                + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}")
            )
        settings[name] = tuple(value) if isinstance(value, list) else value
    for name in ("scheme", "calibration_file", "output", "calibration", "validation", "holdout"):
        value = settings.get(name)
        if isinstance(value, str) and ":" not in value:
            settings[name] = path.parent / value
    return settings
