"""The interface of a model: the meaning of its inputs and outputs.

An input is a *recording* (one entry per sequence along its batch axis), a *state* (a recording
whose next value is an output of the model), or *given once* (a sampling rate, a window, a table).
The batch axis of an input is found in this order:

1. the axis that the user gives;
2. the axis from which the batch of a layer comes, followed backwards through the graph;
3. the axis with the same name as a batch axis that has been found;
4. measurement: the float model runs on three sequences, one of them is changed, and an axis is a
   batch axis if it keeps the sequences apart.

Batch axes of outputs are measured in the same way, or followed through the graph if the model takes
one sequence per call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxgru.core.errors import ModelError, UsageError
from onnxgru.core.network import Layer
from onnxgru.data.dataset import InputSpec, Signature
from onnxgru.passes.graph.axes import origins
from onnxgru.passes.graph.values import named
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.sessions import Run
from onnxgru.runtime.states import pair, starts

Array = npt.NDArray[Any]

SEQUENCES = 3
"""Sequences that a model of any batch is measured on."""

STEPS = (6, 40, 250, 2000)
"""Lengths tried in turn for axes of free size: convolutions need a shortest one."""

MOST_TRIALS = 64
"""Most combinations of axes that are tried for inputs without a known axis."""

_UNNAMED = "?"


@dataclass(frozen=True)
class Interface:
    """The meaning of inputs and outputs.

    Parameters
    ----------
    inputs : tuple of InputSpec
        In the order of the graph.
    outputs : mapping of str to int or None
        Axis of the sequences, by output. None if there is no such axis; outputs of several calls
        are stacked then.
    """

    inputs: Signature
    outputs: Mapping[str, int | None]

    @property
    def batch(self) -> int | None:
        """Number of sequences that the model takes per call, None if any number will do."""
        return next((spec.batch for spec in self.inputs if spec.batch is not None), None)

    @property
    def states(self) -> dict[str, str]:
        """Name of the output that feeds a state input in the next call, by name of the input."""
        return {spec.name: spec.fed_by for spec in self.inputs if spec.fed_by is not None}


def find(
    model: onnx.ModelProto,
    graph: ir.Graph,
    layers: Sequence[Layer],
    run: Callable[[], Run],
    declared: Declared | None = None,
) -> Interface:
    """Find the meaning of the inputs and outputs of a normalised model.

    Parameters
    ----------
    model : onnx.ModelProto
        The model, with shapes.
    graph : onnx_ir.Graph
        The same.
    layers : sequence of Layer
        Its layers.
    run : callable
        Loads the float model; called only if something must be measured.
    declared : Declared, optional
        The user's settings.

    Raises
    ------
    ModelError
        If an input is no tensor, or no batch axis can be found.
    UsageError
        If the user names an input, output or axis that the model does not have.
    """
    return _Search(model, graph, layers, run, declared or Declared()).interface()


class _Search:
    """The steps of `find`."""

    def __init__(
        self,
        model: onnx.ModelProto,
        graph: ir.Graph,
        layers: Sequence[Layer],
        run: Callable[[], Run],
        declared: Declared,
    ) -> None:
        self._model, self._graph, self._layers = model, graph, layers
        self._run, self._declared = run, declared
        self._sequence: dict[str, list[int]] = {}  # axes of time by input
        self._batch: dict[str, list[int]] = {}  # axes that may be the batch's, by input
        self._sizes: dict[tuple[str, int], int] = {}  # what layers fix, whatever the file says
        self._features: dict[str, set[int]] = {}  # axes of a layer's features, by input
        self._lengths: set[str] = set()
        self._follow()
        self._specs = {spec.name: spec for spec in self._inputs()}

    def _follow(self) -> None:
        values = named(self._graph)
        for layer in self._layers:
            if not layer.recurrent:
                continue
            x, lengths = values.get(layer.ports.x), values.get(layer.ports.lengths)
            initial = [values[name] for name in layer.ports.initial.values()]
            for value, axis, found in (
                (x, 1, self._batch),
                (lengths, 0, self._batch),
                *((value, 1, self._batch) for value in initial),
                (x, 0, self._sequence),
            ):
                for name, place in origins(value, axis).items():
                    if place not in found.setdefault(name, []):
                        found[name].append(place)
            for name, place in origins(x, 2).items():
                self._features.setdefault(name, set()).add(place)
            sizes = [(x, 2, layer.input_size)]
            for value in initial:
                sizes += [(value, 0, len(layer.recurrences)), (value, 2, layer.hidden_size)]
            for value, axis, size in sizes:
                for found_at in islice(origins(value, axis).items(), 1):
                    self._sizes.setdefault(found_at, size)
            self._lengths |= set(origins(lengths, 0))

    def _inputs(self) -> Iterator[InputSpec]:
        constant = {tensor.name for tensor in self._model.graph.initializer}
        for value in self._model.graph.input:
            if value.name in constant:
                continue
            if not value.type.HasField("tensor_type"):
                raise ModelError(
                    f"input {value.name!r} must be a tensor, it is "
                    f"{value.type.WhichOneof('value')}; export the model with tensor inputs"
                )
            tensor = value.type.tensor_type
            shape = tuple(
                d.dim_value
                if d.HasField("dim_value")
                else self._sizes.get((value.name, axis), d.dim_param or None)
                for axis, d in enumerate(tensor.shape.dim)
            )
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            yield InputSpec(value.name, dtype, shape, None)

    def interface(self) -> Interface:
        """Decide, input by input, then output by output."""
        self._check_declared()
        outputs = [value.name for value in self._model.graph.output]
        axes = self._known()
        open_ = [n for n, s in self._specs.items() if n not in axes and s.shape]
        measured: dict[str, int | None] | None = None
        if open_:
            axes, measured = self._tried(axes, open_)
        axes |= {name: None for name in self._specs if name not in axes}
        specs = [replace(spec, batch_axis=axes[spec.name]) for spec in self._specs.values()]
        self._check_batches(specs)
        if measured is None:
            measured = self._measured(axes) or {}
        followed = self._followed(axes)
        axes_out = {
            name: measured[name] if name in measured else followed.get(name) for name in outputs
        }
        batch = Interface(tuple(specs), {}).batch
        for name in outputs:
            if axes_out[name] is None and batch is not None:
                axes_out[name] = self._of_size(name, batch)
        states = self._states(specs)
        begun = set(states) | starts(self._graph)
        specs = [
            replace(
                self._kept_per_frame(spec) if spec.name in states else spec,
                fed_by=states.get(spec.name),
                state=spec.name in begun,
                frames=self._frames(spec),
            )
            for spec in specs
        ]
        return Interface(tuple(specs), axes_out)

    def _check_declared(self) -> None:
        for name, axis in self._declared.batch_axes.items():
            if name not in self._specs:
                raise UsageError(
                    f"--batch-axis {name}: the model has no input of that name; it has "
                    f"{', '.join(self._specs)}"
                )
            if axis is not None and axis >= len(self._specs[name].shape):
                raise UsageError(
                    f"--batch-axis {name}={axis}: the input has {len(self._specs[name].shape)} "
                    "axes, counted from 0"
                )

    def _known(self) -> dict[str, int | None]:
        """Axes that are given, followed, or have the name of such an axis."""
        axes: dict[str, int | None] = dict(self._declared.batch_axes)
        for name, spec in self._specs.items():
            if not spec.shape:
                axes.setdefault(name, None)
        followed = {
            name: self._preferred(spec, self._batch.get(name, ()))
            for name, spec in self._specs.items()
            if name not in axes
        }
        axes |= {name: axis for name, axis in followed.items() if axis is not None}
        symbols = {
            self._specs[name].shape[axis]
            for name, axis in axes.items()
            if axis is not None and isinstance(self._specs[name].shape[axis], str)
        }
        for name, spec in self._specs.items():
            if name not in axes:
                named = [axis for axis, size in enumerate(spec.shape) if size in symbols]
                if len(named) == 1:
                    axes[name] = named[0]
        return axes

    @staticmethod
    def _preferred(spec: InputSpec, axes: Sequence[int]) -> int | None:
        """Of the axes that a layer's batch comes from, one of free size, else one of size 1.

        The batch of a layer inside a model may hold other things than sequences, such as frequency
        bands. So an axis of another fixed size is measured.
        """
        free = [axis for axis in axes if not isinstance(spec.shape[axis], int)]
        single = [axis for axis in axes if spec.shape[axis] == 1]
        return next(iter([*free, *single]), None)

    def _tried(
        self, axes: dict[str, int | None], names: Sequence[str]
    ) -> tuple[dict[str, int | None], dict[str, int | None] | None]:
        """Axes that keep sequences apart, of inputs without a known axis and of outputs."""
        batches = {
            self._specs[name].shape[axis]
            for name, axis in axes.items()
            if axis is not None and isinstance(self._specs[name].shape[axis], int)
        }
        choices: list[list[int | None]] = []
        for name in names:
            shape = self._specs[name].shape
            free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
            alike = [axis for axis, size in enumerate(shape) if size in (batches or {1})]
            likely = [
                axis for axis in self._batch.get(name, ()) if axis not in alike and not batches
            ]
            # bands of one recording in a layer's batch: the axis of size 1 in front of them
            front = [
                axis
                for axis in alike
                if axis < min(likely, default=0) and axis not in self._sequence.get(name, ())
            ]
            some: list[int | None] = [*dict.fromkeys([*front, *likely, *free, *alike])]
            table = bool(axes) and name not in self._batch and not free
            choices.append([None, *some] if table else [*some, None])
        if all(len(options) == 1 for options in choices):
            return axes | {name: o[0] for name, o in zip(names, choices, strict=True)}, None
        silent: dict[str, int | None] | None = None
        for chosen in islice(product(*choices), MOST_TRIALS):
            trial = axes | dict(zip(names, chosen, strict=True))
            if all(axis is None for axis in trial.values()):
                continue
            if self._batch_of(trial) == 1 and silent is None:  # nothing can be told from one
                return trial, None
            if found := self._measured(trial):
                return trial, found
            if found is not None and silent is None and self._is_followed(trial):
                silent = trial
        if silent is not None:  # the outputs are the same whatever the model is given
            return silent, {}
        undecided = [n for n in names if not self._is_table(n)]
        if not undecided and any(axis is not None for axis in axes.values()):
            return axes | dict.fromkeys(names), None
        name = (undecided or list(names))[0]
        raise ModelError(
            f"input {self._specs[name]}: which axis holds the recordings is not known: it cannot "
            f"be followed to a recurrent layer, and running the model on {SEQUENCES} recordings "
            f"does not tell; say it with --batch-axis {name}=0, or --batch-axis {name}=none for an "
            "input that is given once"
        )

    @staticmethod
    def _kept_per_frame(spec: InputSpec) -> InputSpec:
        """A batch axis for the data of a state without one, where a call takes one recording."""
        if spec.batch_axis is not None:
            return spec
        if 1 in spec.shape:
            return replace(spec, batch_axis=spec.shape.index(1))
        return replace(spec, shape=(1, *spec.shape), batch_axis=0, bare=True)

    def _frames(self, spec: InputSpec) -> tuple[int, ...] | None:
        """Axes along which data may hold frames for several calls.

        These are axes of size 1 that are a layer's time; without any, all axes that are not the
        batch or features of a layer.
        """
        axes = [axis for axis in range(len(spec.shape)) if axis != spec.batch_axis]
        steps = tuple(
            axis
            for axis in axes
            if axis in self._sequence.get(spec.name, ()) and spec.shape[axis] == 1
        )
        return steps or tuple(
            axis for axis in axes if axis not in self._features.get(spec.name, ())
        )

    def _is_table(self, name: str) -> bool:
        return all(isinstance(size, int) for size in self._specs[name].shape)

    def _batch_of(self, axes: Mapping[str, int | None]) -> int | None:
        sizes = [self._specs[n].shape[a] for n, a in axes.items() if a is not None]
        return next((size for size in sizes if isinstance(size, int)), None)

    def _check_batches(self, specs: Sequence[InputSpec]) -> None:
        sizes = {spec.name: spec.batch for spec in specs if spec.batch is not None}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            name = next(iter(sizes))
            raise ModelError(
                f"the inputs must take one number of recordings per call, they take: {listed}; "
                f"say which axis holds them, such as --batch-axis {name}=0, or "
                f"--batch-axis {name}=none for an input that is given once"
            )

    def _measured(self, axes: Mapping[str, int | None]) -> dict[str, int | None] | None:
        """Axes of outputs that keep sequences apart.

        None if the model does not run with these axes, or mixes the sequences. Empty if no output
        changes with the inputs.
        """
        count = self._batch_of(axes) or SEQUENCES
        if count < 2 or all(axis is None for axis in axes.values()):
            return None
        try:
            run = self._run()
        except ModelError:
            return None
        for steps in STEPS:
            try:
                return self._apart(run, axes, count, steps)
            except ModelError:
                if not self._has_free_axes(axes):
                    return None
        return None

    def _is_followed(self, axes: Mapping[str, int | None]) -> bool:
        """Whether the batch of a layer comes from each of these axes."""
        return all(axis is None or axis in self._batch.get(n, ()) for n, axis in axes.items())

    def _has_free_axes(self, axes: Mapping[str, int | None]) -> bool:
        return any(
            not isinstance(size, int) and axis != axes[name]
            for name, spec in self._specs.items()
            for axis, size in enumerate(spec.shape)
        )

    def _apart(
        self, run: Run, axes: Mapping[str, int | None], count: int, steps: int
    ) -> dict[str, int | None] | None:
        plain = self._feeds(axes, count, steps, seed=0)
        other = self._feeds(axes, count, steps, seed=1)
        before = run(plain)
        masks = []
        for index in (0, count - 1):
            changed = dict(plain)
            for name, axis in axes.items():
                if axis is not None:
                    changed[name] = plain[name].copy()
                    place = (slice(None),) * axis + (index,)
                    changed[name][place] = other[name][place]
            after = run(changed)
            masks.append((index, {n: _differs(before[n], after[n]) for n in before}))
        found: dict[str, int | None] = {}
        for name, array in before.items():
            if not any(mask[name].any() for _, mask in masks):
                continue  # it does not seem to depend on the recordings
            fitting = [
                axis
                for axis, size in enumerate(array.shape)
                if size == count and all(_only(mask[name], axis, index) for index, mask in masks)
            ]
            if not fitting:
                return None
            found[name] = fitting[0]
        return found

    def _feeds(
        self, axes: Mapping[str, int | None], count: int, steps: int, seed: int
    ) -> dict[str, Array]:
        generator = np.random.default_rng(seed)
        numbers: dict[object, int] = {}
        feeds: dict[str, Array] = {}
        fixed = [
            size
            for name, places in self._sequence.items()
            for place in places
            if isinstance(size := self._specs[name].shape[place], int)
        ]
        longest = min([steps, *fixed])
        for name, spec in self._specs.items():
            sizes = []
            for axis, size in enumerate(spec.shape):
                if axis == axes[name]:
                    sizes.append(count)
                elif isinstance(size, int):
                    sizes.append(size)
                elif axis in self._sequence.get(name, ()):
                    sizes.append(steps)
                else:
                    key = size if size is not None else (name, axis)
                    sizes.append(numbers.setdefault(key, steps))
            if spec.dtype.kind == "f":
                feeds[name] = generator.standard_normal(sizes).astype(spec.dtype)
            elif name in self._lengths:
                feeds[name] = np.full(sizes, max(1, longest - seed), spec.dtype)
            else:
                feeds[name] = np.full(sizes, seed, spec.dtype)
        return feeds

    def _followed(self, axes: Mapping[str, int | None]) -> dict[str, int]:
        """Axes of outputs that come from the batch axis of an input."""
        found = {}
        for value in self._graph.outputs:
            size = len(value.shape) if value.shape is not None else 0
            for axis in range(size):
                places = origins(value, axis)
                if any(places.get(n) == a for n, a in axes.items() if a is not None):
                    found[str(value.name)] = axis
                    break
        return found

    def _of_size(self, name: str, batch: int) -> int | None:
        """The only axis of an output with the size of the model's batch, or the first of size 1."""
        shape = next(_shape(v) for v in self._model.graph.output if v.name == name)
        places = [axis for axis, size in enumerate(shape) if size == batch]
        return places[0] if places and (batch == 1 or len(places) == 1) else None

    def _states(self, specs: Sequence[InputSpec]) -> dict[str, str]:
        """Output by state input: as the user gives it, or as structure and names tell clearly."""
        outputs = {v.name: v for v in self._model.graph.output}
        if (told := self._declared.states) is None:
            return pair(self._graph, specs, self._model.graph.output)
        for name, output in told.items():
            spec = self._specs.get(name)
            if spec is None or output not in outputs:
                what, have = ("output", outputs) if spec else ("input", self._specs)
                raise UsageError(
                    f"--state {output}={name}: the model has no {what} "
                    f"{output if spec else name!r}; it has {', '.join(have)}"
                )
            if len(_shape(outputs[output])) not in (0, len(spec.shape)):
                raise UsageError(
                    f"--state {output}={name}: the output must have the shape of the input "
                    f"{spec}, it has {list(_shape(outputs[output]))}"
                )
        return dict(told)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...]:
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None
        for d in value.type.tensor_type.shape.dim
    )


def _differs(one: Array, other: Array) -> Array:
    if one.shape != other.shape:
        return np.ones(one.shape or (1,), np.bool_)
    unlike: Array = np.asarray(one != other)
    if one.dtype.kind == "f":
        unlike &= ~(np.isnan(one) & np.isnan(other))
    return np.atleast_1d(unlike)


def _only(mask: npt.NDArray[np.bool_], axis: int, index: int) -> bool:
    """Whether what differs lies at one place of an axis."""
    others = tuple(place for place in range(mask.ndim) if place != axis)
    along = np.asarray(mask.any(axis=others))
    return bool(along.sum() <= along[index])
