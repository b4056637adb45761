"""The frozen integer program that everything after lowering reads.

It is emitted as ONNX, evaluated, accounted and proved; none of these looks back at the float
model. Operators are instances of the kinds in `onnxgru.custom_ops`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxgru.core.integers import Quantization
from onnxgru.core.primitives import Primitives, Value


@dataclass(frozen=True)
class FlashItem:
    """One parameter that a device keeps in flash.

    Parameters
    ----------
    name : str
        Name of the initializer that carries it.
    role : str
        ``weight``, ``bias``, ``multiplier``, ``shift``, ``reach``, ``zero_point``, ``scale``
        or ``table``.
    size : int
        Bytes.
    weight_bits : int
        For weights: elements times width; else 0.
    """

    name: str
    role: str
    size: int
    weight_bits: int = 0


@dataclass(frozen=True)
class Proof:
    """Proved range of an accumulator for every possible input.

    Parameters
    ----------
    name : str
        Operator.
    minimum, maximum : int
        Exact extremes over all channels, rounding offset excluded; both are reached.
    bits : int
        Width of a two's complement register that holds them.
    """

    name: str
    minimum: int
    maximum: int

    @property
    def bits(self) -> int:
        """Width of the two's complement register that holds the range."""
        return max(self.maximum.bit_length(), (-self.minimum - 1).bit_length()) + 1


class IntegerOperator(ABC):
    """One operator, or several that share a product, with all its integer parameters."""

    kind: ClassVar[str]
    inputs: tuple[str, ...]

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the values it computes."""

    @abstractmethod
    def prepare(self, primitives: Primitives[Value]) -> Mapping[str, Value]:
        """The stored parameters in the form that `compute` takes: once, before the recurrence."""

    @abstractmethod
    def compute(
        self, primitives: Primitives[Value], parameters: Mapping[str, Value], *operands: Value
    ) -> Sequence[Value]:
        """The arithmetic of one step, written over the primitives of any back end."""

    @abstractmethod
    def flash(self) -> Iterator[FlashItem]:
        """Parameters it keeps in flash."""

    @abstractmethod
    def proofs(self) -> Iterator[Proof]:
        """Accumulator ranges."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates a step and sequence."""
        return 0

    @property
    @abstractmethod
    def scratch(self) -> int:
        """Bytes a step needs while it computes: accumulators and outputs, one sequence."""


@dataclass(frozen=True, eq=False)
class IntegerRecurrence:
    """One direction of a layer.

    Parameters
    ----------
    name : str
        ``/<layer>/<direction>``.
    reverse : bool
        Whether time runs backwards.
    prologue : tuple of IntegerOperator
        Computed for all steps at once.
    body : tuple of IntegerOperator
        Computed step by step.
    result : str
        Name of the value that is the next state.
    """

    name: str
    reverse: bool
    prologue: tuple[IntegerOperator, ...]
    body: tuple[IntegerOperator, ...]
    result: str

    @property
    def input(self) -> str:
        """Name of the input codes as an operand."""
        return f"{self.name}/input"

    @property
    def state(self) -> str:
        """Name of the state codes as an operand."""
        return f"{self.name}/state"

    @property
    def operators(self) -> tuple[IntegerOperator, ...]:
        """Prologue, then body."""
        return self.prologue + self.body


@dataclass(frozen=True)
class Boundary:
    """A value that is quantised with one scale: an operand, or a layer's input or state.

    Parameters
    ----------
    name : str
        Prefix of the initializers ``<name>/scale`` and ``<name>/zero_point``.
    quantization : Quantization
        Scale, zero point and width.
    """

    name: str
    quantization: Quantization


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One recurrent node of the host graph as integers.

    Parameters
    ----------
    name, node : str
        As in `onnxgru.core.network.Layer`.
    input, state : Boundary
        The sequence it reads, and the state it keeps and emits. A layer that reads the codes of
        another layer has that layer's state as its input.
    recurrences : tuple of IntegerRecurrence
        One a direction.
    input_size, hidden_size : int
        I and H.
    reads_codes : bool
        Whether the input is another layer's state, passed on as codes.
    meets_floats : bool
        Whether the state is dequantised for, or quantised from, a float value.
    """

    name: str
    node: str
    input: Boundary
    state: Boundary
    recurrences: tuple[IntegerRecurrence, ...]
    input_size: int
    hidden_size: int
    reads_codes: bool
    meets_floats: bool

    def flash(self) -> Iterator[FlashItem]:
        """Parameters of the layer's boundary and of all its operators."""
        if not self.reads_codes:
            yield FlashItem(f"{self.input.name}/scale", "scale", 4)
            yield FlashItem(f"{self.input.name}/zero_point", "zero_point", 1)
        if self.meets_floats:
            yield FlashItem(f"{self.state.name}/scale", "scale", 4)
        yield FlashItem(f"{self.state.name}/zero_point", "zero_point", 1)
        for recurrence in self.recurrences:
            for operator in recurrence.operators:
                yield from operator.flash()


@dataclass(frozen=True, eq=False)
class IntegerProgram:
    """All quantised layers of a model.

    Parameters
    ----------
    layers : tuple of IntegerLayer
        In the order of the host graph.
    values : mapping of str to Quantization
        Of every operator's output, by name.
    """

    layers: tuple[IntegerLayer, ...]
    values: Mapping[str, Quantization]

    @property
    def operators(self) -> Iterator[IntegerOperator]:
        """Operators of all layers and directions."""
        for layer in self.layers:
            for recurrence in layer.recurrences:
                yield from recurrence.operators

    def flash(self) -> tuple[FlashItem, ...]:
        """Everything a device keeps in flash, by name."""
        return tuple(item for layer in self.layers for item in layer.flash())

    def proofs(self) -> tuple[Proof, ...]:
        """Accumulator ranges of every operator."""
        return tuple(proof for operator in self.operators for proof in operator.proofs())
