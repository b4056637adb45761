"""The three forms of a recurrence: Scan, one step, or unrolled.

The node of a layer in the host graph is replaced by nodes that an `Arithmetic` records: float
operators for the decomposed graph, integer operators for the emitted one. The forms are written
once for both.

``sequence_lens``: a finished sequence keeps its state and emits 0.0. A sequence of length 0 ends
with the state 0.0 even if it has an initial one (onnxruntime, measured). The same mask in a
backward recurrence equals reversing every sequence within its length.
"""

from collections.abc import Sequence
from typing import Any, Generic, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.errors import ModelError
from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer, Ports
from onnxgru.core.program import IntegerLayer
from onnxgru.core.tape import Tape
from onnxgru.passes.forms.arithmetic import AnyLayer, AnyRecurrence, Arithmetic
from onnxgru.passes.forms.form import Form, length
from onnxgru.passes.forms.regions import Region, mark
from onnxgru.passes.forms.states import State, first_value
from onnxgru.passes.graph.axes import origin
from onnxgru.passes.graph.source import SHAPED
from onnxgru.passes.graph.values import named

Computed = tuple[dict[str, ir.Value], ir.Value, dict[str, ir.Value]]
"""Values of the carries before the first step, what is emitted, values after the last step."""


class Expansion(Generic[AnyLayer, AnyRecurrence]):
    """Expands one layer's node; see `expand`."""

    def __init__(
        self,
        graph: ir.Graph,
        layer: AnyLayer,
        arithmetic: Arithmetic[AnyLayer, AnyRecurrence],
        form: Form,
        tape: Tape,
        observed: dict[str, ir.Value] | None,
    ) -> None:
        self.graph, self.form, self.tape = graph, form, tape
        self.layer: AnyLayer = layer
        self.arithmetic: Arithmetic[AnyLayer, AnyRecurrence] = arithmetic
        self.observed = observed
        self.node = graph.node(layer.node)
        values = named(graph)
        ports: Ports = layer.ports
        self.x, self.lengths = values.get(ports.x), values.get(ports.lengths)
        self.initial = {
            carry: values.get(first_value(grid)) or values[ports.initial[carry]]
            for carry, grid in layer.carries.items()
            if carry in ports.initial
        }
        self.wanted = [
            (values[name], grid, place)
            for name, grid, place in (
                (ports.sequence, layer.output, "y"),
                *((ports.last.get(c, ""), grid, c) for c, grid in layer.carries.items()),
            )
            if name and self._used(values[name])
        ]
        self.entered = self.x
        self.states: list[State] = []
        self.regions: list[Region] = []

    def run(self) -> None:
        """Record the nodes and put them in the place of the layer's node."""
        tape, layer = self.tape, self.layer
        if self.x is None:
            raise ModelError(f"node {self.node.name!r} has no input sequence")
        x = self.arithmetic.enter(tape, layer, self.x)
        self.entered = x
        if self.form.name == "unrolled" and any(r.carries for r in layer.recurrences):
            shape = [self._length(), self._named_batch(), layer.input_size]
            self._shaped(x, shape, self.arithmetic.element(layer, f"{layer.name}/input"))
        mask = self._mask() if self.lengths is not None else None
        recurrences = cast("Sequence[AnyRecurrence]", layer.recurrences)
        found = [self._direction(index, r, x, mask) for index, r in enumerate(recurrences)]
        for value, grid, place in self.wanted:
            if place == "y":
                self._replace(value, [y for y, _ in found], grid, "y", 1)
            else:
                name = last_name(self.layer, place)
                self._replace(value, [last[place] for _, last in found], grid, name, 0)
        self.graph.insert_before(self.node, tape.nodes)
        self.graph.remove(self.node, safe=True)
        tape.register(self.graph)

    def _label(self, name: str, carry: str) -> str:
        """`name` with the carry as its suffix, except for the first carry."""
        return name if carry == next(iter(self.layer.carries)) else f"{name}/{carry}"

    def _named_batch(self) -> int | str:
        """Size of the batch, or a name of its axis."""
        return self._batch() or f"{self.layer.name}/batch"

    @staticmethod
    def _shaped(value: ir.Value, shape: Sequence[int | str], element: ir.DataType) -> None:
        """Keep a value's shape in the file, from which runtimes infer the shapes that follow.

        onnxruntime reuses memory between values of equal known shapes, and searches all free blocks
        one by one. Without shapes the list of free blocks grows with the graph, and loading 23,000
        nodes took 500 s.
        """
        value.shape = ir.Shape(shape)
        value.type = ir.TensorType(element)
        value.metadata_props[SHAPED] = ""

    @staticmethod
    def _used(value: ir.Value) -> bool:
        return bool(value.name) and (bool(value.uses()) or value.is_graph_output())

    def _replace(
        self, old: ir.Value, directions: Sequence[ir.Value], grid: str, name: str, axis: int
    ) -> None:
        tape, prefix = self.tape, f"{self.layer.name}/{name}"
        label = prefix if len(directions) == 1 else f"{prefix}/direction"
        parts = [tape.op("Unsqueeze", part, tape.axes(axis), name=label) for part in directions]
        joined = parts[0] if len(parts) == 1 else tape.op("Concat", *parts, axis=axis, name=prefix)
        new = self.arithmetic.leave(tape, self.layer, joined, grid, f"{prefix}/float")
        new.shape, new.type = old.shape, ir.TensorType(ir.DataType.FLOAT)
        kept = old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name, new.name = None, kept

    def _mask(self) -> ir.Value:
        """1 while a sequence goes on, 0 after its end: uint8, (T, B, 1)."""
        tape, name = self.tape, f"{self.layer.name}/mask"
        steps = tape.op("Shape", self.entered, start=0, end=1, name=f"{name}/shape")
        zero, one = (tape.constant(f"onnxgru/length/{n}", np.asarray(n, np.int64)) for n in (0, 1))
        stop = tape.op("Squeeze", steps, tape.axes(0), name=f"{name}/steps")
        time = tape.op("Range", zero, stop, one, name=f"{name}/range")
        time = tape.op("Unsqueeze", time, tape.axes(1, 2), name=f"{name}/time")
        lengths = tape.op("Cast", self.lengths, to=ir.DataType.INT64, name=f"{name}/lengths")
        lengths = tape.op("Unsqueeze", lengths, tape.axes(0, 2), name=f"{name}/ends")
        going = tape.op("Less", time, lengths, name=f"{name}/less")
        return tape.op("Cast", going, to=ir.DataType.UINT8, name=name)

    def _nonempty(self) -> ir.Value:
        """1 for sequences that have a step: uint8, (B, 1)."""
        tape, name = self.tape, f"{self.layer.name}/nonempty"
        lengths = tape.op("Cast", self.lengths, to=ir.DataType.INT64, name=f"{name}/lengths")
        zero = tape.constant("onnxgru/length/0", np.asarray(0, np.int64))
        some = tape.op("Greater", lengths, zero, name=f"{name}/some")
        some = tape.op("Unsqueeze", some, tape.axes(1), name=f"{name}/unsqueeze")
        return tape.op("Cast", some, to=ir.DataType.UINT8, name=name)

    def _start(self, index: int, recurrence: AnyRecurrence) -> dict[str, ir.Value]:
        """Values (B, H) of the carries before the first step, by carry."""
        return {
            carry: self._first(index, recurrence, carry, self._grid(recurrence, carry))
            for carry in recurrence.bound
        }

    def _first(self, index: int, recurrence: AnyRecurrence, carry: str, grid: str) -> ir.Value:
        tape, layer = self.tape, self.layer
        if carry in self.initial:
            which = tape.constant(f"onnxgru/length/{index}", np.asarray(index, np.int64))
            given = tape.op(
                "Gather",
                self.initial[carry],
                which,
                axis=0,
                name=self._label(f"{recurrence.name}/given", carry),
            )
            return self.arithmetic.initial(tape.at(f"/{index}"), layer, given, grid)
        name = self._label(f"{recurrence.name}/initial", carry)
        batch = tape.op("Shape", self.entered, start=1, end=2, label=f"{name}/batch")
        width = tape.axes(self._width(recurrence, carry))
        shape = tape.op("Concat", batch, width, axis=0, label=f"{name}/shape")
        return tape.op("Expand", self.arithmetic.zero(tape, layer, grid), shape, name=name)

    def _grid(self, recurrence: AnyRecurrence, carry: str) -> str:
        """Name of the quantisation of a carry."""
        layer: Any = self.layer  # a layer and its recurrences are of one kind, float or integer
        name: str = layer.grid(recurrence, carry)
        return name

    def _width(self, recurrence: AnyRecurrence, carry: str) -> int:
        return recurrence.widths[recurrence.bound[carry].written_by]

    def _entering(self, recurrence: AnyRecurrence, name: str) -> tuple[int, ir.DataType]:
        """Features and element type of one step of a scanned value."""
        if name == "mask":
            return 1, ir.DataType.UINT8
        if name == recurrence.input:
            element = self.arithmetic.element(self.layer, f"{self.layer.name}/input")
            return self.layer.input_size, element
        return self.arithmetic.entering(recurrence, name)

    def _direction(
        self, index: int, recurrence: AnyRecurrence, x: ir.Value, mask: ir.Value | None
    ) -> tuple[ir.Value, dict[str, ir.Value]]:
        """What is emitted (T, B, H), and the last value (B, H) of every carry."""
        arithmetic, tape = self.arithmetic, self.tape
        scanned = arithmetic.prologue(tape, recurrence, x)
        if self.observed is not None:
            self.observed.update({n: v for n, v in scanned.items() if n != recurrence.input})
        if not recurrence.carries:
            return scanned[recurrence.emits], {}
        if mask is not None:
            scanned["mask"] = mask
        match self.form.name:
            case "scan":
                computed = self._scan(index, recurrence, scanned)
            case "step":
                computed = self._step(index, recurrence, scanned)
            case _:
                computed = self._unrolled(index, recurrence, scanned)
        first, y, last = computed
        self.regions.append(Region.of(recurrence.name, x, mask, first, y, last))
        if mask is not None:
            for carry, grid in self.layer.carries.items():
                zero = arithmetic.zero(tape, self.layer, grid)
                name = self._label(f"{recurrence.name}/last", carry)
                last[carry] = arithmetic.select(
                    tape, self.layer, grid, self._nonempty(), last[carry], zero, name
                )
        return y, last

    def _once(
        self,
        tape: Tape,
        recurrence: AnyRecurrence,
        slices: dict[str, ir.Value],
        carried: dict[str, ir.Value],
    ) -> tuple[ir.Value, dict[str, ir.Value], dict[str, ir.Value]]:
        """One step: what is emitted, the next value of every carry, and everything computed."""
        arithmetic, layer, bound = self.arithmetic, self.layer, recurrence.bound
        mask = slices.get("mask")
        known = {name: value for name, value in slices.items() if name != "mask"}
        before = {bound[carry].name: value for carry, value in carried.items()}
        values = arithmetic.step(tape, recurrence, known | before)
        emitted = values[recurrence.emits]
        following = {carry: values[bound[carry].written_by] for carry in carried}
        if mask is None:
            return emitted, following, values
        zero = arithmetic.zero(tape, layer, layer.output)
        name = f"{recurrence.name}/emitted"
        emitted = arithmetic.select(tape, layer, layer.output, mask, emitted, zero, name)
        for carry, old in carried.items():
            name, grid = (
                self._label(f"{recurrence.name}/kept", carry),
                self._grid(recurrence, carry),
            )
            following[carry] = arithmetic.select(
                tape, layer, grid, mask, following[carry], old, name
            )
        return emitted, following, values

    def _scan(
        self, index: int, recurrence: AnyRecurrence, scanned: dict[str, ir.Value]
    ) -> Computed:
        outer = self.tape
        inner = Tape(outer, within=f"{recurrence.name}/")
        arithmetic, layer = self.arithmetic, self.layer
        bound = recurrence.bound
        carried: dict[str, ir.Value] = {
            carry: self._inner(
                bound[carry].name,
                self._width(recurrence, carry),
                arithmetic.element(layer, self._grid(recurrence, carry)),
            )
            for carry in bound
        }
        slices: dict[str, ir.Value] = {
            name: self._inner(
                f"{recurrence.name}/{name.rsplit('/', 1)[-1]}/step",
                *self._entering(recurrence, name),
            )
            for name in scanned
        }
        # The body captures only initializers, because OpenVINO would treat computed values of the
        # outer graph as further states. Runtimes fold constants in the body as well.
        following: dict[str, ir.Value]
        emitted, following, values = self._once(inner, recurrence, slices, carried)
        results = self._results(inner, recurrence, emitted, following, values)
        body = ir.Graph(
            [*carried.values(), *slices.values()],
            results,
            nodes=inner.nodes,
            name=f"{recurrence.name}/body",
        )
        names = [self._label(f"{recurrence.name}/last_state", carry) for carry in carried]
        names.append(f"{recurrence.name}/states")
        if self.observed is not None:
            names += [f"{name}/all" for name in values]
        outputs = outer.multiple(
            "Scan",
            [
                *(first := self._start(index, recurrence)).values(),
                *(self._in_order(recurrence, value) for value in scanned.values()),
            ],
            names,
            body=body,
            num_scan_inputs=len(scanned),
        )
        count = len(carried)
        ordered = [self._in_order(recurrence, value) for value in outputs[count:]]
        if self.observed is not None:
            self.observed.update(zip(values, ordered[1:], strict=True))
        return first, ordered[0], dict(zip(carried, outputs[:count], strict=True))

    def _results(
        self,
        inner: Tape,
        recurrence: AnyRecurrence,
        emitted: ir.Value,
        following: dict[str, ir.Value],
        values: dict[str, ir.Value],
    ) -> list[ir.Value]:
        """Outputs of a Scan's body: next carries, what is emitted, and what is observed."""
        arithmetic, layer = self.arithmetic, self.layer
        results = [*following.values(), emitted]
        widths = [self._width(recurrence, carry) for carry in following]
        widths.append(recurrence.widths[recurrence.emits])
        grids = [*(self._grid(recurrence, carry) for carry in following), layer.output]
        elements = [arithmetic.element(layer, grid) for grid in grids]
        if any(value is emitted for value in following.values()):
            results[-1] = inner.op("Identity", emitted, name=f"{recurrence.name}/emitted")
        if self.observed is not None:
            results += [
                inner.op("Identity", value, name=f"{name}/observed")
                for name, value in values.items()
            ]
            widths += [recurrence.widths[name] for name in values]
            elements += [arithmetic.computed(recurrence, name) for name in values]
        for value, width, element in zip(results, widths, elements, strict=True):
            value.shape = ir.Shape([self.form.batch, width])
            value.type = ir.TensorType(element)
        return results

    def _inner(self, name: str, width: int, element: ir.DataType) -> ir.Value:
        """An input (B, width) of a Scan's body."""
        return ir.Value(
            name=self.tape.name(name),
            shape=ir.Shape([self.form.batch, width]),
            type=ir.TensorType(element),
        )

    def _in_order(self, recurrence: AnyRecurrence, value: ir.Value) -> ir.Value:
        """A sequence in the order of computation, or from that back to the order of time.

        It uses Slice instead of Scan's own directions, which onnx.reference lacks.
        """
        if not recurrence.reverse:
            return value
        tape = self.tape
        ends = tape.constant("onnxgru/length/before", np.asarray([-(2**31) + 1], np.int64))
        reversed_ = tape.op(
            "Slice", value, tape.axes(-1), ends, tape.axes(0), tape.axes(-1),
            name=f"{value.name}/reversed",
        )  # fmt: skip
        return reversed_

    def _step(
        self, index: int, recurrence: AnyRecurrence, scanned: dict[str, ir.Value]
    ) -> Computed:
        tape, layer = self.tape, self.layer
        if len(layer.recurrences) > 1 or recurrence.reverse:
            raise ModelError(
                f"{layer.name} runs backwards in time and has no step form; "
                "use --recurrence scan or unrolled"
            )
        if "mask" in scanned:
            raise ModelError(
                f"{layer.name} takes sequence_lens and has no step form; "
                "use --recurrence scan or unrolled"
            )
        handed: dict[str, tuple[ir.Value, Floats]] = {}
        carried = {}
        for carry in recurrence.bound:
            grid, given = self._grid(recurrence, carry), self.initial.get(carry)
            constant = None if given is None else given.const_value
            if given is None or constant is not None:
                first = np.zeros((1, self._width(recurrence, carry)), np.float32)
                if constant is not None:
                    first = np.asarray(constant.numpy(), np.float32)[index]
                carried[carry] = self._input(recurrence, carry, grid)
                handed[carry] = self.graph.inputs[-1], first
            else:
                carried[carry] = self._first(index, recurrence, carry, grid)
        slices = {
            name: tape.op("Squeeze", value, tape.axes(0), name=f"{name}/step")
            for name, value in scanned.items()
        }
        emitted, following, _ = self._once(tape, recurrence, slices, carried)
        for carry, (value, first) in handed.items():
            self._output(recurrence, carry, value, following[carry], first)
        y = tape.op("Unsqueeze", emitted, tape.axes(0), name=f"{recurrence.name}/states")
        return carried, y, following

    def _input(self, recurrence: AnyRecurrence, carry: str, grid: str) -> ir.Value:
        """A carry as a graph input."""
        element = self.arithmetic.element(self.layer, grid)
        if self.form.float_state:
            element = ir.DataType.FLOAT
        value = ir.Value(
            name=self.tape.name(recurrence.bound[carry].name),
            shape=ir.Shape([self._batch(), self._width(recurrence, carry)]),
            type=ir.TensorType(element),
        )
        self.graph.inputs.append(value)
        if self.form.float_state:
            return self.arithmetic.initial(self.tape, self.layer, value, grid)
        return value

    def _batch(self) -> int | str | None:
        """Size or name of the batch axis of the graph input that the sequence comes from."""
        found = origin(self.x, 1)
        values = {str(value.name): value for value in self.graph.inputs}
        shape = self.x.shape if self.x is not None else None
        size = shape[1] if shape is not None else None
        if found is not None and (declared := values[found[0]].shape) is not None:
            size = declared[found[1]]
        shapes = [value.shape for value in self.graph.inputs if value.shape is not None]
        known = size is not None and any(size in shape for shape in shapes)
        return size if isinstance(size, int) else size.value if known and size else None

    def _output(
        self,
        recurrence: AnyRecurrence,
        carry: str,
        given: ir.Value,
        following: ir.Value,
        first: npt.NDArray[Any],
    ) -> None:
        """The next value of a carry as a graph output."""
        tape, layer, grid = self.tape, self.layer, self._grid(recurrence, carry)
        arithmetic = self.arithmetic
        name = self._label(f"{recurrence.name}/next_state", carry)
        if self.form.float_state:
            result = arithmetic.leave(tape, layer, following, grid, name)
        else:
            result = tape.op("Identity", following, name=name)
        result.type, result.shape = given.type, given.shape
        self.graph.outputs.append(result)
        quantization = arithmetic.quantization(layer, grid)
        kind = "float32"
        if quantization is not None and not self.form.float_state:
            element = arithmetic.element(layer, grid).numpy()
            kind, first = element.name, quantization.quantize(first).astype(element)
        self.states.append(
            State(
                str(given.name),
                str(result.name),
                layer.name,
                kind,
                tuple(n if isinstance(n, int) else n.value for n in given.shape or ()),
                quantization,
                first,
                carry,
                recurrence.bound[carry].holds,
            )
        )

    def _unrolled(
        self, index: int, recurrence: AnyRecurrence, scanned: dict[str, ir.Value]
    ) -> Computed:
        tape = self.tape
        steps = self._length()
        parts = {}
        for name, value in scanned.items():
            names = [f"{recurrence.name}/{name.rsplit('/', 1)[-1]}/slice"] * steps
            slices = (
                [value] if steps == 1 else tape.multiple("Split", [value], names, num_outputs=steps)
            )
            parts[name] = [
                tape.at(f"/{t}").op("Squeeze", part, tape.axes(0), name=f"{name}/step")
                for t, part in enumerate(slices)
            ]
        first = carried = self._start(index, recurrence)
        for carry, value in carried.items():
            shape = [self._named_batch(), self._width(recurrence, carry)]
            element = self.arithmetic.element(self.layer, self._grid(recurrence, carry))
            self._shaped(value, shape, element)
        emitted: dict[int, ir.Value] = {}
        order = range(steps - 1, -1, -1) if recurrence.reverse else range(steps)
        for t in order:
            now = tape.at(f"/{t}")
            slices_now = {name: values[t] for name, values in parts.items()}
            out, carried, _ = self._once(now, recurrence, slices_now, carried)
            emitted[t] = now.op("Unsqueeze", out, tape.axes(0), name=f"{recurrence.name}/emitted")
        states = [emitted[t] for t in range(steps)]
        y = tape.op("Concat", *states, axis=0, name=f"{recurrence.name}/states")
        return first, y, carried

    def _length(self) -> int:
        return length(self.form, self.layer.name, self.x)


def last_name(layer: Layer | IntegerLayer, carry: str) -> str:
    """Name of a carry's last values (D, B, H) after the layer's name: ``y_h`` for the first."""
    return "y_h" if carry == next(iter(layer.carries)) else f"y_h/{carry}"


def expand(
    graph: ir.Graph,
    layer: AnyLayer,
    arithmetic: Arithmetic[AnyLayer, AnyRecurrence],
    form: Form,
    tape: Tape,
    observed: dict[str, ir.Value] | None = None,
) -> list[State]:
    """Replace a layer's node by its recurrence in a form; returns the states of the step form.

    Parameters
    ----------
    graph : onnx_ir.Graph
        The host graph; changed in place.
    layer : Layer or IntegerLayer
        The layer; its ports name the values that it reads and writes.
    arithmetic : Arithmetic
        How to compute it.
    form : Form
        Scan, step or unrolled.
    tape : Tape
        A tape without nodes; its constants are shared between layers.
    observed : dict, optional
        With scan: receives the value (T, B, N) of every operator at every step, by name.

    Raises
    ------
    ModelError
        If the layer has no such form.
    """
    expansion = Expansion(graph, layer, arithmetic, form, tape, observed)
    expansion.run()
    mark(graph, expansion.regions)
    return expansion.states
