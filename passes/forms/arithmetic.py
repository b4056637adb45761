"""Arithmetic: the operations of a layer, which the float and the integer graph implement."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import onnx_ir as ir

from onnxgru.core.integers import Quantization
from onnxgru.core.network import Layer, Recurrence
from onnxgru.core.program import IntegerLayer, IntegerRecurrence
from onnxgru.core.tape import Tape

AnyLayer = TypeVar("AnyLayer", Layer, IntegerLayer)
AnyRecurrence = TypeVar("AnyRecurrence", Recurrence, IntegerRecurrence)


class Arithmetic(ABC, Generic[AnyLayer, AnyRecurrence]):
    """The operations of a layer, from which `onnxgru.passes.forms.recurrence.expand` makes a graph.

    A `grid` is the name of a shared quantisation of the layer: of its input, a carry or its output.
    """

    @abstractmethod
    def element(self, layer: AnyLayer, grid: str) -> ir.DataType:
        """Element type of the values that have a grid."""

    @abstractmethod
    def computed(self, recurrence: AnyRecurrence, name: str) -> ir.DataType:
        """Element type of an operator's value."""

    @abstractmethod
    def enter(self, tape: Tape, layer: AnyLayer, x: ir.Value) -> ir.Value:
        """The input sequence (T, B, I) as the recurrences read it."""

    @abstractmethod
    def leave(self, tape: Tape, layer: AnyLayer, y: ir.Value, grid: str, name: str) -> ir.Value:
        """Values of any shape that have a grid, as float32 under the name `name`."""

    @abstractmethod
    def initial(self, tape: Tape, layer: AnyLayer, value: ir.Value, grid: str) -> ir.Value:
        """A float32 value of any shape as a value of the grid."""

    @abstractmethod
    def zero(self, tape: Tape, layer: AnyLayer, grid: str) -> ir.Value:
        """The value 0.0, shape ()."""

    @abstractmethod
    def quantization(self, layer: AnyLayer, grid: str) -> Quantization | None:
        """Quantisation of a grid; None in the float graph."""

    @abstractmethod
    def prologue(self, tape: Tape, recurrence: AnyRecurrence, x: ir.Value) -> dict[str, ir.Value]:
        """Values (T, B, N) of the operators that depend on no carry, by name.

        They include the sequence itself where steps read it.
        """

    @abstractmethod
    def entering(self, recurrence: AnyRecurrence, name: str) -> tuple[int, ir.DataType]:
        """Features and element type of one step of a value of `prologue`."""

    @abstractmethod
    def step(
        self, tape: Tape, recurrence: AnyRecurrence, known: dict[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """Values (B, N) of one step, by operator name; `known` has carries and the prologue."""

    @abstractmethod
    def select(
        self,
        tape: Tape,
        layer: AnyLayer,
        grid: str,
        mask: ir.Value,
        new: ir.Value,
        old: ir.Value,
        name: str,
    ) -> ir.Value:
        """`new` where the mask (uint8, 0 or 1) is 1, else `old`; both have the grid."""
