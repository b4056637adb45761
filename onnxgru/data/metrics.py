"""Metrics of a quantised model: percent of right classes, or decibels against a target.

For every function here, higher is better. Functions take whole arrays, with the classes on the last
axis and the sequences on axis 0. An output of whole numbers or of booleans (the result of an
``ArgMax`` or a comparison) holds classes itself. A search minimises :meth:`Metric.error`.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnxgru.core.entrypoint import is_entrypoint, load_entrypoint
from onnxgru.core.errors import DataError, OnnxgruError, UsageError

Array = npt.NDArray[Any]
Function = Callable[[Array, Array], float]

SQNR_LIMIT = 200.0
"""Decibels beyond which errors do not tell schemes apart: far finer than float32 itself."""


@dataclass(frozen=True)
class Metric:
    """A figure of quality.

    Parameters
    ----------
    name : str
        As given on the command line.
    unit : str
        "%", "dB", or "" for a user's own.
    higher_is_better : bool
        True for all that are built in.
    function : callable
        ``function(outputs, target) -> float`` over whole arrays.
    target : {"labels", "reference"}
        What `outputs` are compared with: the data's labels or the float model's outputs.
    """

    name: str
    unit: str
    higher_is_better: bool
    function: Function
    target: Literal["labels", "reference"]

    def __call__(self, outputs: Array, target: Array) -> float:
        """Figure of `outputs` (B, ...) against `target`, in `unit`.

        Raises
        ------
        DataError
            If shapes or types do not fit, there is nothing to count, or a user's function gives
            no number.
        """
        try:
            value = self.function(outputs, target)
        except OnnxgruError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise DataError(
                f"metric {self.name}: must return one number, it raised "
                f"{type(error).__name__}: {error}"
            ) from error
        try:
            figure = float(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"metric {self.name}: must return one number, it returned {value!r}"
            ) from error
        if np.isnan(figure):
            raise DataError(f"metric {self.name}: must return a number, it returned NaN")
        if np.isinf(figure) and self.unit != "dB":
            raise DataError(
                f"metric {self.name}: must return a finite number, it returned {figure}"
            )
        return figure

    def error(self, value: float) -> float:
        """Turn the figure into something to minimise, always finite for the built-in metrics.

        Percent become 100 - value; decibels are negated within +-200 dB, because an infinite
        objective breaks distances between candidates; others are negated where higher is better.
        """
        if self.unit == "%":
            return 100.0 - value
        if self.unit == "dB":
            return -float(np.clip(value, -SQNR_LIMIT, SQNR_LIMIT))
        return -value if self.higher_is_better else value

    def quality(self, error: float) -> float:
        """Figure of an error: the inverse of `error`."""
        if self.unit == "%":
            return 100.0 - error
        return -error if self.higher_is_better else error

    def default_drop(self, figure: float) -> float:
        """Largest drop below the best member, if the user gives none.

        It is 0.5 points of a share; 3 dB against the float model's outputs, which doubles the
        noise; 0.5 dB against targets in the data, which measure the task itself; and 1 % of the
        figure of a user's own metric, because its scale is not known.

        Parameters
        ----------
        figure : float
            Figure of uniform 8 bits.
        """
        if self.unit == "%":
            return 0.5
        if self.unit == "dB":
            return 0.5 if self.target == "labels" else 3.0
        return 0.01 * abs(figure)

    @property
    def drop_unit(self) -> str:
        """Unit of differences: points for percent; nothing for a user's own metric."""
        return "points" if self.unit == "%" else self.unit

    def uncertainty(self, error: float, count: int) -> float:
        """Standard error of an error in percent over `count` examples.

        0 for other figures, because their spread does not follow from the figure.
        """
        if self.unit != "%" or not count:
            return 0.0
        share = min(max(error / 100, 0.0), 1.0)
        return 100 * math.sqrt(share * (1 - share) / count)


def limited(figure: float) -> float:
    """A finite figure for JSON: infinite decibels become `SQNR_LIMIT` with their sign."""
    return math.copysign(SQNR_LIMIT, figure) if math.isinf(figure) else float(figure)


def accuracy(outputs: Array, labels: Array) -> float:
    """Percent of labels met by the arg-max; of equal largest outputs the first counts.

    Parameters
    ----------
    outputs : array (B, C) or (B, T, C), or integer or bool (B,) or (B, T)
        Scores or probabilities of C classes, floating or integer codes; or classes themselves.
    labels : integer array (B,) or (B, T)
        Classes; negative ones (padded frames) do not count.

    Returns
    -------
    float
        0 to 100.

    Raises
    ------
    DataError
        If shapes or types do not fit, outputs hold NaN, or no label counts.
    """
    predicted, expected = _counted(outputs, labels)
    return 100.0 * float(np.mean(predicted == expected))


def macro_f1(outputs: Array, labels: Array) -> float:
    """Percent: the mean over classes of F1 = 2 TP / (2 TP + FP + FN), rare classes weigh equally.

    Classes that are neither labelled nor predicted are left out of the mean.

    Parameters
    ----------
    outputs : array (B, C) or (B, T, C)
        As for :func:`accuracy`.
    labels : integer array (B,) or (B, T)
        As for :func:`accuracy`.

    Returns
    -------
    float
        0 to 100.

    Raises
    ------
    DataError
        As :func:`accuracy`.
    """
    predicted, expected = _counted(outputs, labels)
    count = int(max(predicted.max(), expected.max())) + 1
    right = np.bincount(expected[predicted == expected], minlength=count)
    # 2 TP + FP + FN: how often a class is predicted plus how often it is labelled
    seen = np.bincount(predicted, minlength=count) + np.bincount(expected, minlength=count)
    return 100.0 * float(np.mean(2.0 * right[seen > 0] / seen[seen > 0]))


def agreement(outputs: Array, reference: Array) -> float:
    """Percent of arg-maxes equal to the reference's; of equal largest values the first counts.

    Parameters
    ----------
    outputs, reference : array (..., C), or integer or bool of any shape
        Scores of C classes, of one shape; or classes, compared one by one.

    Returns
    -------
    float
        0 to 100.

    Raises
    ------
    DataError
        If shapes differ, either holds NaN, or there is nothing to count.
    """
    _check_same_shape(outputs, reference, "agreement")
    return 100.0 * float(np.mean(answers(outputs) == answers(reference)))


def sqnr(reference: Array, test: Array) -> float:
    """Signal to quantisation noise, 10 log10(sum reference^2 / sum (reference - test)^2).

    Parameters
    ----------
    reference, test : array
        Real values of one shape; computed in float64.

    Returns
    -------
    float
        Decibels. Infinite where both are equal (also both zero); minus infinity where the
        reference is zero and the test is not.

    Raises
    ------
    DataError
        If shapes differ, either holds NaN or infinity, or both are empty.
    """
    _check_same_shape(test, reference, "sqnr")
    expected = np.asarray(reference, np.float64)
    actual = np.asarray(test, np.float64)
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        raise DataError("sqnr: outputs and target must be finite, they hold NaN or infinity")
    # Scaled before squaring, so that tiny or huge signals neither vanish nor overflow.
    largest = max(float(np.abs(expected).max()), float(np.abs(actual).max()))
    if np.array_equal(expected, actual):
        return float("inf")
    signal = float(np.sum(np.square(expected / largest)))
    noise = float(np.sum(np.square(expected / largest - actual / largest)))
    if noise == 0.0:  # they differ by less than the square of a float64
        return float("inf")
    return float(10.0 * np.log10(signal / noise)) if signal > 0.0 else float("-inf")


def si_sdr(outputs: Array, target: Array) -> float:
    """Scale-invariant signal to distortion ratio, the mean over sequences.

    ::

        a = <y, s> / <s, s>        10 log10(|a s|^2 / |a s - y|^2)

    Le Roux et al. 2019, "SDR - half-baked or well done?" (arXiv 1811.02508), without removing the
    mean; each sequence counts within +-200 dB.

    Parameters
    ----------
    outputs, target : array (B, ...)
        Real signals y and s of one shape; computed in float64.

    Returns
    -------
    float
        Decibels.

    Raises
    ------
    DataError
        If shapes differ, either holds NaN or infinity, or a target is silent.
    """
    _check_same_shape(outputs, target, "si_sdr")
    found = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    wanted = np.asarray(target, np.float64).reshape(len(target), -1)
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        raise DataError("si_sdr: outputs and target must be finite, they hold NaN or infinity")
    power = np.square(wanted).sum(axis=1)
    if not power.all():
        raise DataError(
            f"si_sdr: every target must hold a signal, that of sequence {int(power.argmin())} is "
            "zero throughout; leave it out"
        )
    scaled = wanted * ((found * wanted).sum(axis=1) / power)[:, None]
    ratios = [sqnr(signal, test) for signal, test in zip(scaled, found, strict=True)]
    return float(np.mean(np.clip(ratios, -SQNR_LIMIT, SQNR_LIMIT)))


def _sqnr_of_outputs(outputs: Array, target: Array) -> float:
    return sqnr(target, outputs)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "%", True, accuracy, "labels"),
        Metric("macro_f1", "%", True, macro_f1, "labels"),
        Metric("agreement", "%", True, agreement, "reference"),
        Metric("sqnr", "dB", True, _sqnr_of_outputs, "reference"),
        Metric("si_sdr", "dB", True, si_sdr, "reference"),
    )
}


def title(metric: str | Function) -> str:
    """Name of a metric as reports have it: ``module:name`` of a function."""
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "__qualname__", type(metric).__name__)
    return f"{getattr(metric, '__module__', '?')}:{name}"


def resolve(name: str | Function, labels: Array | None) -> Metric:
    """The metric of a name, as the labels of the data allow it.

    Parameters
    ----------
    name : str or callable
        A name in `METRICS`; a function ``(outputs, labels) -> float``, or ``package.module:name``
        of one, higher is better, which gets the float model's outputs where there are no labels.
    labels : array or None
        The data's labels.

    Returns
    -------
    Metric
        Its `target` says what outputs are to be compared with.

    Raises
    ------
    UsageError
        If the name is unknown, cannot be imported, or needs labels that the data do not have.
    """
    classes = labels is not None and labels.dtype.kind in "iu"
    targets = labels is not None and not classes
    if not isinstance(name, str) or is_entrypoint(name):
        against: Literal["labels", "reference"] = "reference" if labels is None else "labels"
        function = load_entrypoint(name) if isinstance(name, str) else name
        if not callable(function):
            raise UsageError(f"metric must be a name or a function, got {function!r}")
        return Metric(title(name), "", True, function, against)
    if name not in METRICS:
        raise UsageError(
            f"metric {name!r}: must be auto, {', '.join(METRICS)} or package.module:name"
        )
    metric = METRICS[name]
    if metric.target == "labels" and not classes:
        held = "none" if labels is None else str(labels.dtype)
        raise UsageError(
            f"metric {name}: needs whole-number labels in the data, they hold {held}; add labels "
            "or choose agreement or sqnr"
        )
    if metric.unit == "dB" and targets:
        return dataclasses.replace(metric, target="labels")
    return metric


def holds_classes(outputs: Array) -> bool:
    """Whether an output holds classes themselves: whole numbers, or true and false."""
    return outputs.dtype.kind in "iub"


def answers(outputs: Array) -> Array:
    """Classes that an output (..., C) decides for, or that it holds itself.

    Raises
    ------
    DataError
        If it has fewer than two classes on the last axis, or holds NaN.
    """
    return outputs if holds_classes(outputs) else _arg_max(outputs)


def fits_classes(outputs: tuple[int, ...], labels: tuple[int, ...], *, whole: bool) -> bool:
    """Whether labels of a shape are classes for an output of a shape; axes of size 1 do not matter.

    Parameters
    ----------
    outputs, labels : tuple of int
        The shapes, the batch first.
    whole : bool
        Whether the output holds classes itself.
    """
    wanted = _bare(labels)
    scores = len(outputs) > 1 and outputs[-1] > 1 and _bare(outputs[:-1]) == wanted
    return scores or (whole and _bare(outputs) == wanted)


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of size 1, but for the batch."""
    return (*shape[:1], *(size for size in shape[1:] if size > 1))


def classes(outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Predicted classes in the shape of the labels without axes of size 1, and which of them count.

    Parameters
    ----------
    outputs : array
        Scores (B, C) or (B, T, C), or classes (B,) or (B, T).
    labels : integer array (B,) or (B, T)
        Negative where a padded frame does not count.

    Raises
    ------
    DataError
        If shapes or types do not fit, outputs hold NaN, or no label counts.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels must be whole-number classes, they are {labels.dtype}")
    whole = holds_classes(outputs)
    if not fits_classes(outputs.shape, labels.shape, whole=whole):
        if not whole:  # one class, which is told apart from shapes that do not fit
            _check_scores(outputs)
        raise DataError(unfitting(outputs.shape, labels.shape, whole=whole))
    shape = _bare(labels.shape)
    held = whole and _bare(outputs.shape) == shape
    predicted = (outputs if held else _arg_max(outputs)).reshape(shape)
    counts = labels.reshape(shape) >= 0
    if not counts.any():
        raise DataError(f"labels {labels.shape} must hold at least one class of 0 or above")
    return predicted.astype(np.int64), counts


def unfitting(outputs: tuple[int, ...], labels: tuple[int, ...], *, whole: bool) -> str:
    """One sentence on labels that are no classes for an output, and what to do."""
    wanted = _bare(outputs if whole else outputs[:-1])
    each = "sequence" if len(wanted) == 1 else "frame"
    cure = f"give labels of shape {wanted}"
    if each == "frame" and len(labels) == 1:
        cure += " (negative where a frame does not count)"
    return (
        f"labels must be one class per sequence (B,) for outputs (B, C) or per frame (B, T) for "
        f"outputs (B, T, C), labels are {labels} and outputs {outputs}: they want one class per "
        f"{each}, so {cure}, choose another output with --output-name, or compare with the float "
        "model by --metric agreement or sqnr"
    )


def _counted(outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Predicted and expected classes, flat, padded frames left out."""
    predicted, counts = classes(outputs, labels)
    return predicted[counts], labels.reshape(counts.shape)[counts].astype(np.int64)


def _check_scores(scores: Array) -> None:
    if scores.ndim < 2 or scores.shape[-1] < 2:
        raise DataError(
            f"outputs must hold at least two classes on the last axis, their shape is "
            f"{scores.shape}; choose sqnr or a metric of your own"
        )


def _arg_max(scores: Array) -> Array:
    _check_scores(scores)
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise DataError("outputs must be numbers, they hold NaN")
    best: Array = np.argmax(scores, axis=-1)
    return best


def _check_same_shape(outputs: Array, target: Array, name: str) -> None:
    if outputs.shape != target.shape or outputs.size == 0:
        raise DataError(
            f"{name}: outputs and target must have one shape and hold values, "
            f"they are {outputs.shape} and {target.shape}"
        )
