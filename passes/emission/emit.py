"""Emit: the integer program becomes a graph of standard operators.

Inside a recurrence all tensors are integers of 8, 16 or 32 bits. At its boundary a float value is
quantised by ``Mul -> Round -> Add -> Clip -> Cast``. Every runtime computes these operators alike,
while QuantizeLinear and Div differ between runtimes in a few of 10^5 values. A state is dequantised
by an integer ``Sub``, a ``Cast`` and a ``Mul``, so that only the product is rounded. OpenVINO would
fuse a ``Sub`` of floats with the product. Where one layer feeds another through movements alone,
codes are passed on.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.core.integers import Quantization
from onnxgru.core.program import (
    Boundary,
    IntegerLayer,
    IntegerProgram,
    IntegerRecurrence,
)
from onnxgru.core.tape import SHARED, Tape
from onnxgru.custom_ops.integer_graph.record import Recorder
from onnxgru.custom_ops.integer_graph.storage import Storage
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.passes.emission.columns import Columns
from onnxgru.passes.emission.plan import Plan, agreement
from onnxgru.passes.emission.unread import Unread
from onnxgru.passes.forms.arithmetic import Arithmetic
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.recurrence import expand
from onnxgru.passes.forms.states import State, record
from onnxgru.passes.graph.cancel import Cancel
from onnxgru.passes.graph.source import SHAPED


class IntegerArithmetic(Arithmetic[IntegerLayer, IntegerRecurrence]):
    """A layer computed on codes."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        whole: bool,
        traced: bool,
        layers: Sequence[IntegerLayer],
    ) -> None:
        self._agreed = agreement(layers) if vocabulary.alike else None
        self._vocabulary, self._whole, self._traced = vocabulary, whole, traced
        self._codes: dict[ir.Value, ir.Value] = {}
        self._plans: dict[str, Plan] = {}
        self._storages: dict[tuple[int, Plan], Storage] = {}

    def element(self, layer: IntegerLayer, grid: str) -> ir.DataType:
        """The container of codes."""
        boundary = layer.grids.get(grid, layer.input)
        return self._vocabulary.element(boundary.quantization.type)

    def computed(self, recurrence: IntegerRecurrence, name: str) -> ir.DataType:
        """The container of an operator's codes."""
        return self._vocabulary.element(recurrence.types[name])

    def enter(self, tape: Tape, layer: IntegerLayer, x: ir.Value) -> ir.Value:
        """Quantise the input, or take the codes of the layer that feeds this one."""
        self._plans |= {
            r.name: Plan.of(
                layer,
                r,
                self._vocabulary,
                whole=self._whole and bool(r.carries),
                traced=self._traced,
                agreed=self._agreed,
            )
            for r in layer.recurrences
        }
        if layer.reads_codes:
            return self._moved(tape, x)
        return self._quantize(tape, layer.input, x)

    def leave(self, tape: Tape, layer: IntegerLayer, y: ir.Value, grid: str, name: str) -> ir.Value:
        """Dequantise: subtract the zero point as an integer, then multiply by the scale."""
        zero = tape.scalar(layer.grids[grid].quantization.zero_point)
        steps = tape.op("Sub", _widened(tape, y), zero, label=f"{name}/offset")
        steps = tape.op("Cast", steps, to=ir.DataType.FLOAT, label=f"{name}/steps")
        value = tape.op("Mul", steps, self._scale(tape, layer.grids[grid]), name=name)
        self._codes[value] = y
        return value

    def initial(self, tape: Tape, layer: IntegerLayer, value: ir.Value, grid: str) -> ir.Value:
        """Quantise a given initial state on the grid of its carry."""
        return self._quantize(tape, layer.grids[grid], value)

    def zero(self, tape: Tape, layer: IntegerLayer, grid: str) -> ir.Value:
        """The zero point, which stands for the real number 0."""
        quantization = layer.grids[grid].quantization
        kind = self._vocabulary.element(quantization.type)
        if kind == ir.DataType.UINT8:
            return tape.byte(quantization.zero_point)
        if kind == ir.DataType.INT32:
            return tape.scalar(quantization.zero_point)
        name = f"{SHARED}word/{quantization.zero_point}"
        return tape.constant(name, np.asarray(quantization.zero_point, kind.numpy()))

    def quantization(self, layer: IntegerLayer, grid: str) -> Quantization:
        """The quantisation of the codes."""
        return layer.grids[grid].quantization

    def prologue(
        self, tape: Tape, recurrence: IntegerRecurrence, x: ir.Value
    ) -> dict[str, ir.Value]:
        """Values that steps need and that depend on the input alone, by name."""
        plan = self._plans[recurrence.name]
        recorder = Recorder(
            tape,
            self._storage(tape, plan),
            plan.constants,
            {plan.input: x},
            list(plan.entering.values()),
            self._vocabulary,
            step=False,
        )
        found: dict[str, ir.Value] = {}
        for name, term in plan.entering.items():
            codes = plan.early.get(name)
            found[name] = (
                x if term is plan.input
                else recorder(term) if codes is None
                else recorder.codes(codes, name)
            )  # fmt: skip
        return found

    def entering(self, recurrence: IntegerRecurrence, name: str) -> tuple[int, ir.DataType]:
        """Width and type of a value of `prologue` in one step."""
        plan = self._plans[recurrence.name]
        term, codes = plan.entering[name], plan.early.get(name)
        if term is plan.input:
            return term.width, self._vocabulary.element(plan.kind)
        if codes is None:
            return term.width, ir.DataType.INT32
        return term.width, self._vocabulary.element(codes.kind)

    def step(
        self, tape: Tape, recurrence: IntegerRecurrence, known: dict[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """The next values of the carries and the values that leave the step, by name."""
        plan = self._plans[recurrence.name]
        given = {term: known[name] for name, term in plan.entering.items()}
        given |= {term: known[name] for name, term in plan.carried.items()}
        wanted = {name: codes for name, codes in plan.results.items() if name not in known}
        recorder = Recorder(
            tape,
            self._storage(tape, plan),
            plan.constants,
            given,
            [codes.term for codes in wanted.values()],
            self._vocabulary,
        )
        found = {name: recorder.codes(c, name) for name, c in wanted.items()}
        _keep_shapes(recorder.shaped, [known[name] for name in plan.carried])
        return found

    def _storage(self, tape: Tape, plan: Plan) -> Storage:
        """The storage of a plan's constants: one for all steps that a graph holds."""
        key = id(tape.nodes), plan
        if key not in self._storages:
            self._storages[key] = Storage(tape)
        return self._storages[key]

    def select(
        self,
        tape: Tape,
        layer: IntegerLayer,
        grid: str,
        mask: ir.Value,
        new: ir.Value,
        old: ir.Value,
        name: str,
    ) -> ir.Value:
        """``old + mask (new - old)`` in int32."""
        base = _widened(tape, old)
        difference = tape.op("Sub", _widened(tape, new), base)
        step = tape.op("Mul", _widened(tape, mask), difference)
        kind = self.element(layer, grid)
        return tape.op("Cast", tape.op("Add", base, step), to=kind)

    def _moved(self, tape: Tape, value: ir.Value) -> ir.Value:
        """The codes of a value that another layer computed, moved as the value was."""
        if value not in self._codes:
            node = value.producer()
            source = node.inputs[0] if node is not None else None
            if node is None or source is None:
                raise ValueError(f"{value.name} holds no codes")
            inputs = [self._moved(tape, source), *node.inputs[1:]]
            moved = tape.multiple(node.op_type, inputs, [f"{node.name}/codes"])
            copy = moved[0].producer()
            if copy is not None:
                for attribute in node.attributes.values():
                    copy.attributes[attribute.name] = attribute
            self._codes[value] = moved[0]
        return self._codes[value]

    @staticmethod
    def _scale(tape: Tape, boundary: Boundary) -> ir.Value:
        return tape.constant(
            f"{boundary.name}/scale", np.asarray(boundary.quantization.scale, np.float32)
        )

    def _quantize(self, tape: Tape, boundary: Boundary, x: ir.Value) -> ir.Value:
        numbers = (boundary.quantization.zero_point, 0, boundary.quantization.type.maximum)
        offset, low, high = (
            tape.constant(f"{SHARED}float/{v}", np.asarray(v, np.float32)) for v in numbers
        )
        reciprocal = tape.constant(
            f"{boundary.name}/reciprocal", np.asarray(boundary.quantization.reciprocal, np.float32)
        )
        steps = tape.op("Mul", x, reciprocal, label=f"{boundary.name}/scaled")
        rounded = tape.op("Round", steps, label=f"{boundary.name}/rounded")
        moved = tape.op("Add", rounded, offset, label=f"{boundary.name}/offset")
        clipped = tape.op("Clip", moved, low, high, label=f"{boundary.name}/limit")
        to = self._vocabulary.element(boundary.quantization.type)
        return tape.op("Cast", clipped, to=to, name=f"{boundary.name}/codes")


def _widened(tape: Tape, value: ir.Value) -> ir.Value:
    return tape.op("Cast", value, to=ir.DataType.INT32)


def _keep_shapes(shaped: Mapping[ir.Value, int], carried: Sequence[ir.Value]) -> None:
    """Record the shapes that no runtime can infer, if the shapes of the carries are recorded."""
    sizes = {value.shape[0] for value in carried if SHAPED in value.metadata_props and value.shape}
    for value, width in shaped.items():
        for size in sizes:
            value.shape = ir.Shape([size, width])
            value.type = ir.TensorType(ir.DataType.INT32)
            value.metadata_props[SHAPED] = ""


class Emit(ir.passes.InPlacePass):
    """Replace the layers of a normalised model by their integer program.

    Parameters
    ----------
    program : IntegerProgram
        Result of `onnxgru.passes.lowering.lower` for this model.
    form : Form
        Scan, step or unrolled.
    vocabulary : Vocabulary
        Operators that the graph may use.
    traced : bool
        Keep the codes of every operator in the graph, under the operator's name. Tests read them.
    whole : bool
        Keep every result of a recurrence, even one that no node reads.
        `onnxgru.passes.emission.functions.Functions` needs them all.
    """

    def __init__(
        self,
        program: IntegerProgram,
        form: Form | None = None,
        vocabulary: Vocabulary | None = None,
        *,
        traced: bool = False,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self._traced, self._whole = traced, whole
        self._program, self._form = program, form or Form()
        self._vocabulary = vocabulary or Vocabulary()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Expand every layer whose node is in the model."""
        root = Tape(graph=model.graph, small=True)
        arithmetic = IntegerArithmetic(
            self._vocabulary,
            whole=self._form.whole,
            traced=self._traced,
            layers=self._program.layers,
        )
        modified = False
        states: list[State] = []
        for layer in self._program.layers:
            if all(node.name != layer.node for node in model.graph):
                continue
            modified = True
            states += expand(model.graph, layer, arithmetic, self._form, Tape(root))
        record(model, states)
        Columns()(model)
        if modified and not (self._traced or self._whole):
            Cancel()(model)
            Unread()(model)
            common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)
