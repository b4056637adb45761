"""Thresholds of a delta network: given, or chosen on validation data; what they eliminate."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from onnxgru.core import choices
from onnxgru.core.choices import FIRST, HIDDEN, INPUTS, MAXIMUM_BITS
from onnxgru.core.errors import UsageError
from onnxgru.core.network import Layer
from onnxgru.core.scheme import OutputScheme, Scheme, operands
from onnxgru.data import intervals, metrics
from onnxgru.data.dataset import Recorded
from onnxgru.documents.remarks import finite
from onnxgru.events import Listener, Notice, Stage, silent
from onnxgru.passes.lowering.delta import thresholds
from onnxgru.session.quantizer import Quantizer
from onnxgru.session.recordings import VALIDATION, Recordings
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config

GRID = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Thresholds that are tried, in codes of 8 bits; for 16 bits, in units of 256 codes."""

EASY = 0.1
"""Least cost of each step of the choice, as a share of the drop: figures on few recordings may
rise by chance."""

CHANGED = 4
"""Limit of the answers that change, in percent with one standard error, as a multiple of the drop
in points. If 2 % of 600 answers change, the difference of the figures has a standard error of 0.6
points."""

AHEAD = 2
"""Steps up the grid that are tried for an operand at a time."""

POINTS = 100
"""Most points of the chart over time."""

ACCUMULATOR_BYTES = 4

Array = npt.NDArray[Any]

Levels = dict[tuple[str, str], int]
"""Places in the grid, by layer and operand."""


def applied(
    quantizer: Quantizer,
    yardstick: Yardstick,
    config: Config,
    scheme: Scheme,
    listener: Listener = silent,
) -> Scheme:
    """The scheme with the thresholds that the configuration asks for.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        What its programs are judged by.
    config : Config
        Asks for thresholds.
    scheme : Scheme
        Widths; it keeps its own thresholds where the configuration asks for none.
    listener : callable, optional
        Receives what is done.

    Raises
    ------
    UsageError
        If the model cannot be a delta network.
    """
    text, layers = config.delta, quantizer.model.layers
    if text is None:
        check(layers, yardstick.data, config, scheme)
        return scheme
    wanted = choices.thresholds(str(text))
    if wanted is None:
        return choose(quantizer, yardstick, config, scheme, listener)
    groups = {
        (layer.name, name): group
        for place, layer in enumerate(layers)
        for name, group in _groups(layer, first=not place)
    }
    found = scheme.with_thresholds(
        layers, lambda layer, name, _: wanted.get(groups[layer.name, name])
    )
    check(layers, yardstick.data, config, found)
    return found


def check(
    layers: Sequence[Layer], data: Recordings, config: Config, scheme: Scheme | None = None
) -> None:
    """Refuse a delta network where calls hand states on, except in step form.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    data : Recordings
        Data by role.
    config : Config
        May ask for thresholds, and names the form.
    scheme : Scheme, optional
        May have thresholds, where the configuration asks for none.

    Raises
    ------
    UsageError
        If calls hand states on, there are thresholds, and the form is not the step form.
    """
    searched = config.search and "threshold" in config.genes
    own = scheme is not None and has_thresholds(layers, scheme)
    if config.delta is None and not searched and not own:
        return
    streams = any(part.streams for role in data.judged for part in data[role].parts)
    if streams and config.chosen().recurrence != "step":
        raise UsageError(
            "a delta network must see a whole recording in one call, but the model hands states on "
            "from call to call, which would lose what was last propagated; give --recurrence step, "
            "which hands it on too, or leave out delta, and thresholds in the scheme and in genes"
        )


def has_thresholds(layers: Iterable[Layer], scheme: Scheme) -> bool:
    """Whether a scheme makes a delta network."""
    return any(
        threshold is not None
        for layer in layers
        for found in scheme.thresholds(layer).values()
        for threshold in found
    )


def _groups(layer: Layer, *, first: bool) -> Iterator[tuple[str, str]]:
    """Operands of a layer with the groups that they belong to."""
    for name, writers in operands(layer).items():
        yield name, HIDDEN if writers else FIRST if first else INPUTS


def drop(yardstick: Yardstick, config: Config) -> float:
    """How far thresholds may lower the figure below the best one seen, in the metric's unit."""
    asked: float | None = config.delta_drop
    if asked is not None:
        return asked
    return yardstick.metric.default_drop(yardstick.float_quality(VALIDATION))


def choose(
    quantizer: Quantizer,
    yardstick: Yardstick,
    config: Config,
    scheme: Scheme,
    listener: Listener = silent,
) -> Scheme:
    """Choose thresholds that eliminate many products while the validation figure falls by little.

    The choice is greedy: all thresholds begin at 0, and the one that eliminates most for its cost
    is raised, until every further step would cost too much. One and two steps up the grid are
    tried, because costs rise and fall by chance.

    A figure in percent must stay near that of thresholds of 0, and the cost is the share of answers
    that differ from theirs, plus one standard error: `CHANGED` times the drop at most. Few
    recordings cannot show so little, and leave thresholds at 0. With a drop of 0, no answer may
    change. The figure of some hundreds of recordings alone hides how many changed to right and to
    wrong by chance: thresholds chosen by it lose 2.5 points of unseen recordings (LSTM, ten
    keywords), those chosen by answers none. Other figures must stay near the best one seen.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        What its programs are judged by.
    config : Config
        How much the figure may fall.
    scheme : Scheme
        Widths.
    listener : callable, optional
        Receives what is done.

    Raises
    ------
    UsageError
        If the model cannot be a delta network.
    """
    layers, judge = quantizer.model.layers, yardstick.judge(VALIDATION)
    check(layers, yardstick.data, config)
    listener(Stage("choosing thresholds on validation data"))
    metric, allowed = yardstick.metric, drop(yardstick, config)
    answering = metric.unit == "%"
    grids = {
        (layer.name, name): _grid(_bits(scheme, layer, writers))
        for layer in layers
        for name, writers in operands(layer).items()
    }

    def made(levels: Mapping[tuple[str, str], int]) -> Scheme:
        def level(layer: Layer, name: str, _entry: OutputScheme) -> int:
            return grids[layer.name, name][levels[layer.name, name]]

        return scheme.with_thresholds(layers, level)

    levels: Levels = dict.fromkeys(grids, 0)
    outputs, start = judge.eliminated(quantizer(made(levels)))
    first, share = metric.error(judge.figure(outputs)), start.share

    def tried(levels: Mapping[tuple[str, str], int]) -> tuple[float, float]:
        """What thresholds cost, and what they eliminate."""
        found, eliminated = judge.eliminated(quantizer(made(levels)))
        error = metric.error(judge.figure(found))
        if not answering:
            return error, eliminated.share
        within = error <= first + allowed
        return changed(found) if within else math.inf, eliminated.share

    def changed(found: Mapping[str, Array]) -> float:
        errors = 1.0 if allowed else 0.0
        return _changed(yardstick.data[VALIDATION], outputs, found, errors) / CHANGED

    cost, least = (changed(outputs), 0.0) if answering else (first, first)
    if answering and cost > allowed:
        listener(Notice(_too_few(yardstick.data[VALIDATION], allowed)))
    going = set(grids)
    while going:
        found: list[tuple[Levels, float, float]] = []
        for key in sorted(going):
            for level in range(levels[key] + 1, levels[key] + 1 + AHEAD):
                if level < len(grids[key]):
                    raised = {**levels, key: level}
                    found.append((raised, *tried(raised)))
        least = min([least, *(after for _, after, _ in found)])
        kept = [one for one in found if one[1] <= least + allowed]
        going = {key for key in going if any(one[0][key] > levels[key] for one in kept)}
        if kept:
            worth = [
                (more - share) / (max(after - cost, 0.0) + EASY * allowed or 1.0)
                for _, after, more in kept
            ]
            levels, cost, share = kept[worth.index(max(worth))]
    return made(levels)


def _changed(
    data: Recorded, outputs: Mapping[str, Array], others: Mapping[str, Array], errors: float
) -> float:
    """Percent of answers that differ plus so many standard errors, the most of all outputs."""
    agreement = metrics.METRICS["agreement"]
    every = [
        intervals.sums_of(agreement, found, others[name], data) for name, found in outputs.items()
    ]
    return max(100.0 - intervals.cautious(found, errors) for found in every if found is not None)


def _too_few(data: Recorded, allowed: float) -> str:
    count = intervals.recordings(data)
    return (
        f"thresholds stay at 0: {count} validation recordings are too few to show that at most "
        f"{CHANGED * allowed:g} % of the answers change; give more, or a larger --delta-drop"
    )


def _grid(bits: int) -> tuple[int, ...]:
    """Thresholds that are tried of an operand of some width."""
    scaled = (threshold << max(0, bits - MAXIMUM_BITS) for threshold in GRID)
    return tuple(threshold for threshold in scaled if threshold < 1 << bits)


def _bits(scheme: Scheme, layer: Layer, writers: tuple[str, ...]) -> int:
    """Width of an operand, the narrowest of those of its directions."""
    if not writers:
        return scheme.inputs[layer.name].read
    return min(scheme.operators[name].read for name in writers)


def measure(quantizer: Quantizer, yardstick: Yardstick, scheme: Scheme) -> dict[str, Any] | None:
    """What a delta network eliminates on validation and hold-out data; None for other networks.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        What its programs are judged by.
    scheme : Scheme
        Widths and thresholds. Operands without one are counted as with 0, which gives the same
        codes.
    """
    layers = quantizer.model.layers
    if not has_thresholds(layers, scheme):
        return None
    from onnxgru.runtime.elimination import Measuring

    every = quantizer(scheme.with_thresholds(layers, lambda *of: of[-1].threshold or 0))
    zero = quantizer(scheme.with_thresholds(layers, lambda *_: 0))
    known = {
        name: threshold
        for layer in layers
        for found in thresholds(layer, scheme).values()
        for name, threshold in found.items()
    }
    document: dict[str, Any] = {"accumulator_bytes": 0, "roles": {}}
    rows: dict[str, dict[str, Any]] = {}
    for role in yardstick.data.judged:
        judge = yardstick.judge(role)
        measuring = Measuring(quantizer.model.host, yardstick.data[role], tuple(judge.targets))
        (before, without), (after, found) = (measuring(program) for program in (zero, every))
        apart = intervals.difference(judge.sums(after), judge.sums(before))
        document["roles"][role] = {
            "eliminated": round(100 * found.share, 4),
            "eliminated_at_0": round(100 * without.share, 4),
            "operations": found.operations,
            "difference": None if apart is None else round(apart[0], 4),
            "difference_interval": None if apart is None else finite(apart[1]),
        }
        for one in found.operands:
            row = rows.setdefault(
                one.name,
                {
                    "name": one.name,
                    "threshold": known.get(one.name),
                    "operators": list(one.operators),
                    "multiplications": one.outputs,
                    "eliminated": {},
                },
            )
            row["eliminated"][role] = round(100 * one.share, 4)
        document["over_time"] = {"role": role, **found.over_time(POINTS)}
    document["operands"] = list(rows.values())
    document["accumulator_bytes"] = ACCUMULATOR_BYTES * sum(
        row["multiplications"] for row in rows.values() if row["threshold"] is not None
    )
    return document
