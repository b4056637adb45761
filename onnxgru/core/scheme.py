"""A scheme: the bit-widths, granularities and observers of every operator, as JSON to edit.

::

    {"format": "onnxgru.scheme/1",
     "inputs": {"/gru": {"bits": 8, "observer": "mse"}},
     "operators": {
       "/gru/forward/reset.input": {"bits": 8, "observer": "mse", "weight_bits": 4,
                                    "granularity": "channel", "shape": [64, 28]},
       "/gru/forward/reset.sum": {"bits": 8, "observer": "mse"}, ...}}

``bits`` is the width of an operator's output codes. ``shape`` is there to be checked, not to be
edited. The operators that write the state of one layer share one width, because its directions
share one scale.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxgru.core import files
from onnxgru.core.choices import GRANULARITIES, MAXIMUM_BITS, MINIMUM_BITS, OBSERVERS
from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.core.integers import IntegerType, WeightType
from onnxgru.core.network import Layer, LinearOperator, Operator

FORMAT = "onnxgru.scheme/1"


@dataclass(frozen=True)
class OutputScheme:
    """Width and observer of a value's codes."""

    bits: int = 8
    observer: str = "mse"

    def __post_init__(self) -> None:
        IntegerType(self.bits)
        if self.observer not in OBSERVERS:
            raise UsageError(
                f"an observer must be one of {', '.join(OBSERVERS)}, got {self.observer!r}"
            )


@dataclass(frozen=True)
class LinearScheme(OutputScheme):
    """`OutputScheme` of a linear operator, with its weights' width and granularity."""

    weight_bits: int = 8
    granularity: str = "channel"
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        WeightType(self.weight_bits)
        if self.granularity not in GRANULARITIES:
            raise UsageError(
                f"a granularity must be one of {', '.join(GRANULARITIES)}, got {self.granularity!r}"
            )


def _plain(entry: OutputScheme) -> dict[str, object]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(entry).items()}


@dataclass(frozen=True)
class Scheme:
    """Widths of every operator of a network.

    Parameters
    ----------
    inputs : mapping of str to OutputScheme
        By layer name.
    operators : mapping of str to OutputScheme
        By operator name; `LinearScheme` for linear operators.
    """

    inputs: Mapping[str, OutputScheme]
    operators: Mapping[str, OutputScheme]

    @classmethod
    def uniform(
        cls,
        layers: Iterable[Layer],
        bits: int,
        *,
        granularity: str = "channel",
        observer: str = "mse",
        input_bits: int = MAXIMUM_BITS,
    ) -> "Scheme":
        """Weights and outputs of every operator at `bits`, a layer's input at `input_bits`."""

        def entry(operator: Operator) -> OutputScheme:
            if not isinstance(operator, LinearOperator):
                return OutputScheme(bits, observer)
            return LinearScheme(bits, observer, bits, granularity, operator.weight.shape)

        layers = tuple(layers)
        return cls(
            {layer.name: OutputScheme(input_bits, observer) for layer in layers},
            {operator.name: entry(operator) for layer in layers for operator in layer.operators},
        )

    def linear(self, name: str) -> LinearScheme:
        """Scheme of a linear operator."""
        entry = self.operators[name]
        if not isinstance(entry, LinearScheme):
            raise SchemeError(f"{name} is a linear operator, but its scheme has no weight_bits")
        return entry

    def validate(self, layers: Iterable[Layer], source: str = "scheme") -> None:
        """Check that the scheme is one for these layers.

        Raises
        ------
        SchemeError
            If an operator is missing, unknown or of another shape or kind, or the state's
            widths of a layer's directions differ.
        """
        layers = tuple(layers)
        expected = {operator.name: operator for layer in layers for operator in layer.operators}
        _same_names(source, "operators", self.operators, expected)
        _same_names(source, "inputs", self.inputs, {layer.name: layer for layer in layers})
        for name, operator in expected.items():
            entry = self.operators[name]
            linear = isinstance(operator, LinearOperator)
            if isinstance(entry, LinearScheme) != linear:
                raise SchemeError(
                    f"{source}: {name} is of kind {operator.kind}; it must "
                    f"{'have' if linear else 'not have'} weight_bits"
                )
            if (
                isinstance(entry, LinearScheme)
                and isinstance(operator, LinearOperator)
                and entry.shape not in ((), operator.weight.shape)
            ):
                raise SchemeError(
                    f"{source}: {name} has weights of shape {list(entry.shape)}, but the "
                    f"model's have {list(operator.weight.shape)}; this scheme is for another model"
                )
        for layer in layers:
            for writers in layer.writers.values():
                widths = {self.operators[name].bits for name in writers}
                if len(widths) > 1:
                    raise SchemeError(
                        f"{source}: {' and '.join(writers)} write one state and must have "
                        f"the same bits, got {' and '.join(map(str, sorted(widths)))}"
                    )

    def dumps(self) -> bytes:
        """JSON with stable bytes."""
        return files.dump(
            {
                "format": FORMAT,
                "inputs": {name: _plain(entry) for name, entry in self.inputs.items()},
                "operators": {name: _plain(entry) for name, entry in self.operators.items()},
            }
        )

    @classmethod
    def load(cls, path: Path) -> "Scheme":
        """Read a scheme file.

        Raises
        ------
        SchemeError
            If the file is missing, is not JSON, of another format, or has a bad entry.
        """
        return cls.parse(files.parse(path, FORMAT), str(path))

    @classmethod
    def parse(cls, document: Mapping[str, Any], source: str) -> "Scheme":
        """A scheme from its JSON object; `source` is where it comes from, for messages.

        Raises
        ------
        SchemeError
            If it has a bad entry.
        """
        known = ("format", "inputs", "operators")
        for key in document:
            if key not in known:
                raise SchemeError(
                    f"{source}: must hold nothing but {', '.join(known)}, but has {key!r}; "
                    "correct or delete it"
                )
        sections = []
        for section in known[1:]:
            entries = document.get(section)
            if not isinstance(entries, dict):
                raise SchemeError(
                    f'{source}: must have an object "{section}" with an entry an operator, '
                    f"found {type(entries).__name__}"
                )
            sections.append(
                {name: _entry(f"{source}: {name}", value) for name, value in entries.items()}
            )
        return cls(*sections)


def _entry(where: str, value: Any) -> OutputScheme:
    if not isinstance(value, dict):
        raise SchemeError(f'{where} must be an object such as {{"bits": 8}}, found {value!r}')
    kind = LinearScheme if "weight_bits" in value else OutputScheme
    known = kind.__dataclass_fields__
    for key in value:
        if key not in known:
            raise SchemeError(
                f"{where} has no setting {key!r}; it must be one of {', '.join(known)}"
            )
    if "bits" not in value:
        raise SchemeError(
            f'{where} must have "bits", a whole number from {MINIMUM_BITS} to {MAXIMUM_BITS}'
        )
    try:
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value.items()
        }
        return kind(**settings)
    except UsageError as error:
        raise SchemeError(f"{where}: {error}") from error


def _same_names(
    source: str, section: str, found: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    for name in found:
        if name not in expected:
            close = get_close_matches(name, expected, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(expected)}"
            raise SchemeError(
                f"{source}: the model has no entry {name!r} in {section}; {hint}; "
                "this scheme may be for another model"
            )
    missing = [name for name in expected if name not in found]
    if missing:
        raise SchemeError(
            f"{source}: {section} lacks {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}; it must name every operator of the "
            "model, and may be for another one"
        )
