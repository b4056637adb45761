"""Pareto fronts of what has been evaluated. Every objective is minimised; the last is the size.

Domination is that of Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II"
(2002), section VI: the feasible before the infeasible, among the infeasible the smaller violation,
otherwise Pareto.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxgru.core.errors import UsageError
from onnxgru.search.genome import Genome


@dataclass(frozen=True)
class Member:
    """An evaluated genome.

    Parameters
    ----------
    genome : tuple of int
        What was evaluated.
    objectives : tuple of float
        At least one finite number, smaller is better; the last is the size.
    violation : float
        How far the constraint is missed; 0 or less is feasible.

    Raises
    ------
    UsageError
        If there is no objective, or a number is not finite: such a number cannot be ranked.
    """

    genome: Genome
    objectives: tuple[float, ...]
    violation: float = 0.0

    def __post_init__(self) -> None:
        # NumPy's scalars become Python's, which are the same before and after a journal.
        object.__setattr__(self, "genome", tuple(int(value) for value in self.genome))
        object.__setattr__(self, "objectives", tuple(float(value) for value in self.objectives))
        object.__setattr__(self, "violation", float(self.violation))
        finite = all(math.isfinite(value) for value in (*self.objectives, self.violation))
        if not self.objectives or not finite:
            raise UsageError(
                f"the evaluation of genome {self.genome} must give finite objectives and a finite "
                f"violation, got {self.objectives} and {self.violation}"
            )

    @property
    def feasible(self) -> bool:
        """Whether the constraint is met."""
        return self.violation <= 0


def dominates(a: Member, b: Member) -> bool:
    """Whether `a` is better than `b`: no objective larger and one smaller, feasibility first."""
    excess_a, excess_b = max(a.violation, 0.0), max(b.violation, 0.0)
    if excess_a != excess_b:
        return excess_a < excess_b
    pairs = list(zip(a.objectives, b.objectives, strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def front(members: Iterable[Member]) -> tuple[Member, ...]:
    """Members that no other dominates.

    Parameters
    ----------
    members : iterable of Member
        Everything evaluated, in any order, all with the same number of objectives.

    Returns
    -------
    tuple of Member
        By ascending size, then by the other objectives. Of members with equal objectives only
        the one with the smallest genome. If nothing is feasible, the front of the members with
        the smallest violation.
    """
    everything = tuple(members)
    least = min((max(member.violation, 0.0) for member in everything), default=0.0)
    distinct: dict[tuple[float, ...], Member] = {}
    for member in everything:
        if max(member.violation, 0.0) == least:
            known = distinct.get(member.objectives)
            if known is None or _order(member) < _order(known):
                distinct[member.objectives] = member
    kept = [distinct[objectives] for objectives in _minima(sorted(distinct))]
    return tuple(sorted(kept, key=lambda member: (member.objectives[-1], member.objectives)))


def _order(member: Member) -> tuple[Genome, float]:
    return member.genome, member.violation


def _minima(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Non-dominated points among distinct ones in lexicographic order.

    In that order no point is dominated by a later one, so one look at those kept is enough.
    """
    kept: list[tuple[float, ...]] = []
    if points and len(points[0]) == 2:
        for point in points:
            if not kept or point[1] < kept[-1][1]:
                kept.append(point)
        return kept
    table = np.empty((len(points), len(points[0]) if points else 0))
    for point in points:
        if not np.any(np.all(table[: len(kept)] <= point, axis=1)):
            table[len(kept)] = point
            kept.append(point)
    return kept


def hypervolume(members: Iterable[Member], reference: Sequence[float]) -> float:
    """Volume of objective space that the feasible members dominate, up to a reference point.

    Parameters
    ----------
    members : iterable of Member
        Any members; the dominated, the infeasible and those beyond the reference add nothing.
    reference : sequence of float
        The worst value of each objective that still counts.

    Returns
    -------
    float
        Zitzler and Thiele's S metric (1998), in the product of the objectives' units; 0 or more.

    Raises
    ------
    UsageError
        If the reference does not have one value for each objective.
    """
    feasible = [member for member in members if member.feasible]
    if not feasible:
        return 0.0
    if len(reference) != len(feasible[0].objectives):
        raise UsageError(
            f"the reference point must have one value for each of the "
            f"{len(feasible[0].objectives)} objectives, got {tuple(reference)}"
        )
    from pymoo.indicators.hv import HV

    points = np.array([member.objectives for member in front(feasible)])
    return float(HV(ref_point=np.asarray(reference, dtype=float))(points))
