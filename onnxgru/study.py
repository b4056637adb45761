"""The search of a session: what a candidate costs, the journal, and the front as a document."""

import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxgru.core import files
from onnxgru.core.account import account
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import WIDTHS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.encoding import Encoding
from onnxgru.events import Searched, Stage
from onnxgru.front import FORMAT
from onnxgru.report import versions
from onnxgru.search.front import Member, choose, front
from onnxgru.search.genome import Genome
from onnxgru.search.journal import Journal
from onnxgru.search.nsga import Progress, Settings, search
from onnxgru.session import Session

WORST = 1e9
"""Objectives of a scheme whose accumulators could overflow; it is infeasible as well."""

_KEYED = (
    "granularity", "observer", "input_bits", "accumulator_bits", "include", "exclude", "metric",
    "genome", "search_inputs", "size_metric", "population", "seed",
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
        self._size = "flash_bytes" if config.size_metric == "flash" else "weight_bits"
        self.encoding = Encoding(
            session.layers,
            coupled=config.genome == "coupled",
            inputs=config.search_inputs,
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
            "settings": {name: settings[name] for name in _KEYED},
            "versions": versions(),
        }
        return files.digest(json.dumps(parts, sort_keys=True).encode())

    def prepare(self) -> None:
        """Calibrate, and evaluate the float model: what can fail before a search begins."""
        self._session.listener(Stage("preparing the search"))
        self._session.float_quality("validation")
        self.evaluate(self.encoding.uniform(max(WIDTHS)))

    def evaluate(self, genome: Genome) -> Member:
        """Error on validation and size of a genome's scheme."""
        session = self._session
        try:
            program = session.lowering(self.encoding.scheme(genome))
        except OverflowProofError:
            return Member(genome, (WORST, WORST), violation=1.0)
        error = session.metric.error(session.quality(program, "validation"))
        return Member(genome, (error, float(self._cost(program))))

    def _cost(self, program: Any) -> int:
        sizes = account(program)
        return sizes.flash_bytes if self._size == "flash_bytes" else sizes.weight_bits

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
        objectives = ("error", self._size)
        opened = Journal.resume if resume and journal.exists() else Journal.create
        seen: list[Member] = []

        def report(progress: Progress) -> None:
            seen.append(progress.member)
            limit = seen[0].objectives[0] + config.max_drop
            within = [m.objectives[1] for m in seen if m.feasible and m.objectives[0] <= limit]
            session.listener(
                Searched(
                    progress,
                    self._quality(progress.member.objectives[0]),
                    progress.member.objectives[1],
                    min(within, default=None),
                )
            )

        with (
            opened(journal, self.key, genes, objectives) as log,
            ThreadPoolExecutor(config.jobs or os.cpu_count()) as workers,
        ):
            members = search(
                self.encoding.space,
                self.evaluate,
                Settings(config.population, config.generations, config.seed),
                seeds=self.encoding.starts(),
                journal=log,
                report=report,
                executor=workers,
            )
        return self._outcome(members)

    def _outcome(self, members: Sequence[Member]) -> Outcome:
        session, config = self._session, self._session.config
        session.listener(Stage("judging the front on the hold-out data"))
        found = front(members)
        uniform = [
            {"bits": bits, **self._entry(self.encoding.uniform(bits))} for bits in reversed(WIDTHS)
        ]
        first = members[0]  # uniform 8 bits, which every search starts with
        best = choose(found, first.objectives[0] + config.max_drop)
        entries = []
        for index, member in enumerate(found):
            scheme = self.encoding.scheme(member.genome)
            entries.append(
                {
                    "index": index,
                    **self._entry(member.genome),
                    "genome": list(member.genome),
                    "scheme": json.loads(scheme.dumps()),
                }
            )
        chosen = found.index(best)
        document = {
            "format": FORMAT,
            "metric": {"name": session.metric.name, "unit": session.metric.unit},
            "size": self._size,
            "float_validation": self._float_quality("validation"),
            "genes": [gene.name for gene in self.encoding.space.genes],
            "chosen": chosen,
            "uniform": uniform,
            "members": entries,
        }
        cloud = tuple(
            (m.objectives[1], self._quality(m.objectives[0])) for m in members if m.feasible
        )
        summary = {
            "evaluations": len(members),
            "members": len(found),
            "max_drop": config.max_drop,
            "genome": config.genome,
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

    def _entry(self, genome: Genome) -> dict[str, Any]:
        session = self._session
        program = session.lowering(self.encoding.scheme(genome))
        sizes = account(program)
        return {
            "flash_bytes": sizes.flash_bytes,
            "weight_bits": sizes.weight_bits,
            "mean_bits": round(sizes.mean_bits, 4),
            "validation": self._shown(program, "validation"),
            "holdout": self._shown(program, "holdout") if "holdout" in session.data else None,
        }
