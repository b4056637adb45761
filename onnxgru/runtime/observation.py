"""Observation: the value of every operator at every time step, from the decomposed float graph.

The graph runs in onnxruntime without graph optimisation, a chunk of sequences at a time, so that
memory stays bounded. Calibration, the moments of operands, and the quality of each operator are
measured on these values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.moments import Moment, Moments
from onnxgru.core.integers import Codes, Floats, Quantization
from onnxgru.core.network import Layer, Recurrence
from onnxgru.core.program import IntegerProgram
from onnxgru.data.dataset import Dataset, Recorded
from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.graph import source
from onnxgru.passes.graph.values import named
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.host import Host
from onnxgru.runtime.sessions import onnxruntime_session

Mask = npt.NDArray[np.bool_]

CHUNK_BYTES = 16 * 2**20
"""Largest memory of the observed values of a chunk."""

FIRST = 256
"""Sequences on which `Standstill` looks at states; the last chunk is used as a whole."""

FEWEST_CODES = 2
"""Codes by which a float state must move to count as moving."""


class Observation:
    """Runs the decomposed graph and yields the values of its operators.

    Parameters
    ----------
    model : onnx_ir.Model
        Normalised.
    layers : sequence of Layer
        Its layers.
    batch : int, optional
        Sequences that the model takes per call, where it is fixed to a number.
    """

    def __init__(self, model: ir.Model, layers: Sequence[Layer], batch: int | None = None) -> None:
        self._layers, self._batch = tuple(layers), batch
        clone = model.clone()
        self._lengths = {layer.name: self._length_name(clone, layer) for layer in layers}
        decompose = Decompose(layers, observe=True)
        decompose(clone)
        self._names = decompose.observed
        self._run = onnxruntime_session(source.proto(clone), "disabled", threads=1)
        self._owners = {name: layer.name for layer in layers for name in layer.observed}

    @staticmethod
    def _length_name(model: ir.Model, layer: Layer) -> str | None:
        value = named(model.graph).get(layer.ports.lengths)
        if value is None:
            return None
        if not value.is_graph_input() and not value.is_graph_output():
            model.graph.outputs.append(value)
        return str(value.name)

    def chunk(self, data: Dataset) -> int:
        """Sequences that fit the memory of a chunk."""
        width = sum(o.width for layer in self._layers for o in layer.operators)
        narrowest = min(layer.input_size for layer in self._layers)
        return max(1, CHUNK_BYTES // (4 * width * max(1, data.largest // narrowest)))

    def values(self, data: Dataset) -> Iterator[tuple[str, Floats, Mask | None]]:
        """Observe a chunk of sequences.

        Yields
        ------
        name : str
            Operator, or a layer's ``/input`` or ``/state``.
        values : ndarray of float32, shape (T, B, N), or (B, H) for a given initial state
            What it computed.
        going : ndarray of bool, shape (T, B), or None
            Steps that belong to the sequences, where they have lengths.
        """
        calls = [(call.inputs, count) for call, count in data.calls(self._batch, data.size)]
        outputs = [self._run(inputs) for inputs, _ in calls]
        known: list[dict[str, Any]] = [
            {**inputs, **values} for (inputs, _), values in zip(calls, outputs, strict=True)
        ]
        for output, name in self._names.items():
            lengths = self._lengths[self._owners[name]]
            kept = [self._counted(v[output], n) for v, (_, n) in zip(outputs, calls, strict=True)]
            array = kept[0] if len(kept) == 1 else np.concatenate(kept, axis=-2)
            going = None
            if lengths is not None and array.ndim == 3:
                ends = np.concatenate([np.asarray(values[lengths]) for values in known])
                going = np.arange(len(array))[:, None] < ends[None, : array.shape[1]]
            yield name, array, going

    def _counted(self, array: Floats, count: int) -> Floats:
        """Values (T, B, N) or (B, H) of a call without repeated sequences that fill it up."""
        return array[..., :count, :] if array.shape[-2] == self._batch else array


def calibrate(
    observation: Observation,
    layers: Sequence[Layer],
    batches: Iterable[Dataset],
    model: str,
    report: Callable[[int], None] | None = None,
) -> Calibration:
    """Statistics of every operator over all batches.

    Parameters
    ----------
    observation : Observation
        Of the model.
    layers : sequence of Layer
        Its layers.
    batches : iterable of Dataset
        Any number, of any lengths.
    model : str
        SHA-256 of the source model.
    report : callable, optional
        Receives the number of sequences seen so far.
    """
    histograms: dict[str, Histogram] = {}
    sequences = 0
    for batch in batches:
        for part in batch.chunks(observation.chunk(batch)):
            for name, values, going in observation.values(part):
                kept = values if going is None else values[going]
                histograms.setdefault(name, Histogram()).update(kept)
            sequences += part.size
            if report is not None:
                report(sequences)
    for layer in layers:
        for grid, writers in layer.writers.items():
            shared = histograms.setdefault(grid, Histogram())
            for name in writers:
                shared.merge(histograms[name])
    return Calibration(histograms, {}, model, sequences)


def observe_moments(
    observation: Observation,
    layers: Sequence[Layer],
    batches: Iterable[Dataset],
    calibration: Calibration,
) -> Moments:
    """Moments of the operands of all linear operators, over all batches and steps of sequences.

    Parameters
    ----------
    observation : Observation
        Of the model.
    layers : sequence of Layer
        Its layers.
    batches : iterable of Dataset
        Any number, of any lengths.
    calibration : Calibration
        Of the same model; its extremes determine the resolution of the moments.
    """
    found: dict[str, Moment] = {}
    for batch in batches:
        for part in batch.chunks(observation.chunk(batch)):
            initial: dict[str, list[Floats]] = {
                grid: [] for layer in layers for grid in layer.carries.values()
            }
            known: dict[str, Floats] = {}
            masks: dict[str, Mask | None] = {}
            for name, values, going in observation.values(part):
                if name in initial:  # a given one of each direction in turn
                    initial[name].append(values)
                else:
                    known[name], masks[name] = values, going
            for layer in layers:
                going = masks[layer.input]
                for index, recurrence in enumerate(layer.recurrences):
                    known[recurrence.input] = known[layer.input]
                    sources = {recurrence.input: layer.input}
                    for carry, grid in zip(recurrence.carries, layer.carries.values(), strict=True):
                        given = initial[grid][index] if initial[grid] else np.float32(0)
                        following = known[carry.written_by]
                        known[carry.name] = _previous(recurrence, following, given, going)
                        sources[carry.name] = grid
                    for name in dict.fromkeys(o.inputs[0] for o in recurrence.linears):
                        values = known[name]
                        if name not in found:
                            seen = calibration.histograms[sources.get(name, name)]
                            found[name] = Moment.of_extremes(
                                values.shape[-1], seen.minimum, seen.maximum
                            )
                        found[name].update(values if going is None else values[going])
    return Moments(found, calibration.model)


def _previous(
    recurrence: Recurrence,
    states: Floats,
    given: Floats | np.float32,
    going: Mask | None,
) -> Floats:
    """A carry before every step, (T, B, H), from those after every step and the initial value."""
    if going is not None:
        # A backward layer begins at the last step of each sequence; later steps hold no state.
        states = np.where(going[..., None], states, given)
    start = np.broadcast_to(given, states.shape[1:])[None]
    if recurrence.reverse:
        return np.concatenate([states[1:], start])
    return np.concatenate([start, states[:-1]])


@dataclass(frozen=True)
class FloatComparison:
    """An integer program beside the float graph, both from the same input.

    Parameters
    ----------
    sqnr : dict of str to float
        Signal to quantisation noise of every operator over all steps, in dB. The signal is the
        float graph's value; the noise is its distance from the program's dequantised value,
        including errors of earlier operators.
    stuck : dict of str to int
        By layer: number of units in all directions with codes that stand still although the float
        states move.
    """

    sqnr: dict[str, float]
    stuck: dict[str, int]


class Standstill:
    """Finds units whose integer state stands still although the float state moves.

    The change of a state in one step may be below half a code, and is rounded away then. The
    integer state never moves, while many such steps move the float state far. A sequence counts as
    moving a unit if the codes of its float state differ by `FEWEST_CODES` or more. A unit is stuck
    if its own codes are all equal in more than half of the sequences that move it.

    Parameters
    ----------
    quantization : Quantization
        Of the state.
    width : int
        H.
    """

    def __init__(self, quantization: Quantization, width: int) -> None:
        self._quantization = quantization
        self._moved = np.zeros(width, np.int64)
        self._stood = np.zeros(width, np.int64)

    def update(self, exact: Floats, codes: Codes, going: Mask | None) -> None:
        """Add states (T, B, H) of the float graph and of the program, with the mask of steps."""
        own, wanted = codes.astype(np.int32), self._quantization.quantize(exact).astype(np.int32)
        mask = np.True_ if going is None else going[..., None]

        beyond = self._quantization.type.levels

        def reach(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
            highest = values.max(axis=0, where=mask, initial=-1)
            return np.asarray(highest - values.min(axis=0, where=mask, initial=beyond))

        moved = reach(wanted) >= FEWEST_CODES
        self._moved += moved.sum(axis=0)
        self._stood += (moved & (reach(own) == 0)).sum(axis=0)

    @property
    def stuck(self) -> int:
        """Number of stuck units."""
        return int((2 * self._stood > self._moved).sum())


def compare(
    observation: Observation, host: Host, program: IntegerProgram, data: Recorded
) -> FloatComparison:
    """Compare a program with the float graph on some data.

    Parameters
    ----------
    observation : Observation
        Of the float model.
    host : Host
        Its float parts.
    program : IntegerProgram
        Of the model.
    data : Dataset
        Sequences. `Standstill` looks at the first `FIRST` of them.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    still = {
        recurrence.emits: (
            layer.name,
            Standstill(layer.emitted, recurrence.widths[recurrence.emits]),
        )
        for layer in program.layers
        for recurrence in layer.recurrences
    }
    evaluator = Evaluator(host, data, most=observation.chunk(data.parts[0]), once=True)
    moving: dict[str, list[tuple[Floats, Codes, Mask | None]]] = {name: [] for name in still}
    seen = 0
    for call, (_, states) in zip(
        evaluator.calls, evaluator.states(program, trace=True), strict=True
    ):
        traces = {n: codes for found in states.values() for n, codes in found.trace.items()}
        for name, values, going in observation.values(call):
            if name not in traces:
                continue
            codes = traces[name][:, : values.shape[1]]
            if name in still and seen < FIRST:
                moving[name].append((values, codes, going))
            real = program.values[name].dequantize(codes)
            exact = values if going is None else values[going]
            real = real if going is None else real[going]
            signal[name] = signal.get(name, 0.0) + float(np.square(exact, dtype=np.float64).sum())
            error = np.subtract(exact, real, dtype=np.float64)
            noise[name] = noise.get(name, 0.0) + float(np.square(error).sum())
        seen += call.size
    frames = any(part.streams for part in data.parts)
    for name, (_, standstill) in still.items():
        if frames and moving[name]:  # a state moves from frame to frame
            values, codes = (np.concatenate([m[i] for m in moving[name]]) for i in (0, 1))
            standstill.update(values, codes, None)
        else:
            for values, codes, going in moving[name]:
                standstill.update(values, codes, going)
    sqnr = {
        name: float("inf")
        if not noise[name]
        else 10 * float(np.log10(max(signal[name], np.finfo(np.float64).tiny) / noise[name]))
        for name in signal
    }
    stuck = dict.fromkeys((layer.name for layer in program.layers), 0)
    for name, standstill in still.values():
        stuck[name] += standstill.stuck
    return FloatComparison(sqnr, stuck)
