"""``front.json`` as a value: what is written comes back, and how a member is chosen."""

import json

import pytest

from onnxgru.core import files
from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.documents.front import Front, Member, Metric, Uniform


def front(members: list[tuple[int, float]], uniform: float, higher: bool = True) -> Front:
    """Members of so many flash bytes and such figures."""

    def sizes(flash: int, figure: float) -> dict:
        return {
            "flash_bytes": flash,
            "weight_bits": 8 * flash,
            "mean_bits": 4.0,
            "accumulator_bits": 20,
            "bitops": 1,
            "validation": figure,
        }

    return Front(
        Metric("accuracy", "%", higher),
        {"flash_bytes": "flash bytes"},
        "flash_bytes",
        32,
        None,
        {"validation": 60},
        ("a",),
        (Uniform(bits=8, **sizes(500, uniform)),),
        tuple(
            Member(index=i, genome=(i,), scheme={}, holdout=100.0 * (i == 0), **sizes(*one))
            for i, one in enumerate(members)
        ),
        1,
    )


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
    assert front(MEMBERS, uniform).smallest(drop).index == expected


def test_the_better_of_two_that_are_equally_small() -> None:
    found = front([(100, 90.0), (1000, 97.7), (1010, 98.0), (1011, 98.1)], 97.0)
    assert found.smallest(0.5).index == 2


def test_no_member_is_near() -> None:
    found = front(MEMBERS, 99.0)
    assert found.within(0.5) == []
    assert found.smallest(0.5).index == 3  # the best there is
    with pytest.raises(UsageError, match=r"the best of the front has 98\.10, so allow more"):
        found.pick(max_drop=0.5)


def test_lower_is_better() -> None:
    found = front([(100, 9.0), (200, 2.0), (300, 1.8)], 3.0, higher=False)
    assert [m.index for m in found.within(0.3)] == [1, 2]
    assert found.smallest(0.3).index == 1
    assert found.pick(max_bytes=250).index == 1


@pytest.mark.parametrize(("higher", "expected"), [(True, 7.6), (False, -7.6)])
def test_drop_is_positive_where_the_other_is_worse(higher: bool, expected: float) -> None:
    found = front(MEMBERS, 97.0, higher)
    narrow, wide = found.members[:2]
    assert found.drop(wide, narrow) == pytest.approx(expected)


def test_what_is_written_comes_back() -> None:
    found = front(MEMBERS, 97.0)
    grown = found.grown(
        Member(
            index=4, genome=(7,), scheme={"a": [1]}, widened_from=1, cost=2.5, flash_bytes=9,
            weight_bits=1, mean_bits=2.0, accumulator_bits=3, bitops=4, validation=5.0,
            validation_interval=(4.0, 6.0),
        )
    )  # fmt: skip
    content = files.dump(grown.document())
    again = Front.parse(json.loads(content))
    assert again == grown
    assert files.dump(again.document()) == content
    assert [m.index for m in again.searched] == [0, 1, 2, 3]


def test_a_front_of_another_version_is_refused() -> None:
    document = front(MEMBERS, 97.0).document()
    del document["uniform"][0]["bits"]
    with pytest.raises(SchemeError, match=r"^x/front\.json: must be a front that this version"):
        Front.parse(document, "x/front.json")
