"""A toy problem whose exact front is known, and a process that searches it until it is killed."""

import itertools
import sys
import time
from pathlib import Path

from onnxgru.search.front import Member
from onnxgru.search.genome import Gene, Genome, Space
from onnxgru.search.journal import Journal
from onnxgru.search.nsga import SearchSettings, search

WIDTHS = tuple(range(2, 9))
SENSITIVITIES = (3.7, 1.1, 0.4, 0.09)
WEIGHTS = (10, 70, 30, 50)
SPACE = Space(tuple(Gene(f"operator{index}", WIDTHS) for index in range(4)))
SEEDS = tuple(SPACE.uniform(width) for width in (8, 4, 2))
OBJECTIVES = ("error", "bytes")
KEY = "5d" * 32


def evaluate(genome: Genome) -> Member:
    """Noise of 6 dB a bit, and packed weights: an error with long fractions, and a size."""
    error = sum(s * 4.0**-bits for s, bits in zip(SENSITIVITIES, genome, strict=True))
    size = sum(w * bits for w, bits in zip(WEIGHTS, genome, strict=True))
    return Member(genome, (error, size))


def exact() -> list[tuple[float, ...]]:
    """Objectives of the front, by enumeration: the smallest error of each size, if it is news."""
    best: dict[float, float] = {}
    for genome in itertools.product(WIDTHS, repeat=4):
        error, size = evaluate(genome).objectives
        best[size] = min(error, best.get(size, error))
    kept: list[tuple[float, ...]] = []
    for size in sorted(best):
        if not kept or best[size] < kept[-1][0]:
            kept.append((best[size], size))
    return kept


def main(path: Path, settings: SearchSettings, seconds: float) -> None:
    """Search with a journal, slowly."""

    def slowly(genome: Genome) -> Member:
        time.sleep(seconds)
        return evaluate(genome)

    start = Journal.resume if path.exists() else Journal.create
    with start(path, KEY, SPACE.genes, OBJECTIVES) as journal:
        search(SPACE, slowly, settings, seeds=SEEDS, journal=journal)


if __name__ == "__main__":
    population, generations, seed = (int(text) for text in sys.argv[2:5])
    main(
        Path(sys.argv[1]),
        SearchSettings(population, generations, seed, "plain"),
        float(sys.argv[5]),
    )
