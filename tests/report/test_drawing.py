"""Drawings of cells: every operator has its place, and every wire ends where it should."""

import re
from dataclasses import replace
from itertools import combinations

import pytest

from onnxgru.core.cells import CELLS, INPUT, RNN, STATE, Carry, Cell, Row
from onnxgru.report.drawing import BOX, Box, Drawing, draw

LSTM_LIKE = Cell(
    "test",
    (
        Row("a", "linear", (INPUT,), "W.a"),
        Row("b", "linear", (STATE,), "R.a"),
        Row("c", "add", ("a", "b")),
        Row("d", "mul", ("c", STATE)),
        Row("e", "mul", ("c", "a")),
        Row("f", "add", ("d", "e")),
    ),
    (Carry(STATE, "f"),),
    "f",
)
ALL = [*CELLS.values(), LSTM_LIKE]


@pytest.fixture(params=ALL, ids=lambda cell: cell.name)
def cell(request) -> Cell:
    return request.param


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    return (numbers[0], numbers[1]), (numbers[-2], numbers[-1])


def touches(box: Box, x: float, y: float) -> bool:
    return box.x <= x <= box.x + BOX[0] and box.y - 0.1 <= y <= box.y + BOX[1] + 0.1


def test_every_operator_has_one_box(cell):
    drawing = draw(cell)
    first = [INPUT, *(carry.name for carry in cell.carries)]
    boxes = drawing.boxes[len(first) :]
    assert [box.name for box in drawing.boxes] == [*first, *(row.name for row in cell.rows)]
    assert [box.kind for box in boxes] == [row.kind for row in cell.rows]
    assert [box.parameter for box in boxes] == [row.parameter for row in cell.rows]


def test_boxes_are_within_and_apart(cell):
    drawing = draw(cell)
    for box in drawing.boxes:
        assert 0 <= box.x and box.x + BOX[0] <= drawing.width
        assert 0 <= box.y and box.y + BOX[1] <= drawing.height
    for a, b in combinations(drawing.boxes, 2):
        assert a.y != b.y or abs(a.x - b.x) >= BOX[0] + 5, (a.name, b.name)


def test_wires_run_down_from_operand_to_operator(cell):
    drawing = draw(cell)
    boxes = {box.name: box for box in drawing.boxes}
    edges = [(name, row.name) for row in cell.rows for name in row.inputs]
    assert len(drawing.wires) == len(edges)
    found = set()
    for wire in drawing.wires:
        (x, y), (end_x, end_y) = ends(wire)
        (source,) = (b.name for b in boxes.values() if touches(b, x, y) and y > b.y)
        (target,) = (b.name for b in boxes.values() if touches(b, end_x, end_y) and end_y == b.y)
        found.add((source, target))
    assert found == set(edges)


def passing(drawing: Drawing) -> list[tuple[float, float, float]]:
    """Upright pieces of the wires, beside boxes: x, and y from and to."""
    pieces = []
    for wire in drawing.wires:
        for x, y, end in re.findall(r"([\d.]+),([\d.]+)V([\d.]+)", wire):
            pieces.append((float(x), float(y), float(end)))
    return pieces


def test_no_wire_runs_through_a_box(cell):
    drawing = draw(cell)
    assert bool(passing(drawing)) == (len(cell.rows) > len(RNN.rows))
    for x, y, end in passing(drawing):
        assert 0 < x < drawing.width and end - y == pytest.approx(BOX[1])
        through = [b.name for b in drawing.boxes if b.x < x < b.x + BOX[0] and y <= b.y < end]
        assert through == []


def crossings(drawing: Drawing) -> int:
    """Pairs of pieces between the same two rows that change sides."""
    pieces = set()
    for wire in drawing.wires:
        points = re.findall(r"([\d.]+),([\d.]+)C|V([\d.]+)C| ([\d.]+),([\d.]+)(?=[VC]|$)", wire)
        numbers = [[float(number) for number in point if number] for point in points]
        x, y = numbers[0]
        for point in numbers[1:]:
            if len(point) == 1:
                y = point[0]
                continue
            pieces.add((y, x, point[0]))
            x, y = point
    return sum(
        a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in combinations(pieces, 2)
    )


@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda cell: cell.name)
def test_few_wires_cross(cell):
    """In the table's own order nine and more do; four gates that read the same cross each other."""
    assert crossings(draw(cell)) <= (5 if len(cell.rows) < 20 else 11)


def test_drawing_is_the_same_every_time(cell):
    assert draw(cell) == draw(replace(cell))
