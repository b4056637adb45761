"""The float parts of a model around its integer layers, run in onnxruntime."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.errors import DataError
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerLayer
from onnxgru.data.dataset import Corpus, Dataset, Recorded, Signature, joined
from onnxgru.data.sources import join
from onnxgru.passes.graph import source
from onnxgru.passes.graph.axes import origins
from onnxgru.passes.graph.values import named
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.delays import Tracer
from onnxgru.runtime.interface import Interface, find
from onnxgru.runtime.plan import LoopError, RunPlan
from onnxgru.runtime.sessions import Run, onnxruntime_session

Array = npt.NDArray[Any]

MOST = 256
"""Most sequences per call of the whole float model, where it takes any number."""


class Host:
    """The float parts of a normalised model.

    Parameters
    ----------
    model : onnx_ir.Model
        Normalised; its recurrent nodes still in place.
    layers : sequence of Layer
        Layers whose nodes do not run here.
    declared : Declared, optional
        The user's settings of inputs and outputs.

    Raises
    ------
    ModelError
        If an input is no tensor, or no batch axis can be found.
    UsageError
        If the user names an input, output or axis that the model does not have.
    """

    def __init__(
        self, model: ir.Model, layers: Sequence[Layer], declared: Declared | None = None
    ) -> None:
        self.layers = tuple(layers)
        self._graph = model.graph
        self._proto = source.proto(model)
        self._outputs = [output.name for output in self._proto.graph.output]
        self.interface: Interface = find(
            self._proto, model.graph, self.layers, lambda: self.whole, declared
        )
        """Meaning of inputs and outputs."""
        self._values = named(model.graph)
        self._plans: dict[object, RunPlan] = {}

    def plan(
        self, outputs: Sequence[str] | None = None, frame: Mapping[str, Array] | None = None
    ) -> RunPlan:
        """The order in which float parts and layers are run.

        Parameters
        ----------
        outputs : sequence of str, optional
            Outputs of the model that are wanted; all where left out.
        frame : mapping of str to ndarray, optional
            Inputs of one call, where states pass from call to call.

        Raises
        ------
        LoopError
            If calls depend on each other through more than the layers' own states.
        """
        wanted = tuple(self._outputs if outputs is None else outputs)
        shapes = None if frame is None else tuple(array.shape for array in frame.values())
        key = wanted, shapes
        if key not in self._plans:
            states = {} if frame is None else self.interface.states
            lines = {}
            if frame is not None:
                try:
                    lines = Tracer(self._proto, states, frame).lines
                except ValueError as error:
                    raise LoopError(str(error)) from error
            self._plans[key] = RunPlan(self._proto, self.layers, wanted, lines, tuple(states))
        return self._plans[key]

    @property
    def signature(self) -> Signature:
        """Specifications of the inputs."""
        return self.interface.inputs

    @property
    def batch(self) -> int | None:
        """Number of sequences per call; None if the model takes any number."""
        return self.interface.batch

    @cached_property
    def whole(self) -> Run:
        """A session of the whole float model."""
        return onnxruntime_session(self._proto, threads=1)

    def outputs_of(self, data: Recorded, *, through_states: bool = False) -> dict[str, Array]:
        """Outputs of the model for all sequences, the batch first, by name.

        Parameters
        ----------
        data : Dataset or Corpus
            Sequences.
        through_states : bool
            Where the data have streams, pass this model's states from call to call instead of those
            in the data.
        """
        if through_states:
            parts = tuple(self.handed_on(p) if p.streams else p for p in data.parts)
            data = parts[0] if len(parts) == 1 else Corpus(parts, data.source)
        calls = list(data.calls(self.batch, MOST))
        return self.join([self.whole(c.inputs) for c, _ in calls], [count for _, count in calls])

    def time_axis(self, output: str) -> int | None:
        """Axis of an output, with the batch first, that comes from the layers' time, or None."""
        value = next(v for v in self._graph.outputs if v.name == output)
        batch = self.interface.outputs[output]
        times = {
            place
            for layer in self.layers
            if layer.recurrent
            for place in origins(self._values.get(layer.ports.x), 0).items()
        }
        size = 0 if value.shape is None else len(value.shape)
        axes = [axis for axis in range(size) if axis != batch]
        for place, axis in enumerate(axes):
            if times & set(origins(value, axis).items()):
                return place + 1
        return None

    def handed_on(self, data: Dataset) -> Dataset:
        """Data with the states that the float model passes from call to call.

        Data may hold a state for every frame. A frame belongs to the recording of the frame before
        if its state is what the float model computes from that frame. Otherwise it begins another
        recording.

        Parameters
        ----------
        data : Dataset
            Frames along the batch axis.
        """
        fed_by = self.interface.states
        if not fed_by or (not data.streams and not self._continues(data)):
            return data
        if not data.streams:
            data = replace(data, streams=self._streams(data))
        calls = list(data.calls(self.batch, 1))
        begins = set(np.cumsum([0, *data.streams]).tolist())
        found: dict[str, list[Array]] = {name: [] for name in fed_by}
        following: dict[str, Array] = {}
        for index, (call, count) in enumerate(calls):
            if index in begins:
                following = {name: call.inputs[name] for name in fed_by}
            for name, value in following.items():
                # Without the repeated recordings that fill up a call.
                axis = 0 if name in data.bare else data.batch_axes[name] or 0
                whole = name in data.bare or count == value.shape[axis]
                found[name].append(value if whole else np.take(value, np.arange(count), axis))
            outputs = self.whole({**call.inputs, **following})
            following = {name: outputs[output] for name, output in fed_by.items()}
        states = {
            name: np.stack(values)
            if name in data.bare
            else np.concatenate(values, axis=data.batch_axes[name] or 0)
            for name, values in found.items()
        }
        return replace(data, inputs={**data.inputs, **states})

    def continued(self, batches: Iterable[Dataset]) -> Iterator[Dataset]:
        """Batches with the states of `handed_on`.

        Consecutive batches of one frame each are one recording, or several if their states tell.

        Parameters
        ----------
        batches : iterable of Dataset
            Batches as they are read.
        """
        single: list[Dataset] = []
        for batch in batches:
            if self.interface.states and batch.size == 1:
                single.append(batch)
                continue
            yield from self._one_by_one(single)
            single = []
            yield self.handed_on(batch)
        yield from self._one_by_one(single)

    def _one_by_one(self, frames: list[Dataset]) -> Iterator[Dataset]:
        if not frames:
            return
        for part in join(frames, self.signature, frames[0].source).parts:
            whole = part
            if part.streams:  # the data hold no states
                whole = replace(part, streams=(part.size,), beside=part.beside[:1])
            yield self.handed_on(whole)

    def _continues(self, data: Dataset) -> bool:
        """Whether the second frame's states are what the float model computes from the first."""
        return data.size > 1 and (self.batch or 1) == 1 and len(self._streams(data.part(0, 2))) == 1

    def _streams(self, data: Dataset) -> tuple[int, ...]:
        """Numbers of consecutive frames whose states continue those before."""
        lengths, expected = [0], None
        for call, _ in data.calls(1, 1):
            if expected is not None and not all(
                np.allclose(call.inputs[name], value, rtol=1e-2, atol=1e-3)
                for name, value in expected.items()
            ):
                lengths.append(0)
            lengths[-1] += 1
            outputs = self.whole(call.inputs)
            expected = {n: outputs[output] for n, output in self.interface.states.items()}
        return tuple(lengths)

    @staticmethod
    def outputs(layer: Layer | IntegerLayer) -> tuple[str, ...]:
        """Names of a layer's values that are read: its sequence, and last values of its carries."""
        ports = layer.ports
        return tuple(name for name in (ports.sequence, *ports.last.values()) if name)

    def join(self, parts: Sequence[Mapping[str, Array]], counts: Sequence[int]) -> dict[str, Array]:
        """Outputs of several calls with the batch as axis 0, joined along it.

        Parameters
        ----------
        parts : sequence of mapping of str to ndarray
            Outputs of one call each, all or some of the model's.
        counts : sequence of int
            Number of sequences of every call that count; repeated ones at the end do not.

        Returns
        -------
        dict of str to ndarray
            (N, ...) by name, or (frames, ...) where calls have different numbers of frames. Outputs
            without a batch axis are stacked, one entry per call.

        Raises
        ------
        DataError
            If outputs of calls differ in more than the number of frames.
        """
        found = {}
        for name in parts[0]:
            axis = self.interface.outputs[name]
            arrays = [
                part[name][None] if axis is None else np.moveaxis(part[name], axis, 0)[:count]
                for part, count in zip(parts, counts, strict=True)
            ]
            try:
                found[name] = joined(arrays)
            except ValueError as error:
                shapes = " and ".join(dict.fromkeys(str(array.shape) for array in arrays))
                raise DataError(
                    f"output {name!r} must have one shape for all recordings, but for their "
                    f"number and length, it has {shapes}; give recordings of one length"
                ) from error
        return found
