"""Comparing models on the same data: quality, agreement, and bytes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxgru.core import data as datasets
from onnxgru.core import metrics
from onnxgru.core.data import Dataset, InputSpec, Signature
from onnxgru.core.errors import DataError, ModelError, OnnxgruError, UsageError
from onnxgru.core.reading import Source
from onnxgru.passes import source
from onnxgru.passes.normalize import Normalize
from onnxgru.passes.recognize import recognize
from onnxgru.runtime.host import Host
from onnxgru.runtime.sessions import onnxruntime_session

CHUNK = 256


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
    agreement_sqnr : float or None
        SQNR of its output against the first model's, dB; None for the first.
    """

    path: str
    file_bytes: int
    quality: float
    agreement_sqnr: float | None


@dataclass(frozen=True)
class Comparison:
    """Models on one set of data.

    Parameters
    ----------
    metric, unit : str
        What `Row.quality` is.
    sequences : int
        Sequences run.
    rows : tuple of Row
        One a model, in the order given.
    """

    metric: str
    unit: str
    sequences: int
    rows: tuple[Row, ...]


def evaluate(models: Sequence[Path], data: Source, metric: str = "auto") -> Comparison:
    """Run models in onnxruntime on the same data.

    Parameters
    ----------
    models : sequence of Path
        One or more ONNX files with the same inputs.
    data : str, path or callable
        As for `quantize`.
    metric : str
        As in `Config`; what needs a reference takes the first model's outputs.

    Raises
    ------
    ModelError
        If a model cannot be read or run.
    DataError
        If the data do not fit the first model.
    UsageError
        If the metric is unknown.
    """
    if not models:
        raise UsageError("evaluate takes at least one model")
    signature = _signature(models[0])
    loaded = datasets.load(data, signature)
    chosen: metrics.Metric | None = None
    first: npt.NDArray[Any] | None = None
    rows: list[Row] = []
    for path in models:
        outputs, distribution = _run(path, loaded, signature)
        if first is None or chosen is None:
            first = outputs
            chosen = metrics.resolve(metric, loaded.labels, distribution)
        if outputs.shape != first.shape:
            raise ModelError(
                f"{path}: its output must have the shape of the first model's, {first.shape}, "
                f"has {outputs.shape}; compare models of one task"
            )
        target = loaded.labels if chosen.target == "labels" else first
        rows.append(
            Row(
                str(path),
                path.stat().st_size,
                chosen(outputs, np.asarray(target)),
                None if not rows else metrics.sqnr(first, outputs),
            )
        )
    assert chosen is not None
    return Comparison(chosen.name, chosen.unit, loaded.size, tuple(rows))


def _signature(path: Path) -> Signature:
    """Inputs of a model; batch axes from its layers, or as onnxgru wrote them down."""
    model = source.read(path)
    noted = model.metadata_props.get("onnxgru.batch_axes")
    if noted is None:
        Normalize()(model)
        return Host(model, recognize(model).layers).signature
    axes = json.loads(noted)
    specs = []
    for value in model.graph.inputs:
        if value.dtype is None or value.shape is None:
            raise ModelError(f"{path}: input {value.name!r} has no type; export the model again")
        sizes = tuple(n if isinstance(n, int) else n.value for n in value.shape)
        name = str(value.name)
        specs.append(InputSpec(name, value.dtype.numpy(), sizes, axes.get(name, 0)))
    return tuple(specs)


def _run(path: Path, data: Dataset, signature: Signature) -> tuple[npt.NDArray[Any], bool]:
    message = _read(path)
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
    size = next((size for size in batches if isinstance(size, int)), CHUNK)
    parts = []
    for part in data.chunks(size):
        try:
            outputs = run(part.inputs)
        except OnnxgruError:
            raise
        except Exception as error:  # onnxruntime raises a class of its own for every status
            raise ModelError(
                f"{path}: cannot run on these data ({' '.join(str(error).split())[:200]}); "
                "check the shapes with onnxgru inspect"
            ) from error
        parts.append(next(a for a in outputs.values() if np.issubdtype(a.dtype, np.floating)))
    axis = next((i for i, n in enumerate(parts[0].shape) if n == min(size, data.size)), 0)
    last = {
        node.op_type for node in message.graph.node if message.graph.output[0].name in node.output
    }
    joined = np.concatenate([np.moveaxis(part, axis, 0) for part in parts])
    return joined, bool(last & {"Softmax", "LogSoftmax", "Hardmax"})


def _read(path: Path) -> onnx.ModelProto:
    return source.proto(source.read(path))
