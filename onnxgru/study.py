"""The search of a session: what a candidate costs, the journal, and the front as a document."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxgru.core import files, integers, objectives
from onnxgru.core.account import account
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import MAXIMUM_BITS, WIDTHS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.encoding import Encoding
from onnxgru.events import Searched, Stage
from onnxgru.front import FIGURES, FORMAT, ROUNDING, smallest, within
from onnxgru.report import versions
from onnxgru.search.batches import Batches
from onnxgru.search.front import Member, front
from onnxgru.search.genome import Genome
from onnxgru.search.journal import Journal
from onnxgru.search.nsga import Progress, Settings, search
from onnxgru.session import Session
from onnxgru.starts import allocated

WORST = 1e9
"""Objectives of a scheme whose accumulators could overflow; it is infeasible as well."""

_KEYED = (
    "granularity", "observer", "ranges", "rounding", "bias_correction", "input_bits",
    "accumulator_bits", "include", "exclude", "metric", "genome", "search_inputs", "widths",
    "genes", "share", "population", "seed",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search found.

    Parameters
    ----------
    document : dict
        What ``front.json`` holds.
    cloud : tuple of tuple
        Size and quality of everything evaluated.
    chosen : int
        Index of the member chosen.
    summary : dict
        What the report says of the search.
    """

    document: dict[str, Any]
    cloud: tuple[tuple[float, float], ...]
    chosen: int
    summary: dict[str, Any]

    @property
    def scheme(self) -> Scheme:
        """The scheme of the member chosen."""
        return Scheme.parse(self.document["members"][self.chosen]["scheme"], "front.json")


class Study:
    """Searches the schemes of a session.

    Parameters
    ----------
    session : Session
        The model and its data.
    """

    def __init__(self, session: Session) -> None:
        config = session.config
        self._session = session
        self.seen: list[Member] = []
        """What `run` has evaluated so far."""
        self.sizes = objectives.sizes(config.objectives)
        self._size = self.sizes[-1].key  # by which a member is chosen
        self.encoding = Encoding(
            session.layers,
            coupled=config.genome == "coupled",
            inputs=config.search_inputs,
            widths=integers.widths(config.widths),
            observers="observer" in config.genes,
            granularities="granularity" in config.genes,
            share=config.share,
            granularity=config.granularity,
            observer=config.observer,
            input_bits=config.input_bits,
        )

    @property
    def key(self) -> str:
        """Hash of everything an evaluation depends on besides its genome."""
        session = self._session
        settings = session.settings()
        parts = {
            "model": session.digest,
            "validation": session.data["validation"].digest(),
            "calibration": files.digest(session.calibration_bytes),
            "moments": [files.digest(stored) for stored in session.moments_files.values()],
            "settings": {name: settings[name] for name in _KEYED},
            "objectives": [size.key for size in self.sizes],
            "costs": [repr(s.measure) for s in self.sizes if s.key == "cost"],
            "versions": versions(),
        }
        return files.digest(json.dumps(parts, sort_keys=True).encode())

    def prepare(self) -> None:
        """Calibrate, and evaluate the float model: what can fail before a search begins."""
        self._session.listener(
            Stage("preparing the search (the first one on a machine compiles its kernels)")
        )
        self._session.float_quality("validation")
        _ = self.baseline
        if self._session.on_device:
            programs = (self._program(genome) for genome in self.encoding.starts())
            self._session.prove_device([p for p in programs if p is not None], "validation")

    @cached_property
    def baseline(self) -> float:
        """Error of uniform 8 bits on validation, which `max_drop` counts from."""
        session = self._session
        return session.metric.error(
            session.quality(session.lowering(self._uniform(MAXIMUM_BITS)), "validation")
        )

    def _uniform(self, bits: int) -> Scheme:
        """Uniform bits as the search has them, whether or not it may use that width."""
        if bits in self.encoding.widths:
            return self.encoding.scheme(self.encoding.uniform(bits))
        config = self._session.config
        return Scheme.uniform(
            self._session.layers,
            bits,
            granularity=config.granularity,
            observer=config.observer,
            input_bits=config.input_bits,
        )

    def starts(self) -> tuple[Genome, ...]:
        """The first population: uniform schemes, allocated ones, narrow weights alone."""
        plain = self.encoding.starts()
        count = len(self.encoding.widths)
        session = self._session
        guided = allocated(
            session.layers,
            session.calibration,
            self.encoding,
            observer=session.config.observer,
        )
        return tuple(dict.fromkeys([*plain[:count], *guided, *plain[count:]]))

    def evaluate(self, genome: Genome) -> Member:
        """Objectives of a genome's scheme, the error on validation first."""
        (member,) = self.evaluate_many([genome])
        return member

    def evaluate_many(self, genomes: Sequence[Genome]) -> Iterator[Member]:
        """Members of several genomes, in order, computed together where the device can."""
        session = self._session
        programs = [self._program(genome) for genome in genomes]
        figures = session.qualities([p for p in programs if p is not None], "validation")
        for genome, program in zip(genomes, programs, strict=True):
            if program is None:
                yield Member(genome, (WORST,) * (1 + len(self.sizes)), violation=1.0)
            else:
                error = session.metric.error(next(figures))
                yield Member(genome, (error, *(size.measure(program) for size in self.sizes)))

    def _program(self, genome: Genome) -> IntegerProgram | None:
        """A genome's program, None if its accumulators could overflow."""
        try:
            return self._session.lowering(self.encoding.scheme(genome))
        except OverflowProofError:
            return None

    def _workers(self) -> Executor:
        """What evaluates the genomes of a generation: threads, or a device all at once."""
        if self._session.on_device:
            return Batches(self.evaluate_many)
        return ThreadPoolExecutor(self._session.config.jobs or os.cpu_count())

    def _quality(self, error: float) -> float:
        metric = self._session.metric
        return 100.0 - error if metric.unit == "%" else -error if metric.higher_is_better else error

    def run(self, journal: Path, *, resume: bool) -> Outcome:
        """Search, with every evaluation in the journal.

        Raises
        ------
        OutputError
            If the journal belongs to another search, is damaged or in use, or the disk is full.
        """
        session, config = self._session, self._session.config
        session.listener(Stage("searching"))
        genes = self.encoding.space.genes
        names = ("error", *(size.key for size in self.sizes))
        limit = self.baseline + config.max_drop
        opened = Journal.resume if resume and journal.exists() else Journal.create
        seen = self.seen = []

        def report(progress: Progress) -> None:
            seen.append(progress.member)
            feasible = [m for m in seen if m.feasible]
            floor = min([self.baseline, *(m.objectives[0] for m in feasible)]) + config.max_drop
            kept = [m.objectives[-1] for m in feasible if m.objectives[0] <= floor + ROUNDING]
            session.listener(
                Searched(
                    progress,
                    self._quality(progress.member.objectives[0]),
                    progress.member.objectives[-1],
                    min(kept, default=None),
                )
            )

        with (
            opened(journal, self.key, genes, names) as log,
            self._workers() as workers,
        ):
            members = search(
                self.encoding.space,
                self.evaluate,
                Settings(
                    config.population, config.generations, config.seed, config.strategy, limit
                ),
                seeds=self.starts(),
                journal=log,
                report=report,
                executor=workers,
            )
        return self.outcome(members)

    def outcome(self, members: Sequence[Member]) -> Outcome:
        """The front of what was evaluated, judged on the hold-out data, and the member chosen."""
        session, config = self._session, self._session.config
        session.listener(Stage("judging the front on the hold-out data"))
        found = front(members)
        uniform = [{"bits": bits, **self._entry(self._uniform(bits))} for bits in reversed(WIDTHS)]
        entries = []
        for index, member in enumerate(found):
            scheme = self.encoding.scheme(member.genome)
            entries.append(
                {
                    "index": index,
                    **self._entry(scheme),
                    "genome": list(member.genome),
                    "scheme": json.loads(scheme.dumps()),
                }
            )
        document: dict[str, Any] = {
            "format": FORMAT,
            "metric": {
                "name": session.metric.name,
                "unit": session.metric.unit,
                "higher_is_better": session.metric.higher_is_better,
            },
            "objectives": {size.key: size.title for size in self.sizes},
            "size": self._size,
            "float_validation": self._float_quality("validation"),
            "genes": [gene.name for gene in self.encoding.space.genes],
            "uniform": uniform,
            "members": entries,
        }
        chosen = document["chosen"] = smallest(document, config.max_drop)["index"]
        cloud = tuple(
            (m.objectives[-1], self._quality(m.objectives[0])) for m in members if m.feasible
        )
        summary = {
            "evaluations": len(members),
            "members": len(found),
            "max_drop": config.max_drop,
            "within": entries[chosen] in within(document, config.max_drop),
            "genome": config.genome,
            "strategy": config.strategy,
            "objectives": document["objectives"],
            "size": self._size,
            "chosen": {k: v for k, v in entries[chosen].items() if k not in ("genome", "scheme")},
            "uniform_8": uniform[0],
        }
        return Outcome(document, cloud, chosen, summary)

    def _float_quality(self, role: str) -> float | None:
        """The float model's figure; None where it is compared with itself, and infinite."""
        figure = self._session.float_quality(role)
        return None if math.isinf(figure) else figure

    def _shown(self, program: IntegerProgram, role: str) -> float:
        """A program's figure as JSON can hold it: decibels within the metric's limits."""
        metric = self._session.metric
        figure = self._session.quality(program, role)
        return self._quality(metric.error(figure)) if math.isinf(figure) else figure

    def _entry(self, scheme: Scheme) -> dict[str, Any]:
        session = self._session
        program = session.lowering(scheme)
        sizes = account(program)
        return {
            "flash_bytes": sizes.flash_bytes,
            "weight_bits": sizes.weight_bits,
            "mean_bits": round(sizes.mean_bits, 4),
            "bitops": sizes.bitops,
            **{size.key: size.measure(program) for size in self.sizes if size.key == "cost"},
            **{
                role: self._shown(program, role) if role in session.data else None
                for role in FIGURES
            },
        }
