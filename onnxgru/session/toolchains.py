"""Verifying a written graph in every runtime that is installed, code for code.

The codes that every runtime computes are compared with those of onnxruntime without optimisation,
which were compared with the oracle when the graph was written, and with the test data sets beside
the graph. Codes are compared bit for bit. Floats outside of the recurrences may differ in their
last bits: how far is told. Where such a float is quantised, it may come out one code apart at a tie
of rounding; the reference is then computed again from the codes that the runtime read.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxgru.core.errors import DataError, ModelError, UsageError, VerificationError
from onnxgru.core.folder import INTEGER
from onnxgru.data import sources
from onnxgru.data.reading import Source
from onnxgru.events import Listener, Stage
from onnxgru.passes.graph import source
from onnxgru.runtime import golden
from onnxgru.runtime.crossings import Crossings, crossings, from_codes, sized
from onnxgru.runtime.sessions import Run, onnxruntime_session
from onnxgru.runtimes import table
from onnxgru.runtimes.process import MISSING, RAN, Calls, Ran, lacking, run
from onnxgru.runtimes.profiles import PROFILES
from onnxgru.runtimes.table import RUNTIMES, Runtime
from onnxgru.session.calls import from_data, invented

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

SAME, REFUSES, DIFFERS, ABSENT = "same codes", "refuses", "DIFFERS", "not installed"
"""Verdicts."""

SECONDS = 120.0
"""Time limit of one runtime."""

TIES = 0.01
"""Share of the codes that computed floats may become one apart."""


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime.

    Parameters
    ----------
    runtime : str
        Its name.
    verdict : {"same codes", "refuses", "DIFFERS", "not installed"}
        What became of the graph in it.
    version : str
        Of the runtime, where it is known.
    detail : str
        Why it refuses, what differs, or how far floats are apart.
    codes : int
        Codes compared.
    seconds : float
        How long it took.
    """

    runtime: str
    verdict: str
    version: str = ""
    detail: str = ""
    codes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdicts:
    """One graph in all runtimes.

    Parameters
    ----------
    path : str
        The graph.
    inputs : str
        What it was run on.
    rows : tuple of RuntimeRow
        One per runtime.
    """

    path: str
    inputs: str
    rows: tuple[RuntimeRow, ...]

    @property
    def differs(self) -> bool:
        """Whether a runtime computes other codes."""
        return any(row.verdict == DIFFERS for row in self.rows)

    def require_same(self) -> None:
        """Refuse a runtime that computes other codes.

        Raises
        ------
        VerificationError
            If one does.
        """
        for row in self.rows:
            if row.verdict == DIFFERS:
                raise VerificationError(
                    f"{self.path}: {row.runtime} must compute the codes of the reference, but "
                    f"{row.detail}; do not use it for this graph, and please report it"
                )


@dataclass(frozen=True, eq=False)
class Trial:
    """A graph, what it is run on, and what must come out.

    Parameters
    ----------
    file : Path
        The graph.
    model : onnx.ModelProto
        Its content.
    shown : Crossings
        The graph with its codes as further outputs.
    calls : Calls
        What it is run on.
    expected : sequence of mapping of str to array
        Outputs of every call.
    inputs : str
        Where the calls come from.
    """

    file: Path
    model: onnx.ModelProto
    shown: Crossings
    calls: Calls
    expected: Sequence[Outputs]
    inputs: str

    @classmethod
    def of(cls, path: str | Path, data: Source | None) -> "Trial":
        """That of an output folder or an ONNX file; raises what `verify` does."""
        file = Path(path) / INTEGER if Path(path).is_dir() else Path(path)
        model = source.proto(source.read(source.origin(file)))
        shown = crossings(model)
        if not shown.codes:
            raise ModelError(
                f"{file}: must be a graph with integer codes, has none; give the integer.onnx that "
                "onnxgru wrote"
            )
        calls, expected, told = _calls(file, model, shown, data)
        return cls(file, model, shown, calls, expected, told)


def rows(
    trial: Trial,
    runtimes: Sequence[Runtime],
    places: Mapping[str, str],
    *,
    seconds: float,
    listener: Listener,
) -> list[RuntimeRow]:
    """What becomes of a graph in some runtimes.

    Parameters
    ----------
    trial : Trial
        The graph, what it is called with, and the codes that must come out.
    runtimes : sequence of Runtime
        Where it runs.
    places : mapping of str to str
        By name of a runtime, where it is.
    seconds : float
        Time limit of each.
    listener : callable
        Receives the events of `onnxgru.events`.
    """
    model, shown, calls, expected = trial.model, trial.shown, trial.calls, trial.expected
    check = _Check(shown, calls, expected)
    content = shown.model.SerializeToString()
    arrays = {**calls.inputs[0], **expected[0]}
    shapes = {name: array.shape for name, array in arrays.items()}
    fixed = sized(shown.model, shapes)
    differs = [v.name for v, w in zip(fixed.graph.input, model.graph.input, strict=True) if v != w]
    found = []
    for runtime in runtimes:
        place = places.get(runtime.name, "")
        if place or not lacking(runtime):
            listener(Stage(f"verifying in {runtime.name}"))
        began = time.monotonic()
        graph = fixed.SerializeToString() if runtime.fixed else content
        ran = run(runtime, graph, calls, seconds=seconds, where=place)
        row = check.row(runtime, ran)
        if row.verdict == REFUSES:
            row = replace(row, detail=_known(runtime, model) or row.detail)
        if runtime.fixed and differs and row.verdict in (SAME, DIFFERS):
            row = replace(row, detail="; ".join(filter(None, ("sizes fixed", row.detail))))
        found.append(replace(row, seconds=round(time.monotonic() - began, 1)))
    return found


def _known(runtime: Runtime, model: onnx.ModelProto) -> str:
    """Why a runtime refuses a graph, if the graph has what it does not take; nothing otherwise."""
    if model.functions and not runtime.functions:
        return "does not take model-local functions; quantize without --functions for it"
    held = {node.op_type for node in model.graph.node}
    for operator in runtime.lacks:
        if operator in held:
            profile = next((n for n, p in PROFILES.items() if runtime.name in p.serves), "")
            advice = f"; quantize with --profile {profile} for it" if profile else ""
            return f"does not take {operator}{advice}"
    return ""


def known(names: Sequence[str], among: Sequence[Runtime] = RUNTIMES) -> list[Runtime]:
    """The runtimes of these names; all where there are none.

    Raises
    ------
    UsageError
        If there is no runtime of a name.
    """
    found: list[Runtime] = []
    for name in names:
        meant = [runtime for runtime in table.find(name) if runtime in among]
        if not meant:
            there = ", ".join(runtime.name for runtime in among)
            raise UsageError(f"there is no runtime {name!r}; there are {there}")
        found += [runtime for runtime in meant if runtime not in found]
    return found or list(among)


def places_of(where: Mapping[str, str]) -> dict[str, str]:
    """Where runtimes are, by their full names."""
    found: dict[str, str] = {}
    for name, place in where.items():
        (first, *_) = known([name])
        if not Path(place).exists():
            raise UsageError(
                f"{first.name} must be at a Python interpreter, a program or a folder, {place!r} "
                "does not exist; give one that does"
            )
        # A folder of an interpreter must not be resolved: a virtual environment is a link to it.
        found |= {runtime.name: str(Path(place).absolute()) for runtime in table.find(name)}
    return found


def _calls(
    file: Path, model: onnx.ModelProto, shown: Crossings, data: Source | None
) -> tuple[Calls, list[Outputs], str]:
    """Calls of a graph, what outputs must be, and where that comes from."""
    outputs = {
        name: helper.tensor_dtype_to_np_dtype(kind).name for name, kind in shown.outputs.items()
    }
    sets = golden.read(file.parent, model) if data is None else []
    if sets:
        inputs = [one.inputs for one in sets]
        anew, states = frozenset(range(len(sets))), dict[str, str]()
        told = f"{len(sets)} test data set{'s' if len(sets) > 1 else ''} of {file.parent}"
    elif data is not None:
        inputs, anew, states = from_data(model, data)
        told = f"{len(inputs)} call{'s' if len(inputs) > 1 else ''} with {sources.name_of(data)}"
    else:
        inputs, anew, states = invented(model)
        told = "random numbers"
    calls = Calls(inputs, outputs, states, anew)
    expected = reference(shown.model, calls)
    for one, found in zip(sets, expected, strict=False):
        for name, array in one.outputs.items():
            if array.dtype.kind != "f" and not np.array_equal(array, found[name]):
                raise DataError(
                    f"{file.parent / one.name}: output {name} must be what onnxruntime computes "
                    "without optimisation, but is not; the set is of another graph, or onnxruntime "
                    "computes wrongly on this processor: please report it"
                )
    return calls, expected, told


def reference(model: onnx.ModelProto, calls: Calls) -> list[Outputs]:
    """What onnxruntime computes without optimisation."""
    return called(onnxruntime_session(model, "disabled", 1), calls)


def called(session: Run, calls: Calls) -> list[Outputs]:
    """What a session gives for every call; states go on from call to call."""
    found: list[Outputs] = []
    left: dict[str, Array] = {}
    for index, inputs in enumerate(calls.inputs):
        feeds = {**inputs, **({} if index in calls.anew else left)}
        found.append(session(feeds))
        left = {taken: found[-1][given] for taken, given in calls.states.items()}
    return found


def judged(trial: Trial, runtime: Runtime, ran: Ran) -> RuntimeRow:
    """The verdict on what a runtime found."""
    return _Check(trial.shown, trial.calls, trial.expected).row(runtime, ran)


class _Check:
    """Compares what runtimes found with the reference."""

    def __init__(self, shown: Crossings, calls: Calls, expected: Sequence[Outputs]) -> None:
        self._shown, self._calls, self._expected = shown, calls, expected
        self._floats = [name for name in shown.outputs if name not in shown.entries.values()]
        self._from_codes: Run | None = None

    def row(self, runtime: Runtime, ran: Ran) -> RuntimeRow:
        """The verdict on a runtime."""
        if ran.state != RAN:
            verdict = ABSENT if ran.state == MISSING else REFUSES
            reason = ran.reason if verdict == REFUSES else runtime.install
            return RuntimeRow(runtime.name, verdict, ran.version, reason)
        name, version = runtime.name, ran.version
        expected, told = self._expected, ""
        ties = self._ties(ran.outputs)
        if isinstance(ties, str):
            return RuntimeRow(name, DIFFERS, version, ties)
        if ties:
            expected = self._again(ran.outputs)
            told = f"{ties} code{'s' if ties > 1 else ''} of computed floats one apart, at ties; "
        count = 0
        for call, (ours, theirs) in enumerate(zip(expected, ran.outputs, strict=True)):
            for code in self._shown.codes:
                if code in self._shown.entries and ties:
                    continue
                if different := _different(ours[code], theirs[code]):
                    where = f" in call {call + 1}" if len(expected) > 1 else ""
                    return RuntimeRow(name, DIFFERS, version, f"{code}{where}: {different}")
                count += ours[code].size
        return RuntimeRow(name, SAME, version, told + self._apart(expected, ran.outputs), count)

    def _ties(self, found: Sequence[Outputs]) -> int | str:
        """Codes of computed floats that are one apart; a sentence where that is no tie."""
        again = None
        ties = 0
        for code, rounded in self._shown.entries.items():
            number = size = 0
            for call, theirs in enumerate(found):
                if code not in theirs:
                    continue
                if not np.array_equal(self._expected[call][code], theirs[code]):
                    if code not in self._shown.computed:
                        different = _different(self._expected[call][code], theirs[code])
                        return f"{code}: {different}"
                    again = again or self._again(found)
                    apart = np.abs(again[call][rounded] - theirs[rounded])
                    if apart.max() > 1 or not np.array_equal(
                        theirs[code].astype(np.float32), theirs[rounded]
                    ):
                        return f"{code}: up to {apart.max():g} codes apart"
                    number += int(np.count_nonzero(apart))
                size += theirs[code].size
            if number > max(1, TIES * size):
                return f"{code}: {number} of {size} codes are one apart, too many for ties"
            ties += number
        return ties

    def _again(self, found: Sequence[Outputs]) -> list[Outputs]:
        """The reference, computed from the codes and the states that a runtime had."""
        if self._from_codes is None:
            self._from_codes = onnxruntime_session(from_codes(self._shown), "disabled", 1)
        results: list[Outputs] = []
        left: dict[str, Array] = {}
        for index, (inputs, theirs) in enumerate(zip(self._calls.inputs, found, strict=True)):
            feeds = {**inputs, **({} if index in self._calls.anew else left)}
            given = {name: theirs[name] for name in self._shown.entries}
            results.append(given | self._from_codes(feeds | given))
            left = {taken: theirs[given] for taken, given in self._calls.states.items()}
        return results

    def _apart(self, expected: Sequence[Outputs], found: Sequence[Outputs]) -> str:
        """How far outputs that are no codes are apart."""
        furthest = 0.0
        others = 0
        for ours, theirs in zip(expected, found, strict=True):
            for name in self._floats:
                if name in self._shown.codes:
                    continue
                if ours[name].dtype.kind != "f":
                    others += int(np.count_nonzero(ours[name] != theirs[name]))
                elif ours[name].shape != theirs[name].shape:
                    return f"output {name} has shape {theirs[name].shape}"
                else:
                    apart = np.abs(ours[name] - theirs[name]).max(initial=0.0)
                    furthest = max(furthest, float(apart))
        told = [f"floats within {furthest:.1g}"] if furthest else []
        if others:
            told.append(f"{others} classes or other whole numbers that come from floats differ")
        return ", ".join(told)


def _different(ours: Array, theirs: Array) -> str:
    """How codes differ; nothing where they do not."""
    if ours.shape != theirs.shape:
        return f"shape {theirs.shape} instead of {ours.shape}"
    places = np.argwhere(ours != theirs)
    if not len(places):
        return ""
    place = tuple(int(index) for index in places[0])
    return (
        f"{len(places):,} of {ours.size:,} codes differ, first at {list(place)}: "
        f"{ours[place]} expected, {theirs[place]} found"
    )


def document(found: Verdicts) -> dict[str, Any]:
    """As JSON holds it."""
    return {"format": "onnxgru.verify/1", **asdict(found)}
