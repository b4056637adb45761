"""A model with its data: everything that schemes are lowered from and judged by."""

import json
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import asdict, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxgru import forms, outputs, remarks, suspicion
from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.glitches import Glitch, limited
from onnxgru.calibration.moments import MOMENTS, Moments
from onnxgru.core import files, intervals, metrics
from onnxgru.core.account import account
from onnxgru.core.choices import ACCUMULATOR_BITS
from onnxgru.core.dataset import Dataset, Recorded
from onnxgru.core.errors import DataError, ModelError, SchemeError
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.events import Calibrated, Listener, Notice, Stage, silent
from onnxgru.judge import Judge
from onnxgru.outputs import Choice
from onnxgru.passes import source, tables
from onnxgru.passes.annotate import Annotate
from onnxgru.passes.decompose import Decompose
from onnxgru.passes.emit import Emit
from onnxgru.passes.form import Form
from onnxgru.passes.lower import Lowering, Rounding
from onnxgru.passes.normalize import Normalize
from onnxgru.passes.pack import Pack
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.passes.retune import Retune
from onnxgru.recordings import Recordings
from onnxgru.rounding import given, methods
from onnxgru.rounding.given import Given
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.host import Host
from onnxgru.runtime.interface import Wishes
from onnxgru.runtime.observation import Observation, calibrate, observe_moments
from onnxgru.settings.config import Config
from onnxgru.settings.quantization import AUTO
from onnxgru.suspicion import Summary

Array = npt.NDArray[Any]


class Session:
    """A model, its layers, its data and its calibration.

    Parameters
    ----------
    file : Path or Origin
        The ONNX file, or a model that a Python program holds.
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
        file: Path | source.Origin,
        config: Config,
        listener: Listener = silent,
        *,
        fused: bool | None = None,
    ) -> None:
        self.origin = source.origin(file)
        path = self.origin.path
        self.path, self.config, self.listener = path, config, listener
        self._fused = config.search if fused is None else fused
        self.model = source.read(self.origin)
        self.digest = files.digest(self.origin.content)
        Normalize()(self.model)
        self.recognition = recognize(self.model, config.include, config.exclude)
        self.layers = require(self.recognition, str(path))
        for note in self.recognition.notes:
            listener(Notice(note))
        for refusal in self.recognition.refusals:
            listener(Notice(f"{refusal.node} stays in float: {refusal.reason}"))
        self.form = Form(config.recurrence, config.float_state, config.steps)
        self._time_axes = forms.check(self.model, self.layers, self.form, listener)
        self.host = Host(self.model, self.layers, Wishes.parse(config.batch_axis, config.state))
        self.data = Recordings(path, self.host, config, listener, tables.sizes(self.model.graph))
        if config.ranges == AUTO:
            self.config = config = replace(config, ranges=self._suitable_ranges())
        judged = (self.data[role] for role in self.data.judged)
        forms.check_data(self.model.graph, self.layers, self.form, judged)
        self._judges: dict[str, Judge] = {}
        self._told: set[str] = set()
        self._references: dict[str, dict[str, Array]] = {}
        self.outputs = outputs.describe(
            self.model.graph, self.layers, self.host.interface.states.values()
        )
        self.choice = self._chosen()
        self.metric = self.choice.metric

    def _chosen(self) -> Choice:
        """What is judged; labels that fit no output are refused before any work."""
        data = self.data["validation"]
        names = outputs.split(self.config.output_name)
        reference = self.reference("validation")
        try:
            return outputs.choose(self.outputs, reference, data.labels, self.config.metric, names)
        except DataError as error:
            raise DataError(f"{data.source}: {error}") from error

    def examine(self, training: Recorded | None = None) -> None:
        """Name what looks wrong with the data before any work.

        Parameters
        ----------
        training : Dataset or Corpus, optional
            Data to fine-tune on.

        Raises
        ------
        DataError
            If data do not fit the model.
        """
        if not self.data.synthetic:
            for sentence in self._suspicions(training):
                self.tell(sentence)

    def tell(self, sentence: str) -> None:
        """Hand on what the user should know, once."""
        if sentence not in self._told:
            self._told.add(sentence)
            self.listener(Notice(sentence))

    def _suspicions(self, training: Recorded | None) -> Iterator[str]:
        summaries = dict(self._summaries)
        if training is not None:
            summaries["training"] = suspicion.summarise(
                training.parts, training.source, self._states
            )
        yield from remarks.glitches(self.glitches)
        yield from suspicion.of_inputs(summaries)
        classes = self.metric.target == "labels" and self.metric.unit == "%"
        for role in self.data.judged:
            data = self.data[role]
            yield from suspicion.of_count(role, data.source, intervals.recordings(data))
            self.float_quality(role)  # refuses labels that do not fit
            if classes:
                found_outputs = self.reference(role)[self.output]
                labels = self.targets(role)[self.output]
                yield from suspicion.of_labels(role, data.source, found_outputs, labels)
        if not classes:
            yield from suspicion.of_bytes(summaries)

    @property
    def _states(self) -> list[str]:
        return [spec.name for spec in self.host.signature if spec.state]

    @cached_property
    def _summaries(self) -> dict[str, Summary]:
        """What is looked at in the data of every role."""
        found: dict[str, Summary] = {}
        if self.config.calibration_file is None:
            found["calibration"] = self._calibrated_on
        for role in self.data.judged:
            data = self.data[role]
            found[role] = suspicion.summarise(data.parts, data.source, self._states)
        return found

    @cached_property
    def _calibrated_on(self) -> Summary:
        """What is looked at in calibration data."""
        data = self.data
        return suspicion.summarise(data.calibration(), data.calibration_source, self._states)

    @property
    def _cut(self) -> list[Glitch]:
        """Glitches that ranges are not to span."""
        if self.config.observer == "minmax" or self.data.synthetic:
            return []
        return self._calibrated_on.glitches

    @property
    def glitches(self) -> list[dict[str, Any]]:
        """Values that no tail explains, as a report has them."""
        found = []
        for role, summary in {} if self.data.synthetic else self._summaries.items():
            done = remarks.JUDGED
            if role == "calibration":
                done = remarks.CUT if self._cut else remarks.KEPT
            elif (
                summary.source == self.data.calibration_source and "calibration" in self._summaries
            ):
                continue  # the same data serve for both
            found += [{**asdict(glitch), "done": done} for glitch in summary.glitches]
        return found

    def _observed(self) -> Iterator[Dataset]:
        """The calibration data that ranges come from."""
        cut = self._cut
        for sentence in remarks.glitches(self.glitches) if cut else ():
            self.tell(sentence)
        for batch in self.data.calibration():
            kept = limited(batch, cut) if cut else batch
            yield self.host.handed_on(kept) if cut and batch.streams else kept

    @property
    def output(self) -> str:
        """The output that is judged, the first one where there are several."""
        return self.choice.outputs[0]

    @cached_property
    def observation(self) -> Observation:
        """The decomposed float graph with every operator visible."""
        return Observation(self.model, self.layers, self.host.batch)

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
                for name in layer.observed
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
            self._observed(),
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
        self.listener(Stage("collecting input statistics for weight rounding"))
        return observe_moments(self.observation, self.layers, self._observed(), self.calibration)

    @cached_property
    def moments_files(self) -> dict[str, bytes]:
        """The file of the moments, if anything depends on them."""
        return {MOMENTS: self.moments.dumps()} if self.config.needs_moments else {}

    @cached_property
    def rounding(self) -> Rounding:
        """How weights become codes."""
        if self.config.weights_file is not None:
            return given.load(Path(self.config.weights_file))
        moments = self.moments if self.config.needs_moments else None
        rounding: Rounding = methods.resolve(
            self.layers,
            self.config.rounding,
            bias_correction=self.config.bias_correction,
            seconds={} if moments is None else moments.seconds,
            means={} if moments is None else moments.means,
        )
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
            ranges=self.config.ranges,
        )

    @property
    def unbounded(self) -> "Session":
        """The same with accumulators of any width: for what is compared with and never written."""
        if self.config.accumulator_bits == ACCUMULATOR_BITS:
            return self
        _ = self.lowering  # and with it all that both share
        other = copy(self)
        other.config = replace(self.config, accumulator_bits=ACCUMULATOR_BITS)
        del other.__dict__["lowering"]
        return other

    def retuned(self, tuned: Tuned, *, integers: bool = True) -> "Session":
        """The session with weights that fine-tuning left.

        Figures are still compared with the float model that this one began with.

        Parameters
        ----------
        tuned : Tuned
            What fine-tuning left.
        integers : bool
            With the integers of the weights, and its ranges: for the scheme that it was for.
        """
        for role in self.data.judged:
            self.reference(role)
        other = copy(self)
        other.model = self.model.clone()
        Retune(self.layers, tuned.weights, tuned.initializers)(other.model)
        found = recognize(other.model, self.config.include, self.config.exclude)
        other.layers = require(found, str(self.path))
        other.host = Host(
            other.model, other.layers, Wishes.parse(self.config.batch_axis, self.config.state)
        )
        other._judges = {}
        if self.config.needs_moments:
            other.moments = self.moments
        for name in ("observation", "calibration_bytes", "rounding", "lowering"):
            other.__dict__.pop(name, None)
        ranges = {**self.calibration.overrides, **(tuned.ranges if integers else {})}
        other.calibration = replace(self.calibration, overrides=ranges)
        if integers:
            other.rounding = Given(tuned.rounded, "fine-tuning")
        return other

    def _suitable_ranges(self) -> str:
        """Ranges for these data: what frames add to a state must not be rounded twice."""
        roles = self.data.judged
        return (
            "aligned" if any(p.streams for r in roles for p in self.data[r].parts) else "saturating"
        )

    @property
    def handed_on(self) -> dict[str, str]:
        """Outputs by the input that each is in the next call; none where calls are apart."""
        streams = any(part.streams for part in self.data["validation"].parts)
        return self.host.interface.states if streams else {}

    def reference(self, role: str) -> dict[str, Array]:
        """Outputs of the float model on the data of a role, the batch first."""
        if role not in self._references:
            self._references[role] = self.host.outputs_of(self.data[role])
        return self._references[role]

    def targets(self, role: str) -> dict[str, Array]:
        """What the outputs that are judged are compared with: labels, or the float model's."""
        labels = self.data[role].labels
        if self.metric.target == "labels":
            if labels is None:
                raise DataError(
                    f"{self.data[role].source}: must hold labels because the validation data do; "
                    "add them, or give --metric agreement or sqnr"
                )
            return {name: labels for name in self.choice.outputs}
        return {name: self.reference(role)[name] for name in self.choice.outputs}

    def judge(self, role: str) -> Judge:
        """What judges programs on the data of a role."""
        if role not in self._judges:
            self._judges[role] = Judge(
                self.host,
                self.data[role],
                self.metric,
                self.targets(role),
                fused=self._fused,
                device=self.config.device,
            )
        return self._judges[role]

    def float_quality(self, role: str) -> float:
        """The float model's figure."""
        return self.judge(role).figure(self.reference(role))

    def quality(self, program: IntegerProgram, role: str) -> float:
        """A program's figure on the data of a role."""
        return self.judge(role).quality(program)

    def values(self, program: IntegerProgram, data: Recorded) -> Iterator[dict[str, Array]]:
        """Values of the host graph, chunk by chunk: inputs, and the layers' dequantised states."""
        return (values for values, _ in Evaluator(self.host, data, once=True).states(program))

    def serialized(self) -> bytes:
        """The normalised model with all its weights, as a ``ModelProto``.

        Raises
        ------
        ModelError
            If it is larger than 2 GiB.
        """
        content: bytes = source.proto(self.model).SerializeToString(deterministic=True)
        return content

    def settings(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        found = {
            field.name: _plain(getattr(self.config, field.name)) for field in fields(self.config)
        }
        return found | {"metric": metrics.title(self.config.metric)}

    @property
    def time_axes(self) -> Mapping[str, int] | None:
        """In step form, the time axis of every input that has one."""
        return self._time_axes

    def integer(self, program: IntegerProgram, scheme: Scheme) -> onnx.ModelProto:
        """The emitted graph of a program."""
        model = forms.cut(self.model, self.layers, self.form)
        Emit(program, self.form)(model)
        Pack()(model)
        return source.compact(self._finished(model, program, scheme))

    def annotated(
        self, program: IntegerProgram, scheme: Scheme, form: Form | None = None
    ) -> onnx.ModelProto:
        """The annotated graph of a program, in the configured form or another one."""
        form = form or self.form
        model = forms.cut(self.model, self.layers, form)
        Decompose(self.layers, form)(model)
        Annotate(program)(model)
        for value in list(model.graph.initializers.values()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del model.graph.initializers[str(value.name)]
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
        axes = {s.name: None if s.bare else s.batch_axis for s in self.host.signature}
        model.metadata_props["onnxgru.batch_axes"] = _minified(axes)
        model.metadata_props["onnxgru.handed_on"] = _minified(self.host.interface.states)
        kept = [o.name for o in self.outputs if o.reached and not o.state]
        model.metadata_props["onnxgru.outputs"] = _minified(kept or [self.output])
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


def _minified(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))
