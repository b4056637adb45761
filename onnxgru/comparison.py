"""Comparing models on the same data: quality, agreement, and bytes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnxgru import outputs
from onnxgru.core import data as datasets
from onnxgru.core import intervals, metrics
from onnxgru.core.data import Dataset, InputSpec, Signature
from onnxgru.core.errors import DataError, ModelError, OnnxgruError, UsageError
from onnxgru.core.intervals import Interval, Sums
from onnxgru.core.metrics import Function, Metric
from onnxgru.core.reading import Source
from onnxgru.outputs import Choice
from onnxgru.passes import source
from onnxgru.passes.normalize import Normalize
from onnxgru.passes.recognize import recognize
from onnxgru.runtime.host import Host
from onnxgru.runtime.sessions import Run, onnxruntime_session

Array = npt.NDArray[Any]

CHUNK = 256
_NOTED = "onnxgru.batch_axes"


@dataclass(frozen=True)
class Row:
    """One model's figures.

    Parameters
    ----------
    path : str
        The file.
    file_bytes : int
        Its size.
    quality : float
        The metric.
    interval : tuple of float or None
        Its 95 % interval; None where nothing is known of it.
    difference : float or None
        How much higher the metric is than the first model's; None for the first.
    difference_interval : tuple of float or None
        95 % interval of that, paired over the same recordings.
    agreement_sqnr : float or None
        SQNR of its outputs against the first model's, dB; None for the first, and where the outputs
        hold classes.
    """

    path: str
    file_bytes: int
    quality: float
    interval: Interval | None
    difference: float | None
    difference_interval: Interval | None
    agreement_sqnr: float | None


@dataclass(frozen=True)
class Comparison:
    """Models on one set of data.

    Parameters
    ----------
    metric, unit : str
        What `Row.quality` is.
    outputs : tuple of str
        The outputs that are judged; the figure is that of the worst.
    reason : str
        Why these, and by this metric.
    sequences : int
        Sequences run.
    counted : int
        Answers that count: as many as sequences, or frames.
    rows : tuple of Row
        One a model, in the order given.
    """

    metric: str
    unit: str
    outputs: tuple[str, ...]
    reason: str
    sequences: int
    counted: int
    rows: tuple[Row, ...]


def evaluate(
    models: object,
    data: Source,
    metric: str | Function = "auto",
    output_name: str | None = None,
) -> Comparison:
    """Run models in onnxruntime on the same data.

    Parameters
    ----------
    models : path or model, or sequence of them
        One or more models with the same inputs: ONNX files, or what `quantize` takes in their
        place.
    data : str, path or object
        As for `quantize`.
    metric : str or callable
        As in `Config`; what needs a reference takes the first model's outputs.
    output_name : str, optional
        As in `Config`.

    Raises
    ------
    ModelError
        If a model cannot be read or run.
    DataError
        If the data do not fit the first model.
    UsageError
        If the metric is unknown.
    """
    given = models if isinstance(models, list | tuple) else [models]
    files = [source.origin(model) for model in given]
    if not files:
        raise UsageError("evaluate takes at least one model")
    if not (isinstance(metric, str) or callable(metric)):
        raise UsageError(f"metric must be a name or a function, got a {type(metric).__name__}")
    read = [_read(file) for file in files]
    signature, described = _described(files[0].path, read[0])
    loaded = datasets.load(data, signature)
    choice: Choice | None = None
    first: dict[str, Array] = {}
    sums: list[Sums | None] = []
    rows: list[Row] = []
    counted = loaded.size
    for file, model in zip(files, read, strict=True):
        path = file.path
        found = _run(path, source.proto(model), loaded, signature)
        if choice is None:
            choice = _chosen(described, found, loaded, metric, output_name)
            first = {name: found[name] for name in choice.outputs}
        targets = (
            {name: np.asarray(loaded.labels) for name in first}
            if choice.metric.target == "labels"
            else first
        )
        arrays = {
            name: _matching(path, found, name, index, first[name])
            for index, name in enumerate(first)
        }
        own = [intervals.sums(choice.metric, arrays[name], targets[name]) for name in first]
        worst = min if choice.metric.higher_is_better else max
        quality = worst(_figure(choice.metric, arrays[n], targets[n], loaded.source) for n in first)
        apart = intervals.difference(own, sums) if rows else None
        rows.append(
            Row(
                str(path),
                len(file.content),
                quality,
                intervals.interval(own),
                None if apart is None else apart[0],
                None if apart is None else apart[1],
                _sqnr(first, arrays) if rows else None,
            )
        )
        if len(rows) == 1:
            sums = own
            counted = next((one.counted for one in own if one is not None), loaded.size)
    assert choice is not None
    return Comparison(
        choice.metric.name,
        choice.metric.unit,
        choice.outputs,
        choice.reason,
        loaded.size,
        counted,
        tuple(rows),
    )


def _chosen(
    described: Sequence[outputs.Output],
    found: Mapping[str, Array],
    data: Dataset,
    metric: str | Function,
    output_name: str | None,
) -> Choice:
    try:
        return outputs.choose(described, found, data.labels, metric, outputs.split(output_name))
    except DataError as error:
        raise DataError(f"{data.source}: {error}") from error


def _figure(metric: Metric, output: Array, target: Array, where: str) -> float:
    try:
        return metric(output, target)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _matching(path: Path, found: Mapping[str, Array], name: str, index: int, first: Array) -> Array:
    """The output of a model that has a name, or the place, of the first model's."""
    others = list(found.values())
    array = found.get(name, others[index] if index < len(others) else None)
    if array is None or array.shape != first.shape:
        raise ModelError(
            f"{path}: its output must have the shape of the first model's {name!r}, {first.shape}, "
            f"has {'none' if array is None else array.shape}; compare models of one task"
        )
    return array


def _sqnr(first: Mapping[str, Array], found: Mapping[str, Array]) -> float | None:
    names = [name for name, array in first.items() if not metrics.holds_classes(array)]
    return min((metrics.sqnr(first[name], found[name]) for name in names), default=None)


def _read(file: source.Origin) -> ir.Model:
    """A model in normal form; as it is if onnxgru wrote it."""
    model = source.read(file)
    if _NOTED not in model.metadata_props:
        Normalize()(model)
    return model


def _described(path: Path, model: ir.Model) -> tuple[Signature, tuple[outputs.Output, ...]]:
    """Inputs and outputs of a model; batch axes from its layers, or as onnxgru wrote them down."""
    noted = model.metadata_props.get(_NOTED)
    if noted is None:
        layers = recognize(model).layers
        return Host(model, layers).signature, outputs.describe(model.graph, layers)
    kept = json.loads(model.metadata_props.get("onnxgru.outputs", "[]"))
    described = outputs.describe(model.graph, ())
    return _noted(path, model, json.loads(noted)), tuple(
        outputs.Output(o.name, o.maker, o.name in kept, o.state) for o in described
    )


def _noted(path: Path, model: ir.Model, axes: Mapping[str, int]) -> Signature:
    specs = []
    for value in model.graph.inputs:
        if value.dtype is None:
            raise ModelError(f"{path}: input {value.name!r} has no type; export the model again")
        sizes = tuple(n if isinstance(n, int) else n.value for n in value.shape or ())
        name = str(value.name)
        specs.append(InputSpec(name, value.dtype.numpy(), sizes, axes.get(name, 0)))
    return tuple(specs)


def _run(
    path: Path, message: onnx.ModelProto, data: Dataset, signature: Signature
) -> dict[str, Array]:
    """All outputs of a model, the batch first."""
    names = {value.name for value in message.graph.input} - {
        tensor.name for tensor in message.graph.initializer
    }
    missing = names - set(data.inputs)
    if missing:
        raise DataError(
            f"{path}: wants {', '.join(sorted(missing))}, which the data lack; a model in step "
            "form is called once a step and cannot be evaluated on sequences"
        )
    run = onnxruntime_session(message)
    batches = (spec.shape[spec.batch_axis] for spec in signature)
    fixed = next((size for size in batches if isinstance(size, int)), None)
    parts = [_called(path, run, part) for part in data.chunks(fixed or CHUNK)]
    axes = _axes(path, run, data, parts[0], fixed)
    return {
        name: np.concatenate([np.moveaxis(part[name], axis, 0) for part in parts])
        for name, axis in axes.items()
    }


def _called(path: Path, run: Run, data: Dataset) -> dict[str, Array]:
    try:
        return run(data.inputs)
    except OnnxgruError:
        raise
    except Exception as error:  # onnxruntime raises a class of its own for every status
        raise ModelError(
            f"{path}: cannot run on these data ({' '.join(str(error).split())[:200]}); "
            "check the shapes with onnxgru inspect"
        ) from error


def _axes(
    path: Path, run: Run, data: Dataset, found: Mapping[str, Array], fixed: int | None
) -> dict[str, int]:
    """Axis of the sequences in every output: the one that is longer with more of them."""
    if fixed is not None:
        return {
            name: next((axis for axis, size in enumerate(array.shape) if size == fixed), 0)
            for name, array in found.items()
        }
    one, two = (_called(path, run, _repeated(data, count)) for count in (1, 2))
    axes = {}
    for name, array in one.items():
        pairs = zip(array.shape, two[name].shape, strict=True)
        axes[name] = next((axis for axis, (a, b) in enumerate(pairs) if b == 2 * a), 0)
    return axes


def _repeated(data: Dataset, count: int) -> Dataset:
    """The first sequence so many times."""
    inputs = {
        name: np.repeat(array, count, axis=data.batch_axes.get(name, 0))
        for name, array in data.take(1).inputs.items()
    }
    return Dataset(inputs, None, data.source, data.batch_axes)
