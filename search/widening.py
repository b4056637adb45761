"""Widening: a genome's widths grow as far as they fit, where that helps most a byte.

A search judges by a figure that may be as coarse as the accuracy of some hundred sequences, and
keeps widths that cost nothing as narrow as chance left them. Here first everything grows that is
free; then, one step at a time, what raises the score most for what it costs. Gains that were
measured before an earlier step are looked at again only where they could still be the largest
(Minoux 1978, "Accelerated greedy algorithms for maximizing submodular set functions").
"""

import math
from collections.abc import Callable, Iterable

from onnxgru.search.genome import Genome, Space


def widened(
    space: Space,
    genome: Genome,
    genes: Iterable[str],
    score: Callable[[Genome], float],
    cost: Callable[[Genome], float | None],
    report: Callable[[float], None] = lambda _cost: None,
) -> Genome:
    """A genome none of whose genes can grow to any use.

    Parameters
    ----------
    space : Space
        Its genes.
    genome : Genome
        To start from.
    genes : iterable of str
        Names of those that may grow: more is wider.
    score : callable
        How good a genome is, larger is better, finite.
    cost : callable
        What a genome costs, cheap to ask; None where it must not be.
    report : callable, optional
        Receives the cost after every step.

    Returns
    -------
    Genome
        With a score no lower; the genome itself where it costs None.
    """
    spent, reached = cost(genome), score(genome)
    if spent is None:
        return genome
    wanted = set(genes)
    places = [place for place, gene in enumerate(space.genes) if gene.name in wanted]
    free = _free(space, genome, places, cost, spent)
    if free != genome and (found := score(free)) >= reached:
        genome, reached = free, found
        report(spent)
    gains = dict.fromkeys(places, math.inf)  # a byte, when last looked at
    while True:
        steps = {}
        for place in places:
            for wider in _wider(space, genome, place)[:1]:
                if (asked := cost(wider)) is not None:
                    steps[place] = wider, asked
        best, scores = -1, dict[int, float]()
        for place in sorted(steps, key=lambda place: -gains[place]):
            if scores and 0 < gains[best] >= gains[place]:
                break
            wider, asked = steps[place]
            scores[place] = score(wider)
            gains[place] = _rate(scores[place] - reached, asked - spent)
            if len(scores) == 1 or gains[place] > gains[best]:
                best = place
        if not scores or gains[best] <= 0:
            return genome
        (genome, spent), reached = steps[best], scores[best]
        report(spent)


def _free(
    space: Space,
    genome: Genome,
    places: Iterable[int],
    cost: Callable[[Genome], float | None],
    spent: float,
) -> Genome:
    """The genome with everything wider that costs no more."""
    for place in places:
        for wider in _wider(space, genome, place)[::-1]:
            asked = cost(wider)
            if asked is not None and asked <= spent:
                genome = wider
                break
    return genome


def _rate(gain: float, price: float) -> float:
    """Gain for a price; whatever costs nothing goes first."""
    return gain / price if price > 0 else math.copysign(math.inf, gain) if gain else 0.0


def _wider(space: Space, genome: Genome, place: int) -> list[Genome]:
    """The genomes with one gene wider, ascending."""
    return [
        (*genome[:place], choice, *genome[place + 1 :])
        for choice in space.genes[place].choices
        if choice > genome[place]
    ]
