"""A model with its data: everything that schemes are lowered from and judged by."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.moments import MOMENTS, Moments
from onnxgru.config import PROCESSOR, Config
from onnxgru.core import files, metrics
from onnxgru.core.account import account
from onnxgru.core.data import Dataset
from onnxgru.core.errors import DataError, ModelError, SchemeError
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.events import Calibrated, Listener, Notice, Stage, silent
from onnxgru.passes import source
from onnxgru.passes.annotate import Annotate
from onnxgru.passes.decompose import Decompose
from onnxgru.passes.emit import Emit
from onnxgru.passes.lower import Lowering, Rounding
from onnxgru.passes.normalize import Normalize
from onnxgru.passes.pack import Pack
from onnxgru.passes.recognize import recognize, require
from onnxgru.passes.recurrence import Form
from onnxgru.passes.step import Step, time_axes
from onnxgru.recordings import Recordings
from onnxgru.rounding.bias import BiasCorrection
from onnxgru.rounding.gptq import Gptq
from onnxgru.rounding.nearest import Nearest
from onnxgru.runtime import devices
from onnxgru.runtime.evaluator import Engine, Evaluator, LayerEvaluator
from onnxgru.runtime.host import Host
from onnxgru.runtime.observation import Observation, calibrate, observe_moments
from onnxgru.runtime.population import PopulationEvaluator

Array = npt.NDArray[Any]

DEVICE_SEQUENCES = 64
"""Sequences on which a device is compared with the processor before a search."""

_DISTRIBUTIONS = ("Softmax", "LogSoftmax", "Hardmax")


class Session:
    """A model, its layers, its data and its calibration.

    Parameters
    ----------
    path : Path
        The ONNX file.
    config : Config
        What to do with it.
    listener : callable
        Receives events.
    fused : bool, optional
        Evaluate programs on compiled kernels, which many of them are worth; as a search does
        where left out.

    Raises
    ------
    ModelError
        If the model cannot be read or holds no GRU that can be quantised.
    DataError
        If data do not fit the model.
    UsageError
        If a setting does not fit the model.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        listener: Listener = silent,
        *,
        fused: bool | None = None,
    ) -> None:
        self.path, self.config, self.listener = path, config, listener
        self._fused = config.search if fused is None else fused
        self.model = source.read(path)
        self.digest = files.digest(path.read_bytes())
        Normalize()(self.model)
        self.recognition = recognize(self.model, config.include, config.exclude)
        self.layers = require(self.recognition, str(path))
        for note in self.recognition.notes:
            listener(Notice(note))
        for refusal in self.recognition.refusals:
            listener(Notice(f"{refusal.node} stays in float: {refusal.reason}"))
        self.form = Form(config.recurrence, config.float_state, config.steps)
        self._time_axes = self._check_form()
        self.host = Host(self.model, self.layers)
        self.data = Recordings(path, self.host, config, listener)
        self.output = next(o.name for o in source.proto(self.model).graph.output if _is_float(o))
        labels = self.data["validation"].labels
        self.metric = metrics.resolve(config.metric, labels, self._is_distribution())
        self._evaluators: dict[str, Evaluator] = {}
        self._populations: dict[str, PopulationEvaluator] = {}
        self._targets: dict[str, Array] = {}
        self._references: dict[str, dict[str, Array]] = {}

    def _check_form(self) -> dict[str, int] | None:
        """Time axes of the inputs in step form; a form that cannot be is refused beforehand."""
        if self.form.name != "step":
            return None
        clone = self.model.clone()
        Step(self.layers)(clone)
        Decompose(self.layers, self.form)(clone)
        return time_axes(self.model.graph, self.layers)

    def _is_distribution(self) -> bool:
        value = next(v for v in self.model.graph.outputs if v.name == self.output)
        node = value.producer()
        return node is not None and node.op_type in _DISTRIBUTIONS

    @cached_property
    def observation(self) -> Observation:
        """The decomposed float graph with every operator visible."""
        return Observation(self.model, self.layers)

    @cached_property
    def calibration(self) -> Calibration:
        """Statistics of every operator: from a file, or of the calibration data."""
        if self.config.calibration_file is not None:
            path = Path(self.config.calibration_file)
            calibration = Calibration.load(path)
            if calibration.model != self.digest:
                self.listener(Notice(f"{path} was made from another version of the model"))
            missing = [
                name
                for layer in self.layers
                for name in (layer.input, layer.state, *(o.name for o in layer.operators))
                if name not in calibration.histograms
            ]
            if missing:
                raise SchemeError(
                    f"{path}: must have every operator of the model, lacks {missing[0]}; "
                    "it is a calibration of another model, so calibrate again"
                )
            return calibration
        self.listener(Stage("calibrating"))
        return calibrate(
            self.observation,
            self.layers,
            self.data.calibration(),
            self.digest,
            lambda count: self.listener(Calibrated(count)),
        )

    @cached_property
    def calibration_bytes(self) -> bytes:
        """What ``calibration.json`` holds."""
        return self.calibration.dumps()

    @cached_property
    def moments(self) -> Moments:
        """What linear operators read: from beside a calibration file, or of calibration data."""
        if self.config.calibration_file is not None:
            path = Path(self.config.calibration_file).with_name(MOMENTS)
            if path.is_file():
                moments = Moments.load(path)
                moments.require(self.layers, self.digest, str(path))
                return moments
        self.listener(Stage("measuring what linear operators read"))
        return observe_moments(
            self.observation, self.layers, self.data.calibration(), self.calibration
        )

    @cached_property
    def moments_files(self) -> dict[str, bytes]:
        """The file of the moments, if anything depends on them."""
        return {MOMENTS: self.moments.dumps()} if self.config.needs_moments else {}

    @cached_property
    def rounding(self) -> Rounding:
        """How weights become codes."""
        rounding: Rounding = Nearest(self.layers)
        if self.config.rounding == "gptq":
            rounding = Gptq(self.layers, self.moments.seconds)
        if self.config.bias_correction:
            rounding = BiasCorrection(rounding, self.moments.means)
        return rounding

    @cached_property
    def lowering(self) -> Lowering:
        """From schemes to programs."""
        return Lowering(
            self.model.graph,
            self.layers,
            self.calibration,
            self.config.accumulator_bits,
            self.rounding,
            saturating=self.config.ranges == "saturating",
        )

    def reference(self, role: str) -> dict[str, Array]:
        """Outputs of the float model on the data of a role, the batch first."""
        if role not in self._references:
            data = self.data[role]
            size = self.host.batch or 256
            self._references[role] = self.host.join(
                [self.host.whole(part.inputs) for part in data.chunks(size)]
            )
        return self._references[role]

    def target(self, role: str) -> Array:
        """What outputs are compared with: labels, or the float model's outputs."""
        labels = self.data[role].labels
        if self.metric.target == "labels" and labels is not None:
            return labels
        return self.reference(role)[self.output]

    def float_quality(self, role: str) -> float:
        """The float model's figure."""
        return self._measured(role, self.reference(role)[self.output], self.target(role))

    def _engine(self) -> Callable[[IntegerLayer], Engine]:
        """What candidates run on: a search is worth compiling kernels for."""
        if not self._fused:
            return LayerEvaluator
        from onnxgru.runtime.fused import FusedEngine

        return FusedEngine

    def outputs(self, program: IntegerProgram, role: str) -> Array:
        """What a program computes on the data of a role: the output that is judged."""
        if role not in self._evaluators:
            self._evaluators[role] = Evaluator(self.host, self.data[role], self._engine())
            self._targets[role] = self.target(role)
        return self._evaluators[role].outputs(program)[self.output]

    def judge(self, outputs: Array, role: str) -> float:
        """The figure of outputs for the data of a role."""
        if role not in self._targets:
            self._targets[role] = self.target(role)
        return self._measured(role, outputs, self._targets[role])

    def quality(self, program: IntegerProgram, role: str) -> float:
        """A program's figure on the data of a role."""
        return self.judge(self.outputs(program, role), role)

    @property
    def on_device(self) -> bool:
        """Whether candidates of a search are computed together on a device."""
        return self.config.device != PROCESSOR

    def qualities(self, programs: Sequence[IntegerProgram], role: str) -> Iterator[float]:
        """Figures of several programs in order, computed together on the device configured."""
        if not self.on_device:
            return (self.quality(program, role) for program in programs)
        if role not in self._populations:
            device = devices.resolve(self.config.device)
            self._populations[role] = PopulationEvaluator(self.host, self.data[role], device)
        found = self._populations[role].outputs_of(programs)
        return (self.judge(outputs[self.output], role) for outputs in found)

    def prove_device(self, programs: Sequence[IntegerProgram], role: str) -> None:
        """Compare states computed together on the device configured with the processor's.

        Raises
        ------
        VerificationError
            If one differs.
        """
        data = self.data[role].take(self.host.batch or DEVICE_SEQUENCES)
        device = devices.resolve(self.config.device)
        PopulationEvaluator(self.host, data, device).require_same(programs)

    def _measured(self, role: str, outputs: Array, target: Array) -> float:
        try:
            return self.metric(outputs, target)
        except DataError as error:
            raise DataError(f"{self.data[role].source}: {error}") from error

    def values(self, program: IntegerProgram, data: Dataset) -> Iterator[dict[str, Array]]:
        """Values of the host graph, chunk by chunk: inputs, and the layers' dequantised states."""
        return (values for values, _ in Evaluator(self.host, data).states(program))

    def settings(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        return {
            field.name: _plain(getattr(self.config, field.name)) for field in fields(self.config)
        }

    @property
    def time_axes(self) -> Mapping[str, int] | None:
        """In step form, the time axis of every input that has one."""
        return self._time_axes

    def integer(self, program: IntegerProgram, scheme: Scheme) -> onnx.ModelProto:
        """The emitted graph of a program."""
        model = self.model.clone()
        if self.form.name == "step":
            Step(self.layers)(model)
        Emit(program, self.form)(model)
        Pack()(model)
        return source.compact(self._finished(model, program, scheme))

    def annotated(
        self, program: IntegerProgram, scheme: Scheme, form: Form | None = None
    ) -> onnx.ModelProto:
        """The annotated graph of a program, in the configured form or another one."""
        form = form or self.form
        model = self.model.clone()
        if form.name == "step":
            Step(self.layers)(model)
        Decompose(self.layers, form)(model)
        Annotate(program)(model)
        for name in [n for n, v in model.graph.initializers.items() if not v.uses()]:
            if not model.graph.initializers[name].is_graph_output():
                del model.graph.initializers[name]
        return self._finished(model, program, scheme)

    def _finished(
        self, model: ir.Model, program: IntegerProgram, scheme: Scheme
    ) -> onnx.ModelProto:
        from onnxgru import __version__

        model.producer_name, model.producer_version = "onnxgru", __version__
        model.metadata_props["onnxgru.version"] = __version__
        model.metadata_props["onnxgru.source_sha256"] = self.digest
        model.metadata_props["onnxgru.scheme"] = _minified(json.loads(scheme.dumps()))
        model.metadata_props["onnxgru.sizes"] = _minified(account(program).to_dict())
        axes = {spec.name: spec.batch_axis for spec in self.host.signature}
        model.metadata_props["onnxgru.batch_axes"] = _minified(axes)
        message = source.proto(model)
        try:
            onnx.checker.check_model(message, full_check=True)
        except onnx.checker.ValidationError as error:
            raise ModelError(
                f"the graph written for {self.path} does not pass onnx.checker "
                f"({str(error).splitlines()[0]}); please report it"
            ) from error
        return message


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def _minified(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))
