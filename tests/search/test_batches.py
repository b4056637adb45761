"""Evaluations done together give the search that those one after the other give."""

from collections.abc import Iterator, Sequence

import pytest

from onnxgru.search.batches import Batches
from onnxgru.search.front import Member
from onnxgru.search.genome import Genome
from onnxgru.search.nsga import SearchSettings, search
from tests.search import toy

SETTINGS = SearchSettings(12, 5, 0, "explore-exploit")


class Toy:
    """The toy problem, many genomes at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    __call__ = staticmethod(toy.evaluate)

    def many(self, genomes: Sequence[Genome]) -> Iterator[Member]:
        self.sizes.append(len(genomes))
        return map(toy.evaluate, genomes)


def test_search_is_the_same_and_whole_generations_come_together() -> None:
    problem = Toy()
    found = search(toy.SPACE, problem, SETTINGS, seeds=toy.SEEDS, workers=Batches())
    assert found == search(toy.SPACE, toy.evaluate, SETTINGS, seeds=toy.SEEDS)
    assert problem.sizes == [12] * 5


def test_members_are_given_on_as_they_come() -> None:
    class Interrupted(Toy):
        def many(self, genomes: Sequence[Genome]) -> Iterator[Member]:
            for number, genome in enumerate(genomes):
                if number == 3:
                    raise RuntimeError("interrupted")
                yield toy.evaluate(genome)

    genomes = [toy.SPACE.uniform(width) for width in (2, 3, 4, 5, 6)]
    results = Batches().map(Interrupted(), genomes)
    assert [next(results).genome for _ in range(3)] == genomes[:3]
    with pytest.raises(RuntimeError, match="interrupted"):
        next(results)
