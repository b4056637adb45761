"""How widths are searched."""

from collections.abc import Iterator
from dataclasses import dataclass

from onnxgru.core import choices
from onnxgru.core.errors import UsageError
from onnxgru.search import SMALLEST_POPULATION, STRATEGIES
from onnxgru.settings.declare import About, Settings, setting
from onnxgru.settings.kinds import Choice, Number, Switch, Text, Whole
from onnxgru.settings.objectives import Objectives

GENOMES = ("split", "coupled")
GENES = ("bits", "observer", "granularity", "threshold")
SHARES = ("none", "layer", "kind", "gate", "operator")
"""Genomes, genes and groups that `onnxgru.study.encoding.Encoding` knows."""

AUTO = "auto"
"""Value of `share`: operator where there are many recurrent layers, else none."""

PROCESSOR = "cpu"
"""The default of `device`."""


def _genes(text: str) -> None:
    """Check the setting `genes`."""
    names = [name.strip() for name in text.split(",")]
    if names[0] != "bits" or len(set(names)) < len(names) or not set(names) <= set(GENES):
        raise UsageError(
            f"genes must be bits, and observer, granularity or threshold if wanted, such as "
            f"bits,observer, got {text!r}"
        )


@dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """How widths are searched."""

    about = About("search", "search", switch="search")

    search: bool = setting(
        False,
        Switch(),
        "search for widths: the Pareto front of accuracy and flash bytes",
        basic=True,
        keyed=False,
    )
    max_drop: float | None = setting(
        None,
        Number("of at least 0", lambda value: value >= 0),
        "choose the smallest member of the front that is at most this much below the best (or a "
        "better one that is at most 1 % larger)",
        unset="0.5 points, 3 dB against the float model, 0.5 dB against targets",
        keyed=False,
        example=0.5,
    )
    population: int = setting(40, Whole(SMALLEST_POPULATION), "schemes per generation")
    generations: int = setting(20, Whole(1), "number of generations", keyed=False)
    widths: str = setting(
        "2-8",
        Text("a text such as 2-8", "2-8", parse=choices.widths),
        "widths to search, such as 2-8 or 2,4,8",
    )
    objectives: str = setting(
        "error,flash",
        Objectives(),
        "what is minimised: error, and one or two of flash, weights, bitops, operations, "
        "cost:TABLE.toml; members are chosen by the last one",
    )
    genome: str = setting(
        "split",
        Choice(GENOMES),
        "genes of an operator; split: one for its weights, one for its output; coupled: one for "
        "both, as published",
    )
    genes: str = setting(
        "bits",
        Text("a text such as bits,observer", "NAMES", parse=_genes),
        "what a search varies: bits; if wanted also observer, granularity and threshold (of a "
        "delta network), such as bits,observer",
    )
    search_inputs: bool = setting(False, Switch(), "also search the width of each layer's input")
    share: str = setting(
        AUTO,
        Choice((AUTO, *SHARES)),
        "which operators share a gene; operator: those of one name, such as reset.sum, in all "
        "layers; auto: operator for more than four recurrent layers, else none",
    )
    strategy: str = setting(
        "explore-exploit",
        Choice(STRATEGIES),
        "how the search goes; explore-exploit: the second half refines the best schemes; plain: "
        "NSGA-II throughout",
        keyed=False,
    )
    finetune_candidates: bool = setting(
        False,
        Switch(),
        "fine-tune every candidate before it is judged, and not only the chosen member at the end",
        keyed=False,  # the key has a hash of the training data instead
    )
    jobs: int | None = setting(
        None,
        Whole(1),
        "candidates evaluated at a time",
        unset="one per core",
        keyed=False,
        example=2,
    )
    device: str = setting(
        PROCESSOR,
        Text("cpu, cuda or cuda:N", "NAME", r"cpu|cuda(:\d+)?"),
        "device that evaluates candidates: cpu, cuda or cuda:N",
        keyed=False,
    )
    scheduler: str | None = setting(
        None,
        Text(
            "an address such as tcp://10.0.0.1:8786",
            "ADDRESS",
            r"([a-z]+://)?(\[[0-9a-fA-F:.%]+\]|[^\s/:\[\]]+):\d{1,5}/?",
        ),
        "evaluate candidates on the workers of a Dask scheduler, tcp://host:port",
        unset="on this machine",
        keyed=False,
        example="tcp://10.0.0.1:8786",
    )

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Contradictions between where candidates are evaluated, objectives, and no search."""
        on_device, on_cluster = self.device != PROCESSOR, self.scheduler is not None
        yield (
            on_device and not self.search,
            f"device {self.device} evaluates candidates of a search; give search too, or leave out "
            "device",
        )
        yield (
            on_cluster and not self.search,
            "scheduler says where a search evaluates; give search too",
        )
        yield (
            on_cluster and self.jobs is not None,
            "scheduler and jobs exclude each other: a Dask worker evaluates as many candidates "
            "at a time as it has threads; give one of them",
        )
        yield (
            on_cluster and on_device,
            "scheduler and device exclude each other: workers of Dask evaluate on their "
            "processors; give one of them",
        )
        counted = "operations" in [name.strip() for name in self.objectives.split(",")]
        thresholds = "threshold" in self.genes
        yield (
            counted != thresholds,
            "genes for threshold and the objective operations belong together; give genes "
            "bits,threshold and objectives error,operations, or leave out both",
        )
        yield (
            thresholds and (on_device or self.finetune_candidates),
            "operations are counted on the processor, without training; leave out device and "
            "finetune_candidates, or threshold and operations",
        )
        yield (
            self.finetune_candidates and (on_device or on_cluster),
            "finetune_candidates trains on this machine's processor; leave out device and "
            "scheduler",
        )
