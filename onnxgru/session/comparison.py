"""Comparing models on the same data: quality, agreement, and bytes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core import metadata
from onnxgru.core.errors import DataError, ModelError, UsageError
from onnxgru.data import intervals, metrics
from onnxgru.data.dataset import Recorded
from onnxgru.data.intervals import Interval, Sums
from onnxgru.data.metrics import Function
from onnxgru.data.reading import Source
from onnxgru.passes.graph import source
from onnxgru.passes.graph.axes import rank
from onnxgru.passes.graph.source import Origin
from onnxgru.runtime import counting
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.host import MOST, Host
from onnxgru.session import outputs
from onnxgru.session.judge import Judge
from onnxgru.session.model import Model
from onnxgru.session.notes import noted
from onnxgru.session.outputs import Judged
from onnxgru.session.recordings import recorded

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ModelRow:
    """Figures of one model.

    Parameters
    ----------
    path : str
        The file.
    file_bytes : int
        Its size.
    quality : float or None
        The figure of the metric; None for an infinite SQNR, of outputs that equal their reference.
    interval : tuple of float or None
        95 % interval of the figure; None where it is not known.
    difference : float or None
        The figure less that of the first model; None for the first, and where one of the two
        figures is None.
    difference_interval : tuple of float or None
        95 % interval of the difference, paired over the same recordings.
    agreement_sqnr : float or None
        SQNR in dB of its outputs against those of the first model; None for the first model, where
        the outputs hold classes, and where they are equal.
    eliminated : float or None
        Percent of the multiplications that a delta network eliminates; None for other models.
    equal : bool
        Whether its judged outputs equal those of the first model, element for element; False for
        the first model itself.
    """

    path: str
    file_bytes: int
    quality: float | None
    interval: Interval | None
    difference: float | None
    difference_interval: Interval | None
    agreement_sqnr: float | None
    eliminated: float | None = None
    equal: bool = False


@dataclass(frozen=True)
class Comparison:
    """Models on one set of data.

    Parameters
    ----------
    metric, unit : str
        Name and unit of the figure in `ModelRow.quality`.
    outputs : tuple of str
        The outputs that are judged; the figure is that of the worst of them.
    reason : str
        Why these outputs and this metric were chosen, as part of a sentence.
    sequences : int
        Number of recordings.
    counted : int
        Answers that the metric counts: the number of sequences, or of their frames.
    rows : tuple of ModelRow
        One per model, in the order given.
    """

    metric: str
    unit: str
    outputs: tuple[str, ...]
    reason: str
    sequences: int
    counted: int
    rows: tuple[ModelRow, ...]

    def sentences(self) -> Iterator[str]:
        """Sentences for people beside the table of figures."""
        for row in self.rows:
            if row.eliminated is not None:
                yield f"{row.path}: {row.eliminated:.1f} % of its multiplications are eliminated"
        frames = f", {self.counted:,} frames" if self.counted != self.sequences else ""
        yield f"{self.sequences:,} sequences{frames}"
        yield f"judged: output {', '.join(self.outputs)}, because {self.reason}"


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
        One or more models with the same inputs: ONNX files, or their content as for `quantize`.
    data : str, path or object
        The recordings, as for `quantize`.
    metric : str or callable
        As in `Config`; the first model's outputs are the reference of metrics that need one.
    output_name : str, optional
        As in `Config`.

    Returns
    -------
    Comparison
        The figures of every model, in the order given.

    Raises
    ------
    ModelError
        If a model cannot be read or run.
    DataError
        If the data do not fit the first model.
    UsageError
        If there is no model, or the metric is unknown.
    """
    given = models if isinstance(models, list | tuple) else [models]
    files = [source.origin(model) for model in given]
    if not files:
        raise UsageError("evaluate takes at least one model")
    if not (isinstance(metric, str) or callable(metric)):
        raise UsageError(
            f"metric must be a name or a function, it is of type {type(metric).__name__}"
        )
    read = [source.read(file) for file in files]
    told = next(filter(None, (noted(model.metadata_props) for model in read)), Declared())
    hosts = [_host(file, model, told) for file, model in zip(files, read, strict=True)]
    host, described = hosts[0]
    loaded = recorded(host, data)
    found = _run(files[0].path, host, loaded)
    choice = _chosen(described, found, loaded, metric, output_name)
    first = {name: found[name] for name in choice.outputs}
    labelled = choice.metric.target == "labels"
    targets = dict.fromkeys(first, np.asarray(loaded.labels)) if labelled else first
    judge = Judge(host, loaded, choice.metric, targets, fused=False)
    sums: list[Sums | None] = []
    rows: list[ModelRow] = []
    for file, model, (host, _) in zip(files, read, hosts, strict=True):
        if rows:
            found = _run(file.path, host, loaded)
        arrays = {
            name: _matching(file.path, found, name, index, first[name])
            for index, name in enumerate(first)
        }
        quality, own = judge.figure(arrays), judge.sums(arrays)
        finite = np.isfinite(quality)
        known = finite and bool(rows) and rows[0].quality is not None
        apart = intervals.difference(own, sums) if known else None
        rows.append(
            ModelRow(
                str(file.path),
                len(file.content),
                quality if finite else None,
                intervals.interval(own) if finite else None,
                None if apart is None else apart[0],
                None if apart is None else apart[1],
                _sqnr(first, arrays) if rows else None,
                _eliminated(model, host, loaded),
                bool(rows) and all(np.array_equal(first[n], arrays[n]) for n in first),
            )
        )
        sums = sums or own
    counted = next((one.counted for one in sums if one is not None), loaded.size)
    return Comparison(
        choice.metric.name,
        choice.metric.unit,
        choice.outputs,
        choice.reason,
        intervals.recordings(loaded),
        counted,
        tuple(rows),
    )


def _chosen(
    described: Sequence[outputs.ModelOutput],
    found: Mapping[str, Array],
    data: Recorded,
    metric: str | Function,
    output_name: str | None,
) -> Judged:
    try:
        return outputs.choose(described, found, data.labels, metric, outputs.split(output_name))
    except DataError as error:
        raise DataError(f"{data.source}: {error}") from error


def _matching(path: Path, found: Mapping[str, Array], name: str, index: int, first: Array) -> Array:
    """The output of a model with the name of the first model's output, or else with its index."""
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
    least = min((metrics.sqnr(first[name], found[name]) for name in names), default=np.inf)
    return None if np.isinf(least) else least


def _eliminated(model: ir.Model, host: Host, data: Recorded) -> float | None:
    """Per cent of the multiplications that a delta network eliminates on some data."""
    calls = ((call.inputs, count) for call, count in data.calls(host.batch, MOST))
    share = counting.share(source.proto(model), calls)
    return None if share is None else round(100 * share, 4)


def _host(
    origin: Origin, model: ir.Model, told: Declared
) -> tuple[Host, tuple[outputs.ModelOutput, ...]]:
    """A model that can be run, and its outputs.

    The metadata of a graph that onnxgru wrote say what its inputs are. Other models take over what
    the first such graph says, because its user may have told it.
    """
    own = noted(model.metadata_props)
    if own is None:
        read = Model.of(origin, model)
        read = replace(read, declared=_fitting(told, read.normal))
        states = read.host.interface.states.values()
        return read.host, outputs.describe(read.normal.graph, read.recognition.layers, states)
    kept = json.loads(model.metadata_props.get(metadata.OUTPUTS, "[]"))
    host = Host(model, (), own)
    return host, tuple(
        outputs.ModelOutput(o.name, o.maker, o.name in kept, o.state)
        for o in outputs.describe(model.graph, (), host.interface.states.values())
    )


def _fitting(told: Declared, model: ir.Model) -> Declared:
    """The wishes of another graph, if they fit this model's inputs and outputs; else none."""
    inputs = {value.name: rank(value) or 0 for value in model.graph.inputs}
    names = {value.name for value in model.graph.outputs}
    fits = all(
        name in inputs and (axis is None or axis < inputs[name])
        for name, axis in told.batch_axes.items()
    )
    return told if fits and names.issuperset((told.states or {}).values()) else Declared()


def _run(path: Path, host: Host, data: Recorded) -> dict[str, Array]:
    """All outputs of a model, the batch first; its own states are handed on."""
    missing = {spec.name for spec in host.signature} - set(data.parts[0].inputs)
    if missing:
        raise DataError(
            f"{path}: reads {', '.join(sorted(missing))}, which {data.source} lacks; give data "
            "with all inputs, and no graph that --recurrence step wrote: that is called once per "
            "step and cannot be evaluated on sequences"
        )
    return host.outputs_of(data, through_states=True)
