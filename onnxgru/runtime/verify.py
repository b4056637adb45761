"""Verification: the codes of the emitted graph in onnxruntime against those of the oracle.

Integers must be equal. Floats need not be: onnxruntime may sum in another order in another session,
and a value at a tie of rounding then gets a neighbouring code. So the oracle reads the codes that
the emitted graph has quantised. These must be the codes of the floats that the graph quantised. The
floats may differ only by rounding errors from ours, which come from the float parts run alone.
Codes that differ because of that are counted as ties.

A graph that takes one step or frame per call is called several times, and its states are passed on.
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
"""Largest distance, in codes, of two floats that differ by rounding errors only."""

CLOSE = 1e-3
"""Largest difference of states that float operators compute, as a share of the largest value."""

CHUNK_BYTES = 64 * 2**20
"""Largest memory of the codes of a chunk of sequences."""

CALLS = 16
"""Calls in a row with states passed on, where a model takes one frame per call."""


@dataclass(frozen=True)
class Verification:
    """The result of a successful comparison.

    Parameters
    ----------
    sequences : int
        Number of sequences that ran.
    codes : int
        Number of compared state codes.
    calls : int
        Calls in a row with states passed on; 1 where a call takes whole sequences.
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
        The graph that was emitted from `program`.
    host : Host
        The float parts of the source model.
    program : IntegerProgram
        The program.
    data : Dataset or Corpus
        Sequences to run; states are passed on within each stream.
    load : callable
        Loads the model in a runtime.
    time_axes : mapping of str to int, optional
        For a model in step form: the time axis of its inputs. It is then called once per step, and
        its states are passed on.
    states : mapping of str to str, optional
        Outputs of the model by the name of the input that each is at the next call. Without
        `time_axes`, the first sequences are then one call after the other: each begins with the
        states that the one before left.
    report : callable, optional
        Receives the number of calls made and of all calls.
    seconds : float, optional
        Time limit. No call begins that would probably end later, judged by the time of the call
        before. The first calls are short then, and at least one is made. `Verification.sequences`
        tells how many sequences ran.
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
        """Data of every call or row of calls, whether states start anew, and sequences that count.

        The last call may have repeated sequences, which do not count.
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
            return 1  # it is not known which output is the next value of which input
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
        """Compare the calls of a chunk with the oracle.

        `fresh` tells whether the states of the step form are the first ones.
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
        """Codes (T, B, I) that a layer reads; our own for steps without a call."""
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
        """Codes (D, B, H) of the carries before the first step that are given."""
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
        """Check quantised values, and count codes that differ from ours at ties."""
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
        """Compare the outputs and carries of a layer in all calls."""
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
        """Check the states that the float parts compute from the layers' last states."""
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
    """Whether a layer runs once for many steps, as a dense layer after the last step does."""
    return not layer.carries and len(steps) == 1 < len(calls)


def _grids(layer: IntegerLayer) -> dict[str, str]:
    """Names of the boundaries of a forward layer's carries, by carry."""
    (first, *_) = layer.recurrences
    return {carry: layer.grid(first, carry) for carry in first.bound}
