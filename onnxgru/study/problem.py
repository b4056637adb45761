"""The objectives of a genome, evaluated in this process or in another one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy.typing as npt

from onnxgru.core import choices, skip
from onnxgru.core.errors import OverflowProofError
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.cost.objectives import Size, counts
from onnxgru.data import metrics
from onnxgru.data.dataset import Recorded
from onnxgru.search.front import Member
from onnxgru.search.genome import Genome
from onnxgru.session.judge import Judge
from onnxgru.session.model import read
from onnxgru.session.quantizer import Quantizer
from onnxgru.session.statistics import Statistics
from onnxgru.settings.config import Config
from onnxgru.settings.search import AUTO
from onnxgru.study.encoding import Encoding

Array = npt.NDArray[Any]

WORST = 1e9
"""Objectives of a scheme whose accumulators could overflow; it is infeasible as well."""


MANY = 4
"""With more recurrent layers than this, operators share genes where `share` is auto."""


def shared(layers: Sequence[Layer], config: Config) -> str:
    """The grouping of genes: as configured, or by the number of layers."""
    if config.share != AUTO:
        return config.share
    return "operator" if sum(layer.recurrent for layer in layers) > MANY else "none"


def encoding(layers: Sequence[Layer], config: Config) -> Encoding:
    """The genomes that a configuration asks for."""
    return Encoding(
        layers,
        coupled=config.genome == "coupled",
        inputs=config.search_inputs,
        widths=choices.widths(config.widths),
        observers="observer" in config.genes,
        granularities="granularity" in config.genes,
        thresholds="threshold" in config.genes,
        share=shared(layers, config),
        granularity=config.granularity,
        observer=config.observer,
        input_bits=config.input_bits,
        cell_state=config.cell_state,
        skipped=skip.named(layers, config.skip),
        wide_states=config.wide_states,
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """Evaluates genomes.

    Parameters
    ----------
    encoding : Encoding
        Makes schemes of genomes.
    lowering : callable
        Makes programs of schemes.
    judge : Judge
        Measures the error of programs.
    sizes : tuple of Size
        The objectives beside the error.
    """

    encoding: Encoding
    lowering: Callable[[Scheme], IntegerProgram]
    judge: Judge
    sizes: tuple[Size, ...]

    def __call__(self, genome: Genome) -> Member:
        """Objectives of a genome's scheme, the error first."""
        (member,) = self.many([genome])
        return member

    def many(self, genomes: Sequence[Genome]) -> Iterator[Member]:
        """Members of several genomes, in order, run together where the judge has a device."""
        programs = [self._program(genome) for genome in genomes]
        figures = self._figures([p for p in programs if p is not None])
        for genome, program in zip(genomes, programs, strict=True):
            if program is None:
                yield Member(genome, (WORST,) * (1 + len(self.sizes)), violation=1.0)
            else:
                figure, counted = next(figures)
                error = self.judge.metric.error(figure)
                values = (size.value(program, counted) for size in self.sizes)
                yield Member(genome, (error, *values))

    def _figures(self, programs: Sequence[IntegerProgram]) -> Iterator[tuple[float, float | None]]:
        """Figures of programs, with the count of operations where that is an objective."""
        if not counts(self.sizes):
            yield from ((figure, None) for figure in self.judge.qualities(programs))
            return
        for program in programs:
            figure, found = self.judge.measured(program)
            yield figure, found.left

    def prove(self) -> None:
        """Compare the judge's device with the processor; nothing where it has none."""
        programs = [self._program(genome) for genome in self.encoding.starts()]
        self.judge.prove([program for program in programs if program is not None])

    def _program(self, genome: Genome) -> IntegerProgram | None:
        """A genome's program, None if its accumulators could overflow."""
        try:
            return self.lowering(self.encoding.scheme(genome))
        except OverflowProofError:
            return None


@dataclass(frozen=True, eq=False)
class Parts:
    """Everything that a problem is built from in another process; all of it can be pickled.

    Parameters
    ----------
    model : bytes
        The model in normal form, a serialised ``ModelProto`` with all its weights.
    config : Config
        Without data.
    statistics : Statistics
        Statistics of every operator.
    data : Dataset
        Recordings that candidates are judged on.
    metric : str
        Name of the metric, not ``auto``.
    targets : mapping of str to ndarray
        Targets of the outputs that are judged, computed once so that they are the same everywhere.
    sizes : tuple of Size
        The objectives beside the error.
    """

    model: bytes
    config: Config
    statistics: Statistics
    data: Recorded
    metric: str
    targets: Mapping[str, Array]
    sizes: tuple[Size, ...]

    def problem(self) -> Problem:
        """Build the problem.

        Raises
        ------
        UsageError
            If the metric is a user's function and cannot be imported here.
        """
        model = read(self.model, self.config)
        metric = metrics.resolve(self.metric, self.data.labels)
        return Problem(
            encoding(model.layers, self.config),
            Quantizer.of(model, self.statistics, self.config),
            Judge(model.host, self.data, metric, self.targets, fused=True),
            self.sizes,
        )


class PicklableProblem:
    """A problem that can be pickled, and is built where it is used.

    Parameters
    ----------
    parts : Parts
        Built at the first genome, once, however many threads ask.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = Lock()
        self._problem: Problem | None = None

    def __reduce__(self) -> tuple[type["PicklableProblem"], tuple[Parts]]:
        return PicklableProblem, (self._parts,)

    def __call__(self, genome: Genome) -> Member:
        """Objectives of a genome's scheme; raises what `Parts.problem` and `Problem` do."""
        with self._lock:
            if self._problem is None:
                self._problem = self._parts.problem()
        return self._problem(genome)
