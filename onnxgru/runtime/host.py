"""The float parts of a model around its integer layers, run in onnxruntime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxgru.core.data import InputSpec, Signature
from onnxgru.core.errors import ModelError
from onnxgru.core.network import Layer
from onnxgru.passes import source
from onnxgru.passes.axes import origin
from onnxgru.passes.segment import segment
from onnxgru.runtime.sessions import Run, onnxruntime_session

Array = npt.NDArray[Any]

_LENGTHS, _INITIAL = 4, 5
_X_BATCH, _INITIAL_BATCH, _LENGTHS_BATCH = 1, 1, 0


@dataclass(frozen=True, eq=False)
class Entry:
    """What a layer reads.

    Parameters
    ----------
    x : ndarray of float32, shape (T, B, I)
        The sequence.
    lengths : ndarray of int, shape (B,), optional
        Steps of every sequence.
    initial : ndarray of float32, shape (D, B, H), optional
        Initial state.
    """

    x: Array
    lengths: Array | None
    initial: Array | None


class Host:
    """The float parts of a normalised model.

    Parameters
    ----------
    model : onnx_ir.Model
        Normalised; its recurrent nodes still in place.
    layers : sequence of Layer
        The nodes that are cut out.
    """

    def __init__(self, model: ir.Model, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        self._graph = model.graph
        self._proto = source.proto(model)
        self._cuts: list[str] = []
        self._segments: dict[str, tuple[Run | None, tuple[str, str, str]]] = {}
        self._whole: Run | None = None
        self._batch_axes: dict[str, int] | None = None
        for layer in self.layers:
            node = model.graph.node(layer.node)
            inputs = [*node.inputs, None, None, None]
            x, lengths, initial = (
                str(value.name) if value is not None else ""
                for value in (inputs[0], inputs[_LENGTHS], inputs[_INITIAL])
            )
            names = x, lengths, initial
            self._segments[layer.node] = self._session(names), names
            self._cuts += [str(value.name) for value in node.outputs if value.name]
        self._outputs = [output.name for output in self._proto.graph.output]
        self._last = self._session(self._outputs)
        self.signature = self._signature()

    def _session(self, names: Sequence[str]) -> Run | None:
        constant = {tensor.name for tensor in self._proto.graph.initializer}
        wanted = [name for name in names if name]
        part = segment(self._proto, wanted, self._cuts)
        if part is None:
            return None
        if any(name in constant for name in wanted):  # an initializer cannot be a graph output
            for name in set(wanted) & constant:
                for value in part.graph.output:
                    if value.name == name:
                        value.name = f"{name}/copy"
                part.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}/copy"]))
        run = onnxruntime_session(part, threads=1)

        def renamed(inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {name.removesuffix("/copy"): value for name, value in run(inputs).items()}

        return renamed

    def _signature(self) -> Signature:
        axes: dict[str, int] = {}
        sizes: dict[tuple[str, int], int] = {}  # what the layers fix, whatever the file calls it
        for layer in self.layers:
            inputs = [*self._graph.node(layer.node).inputs, None, None, None]
            for index, axis in (
                (0, _X_BATCH),
                (_LENGTHS, _LENGTHS_BATCH),
                (_INITIAL, _INITIAL_BATCH),
            ):
                found = origin(inputs[index], axis)
                if found is not None:
                    axes.setdefault(*found)
            for index, axis, size in (
                (0, 2, layer.input_size),
                (_INITIAL, 0, len(layer.recurrences)),
                (_INITIAL, 2, layer.hidden_size),
            ):
                found = origin(inputs[index], axis)
                if found is not None:
                    sizes.setdefault(found, size)
        specs = []
        initializers = {tensor.name for tensor in self._proto.graph.initializer}
        for value in self._proto.graph.input:
            if value.name in initializers:
                continue
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type"):
                raise ModelError(
                    f"input {value.name!r} must be a tensor, it is "
                    f"{value.type.WhichOneof('value')}; export the model with tensor inputs"
                )
            shape = tuple(
                d.dim_value
                if d.HasField("dim_value")
                else sizes.get((value.name, axis), d.dim_param or None)
                for axis, d in enumerate(tensor.shape.dim)
            )
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            specs.append(InputSpec(value.name, dtype, shape, axes.get(value.name, 0)))
        return tuple(specs)

    @property
    def batch(self) -> int | None:
        """The number of sequences the model is fixed to, None if any will do."""
        for spec in self.signature:
            if len(spec.shape) > spec.batch_axis:
                size = spec.shape[spec.batch_axis]
                if isinstance(size, int):
                    return size
        return None

    def whole(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of the unquantised model, by name."""
        if self._whole is None:
            self._whole = onnxruntime_session(self._proto, threads=1)
        return self._whole(inputs)

    def entry(self, node: str, values: Mapping[str, Array]) -> Entry:
        """What a layer's node reads, given graph inputs and the states of earlier layers."""
        run, names = self._segments[node]
        known = dict(values)
        if run is not None:
            known.update(run(values))
        x, lengths, initial = (known[name] if name else None for name in names)
        if x is None:
            raise ModelError(f"node {node!r} has no input sequence; export the model again")
        return Entry(x, lengths, initial)

    def outputs(self, node: str) -> tuple[str | None, str | None]:
        """Names of a node's Y and Y_h, None for what nobody reads."""
        found = [
            value.name if value.name and (value.uses() or value.is_graph_output()) else None
            for value in self._graph.node(node).outputs
        ]
        y, y_h, *_ = [*found, None, None]
        return y, y_h

    def finish(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs, given graph inputs and the states of all layers."""
        known = dict(values)
        if self._last is not None:
            known.update(self._last(values))
        return {name: known[name] for name in self._outputs}

    def join(self, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Outputs of several chunks with the batch as axis 0, joined along it."""
        if self._batch_axes is None:
            self._batch_axes = {name: self.batch_axis(name) for name in self._outputs}
        moved = {
            name: [np.moveaxis(part[name], self._batch_axes[name], 0) for part in parts]
            for name in self._outputs
        }
        return {
            name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            for name, arrays in moved.items()
        }

    def batch_axis(self, name: str) -> int:
        """Axis of an output that carries the batch: the one that changes with it."""
        shape = next(
            o.type.tensor_type.shape.dim for o in self._proto.graph.output if o.name == name
        )
        for spec in self.signature:
            symbol = spec.shape[spec.batch_axis] if len(spec.shape) > spec.batch_axis else None
            for axis, size in enumerate(shape):
                if isinstance(symbol, str) and size.dim_param == symbol:
                    return axis
                if isinstance(symbol, int) and axis == spec.batch_axis and size.dim_value == symbol:
                    return axis
        return 0
