"""Workers for evaluations that are done together instead of one beside the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from onnxgru.search.front import Member
from onnxgru.search.genome import Genome


@runtime_checkable
class Together(Protocol):
    """Evaluates many genomes at a time."""

    def many(self, genomes: Sequence[Genome]) -> Iterator[Member]:
        """Members of genomes, in order."""


class Batches:
    """Hands all genomes of a generation to what evaluates them together."""

    def map(
        self, evaluate: Callable[[Genome], Member], genomes: Sequence[Genome], /
    ) -> Iterator[Member]:
        """Members of genomes, in order; nothing runs before the first is asked for."""
        yield from (
            evaluate.many(genomes) if isinstance(evaluate, Together) else map(evaluate, genomes)
        )
