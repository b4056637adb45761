"""Which genes a network has, and what scheme a genome means."""

from collections.abc import Sequence

from onnxgru.core.integers import WIDTHS
from onnxgru.core.network import Layer
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.search.genome import Gene, Genome, Space

WEIGHT = ".weight"
"""Suffix of a weight gene's name."""


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
        The width of every layer's input is a gene too.
    granularity, observer, input_bits
        What genes do not say.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        coupled: bool = False,
        inputs: bool = False,
        granularity: str = "channel",
        observer: str = "mse",
        input_bits: int = 8,
    ) -> None:
        self._layers = tuple(layers)
        self._coupled, self._inputs = coupled, inputs
        self._granularity, self._observer, self._input_bits = granularity, observer, input_bits
        self._owner = {name: layer.results[0] for layer in layers for name in layer.results}
        names: dict[str, None] = {}
        for layer in layers:
            if inputs:
                names[layer.input] = None
            for operator in layer.operators:
                names[self._owner.get(operator.name, operator.name)] = None
                if operator.weight is not None and not coupled:
                    names[operator.name + WEIGHT] = None
        self.space = Space(tuple(Gene(name, WIDTHS) for name in names))

    def scheme(self, genome: Genome) -> Scheme:
        """The scheme of a genome."""
        widths = self.space.decode(genome)
        operators: dict[str, OutputScheme] = {}
        for layer in self._layers:
            for operator in layer.operators:
                bits = widths[self._owner.get(operator.name, operator.name)]
                if operator.weight is None:
                    operators[operator.name] = OutputScheme(bits, self._observer)
                    continue
                weight_bits = bits if self._coupled else widths[operator.name + WEIGHT]
                operators[operator.name] = LinearScheme(
                    bits, self._observer, weight_bits, self._granularity, operator.weight.shape
                )
        inputs = {
            layer.name: OutputScheme(widths.get(layer.input, self._input_bits), self._observer)
            for layer in self._layers
        }
        return Scheme(inputs, operators)

    def uniform(self, bits: int) -> Genome:
        """Every gene at `bits`, inputs at their fixed width where they have no gene."""
        return self.space.uniform(bits)

    def narrow_weights(self, bits: int) -> Genome:
        """Weights at `bits`, everything else at 8."""
        return tuple(
            bits if gene.name.endswith(WEIGHT) else max(gene.choices) for gene in self.space.genes
        )

    def starts(self) -> tuple[Genome, ...]:
        """What the first population must hold: uniform schemes, then narrow weights alone."""
        uniform = [self.uniform(bits) for bits in reversed(WIDTHS)]
        narrow = [] if self._coupled else [self.narrow_weights(bits) for bits in WIDTHS]
        return tuple(dict.fromkeys([*uniform, *narrow]))
