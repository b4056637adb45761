"""Which outputs of a model are judged, by which metric, and why.

Every output that a quantised layer reaches is described and reported. Of these are judged, unless
names are given:

1. with labels the output that the labels fit, which is named;
2. without labels every output that is no state. Scores of classes and classes are judged by the
   agreement of the arg-max, everything else by SQNR, and where a model has both kinds, all real
   numbers by SQNR. The figure is that of the worst of them, so that no output is ruined in silence.

An output is scores of classes if it ends in Softmax, LogSoftmax or Hardmax, or if it is one vector
per sequence that a last dense layer of 2 to 1000 features computes without a function behind it:
the logits of a classifier. A dense layer per frame may be a signal as well as logits: a mask or a
spectrum is made in the same way, and nothing in the graph or in the values tells them apart. It
counts as scores only if the output is called so (`CALLED`), else as a signal.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.errors import DataError, UsageError
from onnxgru.core.network import Layer
from onnxgru.data import metrics
from onnxgru.data.metrics import Function, Metric
from onnxgru.passes.graph.reach import SCORES, Maker, maker, reached

Array = npt.NDArray[Any]

FEATURES = range(2, 1001)
"""Features of a last dense layer that may be logits of a classifier."""

CALLED = frozenset("class classes label labels logit logits posterior posteriors tag tags".split())
"""Words in the name of an output per frame that make it scores of classes."""

ONE_CLASS, MANY = 0.95, 20
"""If this share of the sequences has the same arg-max, the arg-max tells nothing of logits."""


@dataclass(frozen=True)
class ModelOutput:
    """One output of a model.

    Parameters
    ----------
    name : str
        Its name in the graph.
    maker : Maker
        How it is made.
    reached : bool
        Whether it depends on a quantised layer.
    state : bool
        Whether it is a state: the last states of layers, or what a streaming model takes back.
    """

    name: str
    maker: Maker
    reached: bool
    state: bool


@dataclass(frozen=True)
class Judged:
    """What is judged.

    Parameters
    ----------
    outputs : tuple of str
        The outputs that are judged; the figure is that of the worst.
    metric : Metric
        The figure.
    reason : str
        Why these and this, as a part of a sentence.
    """

    outputs: tuple[str, ...]
    metric: Metric
    reason: str


def describe(
    graph: ir.Graph, layers: Sequence[Layer], taken_back: Collection[str] = ()
) -> tuple[ModelOutput, ...]:
    """Outputs of a normalised graph, in its order.

    Parameters
    ----------
    graph : onnx_ir.Graph
        The model.
    layers : sequence of Layer
        What is quantised of it.
    taken_back : collection of str
        Outputs that the next call reads as states.
    """
    depending = reached(graph, layers)
    found = []
    for value in graph.outputs:
        name = str(value.name)
        made = maker(graph, name, layers)
        state = made.last_state or name in taken_back
        found.append(ModelOutput(name, made, name in depending, state))
    return tuple(found)


def choose(
    outputs: Sequence[ModelOutput],
    arrays: Mapping[str, Array],
    labels: Array | None,
    metric: str | Function = "auto",
    names: Sequence[str] = (),
) -> Judged:
    """Choose what is judged.

    Parameters
    ----------
    outputs : sequence of ModelOutput
        All of the model's.
    arrays : mapping of str to array
        What the float model computes for the data, the batch first.
    labels : array, optional
        The data's labels.
    metric : str or callable
        As in `Config`.
    names : sequence of str
        Outputs that shall be judged, where the user named some.

    Raises
    ------
    UsageError
        If there is no output of a name, or the metric is unknown or does not fit.
    DataError
        If labels fit no output.
    """
    known = {output.name: output for output in outputs}
    for name in names:
        if name not in known:
            raise UsageError(
                f"output_name must be an output of the model, {name!r} is none; "
                f"it has {', '.join(map(repr, known))}"
            )
    whole = {name: metrics.holds_classes(arrays[name]) for name in known}
    candidates = [known[name] for name in names] or _candidates(outputs)
    if not isinstance(metric, str) or metric not in ("auto", *metrics.METRICS):
        first = candidates[:1]
        return _choice(first, metrics.resolve(metric, labels), _first(candidates, names))
    if metric in ("auto", "accuracy", "macro_f1") and labels is not None:
        return _by_labels(candidates, arrays, labels, metric, whole)
    if labels is not None and labels.dtype.kind == "f" and metric in ("sqnr", "si_sdr"):
        return _by_targets(candidates, arrays, labels, metric)
    if metric == "auto":
        return _by_reference(candidates, arrays, whole, named=bool(names))
    chosen = metrics.resolve(metric, labels)
    if metric == "agreement":
        fitting = [o for o in candidates if whole[o.name] or arrays[o.name].shape[1:][-1:] > (1,)]
        scores = [o for o in fitting if whole[o.name] or _scores(o, arrays[o.name])]
        fitting = fitting if names else scores or fitting
    else:
        fitting = [o for o in candidates if not whole[o.name]]
    if not fitting:
        wanted = "classes, or scores of them," if metric == "agreement" else "real numbers"
        raise UsageError(
            f"metric {metric}: needs an output of {wanted} and none of {_list(candidates)} is one; "
            f"choose {'sqnr' if metric == 'agreement' else 'agreement'}, or another output"
        )
    return _choice(fitting, chosen, f"--metric {metric} was given")


def _candidates(outputs: Sequence[ModelOutput]) -> list[ModelOutput]:
    """What may be judged: what layers reach, and of that what is no state, where there is any."""
    depending = [output for output in outputs if output.reached] or list(outputs)
    return [output for output in depending if not output.state] or depending


def _by_labels(
    candidates: Sequence[ModelOutput],
    arrays: Mapping[str, Array],
    labels: Array,
    metric: str,
    whole: Mapping[str, bool],
) -> Judged:
    """The output that labels fit: classes of it, or its values."""
    shapes = {output.name: arrays[output.name].shape for output in candidates}
    for name, shape in shapes.items():
        if shape == labels.shape and shape[-1] > 1 and len(shape) > 1 and one_hot(labels):
            raise DataError(
                f"labels must be one class per {'frame' if len(shape) > 2 else 'sequence'}, they "
                f"are one-hot rows {labels.shape} for output {name!r}; give the numbers of the "
                "classes instead, labels.argmax(-1)"
            )
    if labels.dtype.kind == "f" and metric == "auto":
        return _by_targets(candidates, arrays, labels, "sqnr")
    chosen = metrics.resolve("accuracy" if metric == "auto" else metric, labels)
    fitting = [
        output
        for output in candidates
        if metrics.fits_classes(shapes[output.name], labels.shape, whole=whole[output.name])
    ]
    if fitting:
        reason = f"the labels are classes of output {fitting[0].name!r}"
        if len(fitting) > 1:
            reason += f", the first of {len(fitting)} that they fit"
        return _choice(fitting[:1], chosen, reason)
    if metric == "auto" and any(shape == labels.shape for shape in shapes.values()):
        return _by_targets(candidates, arrays, labels.astype(np.float64), "sqnr")
    first = candidates[0].name
    sentence = metrics.unfitting(shapes[first], labels.shape, whole=whole[first])
    raise DataError(f"output {first!r}: {sentence}")


def _by_targets(
    candidates: Sequence[ModelOutput], arrays: Mapping[str, Array], labels: Array, metric: str
) -> Judged:
    """The output that labels are compared with."""
    chosen = metrics.resolve(metric, labels.astype(np.float64))
    fitting = [output for output in candidates if arrays[output.name].shape == labels.shape]
    if not fitting:
        shapes = ", ".join(f"{o.name!r} {arrays[o.name].shape}" for o in candidates)
        raise DataError(
            f"labels {labels.dtype} {labels.shape} must have the shape of an output that they are "
            f"targets of ({shapes}), or be whole numbers, the classes of one; give such labels"
        )
    return _choice(
        fitting[:1], chosen, f"the labels are target values of output {fitting[0].name!r}"
    )


def _by_reference(
    candidates: Sequence[ModelOutput],
    arrays: Mapping[str, Array],
    whole: Mapping[str, bool],
    *,
    named: bool,
) -> Judged:
    """Outputs that are compared with the float model's, and the metric that suits all of them."""
    scores = [o for o in candidates if whole[o.name] or _scores(o, arrays[o.name])]
    numbers = [o for o in candidates if o not in scores]
    if not numbers:
        reason = "; ".join(
            _scores_because(o, whole[o.name], arrays[o.name].ndim > 2) for o in scores
        )
        return _choice(scores, metrics.METRICS["agreement"], f"there are no labels, and {reason}")
    real = [output for output in candidates if not whole[output.name]]
    reason = (
        f"{_list(real)} hold class scores as well as other numbers"
        if scores and not named
        else f"{_list(numbers)} {'holds' if len(numbers) == 1 else 'hold'} no class scores"
    )
    return _choice(real, metrics.METRICS["sqnr"], f"there are no labels, and {reason}")


def _scores(output: ModelOutput, array: Array) -> bool:
    """Whether an output of real numbers is scores of classes."""
    if output.maker.operator in SCORES:
        return True
    if output.maker.features not in FEATURES or array.ndim < 2 or array.shape[-1] < 2:
        return False
    if array.ndim > 2 and not _called(output.name):
        return False
    counts = np.bincount(np.argmax(array, axis=-1).reshape(-1), minlength=2)
    number = int(counts.sum())
    return number < MANY or bool(counts.max() < ONE_CLASS * number)


def _called(name: str) -> bool:
    """Whether an output is called scores of classes."""
    words = re.split(r"[^A-Za-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    return any(word.lower() in CALLED for word in words)


def _scores_because(output: ModelOutput, whole: bool, per_frame: bool) -> str:
    if whole:
        return f"output {output.name!r} holds classes"
    if output.maker.operator in SCORES:
        return f"output {output.name!r} ends in {output.maker.operator}"
    ends = f"output {output.name!r} ends in a dense layer of {output.maker.features} features"
    if per_frame:
        return f"{ends} per frame, and its name says class scores"
    return f"{ends} per sequence, as logits do"


def _first(candidates: Sequence[ModelOutput], names: Sequence[str]) -> str:
    if names or len(candidates) == 1:
        return "a metric of your own was given"
    return f"a metric of your own was given; it sees the first of {len(candidates)} outputs"


def _choice(outputs: Iterable[ModelOutput], metric: Metric, reason: str) -> Judged:
    return Judged(tuple(output.name for output in outputs), metric, reason)


def _list(outputs: Sequence[ModelOutput]) -> str:
    return ("output " if len(outputs) == 1 else "outputs ") + ", ".join(
        repr(output.name) for output in outputs
    )


def one_hot(labels: Array) -> bool:
    """Whether every row of labels (..., C) is 1 for one class and 0 for all others."""
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=-1) == 1).all())


def split(text: str | None) -> tuple[str, ...]:
    """Names of outputs from a setting, comma-separated."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
