"""Single: base classes of operators with one result, which work element by element."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxgru.core.flash import FlashItem
from onnxgru.core.integers import IntegerType, Quantization
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
        """Nothing: its stage stores all of its parameters."""
        return iter(())

    @property
    def work(self) -> Iterator[Work]:
        """One element per channel."""
        yield Work(self.kind, self.output.channels, self.operand_bits)


@dataclass(frozen=True, eq=False)
class Chosen(IntegerOperator):
    """An operator that selects codes and has no accumulator.

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
        """Nothing: it has no accumulator."""
        return iter(())


@dataclass(frozen=True, eq=False)
class Looked(Chosen):
    """A function of one code, looked up in a table.

    Parameters
    ----------
    name : str
        Operator.
    operands : tuple of Boundary
        Quantisation of what it reads, one.
    inputs : tuple of str
        Name of the operand as a value.
    channels : int
        Features: H.
    result : Quantization
        Of the function's value.
    """

    kind: ClassVar[str] = "lookup"
    result: Quantization

    @property
    def types(self) -> tuple[IntegerType, ...]:
        """Type of the function's value."""
        return (self.result.type,)

    @property
    def work(self) -> Iterator[Work]:
        """One element per channel."""
        yield Work(self.kind, self.channels, self.operand_bits)
