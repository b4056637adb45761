"""Evaluations done together give the search that those one after the other give."""

from collections.abc import Iterator, Sequence

import pytest

from onnxgru.search.batches import Batches
from onnxgru.search.front import Member
from onnxgru.search.genome import Genome
from onnxgru.search.nsga import Settings, search
from tests.search import toy

SETTINGS = Settings(12, 5, 0, "explore-exploit")


def test_search_is_the_same_and_whole_generations_come_together() -> None:
    sizes = []

    def together(genomes: Sequence[Genome]) -> Iterator[Member]:
        sizes.append(len(genomes))
        return map(toy.evaluate, genomes)

    with Batches(together) as executor:
        found = search(toy.SPACE, toy.evaluate, SETTINGS, seeds=toy.SEEDS, executor=executor)
    assert found == search(toy.SPACE, toy.evaluate, SETTINGS, seeds=toy.SEEDS)
    assert sizes == [12] * 5


def test_members_are_given_on_as_they_come() -> None:
    def together(items: Sequence[int]) -> Iterator[int]:
        for item in items:
            if item == 3:
                raise RuntimeError("interrupted")
            yield 2 * item

    results = Batches(together).map(lambda item: 2 * item, range(5))
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(RuntimeError, match="interrupted"):
        next(results)
