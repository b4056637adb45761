"""The recurrent layers of a model as bound operators: what every stage after recognition reads.

A `Layer` stands for one recurrent node of the host graph. It has one `Recurrence` a direction,
each a cell's table bound to its weights and functions. Names are
``/<layer>/<direction>/<operator>``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from onnxgru.core.activations import Activation
from onnxgru.core.cells import Cell
from onnxgru.core.integers import Floats


@dataclass(frozen=True, eq=False)
class Operator:
    """One bound operator.

    Parameters
    ----------
    name : str
        Full name, ``/<layer>/<direction>/<row>``.
    row : str
        Name within the cell.
    kind : str
        ``linear``, ``add``, ``mul`` or ``lookup``.
    inputs : tuple of str
        Full names of other operators, the recurrence's ``.input`` or its ``.state``.
    width : int
        Features of the output: H.
    weight : ndarray of float32, shape (outputs, inputs), optional
        For linear.
    bias : ndarray of float32, shape (outputs,), optional
        For linear.
    matrix : str
        For linear: the matrix it is a gate of, ``W`` or ``R``.
    function : Activation, optional
        For lookup.
    """

    name: str
    row: str
    kind: str
    inputs: tuple[str, ...]
    width: int
    weight: Floats | None = None
    bias: Floats | None = None
    matrix: str = ""
    function: Activation | None = None

    @property
    def linear(self) -> tuple[Floats, Floats]:
        """Weight and bias of a linear operator."""
        if self.weight is None or self.bias is None:
            raise ValueError(f"{self.name} is {self.kind}, not linear")
        return self.weight, self.bias


@dataclass(frozen=True, eq=False)
class Recurrence:
    """One direction of a layer.

    Parameters
    ----------
    name : str
        ``/<layer>/<direction>``.
    reverse : bool
        Whether time runs backwards.
    operators : tuple of Operator
        In an order in which they can be computed.
    result : str
        Name of the operator that computes the next state.
    """

    name: str
    reverse: bool
    operators: tuple[Operator, ...]
    result: str

    @property
    def input(self) -> str:
        """Name of the input sequence as an operand."""
        return f"{self.name}/input"

    @property
    def state(self) -> str:
        """Name of the previous state as an operand."""
        return f"{self.name}/state"

    @cached_property
    def prologue(self) -> tuple[Operator, ...]:
        """Operators that do not depend on the state: computed for all steps at once."""
        known = {self.input}
        operators = []
        for operator in self.operators:
            if known.issuperset(operator.inputs):
                known.add(operator.name)
                operators.append(operator)
        return tuple(operators)

    @cached_property
    def body(self) -> tuple[Operator, ...]:
        """Operators computed step by step."""
        done = {operator.name for operator in self.prologue}
        return tuple(operator for operator in self.operators if operator.name not in done)

    @cached_property
    def summands(self) -> tuple[str, ...]:
        """Operators that the next state is the sum of; none where it is no sum."""
        known = {operator.name: operator for operator in self.operators}
        result = known[self.result]
        return tuple(n for n in result.inputs if n in known) if result.kind == "add" else ()


@dataclass(frozen=True, eq=False)
class Layer:
    """One recurrent node of the host graph.

    Parameters
    ----------
    name : str
        ``/<layer>``.
    node : str
        Name of the node in the host graph.
    cell : Cell
        Its table.
    recurrences : tuple of Recurrence
        One a direction, forward first.
    input_size, hidden_size : int
        I and H.
    attributes : dict of str
        What `inspect` shows of the node.
    """

    name: str
    node: str
    cell: Cell
    recurrences: tuple[Recurrence, ...]
    input_size: int
    hidden_size: int
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """Name of the input sequence's quantisation."""
        return f"{self.name}/input"

    @property
    def state(self) -> str:
        """Name of the state's quantisation, shared by all directions."""
        return f"{self.name}/state"

    @property
    def operators(self) -> Iterator[Operator]:
        """Operators of all directions."""
        for recurrence in self.recurrences:
            yield from recurrence.operators

    @property
    def results(self) -> tuple[str, ...]:
        """Names of the operators that write the state: they share scale and width."""
        return tuple(recurrence.result for recurrence in self.recurrences)
