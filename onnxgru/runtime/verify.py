"""Verification: the emitted graph, run in onnxruntime, against the oracle, code for code.

Integers are compared for equality. The float operators around them are not: onnxruntime may add up
in another order in another session, and a value at a tie of rounding then gets the code beside. So
the oracle reads the codes that the emitted graph itself quantised. Those must be the codes of the
floats that the graph quantised, and these floats may differ from ours, which come from the float
parts run alone, by rounding errors only. Where that makes another code, it is counted.

A graph that is called once a step, or a frame, is called several times with its states handed on.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxgru.core.cells import STATE
from onnxgru.core.errors import VerificationError
from onnxgru.core.integers import Codes, Quantization
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.data.dataset import Dataset, Recorded
from onnxgru.passes.forms.recurrence import last_name
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.runtime import oracle
from onnxgru.runtime.engines import Engine, Initial, States
from onnxgru.runtime.host import Host
from onnxgru.runtime.probe import Probe
from onnxgru.runtime.sessions import Run, onnxruntime_session, require_equal
from onnxgru.runtime.walk import Group, Walk

Array = npt.NDArray[Any]
Loader = Callable[[onnx.ModelProto], Run]
Report = Callable[[int, int], None]

WHERE = "integer.onnx in onnxruntime"

TIE = 1 / 16
"""Widths of a code that two floats which differ by rounding errors may be apart."""

CLOSE = 1e-3
"""Share of the largest value by which states that the float model hands on may differ."""

CHUNK_BYTES = 64 * 2**20
"""Memory that the codes of a chunk of sequences may take."""

CALLS = 16
"""Calls with the states handed on, where a model is called once a frame."""


@dataclass(frozen=True)
class Verification:
    """What was compared and found equal.

    Parameters
    ----------
    sequences : int
        Sequences run.
    codes : int
        State codes compared.
    calls : int
        Calls in a row with the states handed on; 1 where a call takes whole sequences.
    ties : int
        Codes of layers' inputs that differ from ours because a float operator's rounding error put
        its value on the other side of a tie.
    """

    sequences: int
    codes: int
    calls: int = 1
    ties: int = 0


def oracle_engine(layer: IntegerLayer) -> Engine:
    """The oracle as an engine of `Evaluator`."""

    def run(
        x: Codes, initial: Initial | None, lengths: npt.NDArray[np.integer] | None, *, trace: bool
    ) -> States:
        y, last, values = oracle.run(layer, x, initial, lengths)
        return States(y, last, values if trace else {})

    return run


def verify(
    model: onnx.ModelProto,
    host: Host,
    program: IntegerProgram,
    data: Recorded,
    *,
    load: Loader = onnxruntime_session,
    time_axes: Mapping[str, int] | None = None,
    states: Mapping[str, str] | None = None,
    report: Report | None = None,
    seconds: float | None = None,
    batch: int | None = None,
) -> Verification:
    """Run an emitted model and compare the state codes of every layer with the oracle's.

    Parameters
    ----------
    model : onnx.ModelProto
        What was emitted from `program`.
    host : Host
        The float parts of the model it came from.
    program : IntegerProgram
        The program.
    data : Dataset or Corpus
        Sequences to run; where they have streams, states are handed on within each.
    load : callable
        Loads the model in a runtime.
    time_axes : mapping of str to int, optional
        For a model in step form: the time axis of its inputs. It is then called once a step, its
        states handed on.
    states : mapping of str to str, optional
        Outputs of the model by the name of the input that each is at the next call. Without
        `time_axes`, the first sequences are then one call after the other: each begins with the
        states that the one before left.
    report : callable, optional
        Receives the number of calls made and of all calls.
    seconds : float, optional
        No call is begun that would end later, by the time that the one before took. The first
        calls are then short, and one is always made; `Verification.sequences` says how far it went.
    batch : int, optional
        Sequences that the graph takes per call, where the model that it came from takes any number.

    Raises
    ------
    VerificationError
        If a code differs, or the float operators in front of a layer compute something else.
    """
    check = _Check(
        model, host, program, load, time_axes, states or {}, seconds, batch or host.batch
    )
    return check.run(data, report)


class _Check:
    """One verification; see `verify`."""

    def __init__(
        self,
        model: onnx.ModelProto,
        host: Host,
        program: IntegerProgram,
        load: Loader,
        time_axes: Mapping[str, int] | None,
        states: Mapping[str, str],
        seconds: float | None,
        batch: int | None,
    ) -> None:
        self._host, self._program, self._seconds = host, program, seconds
        self._batch = batch
        self._step_form, self._time_axes = time_axes is not None, dict(time_axes or {})
        self._probe = Probe(model, program)
        if not self._probe.names:
            raise VerificationError(f"{WHERE}: no layer's states are in it; please report it")
        self._run = load(self._probe.model)
        self._recorded = recorded(model)
        self._given = states
        self._handed = {state["input"]: state["output"] for state in self._recorded} | dict(states)
        self._chains = bool(self._handed) and not self._time_axes
        self._codes = self._ties = 0

    def run(self, data: Recorded, report: Report | None) -> Verification:
        """Check all sequences."""
        parts = [found for part in data.parts for found in self._parts(part)]
        lengths = [self._length(part) for part, _, _ in parts]
        total, done, sequences = sum(lengths), 0, 0
        left: dict[str, Array] = {}
        begin, last = time.monotonic(), 0.0  # the last: seconds per sequence
        for (part, begins, count), length in zip(parts, lengths, strict=True):
            started = time.monotonic()
            late = self._seconds is not None and started - begin + last * count > self._seconds
            if sequences and late:
                break
            left = {} if begins else left
            inputs: dict[str, Array] = dict(part.inputs)
            current = inputs | first_values(self._recorded, part.size)
            fresh = True
            if self._chains and left and all(current[n].shape == a.shape for n, a in left.items()):
                inputs |= {name: array for name, array in left.items() if name in inputs}
                current |= left
                fresh = False
            calls = []
            for t in range(length):
                calls.append(self._call(self._at(current, t)))
                left = {name: calls[-1][output] for name, output in self._handed.items()}
                current |= left
                done += 1
                if report is not None:
                    report(done, total)
            self._compare(inputs, calls, fresh=fresh)
            sequences += count
            last = (time.monotonic() - started) / count
        row = total if self._chains else max(lengths, default=1)
        return Verification(sequences, self._codes, row, self._ties)

    def _parts(self, data: Dataset) -> Iterator[tuple[Dataset, bool, int]]:
        """Sequences of every call, or of every row of calls, and whether states start anew.

        Behind these, how many sequences count: the last call may have been filled up.
        """
        if data.streams:
            firsts = set(np.cumsum([0, *data.streams]).tolist())
            for index, (call, count) in enumerate(data.calls(self._batch, 1)):
                yield call, index in firsts, count
            return
        narrowest = min(layer.input_size for layer in self._program.layers)
        width = sum(
            4 * len(r.operators) * x.hidden_size
            for x in self._program.layers
            for r in x.recurrences
        )
        size = max(1, CHUNK_BYTES // (width * max(1, data.largest // narrowest)))
        if self._chains:
            size = max(1, data.size // CALLS)
        start, most = 0, size
        if self._seconds is not None:
            size = self._batch or 1
        while start < data.size:
            part = data.part(start, start + size) if self._seconds is not None else data
            for call, count in part.calls(self._batch, size):
                yield call, start == 0, count
                start += count
            size = max(size, min(2 * size, most))

    def _length(self, part: Dataset) -> int:
        """Calls of a chunk of sequences."""
        if not self._time_axes:
            return 1
        streams = {state["layer"] for state in self._recorded}
        stepping = (layer for layer in self._program.layers if layer.carries)
        if not self._given and any(layer.name not in streams for layer in stepping):
            return 1  # nobody has said which of the model's outputs is which of its inputs
        return self._steps(part.inputs)

    def _steps(self, inputs: Mapping[str, Array]) -> int:
        """Steps of a chunk of sequences, for a model in step form."""
        steps: int = min(inputs[name].shape[axis] for name, axis in self._time_axes.items())
        return steps

    def _at(self, inputs: Mapping[str, Array], t: int) -> dict[str, Array]:
        axes = self._time_axes
        return {
            name: np.take(array, [t], axis=axes[name]) if name in axes else array
            for name, array in inputs.items()
        }

    def _call(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {**inputs, **self._run(inputs)}

    def _compare(
        self, inputs: Mapping[str, Array], calls: Sequence[Mapping[str, Array]], *, fresh: bool
    ) -> None:
        """Compare a chunk's calls, one after the other, with the oracle over all of them.

        `fresh`: whether the states that the step form hands on are the first ones.
        """
        walk = Walk(Group(self._host.plan(), [Dataset(inputs, None, WHERE)], [1]))
        for place in self._host.plan().order:
            layer = self._program.layers[place]
            (ours,), lengths, given = walk.entry(place, layer.node)
            x = self._input(layer, ours, calls)
            initial = self._initial(
                layer, {carry: values[0] for carry, values in given.items()}, calls[0], fresh=fresh
            )
            y, last, _ = oracle.run(layer, x, initial, None if lengths is None else lengths[0])
            self._require_states(layer, y, last, calls)
            walk.put(layer, [(y, last)])
        if not self._time_axes or len(calls) == self._steps(inputs):
            self._require_handed_on(walk, calls[-1])

    def _input(
        self, layer: IntegerLayer, ours: Array, calls: Sequence[Mapping[str, Array]]
    ) -> Codes:
        """Codes (T, B, I) that a layer reads; ours for steps that were not called."""
        quantization, reading = layer.input.quantization, self._probe.inputs.get(layer.name)
        if reading is None:
            return quantization.quantize(ours)
        if _once(layer, ours, calls):
            calls = calls[-1:]
        codes = np.concatenate([call[reading.codes] for call in calls])
        floats = np.concatenate([self._probe.source(reading, call) for call in calls])
        self._read(layer, layer.input.name, ours[: len(codes)], floats, codes, quantization)
        return np.concatenate([codes, quantization.quantize(ours[len(codes) :])])

    def _initial(
        self,
        layer: IntegerLayer,
        ours: Mapping[str, Array],
        call: Mapping[str, Array],
        *,
        fresh: bool,
    ) -> dict[str, Codes]:
        """Codes (D, B, H) of what a layer carries before the first step, where it is given."""
        found = {}
        for carry, grid in _grids(layer).items():
            codes = self._given_codes(layer, carry, grid, ours.get(carry), call, fresh=fresh)
            if codes is not None:
                found[carry] = codes
        return found

    def _given_codes(
        self,
        layer: IntegerLayer,
        carry: str,
        grid: str,
        ours: Array | None,
        call: Mapping[str, Array],
        *,
        fresh: bool,
    ) -> Codes | None:
        quantization = layer.grids[grid].quantization
        for state in self._states_of(layer, carry):
            given = call[state["input"]][None]
            real = state["type"] == "float32"
            codes: Codes = quantization.quantize(given) if real else given
            if fresh:
                exact = np.zeros(codes.shape, np.float32) if ours is None else ours
                self._read(layer, grid, exact, exact, codes, quantization)
            return codes
        readings = self._probe.initial.get(grid, [])  # nobody gives what a delta network holds
        if ours is None or not readings:
            return None if ours is None else quantization.quantize(ours)
        codes = np.stack([call[reading.codes] for reading in readings])
        floats = np.stack([self._probe.source(reading, call) for reading in readings])
        self._read(layer, grid, ours, floats, codes, quantization)
        return codes

    def _states_of(self, layer: IntegerLayer, carry: str) -> list[Mapping[str, Any]]:
        """States of the step form that are a carry of a layer."""
        return [
            state
            for state in self._recorded
            if (state["layer"], state.get("carry", STATE)) == (layer.name, carry)
        ]

    def _read(
        self,
        layer: IntegerLayer,
        name: str,
        ours: Array,
        theirs: Array,
        codes: Codes,
        quantization: Quantization,
    ) -> None:
        """Check what was quantised; count codes that differ from ours at ties."""
        require_equal({name: quantization.quantize(theirs)}, {name: codes}, [name], WHERE)
        if ours.shape != theirs.shape:
            raise VerificationError(
                f"{WHERE}: {name} must have shape {ours.shape}, has {theirs.shape}; "
                "please report it"
            )
        different = quantization.quantize(ours) != codes
        apart = np.abs(ours[different].astype(np.float64) - theirs[different])
        furthest = float(apart.max(initial=0.0)) / quantization.scale
        if not furthest <= TIE:
            raise VerificationError(self._unlike(layer, furthest))
        self._ties += int(different.sum())

    def _unlike(self, layer: IntegerLayer, codes: float) -> str:
        what = (
            f"{WHERE}: the float operators in front of layer {layer.name} must compute what they "
            f"compute in the float model, but differ by {codes:.3g} widths of a code; "
        )
        if self._step_form:
            return what + (
                "they look at several steps at once, which one step a call cannot: use "
                "--recurrence scan"
            )
        return what + (
            "they enlarge rounding errors, as a division by a number near 0 does: leave the layer "
            "out with --exclude, or make them stable"
        )

    def _require_states(
        self,
        layer: IntegerLayer,
        y: Codes,
        last: Mapping[str, Codes],
        calls: Sequence[Mapping[str, Array]],
    ) -> None:
        """Compare what a layer emits and carries in all calls."""
        for t, found in enumerate(calls):
            expected: dict[str, Array] = {f"{layer.name}/y": y}
            expected |= {f"{layer.name}/{last_name(layer, c)}": v for c, v in last.items()}
            where = WHERE
            if self._step_form and _once(layer, y, calls):
                where = f"{WHERE}, step {t}"
                expected = expected if t + 1 == len(calls) else {}
            elif self._step_form:
                # Forward layers only; a carry that is no output is compared after the last step.
                where = f"{WHERE}, step {t}"
                expected = {f"{layer.name}/y": y[t][None]}
                for carry, grid in _grids(layer).items():
                    emitted = layer.carries.get(carry) == layer.output
                    if not emitted and t + 1 < len(calls):
                        continue
                    codes = y[t] if emitted else last[carry]
                    expected[f"{layer.name}/{last_name(layer, carry)}"] = codes
                    for state in self._states_of(layer, carry):
                        real = state["type"] == "float32"
                        quantization = layer.grids[grid].quantization
                        following = quantization.dequantize(codes) if real else codes
                        expected[state["output"]] = following[0]
            names = [name for name in expected if name in found]
            require_equal(expected, found, names, where)
            self._codes += sum(int(np.size(found[name])) for name in names)

    def _require_handed_on(self, walk: Walk, call: Mapping[str, Array]) -> None:
        """Check the states that the float parts make of the layers' last states."""
        outputs = walk.outputs(tuple(self._given.values()))[0] if self._given else {}
        for name in self._given.values():
            ours, theirs = outputs[name], call[name]
            largest = float(np.abs(ours).max(initial=0.0))
            same = ours.shape == theirs.shape
            if not same or not np.abs(ours - theirs).max(initial=0.0) <= CLOSE * largest:
                raise VerificationError(
                    f"{WHERE}: output {name}, which the next call is given, must be what the "
                    "float operators make of the layers' states, but is not; please report it"
                )


def _once(layer: IntegerLayer, steps: Array, calls: Sequence[Mapping[str, Array]]) -> bool:
    """Whether a layer computes once what is called step by step: a dense one behind the last."""
    return not layer.carries and len(steps) == 1 < len(calls)


def _grids(layer: IntegerLayer) -> dict[str, str]:
    """Names of the boundaries of everything that a layer carries forwards, by carry."""
    (first, *_) = layer.recurrences
    return {carry: layer.grid(first, carry) for carry in first.bound}
