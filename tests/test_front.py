"""Which member of a front is chosen: the smallest near the best figure, never by hold-out data."""

import pytest

from onnxgru.front import drop, smallest, within


def document(members: list[tuple[int, float]], uniform: float, higher: bool = True) -> dict:
    entries = [
        {"index": i, "flash_bytes": size, "validation": figure, "holdout": 100.0 * (i == 0)}
        for i, (size, figure) in enumerate(members)
    ]
    return {
        "metric": {"higher_is_better": higher},
        "size": "flash_bytes",
        "uniform": [{"bits": 8, "validation": uniform}],
        "members": entries,
    }


MEMBERS = [(100, 90.0), (200, 97.6), (300, 98.0), (400, 98.1)]


@pytest.mark.parametrize(
    ("uniform", "drop", "expected"),
    [
        (97.0, 0.5, 1),  # counted from the best member, 98.1, not from uniform 8 bits
        (97.0, 0.1, 2),
        (97.0, 0.0, 3),
        (97.0, 9.0, 0),
        (98.5, 0.5, 2),  # uniform 8 bits can be the best
    ],
)
def test_smallest(uniform: float, drop: float, expected: int) -> None:
    assert smallest(document(MEMBERS, uniform), drop)["index"] == expected


def test_no_member_is_near() -> None:
    front = document(MEMBERS, 99.0)
    assert within(front, 0.5) == []
    assert smallest(front, 0.5)["index"] == 3  # the best there is


def test_lower_is_better() -> None:
    front = document([(100, 9.0), (200, 2.0), (300, 1.8)], 3.0, higher=False)
    assert [m["index"] for m in within(front, 0.3)] == [1, 2]
    assert smallest(front, 0.3)["index"] == 1


@pytest.mark.parametrize(("higher", "expected"), [(True, 7.6), (False, -7.6)])
def test_drop_is_positive_where_the_other_is_worse(higher: bool, expected: float) -> None:
    front = document(MEMBERS, 97.0, higher)
    narrow, wide = front["members"][:2]
    assert drop(front, wide, narrow) == pytest.approx(expected)
