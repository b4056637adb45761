"""The statistics of a model's operators, and the ranges drawn from them, as one JSON file.

::

    {
      "format": "onnxgru.calibration/1",
      "model": "<SHA-256 of the model file>",
      "sequences": 200,
      "operators": {
        "/gru/forward/reset.sum": {
          "minimum": -4.5,
          "maximum": 5.25,
          "count": 819200,
          "range": null,
          "histogram": {"exponent": -7, "first": -576, "counts": [1, 0, 2, ...]}
        },
        ...
      }
    }

The file may be edited: a ``"range"`` of ``[low, high]`` in place of null is taken at every width,
whatever the observer.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from onnxgru.calibration.addition import Addition, observe_addend
from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import observe, require_observer, squared_error
from onnxgru.calibration.saturation import Reader, observe_saturation
from onnxgru.core import files
from onnxgru.core.errors import SchemeError
from onnxgru.core.integers import IntegerType, Quantization

FORMAT = "onnxgru.calibration/1"

_DOCUMENT_KEYS = ("format", "model", "sequences", "operators")
_ENTRY_KEYS = ("minimum", "maximum", "count", "range", "histogram")

# Scales are float32.
_LIMIT = float(np.finfo(np.float32).max)

Range = tuple[float, float]

QUIET = 2.0
"""Factor by which the squared error must fall before a gate's range is less than its codomain."""
MARGIN = 1 / 16
"""Share of its measured range by which a gate's range is widened, for values that were not seen."""


@dataclass(frozen=True)
class Calibration:
    """Statistics of every operator's output, by name.

    Parameters
    ----------
    histograms : mapping of str to Histogram
        By operator name. Not to be updated any more.
    overrides : mapping of str to tuple of float
        Ranges ``(low, high)`` to use whatever the observer says, by operator name.
    model : str
        SHA-256 of the source model, 64 hexadecimal digits.
    sequences : int
        Number of sequences the histograms saw.

    Raises
    ------
    SchemeError
        If an override names no operator or is not two finite float32 numbers, low <= high; if
        `model` is not a SHA-256 or `sequences` is negative.
    """

    histograms: Mapping[str, Histogram]
    overrides: Mapping[str, Range]
    model: str
    sequences: int
    _ranges: dict[tuple[str, str, int, Reader | None], Range] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _gates: dict[tuple[str, str, Quantization], Quantization] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _addends: dict[tuple[str, Quantization, Addition], Quantization] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not re.fullmatch("[0-9a-f]{64}", self.model):
            raise SchemeError(
                '"model" must be the SHA-256 of the model, 64 hexadecimal digits, but is '
                f"{self.model!r}"
            )
        if type(self.sequences) is not int or self.sequences < 0:
            raise SchemeError(
                f'"sequences" must be a whole number, 0 or more, but is {self.sequences!r}'
            )
        for name in self.overrides:
            self._require(name)
        overrides = {name: _checked(name, value) for name, value in self.overrides.items()}
        # Copies, so that later changes of the caller's mappings have no effect here.
        object.__setattr__(self, "histograms", dict(self.histograms))
        object.__setattr__(self, "overrides", overrides)

    def overridden(self, ranges: Mapping[str, Range]) -> "Calibration":
        """The same calibration with more overrides; both share their caches.

        Parameters
        ----------
        ranges : mapping of str to tuple of float
            Ranges ``(low, high)`` by operator name.

        Raises
        ------
        SchemeError
            As for `Calibration`.
        """
        found = replace(self, overrides={**self.overrides, **ranges})
        for name in ("_ranges", "_gates", "_addends"):  # their entries depend on no override
            object.__setattr__(found, name, getattr(self, name))
        return found

    def range(
        self,
        name: str,
        observer: str,
        bits: int,
        *,
        reader: Reader | None = None,
    ) -> Range:
        """Range that an operator's codes should span.

        Parameters
        ----------
        name : str
            Operator.
        observer : str
            One of `onnxgru.core.choices.OBSERVERS`.
        bits : int
            Width of the codes, 2 to 8, or 16.
        reader : Reader, optional
            The function that alone reads the values: "mse" is then the error of its codes.

        Returns
        -------
        tuple of float
            low <= 0.0 <= high: the override, widened to contain 0.0, or else what the observer
            says. Computed once and remembered.

        Raises
        ------
        SchemeError
            If there is no such operator.
        UsageError
            If the observer is unknown or the width not supported.
        DataError
            If calibration saw no value of the operator.
        """
        self._require(name)
        require_observer(observer)
        IntegerType(bits)  # an override does not make a wrong width right
        if name in self.overrides:
            low, high = self.overrides[name]
            return min(low, 0.0), max(high, 0.0)
        if observer != "mse":
            reader = None
        key = name, observer, bits, reader
        if key not in self._ranges:
            histogram = self.histograms[name]
            self._ranges[key] = (
                observe(histogram, observer, bits)
                if reader is None
                else observe_saturation(histogram, reader, bits)
            )
        return self._ranges[key]

    def gate(self, name: str, codomain: Quantization, observer: str) -> Quantization:
        """Quantisation of a function's values where its codomain is bounded.

        A function that uses a small part of its codomain, such as tanh within -0.05 .. 0.05, gets
        codes for that part if their squared error is by far the smaller.

        Parameters
        ----------
        name : str
            Operator.
        codomain : Quantization
            Of the whole codomain.
        observer : str
            One of `onnxgru.core.choices.OBSERVERS`.

        Returns
        -------
        Quantization
            With the width of `codomain`: the override, `codomain` itself, or that of the measured
            range and `MARGIN`, within the codomain.

        Raises
        ------
        SchemeError
            If there is no such operator.
        UsageError
            If the observer is unknown.
        """
        self._require(name)
        require_observer(observer)
        bits, histogram = codomain.bits, self.histograms[name]
        if name not in self.overrides and not histogram.count:
            return codomain
        low, high = self.range(name, observer, bits)
        if name in self.overrides:
            return Quantization.of_range(low, high, bits)
        key = name, observer, codomain
        if key not in self._gates:
            margin, (least, most) = MARGIN * (high - low), codomain.range
            limits = max(least, low - margin * (low < 0)), min(most, high + margin * (high > 0))
            measured, whole = (
                squared_error(histogram, *ends, bits) for ends in (limits, codomain.range)
            )
            quiet = high > low and QUIET * measured <= whole
            self._gates[key] = Quantization.of_range(*limits, bits) if quiet else codomain
        return self._gates[key]

    def addend(self, name: str, observed: Quantization, addition: Addition) -> Quantization:
        """Quantisation of an addend of a sum that a function reads, by the error of its codes.

        Parameters
        ----------
        name : str
            Operator.
        observed : Quantization
            What the observer chose.
        addition : Addition
            What the addend meets.

        Returns
        -------
        Quantization
            With the width of `observed`; `observed` itself where a range overrules, or where no
            other one is clearly better. Computed once and remembered.

        Raises
        ------
        SchemeError
            If there is no such operator, or no such other addend.
        """
        self._require(name)
        self._require(addition.other)
        pair = self.histograms[name], self.histograms[addition.other]
        if name in self.overrides or not all(histogram.count for histogram in pair):
            return observed
        key = name, observed, addition
        if key not in self._addends:
            self._addends[key] = observe_addend(*pair, addition, observed)
        return self._addends[key]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Calibration":
        """Read a file that `dumps` made and a user may have edited.

        Parameters
        ----------
        path : path-like
            JSON file.

        Raises
        ------
        SchemeError
            If it cannot be read, is not JSON, has another format version, or an entry is
            missing, unknown or wrong; the sentence begins with the path and the entry.
        """
        document = files.parse(Path(path), FORMAT)
        try:
            return cls._of_document(document)
        except SchemeError as error:
            raise SchemeError(f"{os.fspath(path)}: {error}") from error

    @classmethod
    def _of_document(cls, document: dict[str, Any]) -> "Calibration":
        """Calibration in a JSON document."""
        _require_keys("the calibration", document, _DOCUMENT_KEYS)
        operators = document["operators"]
        if not isinstance(operators, dict):
            raise SchemeError(
                f'"operators" must hold an entry for each operator, but is {operators!r}'
            )
        histograms, overrides = {}, {}
        for name, entry in operators.items():
            _require_keys(f"operator {name!r}", entry, _ENTRY_KEYS)
            try:
                histograms[name] = Histogram.from_dict(entry)
            except SchemeError as error:
                raise SchemeError(f"operator {name!r}: {error}") from error
            if entry["range"] is not None:
                overrides[name] = entry["range"]
        return cls(histograms, overrides, document["model"], document["sequences"])

    def dumps(self) -> bytes:
        """Contents of the file, the same bytes for the same calibration.

        A histogram stands on one line, so that people can read the rest.
        """
        entries = []
        for name, histogram in self.histograms.items():
            parts = histogram.to_dict()
            parts["range"] = self.overrides.get(name)
            lines = (f'      "{key}": {json.dumps(parts[key])}' for key in _ENTRY_KEYS)
            entries.append(f"    {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n    }")
        operators = "{\n" + ",\n".join(entries) + "\n  }" if entries else "{}"
        return (
            "{\n"
            f'  "format": {json.dumps(FORMAT)},\n'
            f'  "model": {json.dumps(self.model)},\n'
            f'  "sequences": {self.sequences},\n'
            f'  "operators": {operators}\n'
            "}\n"
        ).encode()

    def _require(self, name: str) -> None:
        """Refuse the name of an operator that is not here."""
        if name not in self.histograms:
            raise SchemeError(
                f"operator {name!r} must be in the calibration, but it is not; "
                f"{_available(name, self.histograms)}: correct the name, or calibrate this model"
            )


def _checked(name: str, value: Any) -> Range:
    """Override as a pair of floats, if it is one."""
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not pair or not all(isinstance(x, Real) and not isinstance(x, bool) for x in value):
        raise _wrong_range(name, value)
    low, high = value
    # Before float(), which refuses the largest whole numbers; false for NaN.
    if not -_LIMIT <= low <= high <= _LIMIT:
        raise _wrong_range(name, value)
    return float(low), float(high)


def _wrong_range(name: str, value: Any) -> SchemeError:
    return SchemeError(
        f'operator {name!r}: "range" must be null or two finite float32 numbers [low, high] with '
        f"low <= high, but is {value!r}: write null to let the observer choose"
    )


def _require_keys(where: str, entry: Any, keys: tuple[str, ...]) -> None:
    """Refuse an entry that lacks a key, or has one that nobody reads: a typing mistake."""
    if not isinstance(entry, dict):
        raise SchemeError(f"{where} must hold {', '.join(keys)}, but is {entry!r}")
    # Unknown ones first: the key that is missing may be the one misspelt.
    for key in entry:
        if key not in keys:
            raise SchemeError(
                f"{where} must hold nothing but {', '.join(keys)}, but has {key!r}; "
                f"{_available(key, keys)}: correct or delete it"
            )
    for key in keys:
        if key not in entry:
            raise SchemeError(f'{where} must hold "{key}", but it is missing: calibrate again')


def _available(name: str, names: Iterable[str]) -> str:
    """Say which names are close, or else some of those there are."""
    every = list(names)
    close = difflib.get_close_matches(name, every, n=3, cutoff=0.6)
    if close:
        return f"close to it: {', '.join(close)}"
    more = ", ..." if len(every) > 3 else ""
    return f"there are: {', '.join(every[:3])}{more}" if every else "there are none"
