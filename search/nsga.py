"""The search: NSGA-II over a space of genomes, with a journal that makes a kill harmless.

An interrupted search is not continued from a saved state but *repeated from its start*, the
journal answering what was evaluated before. As the sequence of genomes depends only on the seed
and on the objectives, the repeated search is the uninterrupted one: the same members in the same
order, hence the same front.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from onnxgru.core.errors import UsageError
from onnxgru.search import SMALLEST_POPULATION, STRATEGIES
from onnxgru.search.evolution import Evolution, unseen
from onnxgru.search.front import Member, front
from onnxgru.search.genome import Genome, Space
from onnxgru.search.journal import Journal

EXPLORATION = 0.5  # of the generations
IMMIGRANTS = 0.1  # of the population


@dataclass(frozen=True)
class SearchSettings:
    """How long to search, how, and from which seed.

    "explore-exploit" is an answer to what Miccini et al. 2024 (arXiv 2402.12263) leave to future
    work: most of their solutions are low in accuracy, for which they propose to constrain fitness
    at survival, and to split exploration and exploitation.

    - *Exploration*, the first half of the generations: no constraint, and some genomes of each
      generation drawn at random.
    - *Exploitation*: before each generation the best of everything evaluated become the
      population, those within the constraint first, and are refined: crossed less, stepped to
      neighbours. The limit starts at the median error of the front and comes down to its value,
      because schemes just beyond it are good parents (Takahama and Sakai 2006, the epsilon
      constrained method).

    Both depend on the seed and the members' objectives alone. The front of a search is that of
    everything evaluated, whatever the limit was.

    Parameters
    ----------
    population : int
        Genomes in a generation, 4 or more.
    generations : int
        Generations, the first included, 1 or more.
    seed : int
        0 or more; the same seed gives the same search.
    strategy : {"plain", "explore-exploit"}
        NSGA-II throughout and without a constraint, or exploration, then exploitation.
    limit : float
        Largest first objective (the error) that exploitation accepts in the end.

    Raises
    ------
    UsageError
        If a number is not an integer or too small.
    """

    population: int = 40
    generations: int = 20
    seed: int = 0
    strategy: str = "explore-exploit"
    limit: float = math.inf

    def __post_init__(self) -> None:
        for name, value, least in (
            ("population", self.population, SMALLEST_POPULATION),
            ("number of generations", self.generations, 1),
            ("seed", self.seed, 0),
        ):
            if type(value) is not int or value < least:
                raise UsageError(
                    f"the {name} of a search must be an integer of at least {least}, got {value!r}"
                )
        if self.strategy not in STRATEGIES:
            raise UsageError(
                f"the strategy of a search must be one of {', '.join(STRATEGIES)}, "
                f"got {self.strategy!r}"
            )

    @property
    def exploration(self) -> int:
        """Generations that explore, the first included."""
        if self.strategy == "plain":
            return self.generations
        return math.ceil(EXPLORATION * self.generations)

    @property
    def immigrants(self) -> int:
        """Genomes drawn at random in a generation that explores."""
        return 0 if self.strategy == "plain" else round(IMMIGRANTS * self.population)

    def remaining(self, generation: int) -> float:
        """Share of exploitation that is left at a generation: below 1, and 0 at the last."""
        return (self.generations - generation) / (self.generations - self.exploration)

    @property
    def evaluations(self) -> int:
        """Members of a search that does not use up its space."""
        return self.population * self.generations


@dataclass(frozen=True)
class Progress:
    """Where a search stands after an evaluation.

    Parameters
    ----------
    generation, generations : int
        The member's generation, from 1, and how many there will be.
    evaluations, total : int
        Members so far, this one included, and how many there will be.
    member : Member
        The one just evaluated.
    known : bool
        Whether the journal answered in place of `evaluate`.
    """

    generation: int
    generations: int
    evaluations: int
    total: int
    member: Member
    known: bool


class Workers(Protocol):
    """Evaluate genomes at the same time; an executor of `concurrent.futures` does."""

    def map(
        self, evaluate: Callable[[Genome], Member], genomes: Sequence[Genome], /
    ) -> Iterator[Member]:
        """Members of genomes, in the genomes' order, whichever is finished first."""


def search(
    space: Space,
    evaluate: Callable[[Genome], Member],
    settings: SearchSettings,
    *,
    seeds: Sequence[Genome] = (),
    journal: Journal | None = None,
    report: Callable[[Progress], None] | None = None,
    workers: Workers | None = None,
) -> tuple[Member, ...]:
    """Search a space for its Pareto front.

    Parameters
    ----------
    space : Space
        Genomes to search.
    evaluate : callable
        Member of a genome. It must depend on the genome alone. What it raises ends the search.
    settings : SearchSettings
        Population, generations and seed.
    seeds : sequence of Genome
        The beginning of the first generation, without repetitions; the rest is drawn at random.
        Of more seeds than the population has places the first ones are taken.
    journal : Journal, optional
        Answers for the genomes it knows; every other member is in it before the next is begun.
    report : callable, optional
        Called after every evaluation.
    workers : Workers, optional
        Evaluate the genomes of a generation at the same time.

    Returns
    -------
    tuple of Member
        Everything evaluated, in order, no genome twice: population x generations members, or the
        whole space if it is smaller. `onnxgru.search.front.front` takes the front from it.

    Raises
    ------
    UsageError
        If a seed does not belong to the space, or `evaluate` gives a member of another genome or
        with another number of objectives.
    OutputError
        If the journal cannot be written.
    """
    total = min(settings.evaluations, space.size)
    members: list[Member] = []

    def evaluated(genomes: Sequence[Genome], generation: int) -> Iterator[Member]:
        # The one place that evaluates. Members are written and given back in the genomes' order,
        # whoever finishes first, so that the search does not depend on the number of workers.
        answers = [None if journal is None else journal.lookup(genome) for genome in genomes]
        new = [g for g, answer in zip(genomes, answers, strict=True) if answer is None]
        fresh = iter(map(evaluate, new) if workers is None else workers.map(evaluate, new))
        for genome, answer in zip(genomes, answers, strict=True):
            known = answer is not None
            member = next(fresh) if answer is None else answer
            if not known:
                _check(member, genome, members)
                if journal is not None:
                    journal.append(member, generation)
            members.append(member)
            if report is not None:
                report(
                    Progress(generation, settings.generations, len(members), total, member, known)
                )
            yield member

    first = tuple(evaluated(_first(space, settings, seeds), 1))
    if len(members) == total:
        return tuple(members)
    evolution = Evolution(space, first, settings.population, settings.seed)
    slack = 0.0
    for generation in range(2, settings.generations + 1):
        exploring = generation <= settings.exploration
        if generation == settings.exploration + 1:
            slack = _slack(members, settings.limit)
        if not exploring:
            limit = settings.limit + slack * settings.remaining(generation)
            evolution.refine(_best([_constrained(m, limit) for m in members], settings.population))
        genomes = evolution.ask(settings.immigrants if exploring else 0)
        if not genomes:
            break
        evolution.tell(tuple(evaluated(genomes, generation)))
    return tuple(members)


def _first(space: Space, settings: SearchSettings, seeds: Sequence[Genome]) -> tuple[Genome, ...]:
    """Seeds first, then random genomes, none twice."""
    for genome in seeds:
        space.validate(genome)
    genomes = list(dict.fromkeys(seeds))[: settings.population]
    known = set(genomes)
    # A stream of its own: pymoo's starts from the bare seed.
    generator = np.random.default_rng([settings.seed, 1])
    while len(genomes) < min(settings.population, space.size):
        genome = unseen(space, known, generator)
        known.add(genome)
        genomes.append(genome)
    return tuple(genomes)


def _constrained(member: Member, limit: float) -> Member:
    """The member with its excess over the limit as a violation."""
    return replace(member, violation=max(member.violation, member.objectives[0] - limit, 0.0))


def _slack(members: Sequence[Member], limit: float) -> float:
    """How far the median error of the front lies above the limit."""
    errors = sorted(member.objectives[0] for member in front(members))
    return max(0.0, errors[len(errors) // 2] - limit)


def _best(members: Sequence[Member], count: int) -> tuple[Member, ...]:
    """Whole fronts, each without those before it, until there are `count` members."""
    rest, found = list(members), list[Member]()
    while rest and len(found) < count:
        layer = front(rest)
        found.extend(layer)
        taken = {member.genome for member in layer}
        rest = [member for member in rest if member.genome not in taken]
    return tuple(found)


def _check(member: Member, genome: Genome, members: Sequence[Member]) -> None:
    if member.genome != genome:
        raise UsageError(
            f"the evaluation of genome {genome} must give a member of that genome, "
            f"got {member.genome}"
        )
    if members and len(member.objectives) != len(members[0].objectives):
        raise UsageError(
            f"the evaluation of genome {genome} must give {len(members[0].objectives)} objectives "
            f"as those before it, got {len(member.objectives)}"
        )
