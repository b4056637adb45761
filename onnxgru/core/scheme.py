"""A scheme: the bit-widths, granularities and observers of every operator, as JSON to edit.

::

    {"format": "onnxgru.scheme/1",
     "inputs": {"/gru": {"bits": 8, "observer": "mse"}},
     "operators": {
       "/gru/forward/reset.input": {"bits": 8, "observer": "mse", "weight_bits": 4,
                                    "granularity": "channel", "shape": [64, 28]},
       "/gru/forward/reset.sum": {"bits": 8, "observer": "mse"}, ...}}

``bits`` is the width of an operator's output codes: 2 to 8, or 16. ``shape`` is there to be
checked, not to be edited. The operators that write the state of one layer share one width, because
its directions share one scale. ``threshold``, where there is one, makes the value an operand of a
delta network (see `onnxgru.passes.lowering.delta`); ``0`` propagates every change and gives the
same codes as none. ``copy`` of a value of 16 bits is the width of the codes that its narrow readers
read (see `onnxgru.core.copies`); without it, all of them read 16 bits. ``weight_bits``
are 2 to 8, or 16.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from onnxgru.core import files
from onnxgru.core.choices import (
    CELL_STATES,
    GRANULARITIES,
    MAXIMUM_BITS,
    MINIMUM_BITS,
    OBSERVERS,
    WIDE_BITS,
)
from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.core.integers import IntegerType, WeightType
from onnxgru.core.network import Layer, LinearOperator, Operator

FORMAT = "onnxgru.scheme/1"
OBSERVER, GRANULARITY = "mse", "channel"
"""Defaults of entries."""


@dataclass(frozen=True)
class OutputScheme:
    """Width and observer of a value's codes.

    Parameters
    ----------
    bits : int
        Width, 2 to 8, or 16.
    observer : str
        One of `OBSERVERS`.
    threshold : int, optional
        In codes. With it, the value is an operand of a delta network: linear operators read its
        last propagated value, and an element is propagated when its code has changed by more.
    copy : int, optional
        Only with 16 bits: width of the copy that narrow operators read, 2 to 8.

    Raises
    ------
    UsageError
        If a setting is out of its range, or a copy is given for a narrow value.
    """

    bits: int = 8
    observer: str = OBSERVER
    threshold: int | None = field(default=None, kw_only=True)
    copy: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        wide = IntegerType(self.bits).wide
        if self.copy is not None and not (
            wide and type(self.copy) is int and MINIMUM_BITS <= self.copy <= MAXIMUM_BITS
        ):
            raise UsageError(
                f"a copy must be a whole number from {MINIMUM_BITS} to {MAXIMUM_BITS}, of a value "
                f"of {WIDE_BITS} bits, got {self.copy!r} of {self.bits}"
            )
        top = IntegerType(self.read).maximum
        if self.threshold is not None and not (
            type(self.threshold) is int and 0 <= self.threshold <= top
        ):
            raise UsageError(
                f"a threshold must be a whole number from 0 to {top}, the largest code, got "
                f"{self.threshold!r}"
            )
        if self.observer not in OBSERVERS:
            raise UsageError(
                f"an observer must be one of {', '.join(OBSERVERS)}, got {self.observer!r}"
            )

    @property
    def read(self) -> int:
        """Width of the codes that narrow operators read."""
        return self.bits if self.copy is None else self.copy


@dataclass(frozen=True)
class LinearScheme(OutputScheme):
    """`OutputScheme` of a linear operator, with the settings of its weights.

    Parameters
    ----------
    weight_bits : int
        Width of the weights, 2 to 8, or 16.
    granularity : str
        One of `GRANULARITIES`.
    shape : tuple of int
        Shape of the weights (outputs, inputs), which is checked; empty for no check.
    """

    weight_bits: int = 8
    granularity: str = GRANULARITY
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        WeightType(self.weight_bits)
        if self.granularity not in GRANULARITIES:
            raise UsageError(
                f"a granularity must be one of {', '.join(GRANULARITIES)}, got {self.granularity!r}"
            )


OMITTED = (("threshold", None), ("copy", None))
"""Settings that ``scheme.json`` leaves out where they have these values."""


def _plain(entry: OutputScheme, left: Collection[tuple[str, object]]) -> dict[str, object]:
    return {
        key: list(v) if isinstance(v, tuple) else v
        for key, v in asdict(entry).items()
        if (key, v) not in left
    }


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
        granularity: str = GRANULARITY,
        observer: str = OBSERVER,
        input_bits: int = MAXIMUM_BITS,
        cell_state: str = CELL_STATES[0],
    ) -> "Scheme":
        """The scheme with one width everywhere.

        Parameters
        ----------
        layers : iterable of Layer
            The network.
        bits : int
            Width of weights and outputs of all operators.
        granularity, observer : str
            Of all operators.
        input_bits : int
            Width of the layers' inputs.
        cell_state : {"wide", "plain"}
            "wide" gives 16 bits to the operators that `Layer.cell_state` names.
        """

        def entry(layer: Layer, operator: Operator) -> OutputScheme:
            wide = cell_state == CELL_STATES[0] and operator.name in layer.cell_state
            width = WIDE_BITS if wide else bits
            if not isinstance(operator, LinearOperator):
                return OutputScheme(width, observer)
            return LinearScheme(width, observer, bits, granularity, operator.weight.shape)

        layers = tuple(layers)
        return cls(
            {layer.name: OutputScheme(input_bits, observer) for layer in layers},
            {o.name: entry(layer, o) for layer in layers for o in layer.operators},
        )

    def narrowed(self) -> "Scheme":
        """The scheme in which every value with a copy has the width of its copy instead."""
        sections = (
            {name: replace(entry, bits=entry.read, copy=None) for name, entry in section.items()}
            for section in (self.inputs, self.operators)
        )
        return Scheme(*sections)

    def thresholds(self, layer: Layer) -> dict[str, tuple[int | None, ...]]:
        """Thresholds of the operands of a layer's linear operators, by name in the layer.

        The layer's input has one threshold, every other operand one per direction.
        """
        return {
            name: tuple(self.operators[writer].threshold for writer in writers)
            or (self.inputs[layer.name].threshold,)
            for name, writers in operands(layer).items()
        }

    def with_thresholds(
        self, layers: Iterable[Layer], choose: Callable[[Layer, str, OutputScheme], int | None]
    ) -> "Scheme":
        """The scheme with other thresholds for the operands of linear operators.

        Parameters
        ----------
        layers : iterable of Layer
            The network.
        choose : callable
            From a layer, the name of an operand in it and its entry to its threshold; None for no
            threshold.
        """
        inputs, entries = dict(self.inputs), dict(self.operators)
        for layer in layers:
            for name, writers in operands(layer).items():
                of = [(entries, writer) for writer in writers] or [(inputs, layer.name)]
                for section, key in of:
                    entry = section[key]
                    section[key] = replace(entry, threshold=choose(layer, name, entry))
        return Scheme(inputs, entries)

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
                for what in ("bits", "copy"):
                    widths = {str(getattr(self.operators[name], what)) for name in writers}
                    if len(widths) > 1:
                        raise SchemeError(
                            f"{source}: {' and '.join(writers)} write one state and must have "
                            f"the same {what}, got {' and '.join(sorted(widths))}"
                        )
            _check_thresholds(self, layer, source)

    def dumps(self) -> bytes:
        """JSON with stable bytes."""
        return files.dump(self._document(OMITTED))

    def brief(self) -> dict[str, object]:
        """The JSON object without settings that have their defaults, which `parse` reads alike."""
        return self._document((*OMITTED, ("observer", OBSERVER), ("granularity", GRANULARITY)))

    def _document(self, left: Collection[tuple[str, object]]) -> dict[str, object]:
        return {
            "format": FORMAT,
            "inputs": {name: _plain(entry, left) for name, entry in self.inputs.items()},
            "operators": {name: _plain(entry, left) for name, entry in self.operators.items()},
        }

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
                    f'{source}: must have an object "{section}" with one entry per operator, '
                    f"found {type(entries).__name__}"
                )
            sections.append(
                {name: _entry(f"{source}: {name}", value) for name, value in entries.items()}
            )
        return cls(*sections)


def operands(layer: Layer) -> dict[str, tuple[str, ...]]:
    """What linear operators read, with the operators that compute it.

    Returns
    -------
    dict of str to tuple of str
        By name of the operand in the layer, such as ``input`` and ``state``: the operators that
        compute it, one per direction. The layer's input has none. Nothing where there is no step
        before, as in dense layers.
    """
    found: dict[str, tuple[str, ...]] = {}
    for recurrence in layer.recurrences if layer.recurrent else ():
        writers = {carry.name: carry.written_by for carry in recurrence.carries}
        for name in dict.fromkeys(operator.inputs[0] for operator in recurrence.linears):
            local = name.removeprefix(f"{recurrence.name}/")
            own = () if name == recurrence.input else (writers.get(name, name),)
            found[local] = (*found.get(local, ()), *own)
    return found


def _check_thresholds(scheme: Scheme, layer: Layer, source: str) -> None:
    read = operands(layer)
    allowed = {name for writers in read.values() for name in writers}
    for operator in layer.operators:
        if scheme.operators[operator.name].threshold is not None and operator.name not in allowed:
            raise SchemeError(
                f"{source}: {operator.name} is read by no linear operator and must have no "
                f"threshold; those that are read: {', '.join(sorted(allowed))}; correct or delete "
                "it"
            )
    for local, writers in read.items():
        _check_copies(scheme, layer, local, writers, source)
        given = {scheme.operators[name].threshold is None for name in writers}
        if len(given) > 1:
            raise SchemeError(
                f"{source}: {' and '.join(writers)} are one operand of two directions; both must "
                "have a threshold or none; complete or delete it"
            )


def _check_copies(
    scheme: Scheme, layer: Layer, local: str, writers: tuple[str, ...], source: str
) -> None:
    """Directions share what a delta network holds, of a value and of its copy alike."""
    entries = [scheme.operators[name] for name in writers]
    if not any(entry.threshold is not None and entry.copy is not None for entry in entries):
        return
    found = {
        frozenset(
            scheme.linear(operator.name).weight_bits > MAXIMUM_BITS
            for operator in recurrence.linears
            if operator.inputs[0] == f"{recurrence.name}/{local}"
        )
        for recurrence in layer.recurrences
    }
    if len(found) > 1:
        raise SchemeError(
            f"{source}: {' and '.join(writers)} have a threshold and a copy; operators that read "
            f"them must have weight_bits of {WIDE_BITS} in both directions or in none"
        )


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
            f'{where} must have "bits", a whole number from {MINIMUM_BITS} to {MAXIMUM_BITS}, '
            f"or {WIDE_BITS}"
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
                f"{source}: the model has no entry {name!r} in {section}; {hint}; this scheme may "
                "be for another model, or for this one with --head"
            )
    missing = [name for name in expected if name not in found]
    if missing:
        raise SchemeError(
            f"{source}: {section} lacks {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}; it must name every operator of the "
            "model, and may be for another one, or for this one without --head"
        )
