"""The search: NSGA-II over a space of genomes, with a journal that makes a kill harmless.

An interrupted search is not continued from a saved state but *repeated from its start*, the
journal answering what was evaluated before. As the sequence of genomes depends only on the seed
and on the objectives, the repeated search is the uninterrupted one: the same members in the same
order, hence the same front.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from onnxgru.core.errors import UsageError
from onnxgru.search.evolution import Evolution, unseen
from onnxgru.search.front import Member
from onnxgru.search.genome import Genome, Space
from onnxgru.search.journal import Journal

SMALLEST_POPULATION = 4  # two tournaments of two


@dataclass(frozen=True)
class Settings:
    """How long to search, and from which seed.

    Parameters
    ----------
    population : int
        Genomes in a generation, 4 or more.
    generations : int
        Generations, the first included, 1 or more.
    seed : int
        0 or more; the same seed gives the same search.

    Raises
    ------
    UsageError
        If a number is not an integer or too small.
    """

    population: int = 40
    generations: int = 20
    seed: int = 0

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


def search(
    space: Space,
    evaluate: Callable[[Genome], Member],
    settings: Settings,
    *,
    seeds: Sequence[Genome] = (),
    journal: Journal | None = None,
    report: Callable[[Progress], None] | None = None,
    executor: Executor | None = None,
) -> tuple[Member, ...]:
    """Search a space for its Pareto front.

    Parameters
    ----------
    space : Space
        Genomes to search.
    evaluate : callable
        Member of a genome. It must depend on the genome alone. What it raises ends the search.
    settings : Settings
        Population, generations and seed.
    seeds : sequence of Genome
        The beginning of the first generation, without repetitions; the rest is drawn at random.
        Of more seeds than the population has places the first ones are taken.
    journal : Journal, optional
        Answers for the genomes it knows; every other member is in it before the next is begun.
    report : callable, optional
        Called after every evaluation.
    executor : concurrent.futures.Executor, optional
        Evaluates the genomes of a generation at the same time.

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
        fresh = iter(map(evaluate, new) if executor is None else executor.map(evaluate, new))
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
    for generation in range(2, settings.generations + 1):
        genomes = evolution.ask()
        if not genomes:
            break
        evolution.tell(tuple(evaluated(genomes, generation)))
    return tuple(members)


def _first(space: Space, settings: Settings, seeds: Sequence[Genome]) -> tuple[Genome, ...]:
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
