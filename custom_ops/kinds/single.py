"""Single: what operators of one result have in common, element by element over its channels."""

from collections.abc import Iterator
from dataclasses import dataclass

from onnxgru.core.flash import FlashItem
from onnxgru.core.program import Boundary, IntegerOperator, Output, Proof, Work


@dataclass(frozen=True, eq=False)
class Requantized(IntegerOperator):
    """An operator whose result is requantised from an accumulator.

    Parameters
    ----------
    operands : tuple of Boundary
        Quantisations of what it reads.
    inputs : tuple of str
        Names of the operands as values.
    output : Output
        The result's codes, and how an accumulator becomes them.
    """

    operands: tuple[Boundary, ...]
    inputs: tuple[str, ...]
    output: Output

    @property
    def outputs(self) -> tuple[str, ...]:
        """The result."""
        return (self.output.name,)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of the result."""
        return (self.output.channels,)

    @property
    def results(self) -> tuple[Output, ...]:
        """The result."""
        return (self.output,)

    def flash(self) -> Iterator[FlashItem]:
        """Nothing beside what its stage stores."""
        return iter(())

    @property
    def work(self) -> Iterator[Work]:
        """One element per channel."""
        yield Work(self.kind, self.output.channels, self.operand_bits)


@dataclass(frozen=True, eq=False)
class Chosen(IntegerOperator):
    """An operator that chooses codes and accumulates nothing.

    Parameters
    ----------
    name : str
        Operator.
    operands : tuple of Boundary
        Quantisations of what it reads.
    inputs : tuple of str
        Names of the operands as values.
    channels : int
        Features: H.
    """

    name: str
    operands: tuple[Boundary, ...]
    inputs: tuple[str, ...]
    channels: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """The result."""
        return (self.name,)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of the result."""
        return (self.channels,)

    def proofs(self) -> Iterator[Proof]:
        """Nothing is accumulated."""
        return iter(())
