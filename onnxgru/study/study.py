"""The search over schemes of a model: evaluation of candidates, the journal, and the front."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxgru.core import cache, files
from onnxgru.core.choices import MAXIMUM_BITS, WIDTHS
from onnxgru.core.errors import DivergedError, OverflowProofError
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.cost import objectives
from onnxgru.cost.account import Account, account
from onnxgru.cost.objectives import Size
from onnxgru.data import intervals, metrics
from onnxgru.data.sources import ROLES
from onnxgru.documents import front as fronts
from onnxgru.documents.front import ROUNDING, Front, Uniform
from onnxgru.documents.remarks import finite
from onnxgru.events import Goal, Listener, Searched, Stage, silent
from onnxgru.report.front import FIGURES
from onnxgru.report.record import versions
from onnxgru.search.front import Member, front
from onnxgru.search.genome import Genome
from onnxgru.search.journal import Journal
from onnxgru.search.nsga import Progress, SearchSettings, Workers, search
from onnxgru.session.quantizer import Quantizer, uniform
from onnxgru.session.recordings import HOLDOUT
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config
from onnxgru.settings.declare import declared, dependent, keyed
from onnxgru.settings.finetuning import Finetuning
from onnxgru.settings.search import AUTO
from onnxgru.study import listening
from onnxgru.study.allocation import Allocation
from onnxgru.study.encoding import Encoding
from onnxgru.study.problem import WORST, Parts, PicklableProblem, Problem, encoding, shared

_ROLE = "validation"
_OTHERS = ("cost", objectives.OPERATIONS)
"""Objectives that no account of a program has."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a search.

    Parameters
    ----------
    front : Front
        The front, with the chosen member.
    cloud : tuple of tuple
        Size and quality of everything that was evaluated.
    summary : dict
        The entry ``search`` of ``report.json``.
    """

    front: Front
    cloud: tuple[tuple[float, float], ...]
    summary: dict[str, Any]

    @property
    def scheme(self) -> Scheme:
        """The scheme of the member chosen."""
        return self.front.members[self.front.chosen].parsed()


Tune = Callable[[Quantizer, Scheme], tuple[Yardstick, IntegerProgram]]
"""Fine-tunes a scheme: gives the yardstick that judges the program, and the program."""


@dataclass(frozen=True, eq=False)
class TunedProblem:
    """Evaluates genomes, with every scheme fine-tuned before it is judged.

    Parameters
    ----------
    quantizer : Quantizer
        Lowers schemes of the model.
    encoding : Encoding
        Makes schemes of genomes.
    tune : callable
        Fine-tunes a scheme.
    sizes : tuple of Size
        The objectives beside the error.
    """

    quantizer: Quantizer
    encoding: Encoding
    tune: Tune
    sizes: tuple[Size, ...]

    def __call__(self, genome: Genome) -> Member:
        """Objectives of a genome's scheme, the error first."""
        try:
            yardstick, program = self.tune(self.quantizer, self.encoding.scheme(genome))
        except (OverflowProofError, DivergedError):
            return Member(genome, (WORST,) * (1 + len(self.sizes)), violation=1.0)
        error = yardstick.metric.error(yardstick.quality(program, _ROLE))
        return Member(genome, (error, *(size.value(program, None) for size in self.sizes)))


class Study:
    """Searches the schemes of a model.

    Parameters
    ----------
    quantizer : Quantizer
        Lowers schemes of the model.
    yardstick : Yardstick
        Judges programs of the model.
    config : Config
        Settings of the search.
    listener : callable, optional
        Receives the events of `onnxgru.events`.
    tune : callable, optional
        Fine-tunes every scheme before it is judged; schemes are only rounded where left out.
    trained_on : str
        Hash of the training data of `tune`.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        yardstick: Yardstick,
        config: Config,
        listener: Listener = silent,
        tune: Tune | None = None,
        trained_on: str = "",
    ) -> None:
        self._quantizer, self._yardstick, self._config = quantizer, yardstick, config
        self._tell, self._tune, self._trained_on = listener, tune, trained_on
        self.seen: list[Member] = []
        """Candidates that `run` has evaluated so far."""
        self.sizes = objectives.sizes(config.objectives)
        self._size = self.sizes[-1].key  # by which a member is chosen
        self.encoding = encoding(quantizer.model.layers, config)

    @cached_property
    def parts(self) -> dict[str, Any]:
        """Everything besides the genome that an evaluation depends on, by names for users."""
        statistics, settings = self._quantizer.statistics, self._config.document()
        tunes, tuning = self._tune is not None, dependent(Finetuning)
        parts = {
            "model": self._quantizer.model.digest,
            "validation data": self._yardstick.data[_ROLE].digest(),
            "calibration": files.digest(statistics.calibration_bytes),
            **{name: files.digest(stored) for name, stored in statistics.moments_files.items()},
            **{name: settings[name] for name in keyed(Config) if tunes or name not in tuning},
            "objectives": [size.key for size in self.sizes],
            "cost table": [repr(s.measure) for s in self.sizes if s.key == "cost"],
            **{f"version of {name}": version for name, version in versions().items()},
        }
        return parts | ({"training data": self._trained_on} if tunes else {})

    @property
    def key(self) -> str:
        """Hash of `parts`."""
        return files.digest(json.dumps(self.parts, sort_keys=True).encode())

    def prepare(self) -> None:
        """Evaluate the float model and the first schemes, so that mistakes show before a search.

        Raises
        ------
        OverflowProofError
            If no scheme to start with fits the accumulators.
        """
        layers, config = self._quantizer.model.layers, self._config
        if config.share == AUTO and (share := shared(layers, config)) != "none":
            self._tell(
                Stage(
                    f"{len(layers)} layers: operators of one name share a gene, as with --share "
                    f"{share}; --share none gives each its own"
                )
            )
        first = "" if cache.holds_kernels() else " (the first on a machine compiles its kernels)"
        self._tell(Stage(f"preparing the search{first}"))
        self._yardstick.float_quality(_ROLE)
        _ = self.baseline, self.starts
        if isinstance(self.evaluate, Problem):
            self.evaluate.prove()

    @cached_property
    def baseline(self) -> float:
        """Error of uniform 8 bits on validation data.

        It is measured even where 8 bits do not fit the accumulators, as an error to compare with.
        """
        yardstick, program = self._made(self._quantizer.unbounded, self._uniform(MAXIMUM_BITS))
        return yardstick.metric.error(yardstick.quality(program, _ROLE))

    def _goal(self) -> Goal:
        """The goal of the search, with the figures of uniform 8 bits."""
        metric, size = self._yardstick.metric, self.sizes[-1]
        program = self._quantizer.unbounded(self._uniform(MAXIMUM_BITS))
        counted = self._counted(self._yardstick, program)
        title, _, unit = (
            size.title.rpartition(" ") if size.key == "flash_bytes" else (size.title, "", "")
        )
        return Goal(
            metric.name,
            metric.unit,
            title,
            unit,
            f"{self.max_drop:g} {metric.drop_unit}".strip(),
            (size.value(program, counted), metric.quality(self.baseline)),
        )

    @cached_property
    def max_drop(self) -> float:
        """How far the chosen member may fall, in the metric's unit."""
        asked = self._config.max_drop
        if asked is not None:
            return asked
        metric = self._yardstick.metric
        return metric.default_drop(metric.quality(self.baseline))

    def _made(self, quantizer: Quantizer, scheme: Scheme) -> tuple[Yardstick, IntegerProgram]:
        """The program of a scheme, fine-tuned where candidates are, and the yardstick for it."""
        if self._tune is None:
            return self._yardstick, quantizer(scheme)
        return self._tune(quantizer, scheme)

    def _uniform(self, bits: int) -> Scheme:
        """A uniform scheme with the search's other settings, of any width."""
        if bits in self.encoding.widths:
            return self.encoding.scheme(self.encoding.uniform(bits))
        layers = self._quantizer.model.layers
        plain = uniform(layers, bits, self._config)
        return plain.with_thresholds(layers, lambda *_: 0) if self.encoding.thresholds else plain

    def _counted(self, yardstick: Yardstick, program: IntegerProgram) -> float | None:
        """Count of operations of a program on validation data; None where no objective needs it."""
        if not objectives.counts(self.sizes):
            return None
        return yardstick.judge(_ROLE).measured(program)[1].left

    @cached_property
    def _allocation(self) -> Allocation:
        quantizer = self._quantizer
        return Allocation(
            quantizer.model.layers,
            quantizer.statistics.calibration,
            self.encoding,
            self._config.observer,
        )

    @cached_property
    def starts(self) -> tuple[Genome, ...]:
        """The first population: uniform schemes, allocated ones, and narrow weights alone.

        Bits are allocated by the noise at the outputs, then by that of the operators. Schemes that
        do not fit the accumulators are left out; with narrow accumulators these are most.
        """
        plain = self.encoding.starts()
        count = len(self.encoding.widths)
        allocation = self._allocation
        heard = listening.measured(
            self._quantizer.unbounded,
            self._yardstick,
            self.encoding,
            allocation.groups(),
            self._evaluations,
            jobs=self._config.jobs,
            listener=self._tell,
        )
        guided = (*(allocation.heard(heard).starts() if heard else ()), *allocation.starts())
        found = dict.fromkeys([*plain[:count], *guided, *plain[count:]])
        fitting = tuple(genome for genome in found if self._lowered(genome) is not None)
        if not fitting:
            widths = self.encoding.widths
            raise OverflowProofError(
                f"accumulators of {self._config.accumulator_bits} bits are too narrow for "
                f"every width searched, {widths[0]} to {widths[-1]} bits; allow wider ones"
            )
        return fitting

    @property
    def _evaluations(self) -> int:
        config = self._config
        return min(config.population * config.generations, self.encoding.space.size)

    def _lowered(self, genome: Genome) -> IntegerProgram | None:
        """A genome's program without fine-tuning; None if its accumulators could overflow."""
        try:
            return self._quantizer(self.encoding.scheme(genome))
        except OverflowProofError:
            return None

    @cached_property
    def evaluate(self) -> Problem | TunedProblem:
        """Objectives of a genome's scheme, the error on validation first."""
        if self._tune is not None:
            return TunedProblem(self._quantizer, self.encoding, self._tune, self.sizes)
        return Problem(self.encoding, self._quantizer, self._yardstick.judge(_ROLE), self.sizes)

    def picklable(self) -> PicklableProblem:
        """`evaluate` in a form that can be sent to another process.

        Raises
        ------
        ModelError
            If the model is larger than 2 GiB.
        """
        quantizer, yardstick = self._quantizer, self._yardstick
        no_data: dict[str, Any] = dict.fromkeys((*ROLES, "training_data"))
        return PicklableProblem(
            Parts(
                quantizer.model.serialized(),
                replace(self._config, **no_data),
                quantizer.statistics,
                yardstick.data[_ROLE],
                yardstick.metric.name,
                yardstick.targets(_ROLE),
                self.sizes,
            )
        )

    def run(self, journal: Path, *, resume: bool, workers: Workers) -> Outcome:
        """Search, with every evaluation in the journal.

        Parameters
        ----------
        journal : Path
            Path of the journal, which may exist.
        resume : bool
            Go on with a journal that is there.
        workers : Workers
            Evaluate the candidates; in other processes, if the configuration names a scheduler.

        Raises
        ------
        OutputError
            If the journal belongs to another search, is damaged or in use, or the disk is full.
        ClusterError
            If the workers or their scheduler fail.
        """
        config, metric = self._config, self._yardstick.metric
        self._tell(Stage("searching"))
        genes = self.encoding.space.genes
        names = ("error", *(size.key for size in self.sizes))
        limit = self.baseline + self.max_drop
        opened = Journal.resume if resume and journal.exists() else Journal.create
        seen = self.seen = []
        goal = self._goal()

        def report(progress: Progress) -> None:
            seen.append(progress.member)
            feasible = [m for m in seen if m.feasible]
            least = min([self.baseline, *(m.objectives[0] for m in feasible)])
            floor = least + self.max_drop
            kept = [m.objectives[-1] for m in feasible if m.objectives[0] <= floor + ROUNDING]
            self._tell(
                Searched(
                    progress,
                    metric.quality(progress.member.objectives[0]),
                    progress.member.objectives[-1],
                    min(kept, default=None),
                    metric.quality(least),
                    goal,
                )
            )

        with opened(journal, self.key, genes, names, self.parts) as log:
            members = search(
                self.encoding.space,
                self.evaluate if config.scheduler is None else self.picklable(),
                SearchSettings(
                    config.population, config.generations, config.seed, config.strategy, limit
                ),
                seeds=self.starts,
                journal=log,
                report=report,
                workers=workers,
            )
        return self.outcome(members)

    def outcome(self, members: Sequence[Member]) -> Outcome:
        """The front of what was evaluated, judged on the hold-out data, and the member chosen."""
        yardstick, config = self._yardstick, self._config
        more = " on the hold-out data" if HOLDOUT in yardstick.data else ""
        self._tell(Stage(f"judging the front{more}"))
        found = front(members)
        wide = self._quantizer.unbounded
        widths = tuple(reversed(WIDTHS))
        # Fine-tuning a candidate is not for threads.
        with ThreadPoolExecutor(1 if self._tune else config.jobs or os.cpu_count()) as workers:
            figures = workers.map(lambda bits: self._measured(wide, self._uniform(bits)), widths)
            uniform = [
                Uniform(bits=bits, **known) for bits, known in zip(widths, figures, strict=True)
            ]
            genomes = [member.genome for member in found]
            entries = list(workers.map(self.entry, range(len(genomes)), genomes))
        data = {role: yardstick.data[role] for role in FIGURES if role in yardstick.data}
        metric = yardstick.metric
        made = Front(
            fronts.Metric(metric.name, metric.unit, metric.higher_is_better),
            {size.key: size.title for size in self.sizes},
            self._size,
            config.accumulator_bits,
            yardstick.float_figure(_ROLE),
            {role: intervals.recordings(known) for role, known in data.items()},
            tuple(gene.name for gene in self.encoding.space.genes),
            tuple(uniform),
            tuple(entries),
        )
        best = made.smallest(self.max_drop)
        chosen, made = best.index, replace(made, chosen=best.index)
        cloud = tuple(
            (m.objectives[-1], metric.quality(m.objectives[0])) for m in members if m.feasible
        )
        summary = {
            "evaluations": len(members),
            "members": len(found),
            "max_drop": self.max_drop,
            "within": best in made.within(self.max_drop),
            "genome": config.genome,
            "strategy": config.strategy,
            "objectives": dict(made.objectives),
            "size": self._size,
            "first_choice": chosen,
            "chosen": best.summary(),
            "uniform_8": uniform[0].document(),
        }
        if self._tune is None:
            schemes = (self.encoding.scheme(found[chosen].genome), self._uniform(MAXIMUM_BITS))
            apart = _apart(yardstick, *(wide(scheme) for scheme in schemes))
            summary["to_uniform_8"] = {"index": chosen, **apart}
        else:
            settings = config.document()
            summary["finetuning"] = {
                "sha256": self._trained_on,
                "settings": {name: settings[name] for name in declared(Finetuning)},
            }
        return Outcome(made, cloud, summary)

    def entry(
        self, index: int, genome: Genome, *, widened_from: int | None = None
    ) -> fronts.Member:
        """A member of the front: sizes, figures, genome and scheme."""
        scheme = self.encoding.scheme(genome)
        return fronts.Member(
            index=index,
            genome=genome,
            scheme=json.loads(scheme.dumps()),
            widened_from=widened_from,
            **self._measured(self._quantizer, scheme),
        )

    def widened(
        self,
        genome: Genome,
        fits: Callable[[Account], bool],
        report: Callable[[int], None] = lambda _flash_bytes: None,
    ) -> Genome:
        """Widen a genome until no wider width fits; see `allocation`.

        Parameters
        ----------
        genome : Genome
            The genome to start from, which fits.
        fits : callable
            Tells whether sizes are allowed.
        report : callable, optional
            Receives the flash bytes after every step.
        """

        def allowed(other: Genome) -> bool:
            program = self._lowered(other)
            if program is None:
                return False
            sizes = account(program)
            if fitting := fits(sizes):
                report(sizes.flash_bytes)
            return fitting

        return self._allocation.widened(genome, allowed)

    def _measured(self, quantizer: Quantizer, scheme: Scheme) -> dict[str, Any]:
        yardstick, program = self._made(quantizer, scheme)
        sizes, counted = account(program), self._counted(yardstick, program)
        return {
            "flash_bytes": sizes.flash_bytes,
            "weight_bits": sizes.weight_bits,
            "mean_bits": round(sizes.mean_bits, 4),
            "accumulator_bits": sizes.accumulator_bits,
            "bitops": sizes.bitops,
            **{s.key: s.value(program, counted) for s in self.sizes if s.key in _OTHERS},
            **_figures(yardstick, program),
        }


def _figures(yardstick: Yardstick, program: IntegerProgram) -> dict[str, Any]:
    """Figures of a program by role and their 95 % intervals, as JSON can hold them.

    Decibels are within the metric's limits; None where there are no data.
    """
    found: dict[str, Any] = {}
    for role in FIGURES:
        found[role] = found[f"{role}_interval"] = None
        if role in yardstick.data:
            judge = yardstick.judge(role)
            known = judge.estimate(judge.outputs(program))
            known_interval = finite(known.interval)
            found |= {
                role: metrics.limited(known.figure),
                f"{role}_interval": None if known_interval is None else tuple(known_interval),
            }
    return found


def _apart(yardstick: Yardstick, program: IntegerProgram, other: IntegerProgram) -> dict[str, Any]:
    """95 % intervals of how much better one program is than another, by role."""
    found: dict[str, Any] = {}
    for role in FIGURES:
        found[role] = None
        if role in yardstick.data:
            judge = yardstick.judge(role)
            known = intervals.difference(
                *(judge.sums(judge.outputs(one)) for one in (program, other))
            )
            found[role] = None if known is None else finite(known[1])
    return found
