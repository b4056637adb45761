"""Generations of NSGA-II from pymoo, over the positions of a space's choices.

Deb, Pratap, Agarwal, Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II",
IEEE Transactions on Evolutionary Computation 6(2), 2002. From pymoo come the loop, the
non-dominated sorting, the crowding distance, the binary tournament and the uniform crossover. Two
parts are our own:

- *Variation.* Each gene steps to a neighbouring choice with a chance of one in the number of
  genes, and **no genome is asked for twice**: a candidate is costly, and the fronts are taken from
  everything evaluated. Where breeding finds nothing new, genomes are drawn at random.
- *Survival* is pymoo's, with a stable order among equal crowding distances. Equals are common
  (the ends of a front all have infinity) and pymoo's sort orders them differently on processors
  with and without AVX2 or AVX-512, so that one seed would give two searches.

Nothing here rounds a random real number to an integer, for the same reason: a sequence of
genomes depends on the seed and the members' objectives, and on nothing else.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.search.front import Member
from onnxgru.search.genome import Genome, Space

CROSSOVER = 0.9  # chance that a pair of parents is crossed, as in Deb et al.
REFINING = 0.5  # the same while the population is refined
ROUNDS = 20  # of breeding in search of something new, before drawing at random

Positions = npt.NDArray[np.int64]


def unseen(space: Space, known: set[Genome], generator: np.random.Generator) -> Genome:
    """Draw a genome that is not known, from a space that has one.

    From a random genome on, the first one that is not known: at most ``len(known) + 1`` steps.
    """
    genome = space.random(generator)
    while genome in known:
        genome = space.following(genome)
    return genome


class Evolution:
    """The state of NSGA-II after some generations.

    Parameters
    ----------
    space : Space
        Genomes to search.
    members : tuple of Member
        The first generation: at least two, of different genomes.
    population : int
        Members that survive a generation, and genomes asked for in each.
    seed : int
        0 or more; with the members' objectives it fixes every genome asked for.
    """

    def __init__(
        self, space: Space, members: tuple[Member, ...], population: int, seed: int
    ) -> None:
        # Importing pymoo takes half a second: only a search pays it.
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.config import Config
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        Config.warnings["not_compiled"] = False  # printed, and about parts not used here
        self._space = space
        self._known = {member.genome for member in members}
        self._problem = Problem(
            n_var=len(space.genes),
            n_obj=len(members[0].objectives),
            n_ieq_constr=1,
            xl=0,
            xu=np.array([len(gene.choices) - 1 for gene in space.genes]),
            vtype=int,
        )
        self._population = population
        self._survival = _Survival()
        self._mating = _Mating(space, self._known)
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=np.array([space.positions(member.genome) for member in members]),
            survival=self._survival,
            mating=self._mating,
            eliminate_duplicates=False,  # done by the mating, against all ever asked for
        )
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=seed)
        self._asked = self._algorithm.ask()
        self.tell(members)

    def ask(self, immigrants: int = 0) -> tuple[Genome, ...]:
        """Genomes of the next generation, none asked for before; none if the space is used up.

        Parameters
        ----------
        immigrants : int
            How many of them are drawn at random instead of bred.
        """
        self._mating.immigrants = immigrants
        if len(self._known) == self._space.size:
            return ()
        self._asked = self._algorithm.ask()
        return tuple(_genome(self._space, row) for row in self._asked.get("X"))

    def tell(self, members: tuple[Member, ...]) -> None:
        """Take in the members of the genomes last asked for, in their order."""
        self._judge(self._asked, members)
        self._algorithm.tell(infills=self._asked)

    def refine(self, members: tuple[Member, ...]) -> None:
        """Make the best of `members` the population, by their violations as they are now.

        From then on fewer parents are crossed, and more children are their neighbours.
        """
        from pymoo.core.population import Population

        rows = np.array([self._space.positions(member.genome) for member in members])
        everything = Population.new(X=rows)
        self._judge(everything, members)
        self._algorithm.pop = self._survival.do(
            self._problem,
            everything,
            n_survive=min(self._population, len(members)),
            random_state=self._algorithm.random_state,
            algorithm=self._algorithm,
        )
        self._mating.cross(REFINING)

    def _judge(self, population: Any, members: tuple[Member, ...]) -> None:
        """Write the members' figures into pymoo's population."""
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        objectives = np.array([member.objectives for member in members])
        violations = np.array([[member.violation] for member in members])
        static = StaticProblem(self._problem, F=objectives, G=violations)
        Evaluator().eval(static, population)


class _Mating:
    """Parents by tournament, uniform crossover, steps; called by pymoo's `GeneticAlgorithm`."""

    def __init__(self, space: Space, known: set[Genome]) -> None:
        from pymoo.algorithms.moo.nsga2 import binary_tournament
        from pymoo.operators.selection.tournament import TournamentSelection

        self._space = space
        self._known = known
        self._selection = TournamentSelection(func_comp=binary_tournament)
        self.immigrants = 0
        self.cross(CROSSOVER)

    def cross(self, chance: float) -> None:
        """Cross pairs of parents with this chance from now on."""
        from pymoo.operators.crossover.ux import UX

        self._crossover = UX(prob=chance)

    def do(
        self,
        problem: Any,
        population: Any,
        count: int,
        *,
        algorithm: Any,
        random_state: np.random.Generator,
    ) -> Any:
        """Breed `count` genomes never seen before, or as many as the space still has."""
        from pymoo.core.population import Population

        wanted = min(count, self._space.size - len(self._known))
        bred = wanted - min(self.immigrants, wanted)
        found: list[Genome] = []
        for _ in range(ROUNDS):
            if len(found) == bred:
                break
            pairs = math.ceil((bred - len(found)) / 2)
            parents = self._selection.do(
                problem,
                population,
                pairs,
                n_parents=2,
                to_pop=False,
                algorithm=algorithm,
                random_state=random_state,
            )
            crossed = self._crossover.do(problem, population, parents, random_state=random_state)
            for row in step(crossed.get("X"), problem.xu, random_state):
                genome = _genome(self._space, row)
                if genome not in self._known and len(found) < bred:
                    self._known.add(genome)
                    found.append(genome)
        while len(found) < wanted:
            genome = unseen(self._space, self._known, random_state)
            self._known.add(genome)
            found.append(genome)
        return Population.new(X=np.array([self._space.positions(genome) for genome in found]))


def step(positions: Positions, tops: Positions, generator: np.random.Generator) -> Positions:
    """Move each gene to a neighbouring choice with a chance of one in the number of genes.

    Parameters
    ----------
    positions : ndarray of int, shape (genomes, genes)
        Positions among the choices, 0 to `tops`.
    tops : ndarray of int, shape (genes,)
        Last position of each gene; a gene of one choice stays where it is.
    generator : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray of int, shape (genomes, genes)
        From the first choice the only way is up, from the last down.
    """
    chosen = generator.integers(positions.shape[1], size=positions.shape) == 0
    direction = 2 * generator.integers(2, size=positions.shape) - 1
    beyond = (positions + direction < 0) | (positions + direction > tops)
    moved = np.clip(positions + np.where(beyond, -direction, direction), 0, tops)
    return np.where(chosen, moved, positions)


class _Survival:
    """Feasible members by rank and crowding, then the others by violation."""

    def __init__(self) -> None:
        from pymoo.operators.survival.rank_and_crowding.metrics import (
            get_crowding_function,
        )
        from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

        self._sorting = NonDominatedSorting()
        self._crowding = get_crowding_function("cd")

    def do(
        self,
        problem: Any,
        population: Any,
        *,
        n_survive: int,
        random_state: np.random.Generator,
        algorithm: Any,
    ) -> Any:
        """Keep the `n_survive` best; the feasible get their rank and crowding distance."""
        objectives, violations = population.get("F"), population.get("CV")[:, 0]
        feasible = np.flatnonzero(violations <= 0)
        survivors: list[int] = []
        for rank, front in enumerate(self._sorting.do(objectives[feasible])):
            members = feasible[front]
            crowding = self._crowding.do(objectives[members])
            for member, distance in zip(members, crowding, strict=True):
                population[member].set("rank", rank)
                population[member].set("crowding", distance)
            room = n_survive - len(survivors)
            if len(members) > room:
                shuffled = random_state.permutation(len(members))
                order = shuffled[np.argsort(-crowding[shuffled], kind="stable")]
                members = members[order[:room]]
            survivors.extend(int(member) for member in members)
            if len(survivors) == n_survive:
                break
        infeasible = np.flatnonzero(violations > 0)
        by_violation = infeasible[np.argsort(violations[infeasible], kind="stable")]
        survivors.extend(int(member) for member in by_violation[: n_survive - len(survivors)])
        return population[survivors]


def _genome(space: Space, row: Positions) -> Genome:
    return space.at(tuple(int(position) for position in row))
