"""Hypervolume against evaluations spent: the published setting, ours, and random search.

On ``models/digits_row.onnx``, five seeds, 40 x 20 evaluations each:

- *published*: Miccini et al. 2024, one gene an operator (weights and output tied), all of the first
  population drawn at random, plain NSGA-II;
- *ours*: the defaults of ``onnxgru quantize --search``; *plain* the same with plain NSGA-II,
  *uniform starts* without the starting schemes that follow the quantisation noise;
- *random*: genomes of ours drawn at random.

Objectives are the error on validation data, in %, and flash bytes. The reference point is the same
for all: 90 % error, which guessing one of ten digits has, and the flash of uniform 8 bits.
Hypervolumes are given as a share of the box between it and zero.

    python -m benchmarks.hypervolume [--quick] [--json FILE]
"""

import os
import statistics
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measure import arguments, show
from onnxgru.core.choices import WIDTHS
from onnxgru.search.evolution import unseen
from onnxgru.search.front import Member, front, hypervolume
from onnxgru.search.genome import Genome
from onnxgru.search.nsga import SearchSettings, search
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.study import Study

MODEL = Path(__file__).parent.parent / "models" / "digits_row.onnx"
POPULATION, GENERATIONS = 40, 20
WORST_ERROR = 90.0
CHECKPOINTS = (40, 100, 200, 400, 800)


class Arm:
    """One way to search; evaluations are shared by its seeds."""

    def __init__(
        self,
        study: Study,
        settings: SearchSettings,
        starts: Sequence[Genome],
        *,
        random: bool = False,
    ) -> None:
        self.study, self.settings, self.starts, self.random = study, settings, starts, random
        self.known: dict[Genome, Member] = {}

    def evaluate(self, genome: Genome) -> Member:
        """A member, remembered."""
        if genome not in self.known:
            self.known[genome] = self.study.evaluate(genome)
        return self.known[genome]

    def run(self, seed: int, workers: Executor) -> tuple[Member, ...]:
        """Everything evaluated, in order."""
        space = self.study.encoding.space
        if self.random:
            generator, genomes = np.random.default_rng(seed), dict[Genome, None]()
            while len(genomes) < self.settings.evaluations:
                genomes[unseen(space, set(genomes), generator)] = None
            return tuple(workers.map(self.evaluate, genomes))
        settings = replace(self.settings, seed=seed)
        return search(space, self.evaluate, settings, seeds=self.starts, workers=workers)


def curve(members: Sequence[Member], reference: tuple[float, float]) -> list[float]:
    """Hypervolume after each evaluation, as a share of the box."""
    box = reference[0] * reference[1]
    kept: tuple[Member, ...] = ()
    volumes: list[float] = []
    for member in members:
        grown = front((*kept, member))
        changed = grown != kept
        kept = grown
        volumes.append(hypervolume(kept, reference) / box if changed else volumes[-1])
    return volumes


def reached(volumes: Sequence[float], goal: float) -> int | None:
    """Evaluations until a hypervolume is reached."""
    return next((count for count, v in enumerate(volumes, start=1) if v >= goal), None)


def main() -> None:
    """Search and print."""
    parsed = arguments(__doc__)
    seeds = range(1 if parsed.quick else 5)
    config = Config(search=True, rounding="nearest", ranges="plain")  # searches alone are compared
    ours = Study(*Session.open(MODEL, config).parts)
    coupled = Study(*Session.open(MODEL, replace(config, genome="coupled")).parts)
    limit = ours.baseline + ours.max_drop
    reference = WORST_ERROR, ours.evaluate(ours.encoding.uniform(8)).objectives[-1]
    generations = 2 if parsed.quick else GENERATIONS
    plain = SearchSettings(POPULATION, generations, strategy="plain")
    guided = replace(plain, strategy=Config().strategy, limit=limit)
    starts = ours.starts
    arms = {
        "published": Arm(coupled, plain, ()),
        "ours": Arm(ours, guided, starts),
        "plain": Arm(ours, plain, starts),
        "uniform starts": Arm(ours, guided, ours.encoding.starts()[: len(WIDTHS)]),
        "random": Arm(ours, plain, (), random=True),
    }
    figures: dict[str, float | str] = {
        "seeds": len(seeds),
        "evaluations": plain.evaluations,
        "reference point": f"{reference[0]:g} % error, {reference[1]:g} flash bytes",
    }
    volumes: dict[str, list[list[float]]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for name, arm in arms.items():
            runs = [arm.run(seed, workers) for seed in seeds]
            volumes[name] = [curve(members, reference) for members in runs]
            for count in [n for n in CHECKPOINTS if n <= plain.evaluations]:
                middle = statistics.median(v[count - 1] for v in volumes[name])
                figures[f"hypervolume after {count} ({name}, median)"] = middle
            sizes = [
                min((m.objectives[-1] for m in members if m.objectives[0] <= limit), default=None)
                for members in runs
            ]
            figures[f"smallest within 0.5 points of uniform 8 bits, bytes ({name}, median)"] = (
                "none" if None in sizes else statistics.median(filter(None, sizes))
            )
    goals = [v[-1] for v in volumes["published"]]
    for name in [name for name in arms if name != "published"]:
        counts = [reached(v, goal) for v, goal in zip(volumes[name], goals, strict=True)]
        text = "evaluations to reach the published final hypervolume"
        if None in counts:
            figures[f"{text} ({name}, median)"] = "not reached"
            continue
        middle = statistics.median(count for count in counts if count is not None)
        label = "median" if name == "ours" else f"{name}, median"
        figures[f"{text} ({label})"] = middle
        figures[f"ratio of them to {plain.evaluations} ({label})"] = middle / plain.evaluations
    show(figures, parsed)


if __name__ == "__main__":
    main()
