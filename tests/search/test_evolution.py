import numpy as np
import pytest

from onnxgru.search.evolution import Evolution, step, unseen
from onnxgru.search.front import Member
from onnxgru.search.genome import Gene, Space
from tests.search import toy


def test_step_moves_to_a_neighbour_inside():
    generator = np.random.default_rng(0)
    tops = np.array([6, 6, 1, 0])
    positions = np.tile([0, 3, 1, 0], (4000, 1))
    moves = step(positions, tops, generator) - positions
    assert set(moves[:, 0]) == {0, 1}  # from the first choice only up
    assert set(moves[:, 1]) == {-1, 0, 1}
    assert set(moves[:, 2]) == {-1, 0}  # from the last only down
    assert set(moves[:, 3]) == {0}  # a gene of one choice
    rates = np.mean(moves[:, :3] != 0, axis=0)
    assert rates == pytest.approx([0.25] * 3, abs=0.03)
    assert np.mean(moves[:, 1] == 1) == pytest.approx(0.125, abs=0.03)


def test_unseen_finds_the_last_one():
    space = Space((Gene("a", (2, 3, 4)), Gene("b", (4, 8))))
    known = {(2, 4), (2, 8), (3, 8), (4, 4), (4, 8)}
    for seed in range(10):
        assert unseen(space, known, np.random.default_rng(seed)) == (3, 4)


def test_ask_gives_new_genomes_until_none_is_left():
    space = Space((Gene("a", tuple(range(5))), Gene("b", tuple(range(5)))))
    first = tuple(Member((a, a), (float(a), -float(a))) for a in range(5))
    evolution = Evolution(space, first, population=6, seed=0)
    asked = [member.genome for member in first]
    sizes = []
    while genomes := evolution.ask():
        sizes.append(len(genomes))
        asked.extend(genomes)
        evolution.tell(tuple(Member(g, (float(g[0]), float(g[1] - g[0]))) for g in genomes))
    assert sizes == [6, 6, 6, 2]
    assert len(set(asked)) == len(asked) == space.size


def test_children_are_near_their_parents():
    # Two parents that differ in one gene: uniform crossover keeps the rest, and steps are short.
    space = Space(tuple(Gene(f"g{i}", toy.WIDTHS) for i in range(20)))
    low = space.uniform(5)
    high = (6, *low[1:])
    evolution = Evolution(space, (Member(low, (1.0, 5.0)), Member(high, (0.5, 6.0))), 40, 0)
    genomes = evolution.ask()
    assert len(genomes) == 40
    distances = [sum(abs(x - y) for x, y in zip(low, g, strict=True)) for g in genomes]
    assert np.mean(distances) < 3  # drawn at random: 20 genes x 1.7


def survivors(members, population):
    """Genomes left in the population after the members of a second generation came."""
    evolution = Evolution(toy.SPACE, members[:population], population, 0)
    asked = evolution.ask()
    told = zip(asked, members[population:], strict=True)
    evolution.tell(tuple(Member(g, m.objectives, m.violation) for g, m in told))
    rows = evolution._algorithm.pop.get("X")
    names = {g: m.genome for g, m in zip(asked, members[population:], strict=True)}
    genomes = [toy.SPACE.at(tuple(int(v) for v in row)) for row in rows]
    return {names.get(genome, genome) for genome in genomes}


def test_survivors_are_feasible_first_then_by_violation():
    genomes = [(2, 2, 2, bits) for bits in toy.WIDTHS] + [(3, 3, 3, 3)]
    feasible = [Member(g, (9.0, 9.0), -0.5) for g in genomes[:2]]
    missed = [
        Member(g, (0.0, 0.0), v) for g, v in zip(genomes[2:], (6, 1, 5, 2, 4, 3), strict=True)
    ]
    kept = survivors((*missed[:2], *feasible, *missed[2:]), 4)
    assert kept == {genomes[0], genomes[1], genomes[3], genomes[5]}


def test_survivors_of_a_front_are_its_ends_and_the_least_crowded():
    genomes = [(2, 2, 2, bits) for bits in toy.WIDTHS] + [(3, 3, 3, 3)]
    places = (0.0, 1.0, 2.0, 40.0, 41.0, 42.0, 99.0, 100.0)
    members = [Member(g, (x, 100.0 - x)) for g, x in zip(genomes, places, strict=True)]
    kept = survivors(members, 4)
    # distance between neighbours: 2, 39, 39, 2, 57, 58 from the second to the last but one,
    # and the ends at infinity.
    by_place = {members[0].genome, members[7].genome, members[6].genome, members[5].genome}
    assert kept == by_place
