"""Widening: only what may grows, only where it fits, and until nothing more helps."""

import math

from hypothesis import given
from hypothesis import strategies as st

from onnxgru.search.genome import Gene, Genome, Space
from onnxgru.search.widening import widened

WIDTHS = (2, 3, 4, 6, 8)
SPACE = Space(tuple(Gene(f"g{number}", WIDTHS) for number in range(5)))
NAMES = [gene.name for gene in SPACE.genes]

genomes = st.tuples(*[st.sampled_from(WIDTHS)] * 5)
prices = st.tuples(*[st.sampled_from([0, 0, 1, 2, 5])] * 5)
values = st.dictionaries(genomes, st.integers(-20, 20), max_size=60)


def linear(weights: tuple[int, ...], limit: float = math.inf):
    """What genomes cost, None beyond a limit."""

    def cost(genome: Genome) -> float | None:
        found = sum(price * bits for price, bits in zip(weights, genome, strict=True))
        return float(found) if found <= limit else None

    return cost


def steps(genome: Genome) -> list[Genome]:
    found = []
    for place, width in enumerate(genome):
        if width < WIDTHS[-1]:
            wider = WIDTHS[WIDTHS.index(width) + 1]
            found.append((*genome[:place], wider, *genome[place + 1 :]))
    return found


@given(genomes, prices, values, st.integers(0, 60), st.sets(st.sampled_from(NAMES)))
def test_it_ends_where_no_step_that_fits_helps(genome, weights, known, room, growing):
    cost = linear(weights, (linear(weights)(genome) or 0) + room)

    def score(asked: Genome) -> float:
        return float(known.get(asked, 0))

    found = widened(SPACE, genome, growing, score, cost)
    assert cost(found) is not None
    assert score(found) >= score(genome)
    for name, before, after in zip(NAMES, genome, found, strict=True):
        assert after >= before if name in growing else after == before
    others = [g for g in steps(found) if cost(g) is not None]
    allowed = [
        g
        for g in others
        if all(a == b or n in growing for n, a, b in zip(NAMES, found, g, strict=True))
    ]
    assert all(score(g) <= score(found) for g in allowed)


def greedy(genome: Genome, score, cost) -> Genome:
    """Every step weighed every time."""
    while True:
        rates = [
            ((score(g) - score(genome)) / (cost(g) - cost(genome)), g)
            for g in steps(genome)
            if cost(g) is not None
        ]
        best = max(rates, key=lambda pair: pair[0], default=(0.0, genome))
        if best[0] <= 0:
            return genome
        genome = best[1]


@given(st.tuples(*[st.floats(0.1, 9)] * 5), st.tuples(*[st.floats(0.1, 9)] * 5), st.floats(10, 200))
def test_it_is_greedy_with_fewer_looks_where_gains_shrink(gains, weights, limit):
    gains = [gain * (1 + place * math.pi / 100) for place, gain in enumerate(gains)]  # no ties

    def score(genome: Genome) -> float:  # noise falls fourfold with every bit
        asked.append(genome)
        return -sum(gain * 4.0**-bits for gain, bits in zip(gains, genome, strict=True))

    start, cost, asked = (2,) * 5, linear(weights, limit), []
    if cost(start) is None:
        return
    found = widened(SPACE, start, NAMES, score, cost)
    looks = len(asked)
    assert found == greedy(start, score, cost)
    assert looks <= 1 + len(asked) - looks


def test_what_is_free_grows_at_once():
    asked: list[Genome] = []

    def score(genome: Genome) -> float:
        asked.append(genome)
        return float(sum(genome))

    assert widened(SPACE, (2,) * 5, NAMES, score, linear((0, 0, 0, 0, 0))) == (8,) * 5
    assert len(asked) == 2  # before and after


def test_free_widths_that_harm_together_are_weighed_one_by_one():
    def score(genome: Genome) -> float:
        return float(genome[0] - 2 * genome[1])

    assert widened(SPACE, (2,) * 5, NAMES, score, linear((0, 0, 9, 9, 9), 54)) == (8, 2, 2, 2, 2)


def test_a_genome_that_must_not_be_stays():
    assert widened(SPACE, (2,) * 5, NAMES, sum, lambda _genome: None) == (2,) * 5


def test_every_step_is_told():
    told: list[float] = []
    found = widened(SPACE, (2,) * 5, ["g1"], sum, linear((1, 2, 3, 4, 5), 38), told.append)
    assert found == (2, 6, 2, 2, 2)
    assert told == [32.0, 34.0, 38.0]
