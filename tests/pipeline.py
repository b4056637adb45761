"""From a random GRU to its integer program, for tests of the later stages."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from onnxgru.calibration.calibration import Calibration
from onnxgru.core.choices import GRANULARITIES, WIDTHS
from onnxgru.core.network import Layer, LinearOperator
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme, operands
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.data.dataset import Dataset
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.functions import Functions
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import source
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.host import Host
from onnxgru.runtime.observation import Observation, calibrate
from onnxgru.runtime.walk import Group, Job, Walk


@dataclass(frozen=True)
class Pipeline:
    """A calibrated model."""

    model: ir.Model
    layers: tuple[Layer, ...]
    host: Host
    calibration: Calibration
    lower: Lowering

    def uniform(self, bits: int, **settings: str) -> IntegerProgram:
        return self.lower(Scheme.uniform(self.layers, bits, **settings))

    def mixed(self, seed: int) -> IntegerProgram:
        return self.lower(random_scheme(self.layers, seed))

    def emit(
        self,
        program: IntegerProgram,
        form: Form | None = None,
        vocabulary: Vocabulary | None = None,
        *,
        traced: bool = False,
        functions: bool = False,
    ) -> onnx.ModelProto:
        clone = self.model.clone()
        Emit(program, form, vocabulary, traced=traced, whole=functions)(clone)
        Pack()(clone)
        if functions:
            Functions()(clone)
        return source.compact(source.proto(clone))


def singles(program: IntegerProgram) -> set[str]:
    """Names of items in flash that hold one number per operator."""
    found = {item.name for item in program.flash() if item.role in ("zero_point", "shift", "reach")}
    for layer in program.layers:
        for stage in (stage for recurrence in layer.recurrences for stage in recurrence.stages):
            linear = [o for o in stage.operators if isinstance(o, Linear)]
            results = [result for operator in linear for result in operator.results]
            for small, name in ((False, f"{stage.name}/multiplier"), (True, stage.small_name)):
                if all(r.channels == 1 for r in results if r.requantization.small == small):
                    found.add(name)
    return found


def pipeline(
    message: onnx.ModelProto,
    inputs: dict[str, np.ndarray],
    ranges: str = "plain",
    declared: Declared | None = None,
    *,
    heads: bool = False,
) -> Pipeline:
    """Calibrate a model on some inputs."""
    model = ir.from_proto(message)
    Normalize(heads=heads)(model)
    layers = require(recognize(model), "test")
    host = Host(model, layers, declared)
    calibration = calibrate(Observation(model, layers), layers, [dataset(host, inputs)], "0" * 64)
    lower = Lowering(model.graph, layers, calibration, ranges=ranges)
    return Pipeline(model, layers, host, calibration, lower)


def dataset(host: Host, inputs: dict[str, np.ndarray]) -> Dataset:
    return Dataset(inputs, None, "test", {s.name: s.batch_axis for s in host.signature})


def first_job(made: Pipeline, layer: IntegerLayer, inputs: dict[str, np.ndarray]) -> Job:
    """What the first layer of a program is to run."""
    (job,) = Walk(Group(made.host.plan(), [dataset(made.host, inputs)], [0])).jobs(0, layer)
    return job


def random_scheme(layers: tuple[Layer, ...], seed: int) -> Scheme:
    """Every width, granularity and input width drawn at random."""
    generator = np.random.default_rng(seed)

    def width() -> int:
        return int(generator.choice(WIDTHS))

    operators: dict[str, OutputScheme] = {}
    for layer in layers:
        state = width()
        for operator in layer.operators:
            bits = state if operator.name in layer.grids else width()
            if not isinstance(operator, LinearOperator):
                operators[operator.name] = OutputScheme(bits)
            else:
                granularity = str(generator.choice(GRANULARITIES))
                operators[operator.name] = LinearScheme(
                    bits, "mse", width(), granularity, operator.weight.shape
                )
    return Scheme({layer.name: OutputScheme(width()) for layer in layers}, operators)


def thresholded(layers: tuple[Layer, ...], scheme: Scheme, draw: Callable[[], int]) -> Scheme:
    """A scheme with a threshold for every operand, drawn for each in turn."""
    inputs, entries = dict(scheme.inputs), dict(scheme.operators)
    for layer in layers:
        for writers in operands(layer).values():
            if not writers:
                inputs[layer.name] = replace(inputs[layer.name], threshold=draw())
            for name in writers:
                entries[name] = replace(entries[name], threshold=draw())
    return Scheme(inputs, entries)
