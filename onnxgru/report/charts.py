"""The figures of the report's page, made from the documents alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxgru.data.metrics import Metric
from onnxgru.documents.entries import OperatorEntry
from onnxgru.documents.front import ROUNDING, Front, Member, Scored
from onnxgru.report.front import around, view
from onnxgru.report.plot import DIAMOND, DOT, SQUARE, STAR, AxisScale, Mark, Panel, texts

DRAWN = 4000
"""Evaluations drawn at most: evenly taken from all, so that large searches stay quick to open."""

NEAREST = 8
"""Members beside the chosen one in the nearest view."""

BINS = 6
"""Colours of the generations."""

HEIGHTS = (320, 260)
"""Pixels of the front, and of the charts of the search."""

_PARTS = ("outputs", "weights")


@dataclass(frozen=True)
class Evaluation:
    """One line of a journal.

    Parameters
    ----------
    generation : int
        When it was evaluated, from 1.
    size : float
        The objective by which a member is chosen.
    quality : float
        The metric on validation.
    within : bool
        Whether it is within the allowed drop.
    """

    generation: int
    size: float
    quality: float
    within: bool


def history(
    journal: bytes, front: Front, metric: Metric, max_drop: float
) -> tuple[Evaluation, ...]:
    """Feasible evaluations of a journal, in order.

    Parameters
    ----------
    journal : bytes
        What ``journal.jsonl`` holds.
    front : Front
        What ``front.json`` holds.
    metric : Metric
        Of the search.
    max_drop : float
        How far the member chosen may fall below the best figure.
    """
    header, *lines = journal.splitlines()
    place = json.loads(header)["objectives"].index(front.size)
    records = [record for line in lines if (record := json.loads(line))["violation"] <= 0]
    errors = [record["objectives"][0] for record in records]
    uniform = metric.error(front.uniform[0].validation)
    limit = min([uniform, *errors]) + max_drop + ROUNDING
    return tuple(
        Evaluation(
            record["generation"],
            record["objectives"][place],
            metric.quality(record["objectives"][0]),
            record["objectives"][0] <= limit,
        )
        for record in records
    )


@dataclass(frozen=True)
class Chart:
    """A drawn chart with what is written about it.

    Parameters
    ----------
    above : str
        What the vertical axis is.
    below : tuple of str
        What the horizontal axes are, one per panel.
    panels : tuple of str
        Plots as SVG, side by side; a second one is narrow.
    keys : tuple of (str, str)
        Class and name of what is drawn.
    height : int
        Of the plots, in pixels.
    """

    above: str
    below: tuple[str, ...]
    panels: tuple[str, ...]
    keys: tuple[tuple[str, str], ...] = ()
    height: int = HEIGHTS[0]


@dataclass(frozen=True)
class Cell:
    """A figure in a heat map.

    Parameters
    ----------
    text : str
        The figure; empty where there is none.
    heat : float
        Its colour, from 0 to 1.
    """

    text: str
    heat: float


@dataclass(frozen=True)
class Heat:
    """A heat map.

    Parameters
    ----------
    title : str
        What its figures are, with their unit.
    cold : bool
        Whether a large figure is a good one.
    rows : tuple of (str, tuple of tuple of Cell)
        Operators, with the figures of their outputs and of their weights by width.
    """

    title: str
    cold: bool
    rows: tuple[tuple[str, tuple[tuple[Cell, ...], ...]], ...]


def front_charts(front: Front, evaluations: Sequence[Evaluation], chosen: int) -> dict[str, Chart]:
    """The front, the uniform widths, the float model and the chosen member, from near and far.

    Uniform widths have sizes far from the front's: while the axis spans the front alone, they
    stand in a panel of their own beside it, on the same axis of qualities.
    """
    members, best = front.searched, front.members[chosen]
    everything = [front.measure(entry) for entry in (*members, *front.uniform)]
    views = {
        "the front": view(replace(front, chosen=chosen)),
        "near the chosen": (around(_sizes_near(front, best)), _near(front, best)),
        "all": (around(everything), _padded(front, evaluations)),
    }
    return {
        label: _front_chart(
            front, evaluations, chosen, AxisScale(*x), AxisScale(*y), label == "all"
        )
        for label, (x, y) in views.items()
    }


def _front_chart(
    front: Front,
    evaluations: Sequence[Evaluation],
    chosen: int,
    x: AxisScale,
    y: AxisScale,
    far: bool,
) -> Chart:
    """One view of the front; from afar the uniform widths are in it, otherwise beside it."""
    ticks = y.ticks(6)
    main = Panel(x, y)
    main.across(ticks)
    places = x.ticks(4)
    main.along(places, texts(places))
    shown = _thinned(evaluations)
    main.cloud([(e.size, e.quality) for e in shown], "cloud")
    if len(front.objectives) == 1:
        main.steps([(front.measure(m), m.validation) for m in front.searched], "steps")
    panels, below = [main], [front.size_title]
    order = sorted(front.uniform, key=lambda entry: entry.bits)
    if not far:
        beside = Panel(AxisScale(-0.7, len(order) - 0.3), y, "panel beside")
        beside.across(ticks, labels=False)
        beside.along(range(len(order)), [str(entry.bits) for entry in order])
        panels.append(beside)
        below.append("uniform, bits")
    for place, entry in enumerate(order):
        tip = _tip(front, entry, f"uniform {entry.bits} bits")
        x_value = front.measure(entry) if far else place
        panels[-1].mark(Mark(x_value, entry.validation, SQUARE, "uniform", tip))
    if front.float_validation is not None and y.holds(front.float_validation):
        for panel in panels:
            panel.level(front.float_validation, "float")
    for member in front.members:
        number, plain = member.index, member.widened_from is None
        shape, name = (DOT, "member") if plain else (DIAMOND, "widened")
        if number != chosen:
            tip = _tip(front, member, f"number {number}")
            main.mark(Mark(front.measure(member), member.validation, shape, name, tip, number))
    best = front.members[chosen]
    tip = _tip(front, best, f"number {chosen}, chosen")
    main.mark(Mark(front.measure(best), best.validation, STAR, "chosen", tip, chosen))
    keys = [("member", "front"), ("chosen", "chosen"), ("uniform", "uniform")]
    keys += [("widened", "widened")] if front.widened else []
    keys += [("cloud", "evaluated")] if shown else []
    keys += [("float", "float")] if front.float_validation is not None else []
    return Chart(
        front.quality_title,
        tuple(below),
        tuple(panel.markup() for panel in panels),
        tuple(keys),
    )


def _tip(front: Front, entry: Scored, name: str) -> str:
    """The text beside a point of the front, in lines."""
    titles = {"flash_bytes": "flash bytes", **front.objectives}
    lines = [name]
    lines += [f"{title}: {_number(getattr(entry, key))}" for key, title in titles.items()]
    if isinstance(entry, Member):
        for key, title in (("weight_bits", "weights"), ("bits", "outputs")):
            lines.append(f"{title}: {_spread(entry.scheme, key)} bits")
    lines.append(f"bits per weight: {entry.mean_bits:.2f}")
    for role, title in (("holdout", "hold-out"), ("validation", "validation")):
        value, known = entry.figure(role)
        if value is not None:
            line = f"{title}: {value:.2f} {front.metric.unit}".rstrip()
            lines.append(line + (f" ({known[0]:.2f} to {known[1]:.2f})" if known else ""))
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _spread(scheme: Mapping[str, Any], key: str) -> str:
    """The narrowest and the widest of a scheme."""
    widths = {entry[key] for entry in scheme["operators"].values() if key in entry}
    low, high = min(widths), max(widths)
    return f"{low} to {high}" if low < high else str(low)


def _near(front: Front, best: Member) -> list[float]:
    """Limits of qualities near the chosen member, up to the best one."""
    low, high = _padded(front, ())
    top = max([front.float_validation or best.validation, *_qualities(front)])
    depth = max(4 * (top - best.validation), 0.12 * (high - low))
    return [max(low, best.validation - depth), min(high, top + 0.15 * depth)]


def _sizes_near(front: Front, best: Member) -> list[float]:
    """Sizes of the members nearest to the chosen one."""
    size = front.measure(best)
    nearest = sorted(map(front.measure, front.searched), key=lambda other: abs(other - size))
    return [*nearest[:NEAREST], size]


def _qualities(front: Front) -> list[float]:
    return [entry.validation for entry in (*front.members, *front.uniform)]


def _padded(front: Front, evaluations: Sequence[Evaluation]) -> list[float]:
    """Limits around all qualities, with some room."""
    values = [*_qualities(front), *(e.quality for e in evaluations)]
    if front.float_validation is not None:
        values.append(front.float_validation)
    room = 0.05 * (max(values) - min(values)) or 1.0
    return [min(values) - room, max(values) + room]


def _thinned(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    step = -(-len(evaluations) // DRAWN) or 1
    return evaluations[::step]


def generations_chart(front: Front, evaluations: Sequence[Evaluation]) -> Chart:
    """Everything evaluated, coloured by generation."""
    shown = _thinned(evaluations)
    y = AxisScale(*around([e.quality for e in shown]))
    x = AxisScale(*around([e.size for e in shown]))
    panel = Panel(x, y)
    panel.across(y.ticks(5))
    panel.along(x.ticks(4), texts(x.ticks(4)))
    last = max(e.generation for e in shown)
    count = min(BINS, last)
    keys = []
    for number in range(count):
        start, end = number * last // count + 1, (number + 1) * last // count
        name = f"cloud generation-{BINS - count + number}"
        found = [(e.size, e.quality) for e in shown if start <= e.generation <= end]
        panel.cloud(found, name)
        keys.append((name, f"{start} to {end}" if start < end else str(start)))
    return Chart(
        front.quality_title,
        (front.size_title,),
        (panel.markup(),),
        tuple(keys),
        HEIGHTS[1],
    )


def progress(front: Front, evaluations: Sequence[Evaluation], max_drop: float) -> dict[int, float]:
    """The smallest size that may be chosen, generation by generation.

    As the terminal has it while the search runs: at most `max_drop` below the best figure until
    then, uniform 8 bits included.
    """
    score = front.metric.score
    top = front.score(front.uniform[0])
    seen: list[tuple[float, float]] = []
    best: dict[int, float] = {}
    for evaluation in evaluations:
        quality = score(evaluation.quality)
        top = max(top, quality)
        seen = [
            one
            for one in (*seen, (evaluation.size, quality))
            if one[1] >= top - max_drop - ROUNDING
        ]
        if seen:
            best[evaluation.generation] = min(size for size, _ in seen)
        else:
            best.pop(evaluation.generation, None)
    return best


def progress_chart(
    front: Front, evaluations: Sequence[Evaluation], max_drop: float
) -> Chart | None:
    """`progress` as a line; None where no generation had a member that may be chosen."""
    best = progress(front, evaluations, max_drop)
    if not best:
        return None
    x, y = AxisScale(0.5, max(2, *best) + 0.5), AxisScale(*around(list(best.values())))
    panel = Panel(x, y)
    panel.across(y.ticks(5))
    generations = [tick for tick in x.ticks(6) if tick == int(tick)]
    panel.along(generations, texts(generations))
    panel.steps(list(best.items()), "steps")
    for generation, size in best.items():
        tip = f"generation {generation}\n{front.size_title}: {_number(size)}"
        panel.mark(Mark(generation, size, DOT, "member", tip))
    return Chart(front.size_title, ("generation",), (panel.markup(),), height=HEIGHTS[1])


def shares(flash: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Roles, the largest first, with their bytes and with their percentage of the largest."""
    found = sorted(flash.items(), key=lambda item: -item[1])
    top = max(1, *flash.values())
    return [(role.replace("_", " "), size, 100 * size / top) for role, size in found]


def operators(rows: Sequence[OperatorEntry]) -> list[tuple[OperatorEntry, float]]:
    """Operators, the noisiest first, with the length of a bar for their SQNR; exact ones last."""
    known = [row.sqnr_db for row in rows if row.sqnr_db is not None]
    top = max([1.0, *known])
    found = sorted(rows, key=lambda row: (row.sqnr_db is None, row.sqnr_db or 0.0))
    return [(row, 100 * max(0.0, (row.sqnr_db or 0.0) / top)) for row in found]


def heat_maps(document: Mapping[str, Any], title: str) -> dict[str, Heat]:
    """Drops and noise by operator and width, for outputs and weights; what costs most is first."""
    names = list(dict.fromkeys(row["name"] for row in document["rows"]))
    found = {(row["name"], row["part"]): row["entries"] for row in document["rows"]}
    empty = [{"drop": None, "sqnr_db": None} for _ in document["widths"]]

    def values(name: str, key: str) -> list[float]:
        entries = (entry for part in _PARTS for entry in found.get((name, part), ()))
        return [entry[key] for entry in entries if entry[key] is not None]

    names.sort(key=lambda name: -max(values(name, "drop"), default=0.0))

    def table(key: str, digits: int, power: float) -> tuple[Any, ...]:
        known = [value for name in names for value in values(name, key)]
        low = 0.0 if key == "drop" else min(known, default=0.0)
        high = max(known, default=0.0)

        def cell(value: float | None) -> Cell:
            if value is None:
                return Cell("", 0.0)
            share = min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)
            text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: never minus zero
            return Cell(text, round(share**power, 3))

        return tuple(
            (
                name,
                tuple(tuple(cell(e[key]) for e in found.get((name, p), empty)) for p in _PARTS),
            )
            for name in names
        )

    return {
        "drop": Heat(title, False, table("drop", 2, 0.5)),
        "SQNR": Heat("SQNR of the output, dB", True, table("sqnr_db", 1, 1.0)),
    }
