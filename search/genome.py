"""A genome is a tuple of small integers, one for each gene; a space says which are allowed.

The integers are the values themselves (widths such as 2 to 8), not positions in a list, so that a
genome reads without its space. The search works on positions: see `Space.positions`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxgru.core.errors import UsageError

Genome = tuple[int, ...]


@dataclass(frozen=True)
class Gene:
    """One decision of the search.

    Parameters
    ----------
    name : str
        What is decided, e.g. the name of an operator.
    choices : tuple of int
        The values it can take, strictly ascending: the search steps from one to its neighbours.

    Raises
    ------
    UsageError
        If the name is empty or the choices are none, not integers, or not ascending.
    """

    name: str
    choices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("a gene must have a name, got an empty one")
        whole = all(type(choice) is int for choice in self.choices)
        if not self.choices or not whole or list(self.choices) != sorted(set(self.choices)):
            raise UsageError(
                f"the choices of gene '{self.name}' must be at least one integer, strictly "
                f"ascending, got {self.choices!r}"
            )


@dataclass(frozen=True)
class Space:
    """All genomes over some genes.

    Parameters
    ----------
    genes : tuple of Gene
        At least one, of different names, in the order of a genome's values.

    Raises
    ------
    UsageError
        If there is no gene, or two have the same name.
    """

    genes: tuple[Gene, ...]

    def __post_init__(self) -> None:
        names = [gene.name for gene in self.genes]
        if not names:
            raise UsageError("a search space must have at least one gene, got none")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UsageError(f"the genes of a space must have different names, got {repeated}")

    @property
    def size(self) -> int:
        """Number of different genomes."""
        return math.prod(len(gene.choices) for gene in self.genes)

    def validate(self, genome: Genome) -> None:
        """Check that a genome belongs to this space.

        Raises
        ------
        UsageError
            If it has another length, or a value that its gene does not offer.
        """
        if len(genome) != len(self.genes):
            raise UsageError(
                f"a genome must have {len(self.genes)} values, one for each gene, "
                f"got {len(genome)}: {genome!r}"
            )
        for gene, value in zip(self.genes, genome, strict=True):
            if value not in gene.choices:
                raise UsageError(
                    f"gene '{gene.name}' must be one of {list(gene.choices)}, got {value!r}"
                )

    def decode(self, genome: Genome) -> dict[str, int]:
        """Value of each gene, by name.

        Raises
        ------
        UsageError
            If the genome does not belong to this space.
        """
        self.validate(genome)
        return {gene.name: value for gene, value in zip(self.genes, genome, strict=True)}

    def encode(self, values: Mapping[str, int]) -> Genome:
        """Genome of a value for each gene, by name: the inverse of `decode`.

        Raises
        ------
        UsageError
            If a gene is missing, a name is unknown, or a value is not among its choices.
        """
        names = [gene.name for gene in self.genes]
        missing = [name for name in names if name not in values]
        unknown = [name for name in values if name not in names]
        if missing or unknown:
            raise UsageError(
                f"a value must be given for each gene and nothing else: missing {missing}, "
                f"unknown {unknown}; the genes are {names}"
            )
        genome = tuple(values[name] for name in names)
        self.validate(genome)
        return genome

    def uniform(self, value: int) -> Genome:
        """Genome with each gene at `value`, or at its nearest choice (of two, the larger)."""
        return tuple(
            min(gene.choices, key=lambda choice: (abs(choice - value), -choice))
            for gene in self.genes
        )

    def random(self, generator: np.random.Generator) -> Genome:
        """Genome drawn uniformly."""
        tops = [len(gene.choices) for gene in self.genes]
        return self.at(tuple(int(position) for position in generator.integers(tops)))

    def positions(self, genome: Genome) -> tuple[int, ...]:
        """Position of each value among the choices of its gene, from 0.

        Raises
        ------
        UsageError
            If the genome does not belong to this space.
        """
        self.validate(genome)
        return tuple(
            gene.choices.index(value) for gene, value in zip(self.genes, genome, strict=True)
        )

    def at(self, positions: tuple[int, ...]) -> Genome:
        """Genome at some positions: the inverse of `positions`."""
        return tuple(
            gene.choices[position] for gene, position in zip(self.genes, positions, strict=True)
        )

    def following(self, genome: Genome) -> Genome:
        """Next genome in counting order, the last gene running fastest; after the last, the first.

        Following it `size` times visits every genome once.

        Raises
        ------
        UsageError
            If the genome does not belong to this space.
        """
        positions = list(self.positions(genome))
        for index in reversed(range(len(positions))):
            positions[index] = (positions[index] + 1) % len(self.genes[index].choices)
            if positions[index]:  # no carry
                break
        return self.at(tuple(positions))
