"""How a layer is computed: what a recurrence asks of the float and of the integer graph."""

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
    """How a layer is computed: what `expand` asks of the float and of the integer graph."""

    @abstractmethod
    def element(self, layer: AnyLayer, grid: str) -> ir.DataType:
        """Type of what has one of the layer's shared quantisations, or that of its input."""

    @abstractmethod
    def computed(self, recurrence: AnyRecurrence, name: str) -> ir.DataType:
        """Type of an operator's value."""

    @abstractmethod
    def enter(self, tape: Tape, layer: AnyLayer, x: ir.Value) -> ir.Value:
        """The input sequence (T, B, I) as the recurrences read it."""

    @abstractmethod
    def leave(self, tape: Tape, layer: AnyLayer, y: ir.Value, grid: str, name: str) -> ir.Value:
        """What has one of the layer's shared quantisations, of any shape, as float32 `name`."""

    @abstractmethod
    def initial(self, tape: Tape, layer: AnyLayer, value: ir.Value, grid: str) -> ir.Value:
        """A float32 value of any shape as the recurrences carry it."""

    @abstractmethod
    def zero(self, tape: Tape, layer: AnyLayer, grid: str) -> ir.Value:
        """The value 0.0, shape ()."""

    @abstractmethod
    def quantization(self, layer: AnyLayer, grid: str) -> Quantization | None:
        """What codes mean; None where there are none."""

    @abstractmethod
    def prologue(self, tape: Tape, recurrence: AnyRecurrence, x: ir.Value) -> dict[str, ir.Value]:
        """Values (T, B, N) of everything that depends on no carry, by operator name.

        The sequence itself is among them where steps read it.
        """

    @abstractmethod
    def entering(self, recurrence: AnyRecurrence, name: str) -> tuple[int, ir.DataType]:
        """Width and type of what steps are given of a value of `prologue`."""

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
        """`new` where the mask (uint8, 0 or 1) is set, else `old`; both with one quantisation."""
