"""Which genes a network has, and what scheme a genome means."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from onnxgru.core import skip
from onnxgru.core.choices import (
    CELL_STATES,
    GRANULARITIES,
    MAXIMUM_BITS,
    OBSERVERS,
    WIDE_BITS,
    WIDTHS,
)
from onnxgru.core.network import Layer, LinearOperator, LookupOperator, Operator
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme, operands
from onnxgru.search.genome import Gene, Genome, Space

WEIGHT = ".weight"
OBSERVER = ".observer"
GRANULARITY = ".granularity"
CELL = ".cell"
SKIP = ".skip"
THRESHOLD = ".threshold"
"""Suffixes of the names of genes that are not an output's width."""


THRESHOLDS = (0, 1, 2, 4, 8, 16, 32, 64)
"""Thresholds that genes may take, in codes of 8 bits; of narrower operands in proportion."""

WIDEST = (1 << MAXIMUM_BITS) - 1


def _gate(operator: Operator) -> str:
    return operator.row.partition(".")[0]


def _matrix(operator: Operator) -> str:
    return operator.matrix if isinstance(operator, LinearOperator) else ""


_GROUPS: Mapping[str, Callable[[Layer, Operator], tuple[str, str]]] = {
    "none": lambda _layer, operator: (operator.name, operator.name),
    "layer": lambda layer, operator: (
        f"{layer.name}/{operator.kind}",
        f"{layer.name}/{_matrix(operator)}",
    ),
    "kind": lambda _layer, operator: (operator.kind, _matrix(operator)),
    "gate": lambda _layer, operator: (_gate(operator), f"{_gate(operator)}.{_matrix(operator)}"),
    "operator": lambda _layer, operator: (operator.row, operator.row),
}
"""What an operator's output, and its weights, share genes with."""


class Encoding:
    """Genomes of a network's schemes.

    An operator has a gene for its output's width, a linear one another for its weights. The
    operators that write the state of one layer share a gene, because its directions share a
    scale.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    coupled : bool
        A linear operator's weights have its output's width: 17 genes a direction, as published
        (Miccini et al. 2024); else 23.
    inputs : bool
        The width of every layer's input is a gene too; it may be 16 bits where `input_bits` are.
    widths : sequence of int
        Widths that genes may take, ascending.
    observers, granularities : bool
        Genes for the observer of every calibrated output (a position in `OBSERVERS`), and for the
        granularity of every linear operator's weights (a position in `GRANULARITIES`).
    thresholds : bool
        Genes for the thresholds of a delta network, one an operand in a layer.
    share : {"none", "layer", "kind", "gate", "operator"}
        Genes in common, for models with many layers. "layer": those of one kind of operator in a
        layer, and the weights of each matrix W and R. "kind": the same over all layers. "gate":
        those of one gate (reset, update, new, state) over all layers, and the weights of each gate
        and matrix. "operator": those of one operator of the cell, such as ``reset.sum``, over all
        layers.
    granularity, observer, input_bits
        What genes do not say, and what uniform schemes have.
    cell_state : {"wide", "plain"}
        "wide": widths of a cell state may be 16 bits too, and uniform schemes have them. In groups
        such operators have genes of their own.
    skipped : sequence of str
        Full names of linear operators whose weights may have 16 bits; their operands then have 16
        too. In uniform schemes they do. In groups they have genes of their own.
    wide_states : bool
        States that steps add up have 16 bits, and what is added; their genes are then the widths of
        copies, and those of the terms have no effect.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        coupled: bool = False,
        inputs: bool = False,
        widths: Sequence[int] = WIDTHS,
        observers: bool = False,
        granularities: bool = False,
        thresholds: bool = False,
        share: str = "none",
        granularity: str = "channel",
        observer: str = "mse",
        input_bits: int = 8,
        cell_state: str = CELL_STATES[0],
        skipped: Sequence[str] = (),
        wide_states: bool = False,
    ) -> None:
        self._wide_states = wide_states
        self._layers, self._skipped = tuple(layers), frozenset(skipped)
        self._coupled, self._inputs = coupled, inputs
        self._granularities, self._share = granularities, share
        self._granularity, self._observer, self._input_bits = granularity, observer, input_bits
        self.thresholds = thresholds
        self.widths = tuple(widths)
        self._wide = {
            name for layer in layers for name in layer.cell_state if cell_state == CELL_STATES[0]
        }
        self._owner = {
            name: writers[0]
            for layer in layers
            for writers in layer.writers.values()
            for name in writers
        }
        genes: dict[str, tuple[int, ...]] = {}
        for layer in layers:
            if inputs:
                widest = (WIDE_BITS,) if input_bits == WIDE_BITS else ()
                genes[self._input(layer)] = (*self.widths, *widest)
            for operator in layer.operators:
                output, weight = self.names(layer, operator)
                wide = (WIDE_BITS,) if operator.name in self._wide else ()
                genes[output] = (*self.widths, *wide)
                if weight is not None and not coupled:
                    long = (WIDE_BITS,) if operator.name in self._skipped else ()
                    genes[weight] = (*self.widths, *long)
                if observers and _calibrated(operator):
                    genes[output + OBSERVER] = tuple(range(len(OBSERVERS)))
                if granularities and weight is not None:
                    genes[_granularity(weight)] = tuple(range(len(GRANULARITIES)))
            for name in operands(layer) if thresholds else ():
                genes[self._threshold(layer, name)] = THRESHOLDS
        self.space = Space(tuple(Gene(name, choices) for name, choices in genes.items()))
        self.choices = genes
        """What every gene may be, by name."""

    def names(self, layer: Layer, operator: Operator) -> tuple[str, str | None]:
        """Names of the genes of an operator's output, and of its weights if it has any.

        With a coupled genome the second is no gene: it takes the first one's width.
        """
        output, weight = _GROUPS[self._share](layer, operator)
        output = self._owner.get(output, output)
        if operator.name in self._wide and self._share != "none":
            output += CELL
        if operator.name in self._skipped and self._share != "none":
            weight += SKIP
        return (
            output,
            weight + WEIGHT if isinstance(operator, LinearOperator) else None,
        )

    def _input(self, layer: Layer) -> str:
        # Not "input": that may be the group of a gate.
        return layer.input if self._share in ("none", "layer") else "inputs"

    def _threshold(self, layer: Layer, operand: str) -> str:
        own = f"{layer.name}/" if self._share in ("none", "layer") else ""
        return f"{own}{operand}{THRESHOLD}"

    def scheme(self, genome: Genome) -> Scheme:
        """The scheme of a genome."""
        values = self.space.decode(genome)
        operators: dict[str, OutputScheme] = {}
        long: list[str] = []
        for layer in self._layers:
            for operator in layer.operators:
                output, weight = self.names(layer, operator)
                bits, observer = values[output], self._observer
                if output + OBSERVER in values and _calibrated(operator):
                    observer = OBSERVERS[values[output + OBSERVER]]
                if not isinstance(operator, LinearOperator) or weight is None:
                    operators[operator.name] = OutputScheme(bits, observer)
                    continue
                granularity = self._granularity
                if self._granularities:
                    granularity = GRANULARITIES[values[_granularity(weight)]]
                weight_bits = values[weight] if not self._coupled else min(bits, MAXIMUM_BITS)
                if operator.name in self._skipped and (self._coupled or weight_bits == WIDE_BITS):
                    long.append(operator.name)
                operators[operator.name] = LinearScheme(
                    bits, observer, weight_bits, granularity, operator.weight.shape
                )
        inputs = {
            layer.name: OutputScheme(
                values.get(self._input(layer), self._input_bits), self._observer
            )
            for layer in self._layers
        }
        found = skip.applied(Scheme(inputs, operators), self._layers, long)
        if self._wide_states:
            found = skip.with_wide_states(found, self._layers)
        if not self.thresholds:
            return found

        def threshold(layer: Layer, operand: str, entry: OutputScheme) -> int:
            top = (1 << entry.read) - 1
            return round(values[self._threshold(layer, operand)] * top / WIDEST)

        return found.with_thresholds(self._layers, threshold)

    def genome(self, widths: Mapping[str, int]) -> Genome:
        """Genes of widths as given by name, the widest where not; the others as configured."""
        return tuple(self._default(gene, widths) for gene in self.space.genes)

    def _default(self, gene: Gene, widths: Mapping[str, int]) -> int:
        if gene.name.endswith(OBSERVER):
            return OBSERVERS.index(self._observer)
        if gene.name.endswith(GRANULARITY):
            return GRANULARITIES.index(self._granularity)
        if gene.name.endswith(THRESHOLD):
            return THRESHOLDS[0]
        return widths.get(gene.name, gene.choices[-1])

    @property
    def growing(self) -> tuple[str, ...]:
        """Names of the genes that are widths."""
        names = (gene.name for gene in self.space.genes)
        others = (OBSERVER, GRANULARITY, THRESHOLD)
        return tuple(name for name in names if not name.endswith(others))

    def uniform(self, bits: int) -> Genome:
        """Every width at `bits`, inputs at their fixed width where they have no gene.

        A wide cell state has 16.
        """
        genes = self.space.genes
        return self.genome({g.name: bits for g in genes if g.choices[-1] != WIDE_BITS})

    def narrow_weights(self, bits: int) -> Genome:
        """Weights at `bits`, everything else at the widest."""
        return self.genome({g.name: bits for g in self.space.genes if g.name.endswith(WEIGHT)})

    def starts(self) -> tuple[Genome, ...]:
        """What the first population must hold: uniform schemes, then narrow weights alone.

        With genes of thresholds, the widest uniform scheme has each of them as well.
        """
        uniform = [self.uniform(bits) for bits in reversed(self.widths)]
        narrow = [] if self._coupled else [self.narrow_weights(bits) for bits in self.widths]
        return tuple(dict.fromkeys([*uniform, *narrow, *self._held(uniform[0])]))

    def _held(self, genome: Genome) -> Iterator[Genome]:
        """A genome with every threshold, the same everywhere; none without genes of thresholds."""
        genes = self.space.genes
        for level in THRESHOLDS[1:] if self.thresholds else ():
            yield tuple(
                level if gene.name.endswith(THRESHOLD) else value
                for gene, value in zip(genes, genome, strict=True)
            )


def _granularity(weight: str) -> str:
    """Name of the gene of a granularity, given that of the weights' width."""
    return weight.removesuffix(WEIGHT) + GRANULARITY


def _calibrated(operator: Operator) -> bool:
    """Whether an output's range is observed: a fixed codomain needs no observer."""
    return not isinstance(operator, LookupOperator) or operator.function.codomain() is None
