"""A cell's table of operators as a data-flow drawing: where boxes stand and how wires run.

The way of Sugiyama, Tagawa and Toda (1981): operators in rows by their longest distance from the
inputs, wires that pass a row get a place of their own in it, the order within rows is improved by
barycentres, and places are as near to their neighbours as the order allows. Nothing here knows
GRU: any table is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from onnxgru.core.cells import INPUT, Cell

BOX = (120.0, 42.0)
"""Width and height of an operator, in the units of the drawing."""

GAP = 10.0
PITCH = 68.0
"""From row to row."""

LANE = 6.0
"""Width of the place of a wire that passes a row."""

_MARGIN = 8.0
_SWEEPS = 24
_PORT = 20.0

Node = tuple[str, int]
"""A source and the row in which it stands, or which its wire passes."""


@dataclass(frozen=True)
class Box:
    """An operator, or one of the cell's inputs, at its place.

    Parameters
    ----------
    name : str
        Name within the cell.
    kind : str
        As in the table; empty for an input of the cell.
    parameter : str
        As in the table.
    x, y : float
        Its upper left corner.
    """

    name: str
    kind: str
    parameter: str
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """A drawn cell.

    Parameters
    ----------
    width, height : float
        Of all of it.
    boxes : tuple of Box
        Inputs first, then operators as in the table.
    wires : tuple of str
        Paths in SVG's notation.
    """

    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[str, ...]


def draw(cell: Cell) -> Drawing:
    """Draw a cell."""
    levels = _levels(cell)
    rows, links = _rows(cell, levels)
    rows = _ordered(rows, links)
    centres = _places(rows, links, levels)
    half = {node: _half(node, levels) for node in centres}
    left = min(x - half[node] for node, x in centres.items()) - _MARGIN
    centres = {node: x - left for node, x in centres.items()}
    tops = [_MARGIN + level * PITCH for level in range(len(rows))]
    kinds = {row.name: row for row in cell.rows}
    boxes = tuple(
        Box(
            name,
            kinds[name].kind if name in kinds else "",
            kinds[name].parameter if name in kinds else "",
            round(centres[name, level] - BOX[0] / 2, 1),
            tops[level],
        )
        for name, level in levels.items()
    )
    return Drawing(
        round(max(x + half[node] for node, x in centres.items()) + _MARGIN, 1),
        tops[-1] + BOX[1] + _MARGIN,
        boxes,
        tuple(_wires(cell, levels, centres, tops)),
    )


def _levels(cell: Cell) -> dict[str, int]:
    """Row of every operator: its longest distance from the inputs."""
    levels = {INPUT: 0, **{carry.name: 0 for carry in cell.carries}}
    for row in cell.rows:
        levels[row.name] = 1 + max(levels[name] for name in row.inputs)
    return levels


def _rows(cell: Cell, levels: Mapping[str, int]) -> tuple[list[list[Node]], dict[Node, list[Node]]]:
    """Nodes by row, and from every node those of the row below that it leads to."""
    rows: list[list[Node]] = [[] for _ in range(max(levels.values()) + 1)]
    links: dict[Node, list[Node]] = {}
    for name, level in levels.items():
        rows[level].append((name, level))
        links[name, level] = []
    for row in cell.rows:
        for name in row.inputs:
            for level in range(levels[name] + 1, levels[row.name]):
                if (name, level) not in links:
                    links[name, level - 1].append((name, level))
                    links[name, level] = []
                    rows[level].append((name, level))
            links[name, levels[row.name] - 1].append((row.name, levels[row.name]))
    return rows, links


def _neighbours(links: Mapping[Node, Sequence[Node]]) -> dict[Node, list[Node]]:
    """From every node those of the row above that lead to it."""
    above: dict[Node, list[Node]] = {node: [] for node in links}
    for node, targets in links.items():
        for target in targets:
            above[target].append(node)
    return above


def _ordered(rows: list[list[Node]], links: Mapping[Node, Sequence[Node]]) -> list[list[Node]]:
    """Rows in an order with few crossings."""
    above = _neighbours(links)
    best, least = [list(row) for row in rows], _crossings(rows, links)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        numbers = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for number in numbers:
            near = above if down else links
            other = rows[number - 1 if down else number + 1]
            position = {node: float(index) for index, node in enumerate(other)}
            own = {node: float(index) for index, node in enumerate(rows[number])}
            rows[number].sort(key=lambda n: _mean([position[m] for m in near[n]], own[n]))
        crossings = _crossings(rows, links)
        if crossings < least:
            best, least = [list(row) for row in rows], crossings
    return best


def _half(node: Node, levels: Mapping[str, int]) -> float:
    """Half the width of an operator, or of a wire that passes."""
    name, level = node
    return (BOX[0] if levels[name] == level else LANE) / 2


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(rows: Sequence[Sequence[Node]], links: Mapping[Node, Sequence[Node]]) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        position = {node: index for index, node in enumerate(lower)}
        ends = [(i, position[t]) for i, node in enumerate(upper) for t in links[node]]
        count += sum(
            (a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(ends) for b in ends[:i]
        )
    return count


def _places(
    rows: Sequence[Sequence[Node]],
    links: Mapping[Node, Sequence[Node]],
    levels: Mapping[str, int],
) -> dict[Node, float]:
    """Centre of every node: near its neighbours, and no two of a row too near to each other."""
    above = _neighbours(links)
    half = {node: _half(node, levels) for node in links}
    centres: dict[Node, float] = {}
    for row in rows:
        x = 0.0
        for node in row:
            centres[node] = x + half[node]
            x += 2 * half[node] + GAP
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            near = above if down else links
            wanted = [_mean([centres[n] for n in near[node]], centres[node]) for node in row]
            places = _apart(wanted, [half[node] for node in row])
            centres.update(zip(row, places, strict=True))
    return centres


def _apart(wanted: Sequence[float], halves: Sequence[float]) -> list[float]:
    """Places nearest to those wanted, in the same order, that do not overlap.

    Least squares under the order: neighbours that would overlap are pooled and move together.
    """
    offsets = [0.0]
    for a, b in pairwise(halves):
        offsets.append(offsets[-1] + a + b + GAP)
    pools: list[list[float]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append([value - offset])
        while len(pools) > 1 and _mean(pools[-2], 0.0) > _mean(pools[-1], 0.0):
            pools[-2:] = [pools[-2] + pools[-1]]
    means = [_mean(pool, 0.0) for pool in pools for _ in pool]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _wires(
    cell: Cell,
    levels: Mapping[str, int],
    centres: Mapping[Node, float],
    tops: Sequence[float],
) -> list[str]:
    """A path from every operand to its operator."""
    paths = []
    for row in cell.rows:
        level = levels[row.name]
        came = {name: centres[name, level - 1] for name in row.inputs}
        order = sorted(row.inputs, key=came.__getitem__)
        for place, name in enumerate(order):
            x, y = centres[name, levels[name]], tops[levels[name]] + BOX[1]
            path = f"M{x:.1f},{y:.1f}"
            for passed in range(levels[name] + 1, level + 1):
                end = centres[name if passed < level else row.name, passed]
                if passed == level:
                    end += (place - (len(order) - 1) / 2) * _PORT
                middle = (y + tops[passed]) / 2
                path += f"C{x:.1f},{middle:.1f} {end:.1f},{middle:.1f} {end:.1f},{tops[passed]:.1f}"
                x, y = end, tops[passed]
                if passed < level:
                    y += BOX[1]
                    path += f"V{y:.1f}"
            paths.append(path)
    return paths
