import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxgru.core.errors import UsageError
from onnxgru.search.front import Member, dominates, front, hypervolume


def brute_force(members):
    best = [m for m in members if not any(dominates(other, m) for other in members)]
    smallest = {}
    for member in sorted(best, key=lambda m: (m.genome, m.violation), reverse=True):
        smallest[member.objectives] = member
    return sorted(smallest.values(), key=lambda m: (m.objectives[-1], m.objectives))


def evaluated(objectives):
    """Members over a coarse grid, so that ties and duplicates are common."""
    values = st.sampled_from([-1.0, 0.0, 0.1, 0.5, 1.0, 2.0, 3.0])
    return st.lists(
        st.builds(
            Member,
            genome=st.tuples(st.integers(2, 8), st.integers(2, 8)),
            objectives=st.tuples(*[values] * objectives),
            violation=st.sampled_from([-1.0, 0.0, 0.0, 0.5, 1.0]),
        ),
        max_size=30,
    )


@given(evaluated(2))
def test_front_of_two_objectives_is_the_brute_force_one(members):
    assert list(front(members)) == brute_force(members)


@given(evaluated(3))
def test_front_of_three_objectives_is_the_brute_force_one(members):
    assert list(front(members)) == brute_force(members)


@given(evaluated(1), st.randoms(use_true_random=False))
def test_front_does_not_depend_on_the_order(members, chance):
    shuffled = list(members)
    chance.shuffle(shuffled)
    assert [m.objectives for m in front(members)] == [m.objectives for m in front(shuffled)]
    assert list(front(members)) == brute_force(members)


def test_front_by_example():
    members = [
        Member((8,), (0.0, 8.0)),
        Member((4,), (1.0, 4.0)),
        Member((3,), (1.0, 4.0)),  # the same objectives, the smaller genome
        Member((5,), (1.0, 5.0)),  # dominated
        Member((2,), (0.0, 2.0), violation=0.1),  # would dominate all
    ]
    assert front(members) == (members[2], members[0])
    assert front([members[4], Member((7,), (9.0, 9.0), 0.05)])[0].genome == (7,)
    assert front([]) == ()


def test_dominates_takes_the_feasible_first():
    good, equal, worse = Member((2,), (1.0, 1.0)), Member((3,), (1.0, 1.0)), Member((4,), (1.0, 2))
    assert dominates(good, worse)
    assert not dominates(worse, good)
    assert not dominates(good, equal)
    assert dominates(worse, Member((5,), (0.0, 0.0), 0.1))
    assert dominates(Member((6,), (5.0, 5.0), 0.1), Member((5,), (0.0, 0.0), 0.2))
    # how far inside the constraint does not count
    assert not dominates(Member((2,), (1.0, 2.0), -5.0), Member((3,), (1.0, 1.0), -1.0))


def test_front_of_two_objectives_is_fast():
    chance = random.Random(0)
    points = ((x, 1.0 / (x + 0.01)) for x in (chance.random() for _ in range(100_000)))
    members = [Member((2,), point) for point in points]
    start = time.perf_counter()
    assert len(front(members)) == 100_000  # all of them: quadratic would take hours
    assert time.perf_counter() - start < 10


def test_member_takes_numpy_scalars_and_refuses_what_cannot_be_ranked():
    member = Member((np.int64(2),), (np.float32(0.5), np.int64(3)), np.float64(0.0))
    assert member == Member((2,), (0.5, 3.0))
    assert [type(v) for v in (*member.genome, *member.objectives)] == [int, float, float]
    for objectives, violation in (((float("nan"), 1.0), 0.0), ((1.0,), float("inf")), ((), 0.0)):
        with pytest.raises(UsageError, match=r"genome \(2,\) must give finite objectives"):
            Member((2,), objectives, violation)


def test_hypervolume():
    members = [Member((2,), (1.0, 2.0)), Member((3,), (2.0, 1.0))]
    assert hypervolume(members, (3.0, 3.0)) == pytest.approx(3.0)
    idle = [
        Member((4,), (2.5, 2.5)),  # dominated
        Member((5,), (0.0, 0.0), 1.0),  # infeasible
        Member((6,), (9.0, 0.5)),  # beyond the reference
    ]
    assert hypervolume(members + idle, (3.0, 3.0)) == pytest.approx(3.0)
    assert hypervolume([Member((2,), (1.0, 1.0, 1.0))], (2.0, 3.0, 4.0)) == pytest.approx(6.0)
    assert hypervolume([], (3.0, 3.0)) == 0.0
    assert hypervolume([Member((5,), (0.0, 0.0), 1.0)], (3.0, 3.0)) == 0.0
    with pytest.raises(UsageError, match="each of the 2 objectives"):
        hypervolume(members, (3.0,))
