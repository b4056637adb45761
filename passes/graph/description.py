"""Description: the metadata of a canonical node, which stands for a recurrence in a loop.

They are written into the node as JSON. Its weights are initializers of the main graph.
Recognition reads both; see `onnxgru.passes.bodies.canonical` for the node.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxgru.core.activations import Activation
from onnxgru.core.cells import INPUT, Cell, Row
from onnxgru.core.integers import Floats
from onnxgru.core.network import Operator, bound

CELL = "onnxgru.cell"
"""Metadata key of the node: what its body computes, as JSON."""

Numbers = Mapping[str, tuple[Floats, ...]]
"""By row: weight (outputs, inputs) and bias (outputs,) of a matrix product, or a vector."""


@dataclass(frozen=True, eq=False)
class Description:
    """The metadata of a canonical node.

    Parameters
    ----------
    operator : str
        The operator that it stands for: ``Scan``, ``Loop``, or ``Gemm`` and ``MatMul`` of a head.
    cell : Cell
        Its table.
    functions : mapping of str to Activation
        By letter.
    input_size, hidden_size : int
        I and H.
    reverse : bool
        Whether time runs backwards.
    lengths : bool
        Whether sequences have lengths.
    place : str
        Prefix of the names of its initializers and of the values in its body.
    """

    operator: str
    cell: Cell
    functions: Mapping[str, Activation]
    input_size: int
    hidden_size: int
    reverse: bool
    lengths: bool
    place: str

    def to_json(self) -> str:
        """The text that the metadata hold."""
        return json.dumps(
            {
                "operator": self.operator,
                "cell": self.cell.to_dict(),
                "functions": {k: [f.name, f.alpha, f.beta] for k, f in self.functions.items()},
                "input_size": self.input_size,
                "hidden_size": self.hidden_size,
                "reverse": self.reverse,
                "lengths": self.lengths,
                "place": self.place,
            }
        )

    @classmethod
    def parse(cls, text: str) -> "Description":
        """The description from its text."""
        found: dict[str, Any] = json.loads(text)
        cell = Cell.parse(found["cell"])
        functions = {letter: Activation(*f) for letter, f in found["functions"].items()}
        sizes = found["input_size"], found["hidden_size"]
        rest = found["reverse"], found["lengths"], found["place"]
        return cls(found["operator"], cell, functions, *sizes, *rest)

    def operators(self, prefix: str, numbers: Numbers) -> tuple[Operator, ...]:
        """The rows as operators.

        Parameters
        ----------
        prefix : str
            Put before every name, with a slash.
        numbers : mapping of str to tuple of ndarray of float32
            Weights, biases and vectors by row.
        """
        widths = {carry.name: self.hidden_size for carry in self.cell.carries}
        widths[INPUT] = self.input_size
        found: list[Operator] = []
        for row in self.cell.rows:
            own = numbers.get(row.name, ())
            widths[row.name] = len(own[0]) if own else widths[row.inputs[0]]
            found.append(bound(row, prefix, widths[row.name], own, self.functions))
        return tuple(found)

    def numbers(self, graph: ir.Graph) -> Numbers:
        """Weights, biases and vectors, as initializers of the main graph hold them."""
        found = {}
        for row in self.cell.rows:
            arrays = [graph.initializers[name].const_value for name in self.names(row)]
            values = [np.zeros(0, np.float32) if a is None else a.numpy() for a in arrays]
            if values:
                found[row.name] = tuple(np.ascontiguousarray(value.T) for value in values)
        return found

    def names(self, row: Row) -> tuple[str, ...]:
        """Names of a row's initializers: a weight (inputs, outputs) and a bias, or a vector."""
        parts = {"linear": ("weight", "bias"), "scale": ("vector",)}.get(row.kind, ())
        return tuple(f"{self.place}/{row.name}/{part}" for part in parts)


def description(node: ir.Node) -> Description | None:
    """The description of a canonical node; None for any other node."""
    text = node.metadata_props.get(CELL)
    return None if text is None else _parsed(text)


@cache
def _parsed(text: str) -> Description:
    return Description.parse(text)
