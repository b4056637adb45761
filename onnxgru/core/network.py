"""The layers of a model as bound operators: what every stage after recognition reads.

A `Layer` stands for one recurrent node or dense layer of the host graph. It has one `Recurrence`
per direction, which is a cell's table bound to weights and functions. Names are
``/<layer>/<direction>/<operator>``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from onnxgru.core.activations import Activation
from onnxgru.core.cells import COMPLEMENT, Carry, Cell, Row
from onnxgru.core.integers import Floats, Quantization


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """One bound operator.

    Parameters
    ----------
    name : str
        Full name, ``/<layer>/<direction>/<row>``.
    row : str
        Name within the cell.
    inputs : tuple of str
        Full names of other operators, the recurrence's ``.input`` or one of its carries.
    width : int
        Features of the output.
    """

    name: str
    row: str
    inputs: tuple[str, ...]
    width: int

    @property
    @abstractmethod
    def kind(self) -> str:
        """A key of `onnxgru.custom_ops.kinds.table.KINDS`."""

    @property
    def numbers(self) -> tuple[Floats, ...]:
        """Trainable arrays: a weight and a bias, a vector, or none."""
        return ()


@dataclass(frozen=True, eq=False)
class LinearOperator(Operator):
    """A product with a matrix, and a bias.

    Parameters
    ----------
    weight : ndarray of float32, shape (outputs, inputs)
        The matrix.
    bias : ndarray of float32, shape (outputs,)
        The bias.
    matrix : str
        The matrix of the layer that the weight is a gate of: ``W`` or ``R``.
    """

    weight: Floats
    bias: Floats
    matrix: str

    @property
    def kind(self) -> str:
        """``linear``."""
        return "linear"

    @property
    def numbers(self) -> tuple[Floats, Floats]:
        """Weight and bias."""
        return self.weight, self.bias


@dataclass(frozen=True, eq=False)
class ScaleOperator(Operator):
    """A product with a constant vector, element by element.

    Parameters
    ----------
    vector : ndarray of float32, shape (outputs,)
        The vector.
    """

    vector: Floats

    @property
    def kind(self) -> str:
        """``scale``."""
        return "scale"

    @property
    def numbers(self) -> tuple[Floats]:
        """The vector."""
        return (self.vector,)


@dataclass(frozen=True, eq=False)
class LookupOperator(Operator):
    """A function of one value, element by element.

    Parameters
    ----------
    function : Activation
        The function.
    """

    function: Activation

    @property
    def kind(self) -> str:
        """``lookup``."""
        return "lookup"


@dataclass(frozen=True, eq=False)
class ElementwiseOperator(Operator):
    """A sum or a product of two values, element by element.

    Parameters
    ----------
    operation : {"add", "mul"}
        Which of them.
    """

    operation: str

    @property
    def kind(self) -> str:
        """The operation."""
        return self.operation


@dataclass(frozen=True, eq=False)
class DeltaOperator(Operator):
    """The last propagated value of an operand, element by element.

    See `onnxgru.passes.lowering.delta`.

    Its inputs are the operand and the carry that holds the last propagated value.

    Parameters
    ----------
    threshold : int
        An element is propagated when its code differs from the held one by more than this.
    step : float
        Real value of one code of the operand.
    """

    threshold: int
    step: float

    @property
    def kind(self) -> str:
        """``delta``."""
        return "delta"


@dataclass(frozen=True, eq=False)
class CopyOperator(Operator):
    """A value of wide codes in narrow codes, for narrow operators; see `onnxgru.core.copies`."""

    @property
    def kind(self) -> str:
        """``copy``."""
        return "copy"


def bound(
    row: Row,
    prefix: str,
    width: int,
    numbers: tuple[Floats, ...],
    functions: Mapping[str, Activation],
) -> Operator:
    """The operator of a cell's row.

    Parameters
    ----------
    row : Row
        The row.
    prefix : str
        ``/<layer>/<direction>``.
    width : int
        Features of the output.
    numbers : tuple of ndarray of float32
        Weight (outputs, inputs) and bias (outputs,) of a linear row, the vector (outputs,) of a
        scale row; else empty.
    functions : mapping of str to Activation
        By the letter that lookup rows have as their parameter.
    """
    inputs = tuple(f"{prefix}/{name}" for name in row.inputs)
    common = f"{prefix}/{row.name}", row.name, inputs, width
    match row.kind:
        case "linear":
            weight, bias = numbers
            return LinearOperator(*common, weight, bias, row.parameter.split(".")[0])
        case "scale":
            return ScaleOperator(*common, *numbers)
        case "lookup":
            if row.parameter == COMPLEMENT:
                return LookupOperator(*common, Activation(COMPLEMENT.capitalize()))
            return LookupOperator(*common, functions[row.parameter])
    return ElementwiseOperator(*common, row.kind)


class Direction:
    """What float and integer recurrences have in common."""

    name: str
    carries: tuple[Carry, ...]

    @property
    def input(self) -> str:
        """Name of the input sequence as an operand."""
        return f"{self.name}/input"

    @cached_property
    def bound(self) -> dict[str, Carry]:
        """The carries by their names in the layer: the cell's, then those of a delta network."""
        return {carry.name.removeprefix(f"{self.name}/"): carry for carry in self.carries}


@dataclass(frozen=True, eq=False)
class Recurrence(Direction):
    """One direction of a layer.

    Parameters
    ----------
    name : str
        ``/<layer>/<direction>``.
    reverse : bool
        Whether time runs backwards.
    operators : tuple of Operator
        In an order in which they can be computed.
    carries : tuple of Carry
        What it keeps from step to step, under full names.
    emits : str
        Name of the operator whose values leave it at every step.
    """

    name: str
    reverse: bool
    operators: tuple[Operator, ...]
    carries: tuple[Carry, ...]
    emits: str

    @classmethod
    def of(
        cls, cell: Cell, name: str, operators: tuple[Operator, ...], *, reverse: bool
    ) -> "Recurrence":
        """A cell's table with bound operators, see `bound`."""
        carries = tuple(Carry(f"{name}/{c.name}", f"{name}/{c.written_by}") for c in cell.carries)
        return cls(name, reverse, operators, carries, f"{name}/{cell.emits}")

    @cached_property
    def by_name(self) -> dict[str, Operator]:
        """The operators by name."""
        return {operator.name: operator for operator in self.operators}

    @cached_property
    def widths(self) -> dict[str, int]:
        """Features of every operator's output, by name."""
        return {operator.name: operator.width for operator in self.operators}

    @cached_property
    def linears(self) -> tuple[LinearOperator, ...]:
        """The linear operators."""
        return tuple(o for o in self.operators if isinstance(o, LinearOperator))

    @cached_property
    def prologue(self) -> tuple[Operator, ...]:
        """Operators that depend on no carry; they are computed for all steps at once."""
        known = {self.input}
        operators = []
        for operator in self.operators:
            if known.issuperset(operator.inputs):
                known.add(operator.name)
                operators.append(operator)
        return tuple(operators)

    @cached_property
    def body(self) -> tuple[Operator, ...]:
        """Operators that depend on a carry; they are computed step by step."""
        done = {operator.name for operator in self.prologue}
        return tuple(operator for operator in self.operators if operator.name not in done)

    @cached_property
    def reads_input(self) -> bool:
        """Whether operators of the body read the input."""
        return any(self.input in operator.inputs for operator in self.body)

    @cached_property
    def summands(self) -> dict[str, str]:
        """Terms of sums that write a carry: name of the sum, by name of the term."""
        found: dict[str, str] = {}
        for carry in self.carries:
            writer = self.by_name[carry.written_by]
            if writer.kind == "add":
                found |= {name: writer.name for name in writer.inputs if name in self.by_name}
        return found

    def is_cell_state(self, carry: Carry) -> bool:
        """Whether a carry is a cell state, see `Layer.cell_state`."""
        writer = carry.written_by
        readers = (*self.readers(carry.name), *self.readers(writer))
        return (
            writer != self.emits
            and self.codomain(writer) is None
            and not any(isinstance(reader, LinearOperator) for reader in readers)
        )

    @cached_property
    def decays(self) -> dict[str, tuple[str, bool]]:
        """Gates that scale the old state, d in h' = d h + ..., except in cell states.

        Returns
        -------
        dict of str to (str, bool)
            By name of the gate: the operator that writes the state, and whether d is the complement
            of the gate.
        """
        found: dict[str, tuple[str, bool]] = {}
        states = {c.written_by: c.name for c in self.carries if not self.is_cell_state(c)}
        for term, writer in self.summands.items():
            factors = self.by_name[term].inputs
            if self.by_name[term].kind != "mul" or states.get(writer) not in factors:
                continue
            for gate in (self.by_name[name] for name in factors if name in self.by_name):
                mirrors = isinstance(gate, LookupOperator) and gate.function.mirrors
                found[gate.inputs[0] if mirrors else gate.name] = writer, mirrors
        return found

    def readers(self, name: str) -> tuple[Operator, ...]:
        """Operators that read a value."""
        return tuple(operator for operator in self.operators if name in operator.inputs)

    def codomain(self, name: str) -> str | None:
        """Codomain of a value, where functions fix it; see `FunctionForm.codomain`."""
        operator = self.by_name.get(name)
        if not isinstance(operator, LookupOperator):
            return None
        return operator.function.codomain(self.codomain(operator.inputs[0]))

    def fixed(self, name: str, bits: int) -> Quantization | None:
        """Quantisation of a value where functions fix its codomain, else None."""
        operator = self.by_name[name]
        if not isinstance(operator, LookupOperator):
            return None
        return operator.function.quantization(bits, self.codomain(operator.inputs[0]))


@dataclass(frozen=True)
class Ports:
    """Names of the graph values that a layer reads and writes.

    Parameters
    ----------
    x : str
        The sequence (T, B, I).
    lengths : str
        Number of steps of every sequence (B,); empty where all sequences have T steps.
    initial : mapping of str to str
        Initial values (D, B, H), by name of the carry; only those that the model gives.
    sequence : str
        Output of every step (T, D, B, H); empty where nothing reads it.
    last : mapping of str to str
        Last values (D, B, H), by name of the carry; only those that something reads.
    """

    x: str
    lengths: str = ""
    initial: dict[str, str] = field(default_factory=dict)
    sequence: str = ""
    last: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Layer:
    """One recurrent node, or one dense layer, of the host graph.

    Parameters
    ----------
    name : str
        ``/<layer>``.
    node : str
        Name of the node in the host graph.
    cell : Cell
        Its table.
    recurrences : tuple of Recurrence
        One per direction, forward first.
    input_size, hidden_size : int
        I and H.
    ports : Ports
        What it reads and writes.
    attributes : dict of str
        Attributes of the node that `inspect` shows.
    """

    name: str
    node: str
    cell: Cell
    recurrences: tuple[Recurrence, ...]
    input_size: int
    hidden_size: int
    ports: Ports
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def recurrent(self) -> bool:
        """Whether it has carries; a dense layer has none."""
        return bool(self.cell.carries)

    @property
    def input(self) -> str:
        """Name of the input sequence's quantisation."""
        return f"{self.name}/input"

    @cached_property
    def carries(self) -> dict[str, str]:
        """Names of the carries' quantisations, by name of the carry; all directions share them."""
        return {carry.name: f"{self.name}/{carry.name}" for carry in self.cell.carries}

    @cached_property
    def output(self) -> str:
        """Name of the output's quantisation: that of the emitted carry, or one of its own."""
        written = {carry.written_by: carry.name for carry in self.cell.carries}
        if self.cell.emits in written:
            return self.carries[written[self.cell.emits]]
        return f"{self.name}/output"

    @cached_property
    def grids(self) -> dict[str, str]:
        """Names of the shared quantisations, by full name of the operator or carry that has one."""
        found = {}
        for recurrence in self.recurrences:
            found[recurrence.emits] = self.output
            for name, grid in self.carries.items():
                carry = recurrence.bound[name]
                found |= {carry.name: grid, carry.written_by: grid}
        return found

    def grid(self, recurrence: Recurrence, carry: str) -> str:
        """Name of the quantisation of a carry of one direction.

        Parameters
        ----------
        recurrence : Recurrence
            The direction.
        carry : str
            Name of the carry in the layer, a key of `Recurrence.bound`.
        """
        held = recurrence.bound[carry].holds
        if not held:
            return self.carries[carry]
        return self.input if held == recurrence.input else self.grids.get(held, held)

    @property
    def operators(self) -> Iterator[Operator]:
        """Operators of all directions."""
        for recurrence in self.recurrences:
            yield from recurrence.operators

    @property
    def linears(self) -> Iterator[LinearOperator]:
        """Linear operators of all directions."""
        for recurrence in self.recurrences:
            yield from recurrence.linears

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the values that calibration observes."""
        operators = (operator.name for operator in self.operators)
        return (self.input, *dict.fromkeys([*self.carries.values(), self.output]), *operators)

    def fixed(self, grid: str, bits: int) -> Quantization | None:
        """A shared quantisation where functions fix the same codomain in all directions."""
        pairs = zip(self.recurrences, self.writers[grid], strict=True)
        found = {recurrence.fixed(writer, bits) for recurrence, writer in pairs}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def cell_state(self) -> frozenset[str]:
        """Operators that write a cell state, and the terms of their sums.

        A cell state is a carry that no function bounds, that no linear operator reads and that is
        not emitted, such as c of an LSTM. It grows over many steps, so that narrow codes would lose
        small terms.
        """
        found: set[str] = set()
        for recurrence in self.recurrences:
            for carry in recurrence.carries:
                if recurrence.is_cell_state(carry):
                    writer = carry.written_by
                    terms = {n for n, total in recurrence.summands.items() if total == writer}
                    found |= {writer, *terms}
        return frozenset(found)

    @cached_property
    def summed_states(self) -> dict[str, bool]:
        """Operators of states that are sums, such as h of a GRU, but not of cell states.

        Narrow codes of such a state lose small terms, as those of a cell state do.

        Returns
        -------
        dict of str to bool
            By name of the operator: True for one that writes the state, False for a term of its
            sum.
        """
        found: dict[str, bool] = {}
        for recurrence in self.recurrences:
            for carry in recurrence.carries:
                writer = carry.written_by
                if recurrence.by_name[writer].kind == "add" and writer not in self.cell_state:
                    terms = [n for n, total in recurrence.summands.items() if total == writer]
                    found |= {writer: True, **dict.fromkeys(terms, False)}
        return found

    @cached_property
    def writers(self) -> dict[str, tuple[str, ...]]:
        """Operators that share a quantisation, one per direction, by name of the quantisation.

        They write a carry or emit the layer's output.
        """
        found = {self.output: tuple(recurrence.emits for recurrence in self.recurrences)}
        for place, grid in enumerate(self.carries.values()):
            found[grid] = tuple(r.carries[place].written_by for r in self.recurrences)
        return found
