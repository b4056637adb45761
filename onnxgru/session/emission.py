"""From programs to graphs: the integer graph and the annotated one, checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from onnxgru.core import brief, metadata
from onnxgru.core.errors import ModelError
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.passes.emission import native
from onnxgru.passes.emission.annotate import Annotate
from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.emission.describe import describe, descriptions
from onnxgru.passes.emission.divisions import Divisions
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.functions import Functions
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.emission.quants import Quants
from onnxgru.passes.emission.shorten import Shorten
from onnxgru.passes.emission.unpacked import Unpacked
from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import source
from onnxgru.passes.graph.upgrade import WIDE_IR_VERSION, WIDE_OPSET, Upgrade
from onnxgru.passes.lowering.networks import networks
from onnxgru.runtime import counting
from onnxgru.runtimes.table import NUMBERS, UINT16
from onnxgru.session import forms
from onnxgru.session.model import Model


@dataclass(frozen=True, eq=False)
class Emission:
    """Writes graphs of programs of a model.

    Parameters
    ----------
    model : Model
        The float model.
    form : Form
        Scan, step or unrolled.
    time_axes : mapping of str to int or None
        In step form, the time axis of every input that has one.
    outputs : sequence of str
        Outputs that the graphs are judged by.
    weights : {"packed", "int8", "native"}
        How the integer graph stores weights.
    without : frozenset of str
        Operators that it does not use.
    lookup : str
        Which operator of `onnxgru.custom_ops.integer_graph.vocabulary.LOOKUPS` reads its tables.
    functions : bool
        Whether each direction of a recurrent layer is a node with a local function.
    """

    model: Model
    form: Form
    time_axes: Mapping[str, int] | None
    outputs: Sequence[str]
    weights: str = "packed"
    without: frozenset[str] = frozenset()
    lookup: str = "Gather"
    functions: bool = False

    def integer(self, program: IntegerProgram, scheme: Scheme) -> onnx.ModelProto:
        """The integer graph of a program; raises what `annotated` does."""
        model = self._cut(self.form)
        texts = descriptions(model.graph, program)
        if self.weights == "native":
            linear = (o for o in program.operators if isinstance(o, Linear))
            needed = native.versions({part.type.bits for o in linear for part in o.parts})
            if needed is not None:
                Upgrade(*needed)(model)
        directions = sum(len(layer.recurrences) for layer in program.layers if layer.carries)
        vocabulary = Vocabulary(
            self.lookup,
            uint16=UINT16 not in self.without,
            alike=self.functions and directions > 1,
            numbers=NUMBERS not in self.without or self.form.name != "unrolled",
        )
        Emit(program, self.form, vocabulary, whole=self.functions)(model)
        storing = {"packed": Pack(), "int8": Unpacked(), "native": native.Native()}
        storing[self.weights](model)
        if "BitwiseAnd" in self.without:
            Divisions()(model)
        if self.functions:
            Functions()(model)
        Shorten()(model)
        describe(model, texts)
        return source.compact(self._finished(model, program, scheme))

    def annotated(
        self, program: IntegerProgram, scheme: Scheme, form: Form | None = None
    ) -> onnx.ModelProto:
        """The annotated graph of a program, in this form or another one.

        Raises
        ------
        ModelError
            If the graph does not pass ``onnx.checker``.
        """
        form = form or self.form
        model = self._cut(form)
        texts = descriptions(model.graph, program)
        if program.wide:
            Upgrade(WIDE_OPSET, WIDE_IR_VERSION)(model)
        Decompose(networks(self.model.layers, scheme, program), form)(model)
        Annotate(program)(model)
        for value in list(model.graph.initializers.values()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del model.graph.initializers[str(value.name)]
        describe(model, texts)
        return self._finished(model, program, scheme)

    def quants(self, annotated: onnx.ModelProto) -> onnx.ModelProto:
        """An annotated graph with the ``Quant`` nodes of QONNX."""
        model = ir.from_proto(annotated)
        Quants()(model)
        return source.proto(model)

    def _cut(self, form: Form) -> ir.Model:
        model = self.model
        return forms.cut(model.normal, model.layers, form, model.host.signature)

    @property
    def batch(self) -> int | None:
        """Recordings that the graphs take per call, None if any number will do."""
        return self.form.batch or self.model.host.batch

    def _finished(
        self, model: ir.Model, program: IntegerProgram, scheme: Scheme
    ) -> onnx.ModelProto:
        from onnxgru import __version__

        host = self.model.host
        model.producer_name, model.producer_version = "onnxgru", __version__
        notes = {
            metadata.SCHEME: brief.dumped(scheme),
            metadata.SIZES: account(program).to_dict(),
            metadata.BATCH_AXES: {s.name: None if s.bare else s.batch_axis for s in host.signature},
            metadata.HANDED_ON: host.interface.states,
            metadata.OUTPUTS: list(self.outputs),
        }
        if (found := counting.note(program)) is not None:
            notes[counting.NOTE] = found
        model.metadata_props[metadata.VERSION] = __version__
        model.metadata_props[metadata.SOURCE] = self.model.digest
        for key, note in notes.items():
            model.metadata_props[key] = json.dumps(note, separators=(",", ":"))
        message = source.proto(model)
        try:
            onnx.checker.check_model(message, full_check=True)
        except onnx.checker.ValidationError as error:
            raise ModelError(
                f"the graph written for {self.model.path} does not pass onnx.checker "
                f"({str(error).splitlines()[0]}); please report it"
            ) from error
        return message
