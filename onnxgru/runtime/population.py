"""Exact evaluation of many candidates at once on a torch device, equal to the emitted graph.

The integer layers of all candidates run together, as stacks of tensors; the float parts around them
run in onnxruntime on the processor, candidate by candidate.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import UsageError, VerificationError
from onnxgru.core.integers import Codes
from onnxgru.core.program import IntegerLayer, IntegerProgram, IntegerRecurrence
from onnxgru.data.dataset import Recorded
from onnxgru.runtime.devices import require_exact_products
from onnxgru.runtime.drive import Lengths, drive
from onnxgru.runtime.engines import Initial
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.host import Host
from onnxgru.runtime.tensors import Stacked, Tensor, TensorPrimitives, stacked
from onnxgru.runtime.walk import Walk

Array = npt.NDArray[Any]

BLOCK = 1024
"""Rows (steps times sequences) of the prologue that are computed together, at least one step."""

PROCESSOR_BYTES = 2**28
"""Memory for all candidates together if the device is the processor."""

FREE_SHARE = 0.5
"""Share of a GPU's free memory for all candidates together."""

TEMPORARIES = 6
"""Four-byte temporaries per value that an operator computes."""


def footprint(layer: IntegerLayer, steps: int, rows: int) -> int:
    """Estimate of the device memory that a candidate's layer needs, in bytes.

    Parameters
    ----------
    layer : IntegerLayer
        The layer.
    steps, rows : int
        Steps and number of sequences that run together.
    """
    values = widest = weights = 0
    for recurrence in layer.recurrences:
        operators = recurrence.prologue.operators
        values = max(values, sum(len(operator.outputs) for operator in operators))
        widest = max(widest, *(len(operator.outputs) for operator in recurrence.operators))
        weights += sum(operator.macs for operator in recurrence.operators)
    hidden = layer.hidden_size
    kinds = {kind for recurrence in layer.recurrences for kind in recurrence.types.values()}
    size = max(kinds).container.itemsize
    kept = size * steps * (layer.input_size + (values + len(layer.recurrences)) * hidden)
    work = 4 * (layer.input_size + TEMPORARIES * widest * hidden)
    return 4 * weights + rows * kept + max(rows, BLOCK) * work


class StackEngine:
    """Runs the same layer of several programs.

    Parameters
    ----------
    layers : sequence of IntegerLayer
        One per candidate, of programs of one model; their codes must have equal containers.
    device : torch.device
        Where to run.

    Raises
    ------
    UsageError
        If torch is set to round the operands of products.
    """

    def __init__(self, layers: Sequence[IntegerLayer], device: Any) -> None:
        import torch

        require_exact_products(torch)
        self._torch, self._device = torch, device
        self._layer, self._count = layers[0], len(layers)
        self._primitives = TensorPrimitives(len(layers), device)
        self._zeros = {
            name: torch.from_numpy(np.asarray([x.grids[name].quantization.zero for x in layers]))
            .to(device)
            .view(-1, 1, 1)
            for name in layers[0].grids
        }
        """Codes of 0.0 (P, 1, 1) by name of the quantisation."""
        self._stages: list[tuple[Stacked, Stacked]] = []
        for group in zip(*(layer.recurrences for layer in layers), strict=True):
            prologue, body = zip(*(recurrence.stages for recurrence in group), strict=True)
            self._stages.append((stacked(prologue, device), stacked(body, device)))

    def __call__(
        self,
        x: Sequence[Codes],
        initial: Sequence[Initial | None],
        lengths: Sequence[Array | None],
        *,
        sequence: bool = True,
    ) -> list[tuple[Codes | None, dict[str, Codes]]]:
        """Run the layer of every candidate; each sequence has one entry per candidate.

        Parameters
        ----------
        x : sequence of ndarray of uint8 or uint16, shape (T, B, I)
            Input codes. Candidates that have the same array share it.
        initial : sequence of mapping of str to ndarray of uint8 or uint16, shape (D, B, H), or None
            Codes of carries before the first step, by carry; the code of 0.0 where left out.
        lengths : sequence of ndarray of int, shape (B,), or None
            Steps of every sequence.
        sequence : bool
            Whether the outputs of all steps are wanted.

        Returns
        -------
        list of (ndarray of codes (T, D, B, H) or None, dict of str to ndarray of codes (D, B, H))
            Outputs, and carries after the last step, by candidate.
        """
        torch, layer = self._torch, self._layer
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            codes, ends = self._moved(x), self._moved(lengths)
            begun = {
                carry: self._moved([(given or {}).get(carry) for given in initial])
                for carry in layer.recurrences[0].bound
            }
            found = [
                self._direction(
                    recurrence,
                    codes,
                    [None if value is None else value[:, index] for value in begun.values()],
                    None if ends is None else ends.unsqueeze(-1),
                    self._stages[index],
                    sequence,
                )
                for index, recurrence in enumerate(layer.recurrences)
            ]
            last = {
                carry: torch.stack([carried[place] for _, carried in found], dim=1).cpu().numpy()
                for place, carry in enumerate(begun)
            }
            states: list[Codes | None] = [None] * self._count
            if sequence:
                states = list(torch.stack([y for y, _ in found], dim=2).cpu().numpy())
            return [
                (y, {carry: values[place] for carry, values in last.items()})
                for place, y in enumerate(states)
            ]

    def _moved(self, arrays: Sequence[Array | None]) -> Tensor | None:
        """Arrays of all candidates stacked on the device, (1, ...) where all share one."""
        if arrays[0] is None:
            return None
        if all(array is arrays[0] for array in arrays):
            arrays = arrays[:1]
        whole = np.stack([array for array in arrays if array is not None])
        return self._torch.from_numpy(whole).to(self._device)

    def _run(self, operators: Stacked, values: dict[str, Tensor]) -> None:
        for operator, parameters in operators:
            operands = (values[name] for name in operator.inputs)
            results = operator.compute(self._primitives, parameters, *operands)
            values.update(zip(operator.outputs, results, strict=True))

    def _direction(
        self,
        recurrence: IntegerRecurrence,
        x: Tensor,
        given: Sequence[Tensor | None],
        lengths: Tensor | None,
        stages: tuple[Stacked, Stacked],
        sequence: bool,
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Outputs (P, T, B, H), if wanted, and last carries (P, B, H) of one direction."""
        torch, layer, (prologue, body) = self._torch, self._layer, stages
        steps, batch = x.shape[1:3]
        shape = self._count, steps, batch, layer.hidden_size
        zeros = [self._zeros[layer.grid(recurrence, carry)] for carry in recurrence.bound]
        widths = [recurrence.widths[carry.written_by] for carry in recurrence.carries]
        carried = [
            zero.expand(self._count, batch, width) if value is None else value
            for value, zero, width in zip(given, zeros, widths, strict=True)
        ]
        entries = self._prologue(prologue, recurrence, x, shape)
        if recurrence.reads_input:
            entries[recurrence.input] = x
        states = None
        if sequence:
            kind = self._kind(recurrence, recurrence.emits)
            states = torch.empty(shape, dtype=kind, device=self._device)

        def compute(t: int, known: dict[str, Tensor]) -> dict[str, Tensor]:
            values = known | {name: value[:, t] for name, value in entries.items()}
            self._run(body, values)
            return values

        def keep(t: int, emitted: Tensor) -> None:
            if states is not None:
                states[:, t] = emitted

        ends = None
        if lengths is not None:
            ends = Lengths(lambda t: lengths > t, torch.where, zeros, self._zeros[layer.output])
        return states, drive(recurrence, steps, carried, compute, keep, ends)

    def _kind(self, recurrence: IntegerRecurrence, name: str) -> Any:
        """Type of the tensors that hold a value's codes."""
        return getattr(self._torch, recurrence.types[name].container.name)

    def _prologue(
        self,
        operators: Stacked,
        recurrence: IntegerRecurrence,
        x: Tensor,
        shape: tuple[int, int, int, int],
    ) -> dict[str, Tensor]:
        """Values (P, T, B, H) that depend on no carry, computed some steps at a time."""
        count, steps, batch, _ = shape
        widths = recurrence.widths
        read = {name for operator in recurrence.body.operators for name in operator.inputs}
        read.add(recurrence.emits)
        found = {
            name: self._torch.empty(
                (count, steps, batch, widths[name]),
                dtype=self._kind(recurrence, name),
                device=self._device,
            )
            for operator, _ in operators
            for name in operator.outputs
            if name in read
        }
        size = max(1, BLOCK // batch)
        for start in range(0, steps, size):
            part = x[:, start : start + size]
            values = {recurrence.input: part.reshape(len(part), -1, part.shape[-1])}
            self._run(operators, values)
            for name, value in found.items():
                value[:, start : start + size] = values[name].view(count, -1, batch, widths[name])
        return found


class PopulationEngine:
    """Runs the same layer of several programs; programs with equal types of codes run together.

    Parameters
    ----------
    layers, device
        As for `StackEngine`, whatever containers the codes have.
    """

    def __init__(self, layers: Sequence[IntegerLayer], device: Any) -> None:
        groups: dict[object, list[int]] = {}
        for place, layer in enumerate(layers):
            forms = tuple(o.form for recurrence in layer.recurrences for o in recurrence.operators)
            groups.setdefault(forms, []).append(place)
        self._count = len(layers)
        self._engines = [
            (places, StackEngine([layers[place] for place in places], device))
            for places in groups.values()
        ]

    def __call__(
        self,
        x: Sequence[Codes],
        initial: Sequence[Initial | None],
        lengths: Sequence[Array | None],
        *,
        sequence: bool = True,
    ) -> list[tuple[Codes | None, dict[str, Codes]]]:
        """Run the layer of every candidate, see `StackEngine`."""
        found: list[tuple[Codes | None, dict[str, Codes]]] = [(None, {})] * self._count
        for places, engine in self._engines:
            results = engine(
                [x[place] for place in places],
                [initial[place] for place in places],
                [lengths[place] for place in places],
                sequence=sequence,
            )
            for place, result in zip(places, results, strict=True):
                found[place] = result
        return found


class PopulationEvaluator(Evaluator):
    """Evaluates many programs of one model together, as many as fit the device's memory.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset or Corpus
        Sequences.
    device : torch.device
        Where integer layers run.
    memory : int, optional
        Bytes of device memory for all candidates together; a share of the free memory where left
        out.
    outputs : sequence of str, optional
        Outputs of the model that are wanted; all where left out.
    """

    def __init__(
        self,
        host: Host,
        data: Recorded,
        device: Any,
        memory: int | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(host, data, outputs=outputs)
        self._device = device
        self._memory = _budget(device) if memory is None else memory
        self._rows = max((sum(group.counts) for group in self._groups), default=1)
        self._steps = max(self._extent(part)[1] for part in data.parts)
        self._most: int | None = None

    def together(self, program: IntegerProgram) -> int:
        """Number of candidates that fit the memory together, at least one."""
        if self._most is None:
            largest = max(footprint(layer, self._steps, self._rows) for layer in program.layers)
            self._most = max(1, self._memory // largest)
        return self._most

    def outputs_of(self, programs: Sequence[IntegerProgram]) -> Iterator[dict[str, Array]]:
        """Model outputs of every program, in order, as `Evaluator.outputs` gives them.

        Raises
        ------
        UsageError
            If not even one candidate fits the device's memory.
        """
        import torch

        done = 0
        while done < len(programs):
            part = programs[done : done + self.together(programs[done])]
            try:
                outputs = self._outputs_together(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise UsageError(
                        f"device {self._device} must have memory for one candidate, which is "
                        f"about {footprint(part[0].layers[0], self._steps, self._rows)} bytes; "
                        "give a device with more that is free, or leave out device"
                    ) from error
                self._most = len(part) // 2
                continue
            yield from outputs
            done += len(part)

    def require_same(self, programs: Sequence[IntegerProgram]) -> None:
        """Compare the outputs of all layers of some programs with those of `Evaluator`.

        Raises
        ------
        VerificationError
            If a value differs.
        """
        plain = zip(*(self._walks(program) for program in programs), strict=True)
        for found, expected in zip(self._walked_together(programs), plain, strict=True):
            for program, ours, (theirs, _) in zip(programs, found, expected, strict=True):
                self._require_equal(program, ours, theirs)

    def _require_equal(self, program: IntegerProgram, found: Walk, expected: Walk) -> None:
        for layer in program.layers:
            for name in self._host.outputs(layer):
                ours, theirs = (np.stack(walk.values[name]) for walk in (found, expected))
                if np.array_equal(ours, theirs):
                    continue
                raise VerificationError(
                    f"device {self._device} must compute the states that the processor computes, "
                    f"but {int((ours != theirs).sum())} of {ours.size} of {layer.name} differ; "
                    "leave out device, and please report it"
                )

    def _outputs_together(self, programs: Sequence[IntegerProgram]) -> list[dict[str, Array]]:
        parts: list[list[dict[str, Array]]] = [[] for _ in programs]
        counts: list[int] = []
        for walks in self._walked_together(programs):
            counts += walks[0].counts
            for part, walk in zip(parts, walks, strict=True):
                part.extend(walk.outputs(self._outputs))
        return [self._host.join(part, counts) for part in parts]

    def _walked_together(self, programs: Sequence[IntegerProgram]) -> Iterator[list[Walk]]:
        """Walks of all programs through a group of calls."""
        stacks = list(zip(*(program.layers for program in programs), strict=True))
        engines = [PopulationEngine(layers, self._device) for layers in stacks]
        for group in self._groups:
            walks = [Walk(group) for _ in programs]
            for place in group.plan.order:
                layers, port = stacks[place], group.plan.ports[place]
                sequence = bool(port.sequence) or place in group.plan.carried
                jobs = [w.jobs(place, layer) for w, layer in zip(walks, layers, strict=True)]
                results = [
                    engines[place](
                        [job.x for job in together],
                        [job.initial for job in together],
                        [job.lengths for job in together],
                        sequence=sequence,
                    )
                    for together in zip(*jobs, strict=True)
                ]
                for index, (walk, layer) in enumerate(zip(walks, layers, strict=True)):
                    walk.keep(place, layer, jobs[index], [result[index] for result in results])
            yield walks
        if self._looped:
            for found in zip(*(self._in_turn_of(program) for program in programs), strict=True):
                yield list(found)

    def _in_turn_of(self, program: IntegerProgram) -> Iterator[Walk]:
        """Calls that depend on each other, which run on the processor."""
        layers = [(layer, self._engine(layer)) for layer in program.layers]
        for data, streams in self._looped:
            for walk, _ in self._in_turn(data, streams, layers, trace=False, apart=False):
                yield walk


def _budget(device: Any) -> int:
    """Bytes of a device's memory for all candidates together."""
    import torch

    if device.type != "cuda":
        return PROCESSOR_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return int(FREE_SHARE * free)
