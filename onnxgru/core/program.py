"""The frozen integer program that everything after lowering reads.

It is emitted as ONNX and C, evaluated, accounted and proved without the float model. Operators are
instances of the kinds in `onnxgru.custom_ops`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxgru.core.cells import Carry
from onnxgru.core.choices import MAXIMUM_BITS
from onnxgru.core.fixedpoint import Requantization
from onnxgru.core.flash import FlashItem
from onnxgru.core.integers import Codes, IntegerType, Quantization
from onnxgru.core.network import Direction, Ports
from onnxgru.core.primitives import Computing, Prepared, Storing, Value


@dataclass(frozen=True)
class Proof:
    """Proved range of an accumulator for every possible input.

    Parameters
    ----------
    name : str
        Operator.
    minimum, maximum : int
        Exact extremes over all channels, without the rounding offset; some input reaches each.
    """

    name: str
    minimum: int
    maximum: int

    @property
    def bits(self) -> int:
        """Width of the two's complement register that holds the range."""
        return max(self.maximum.bit_length(), (-self.minimum - 1).bit_length()) + 1


@dataclass(frozen=True)
class Boundary:
    """A value that is quantised with one scale: an operand, or a layer's input or state.

    Parameters
    ----------
    name : str
        Operator, or a layer's ``/input`` or ``/state``.
    quantization : Quantization
        Scale, zero point and width.
    """

    name: str
    quantization: Quantization


@dataclass(frozen=True, eq=False)
class Output:
    """One operator's codes, and how an accumulator becomes them.

    Parameters
    ----------
    name : str
        Operator.
    boundary : Boundary
        The codes: the operator's own, or its layer's state.
    requantization : Requantization
        From the accumulator.
    channels : int
        Features: H.
    extreme : int
        Proved largest magnitude of the accumulator.
    """

    name: str
    boundary: Boundary
    requantization: Requantization
    channels: int
    extreme: int

    @property
    def clips(self) -> bool:
        """Whether the pre-shifted accumulator can exceed its limit."""
        parameters = self.requantization
        rounded = self.extreme + (1 << parameters.pre_shift >> 1)
        return rounded >> parameters.pre_shift > 1 << parameters.limit

    @property
    def reaches(self) -> bool:
        """Whether the pre-shift, the clip or a second word has anything to do."""
        return self.requantization.pre_shift > 0 or self.clips or self.requantization.word > 0


@dataclass(frozen=True)
class Work:
    """Arithmetic of one elementary operator, per step and sequence.

    Parameters
    ----------
    kind : str
        ``linear``, ``add``, ``mul`` or ``lookup``.
    count : int
        Multiply-accumulates of a linear operator, elements of any other.
    bits : int
        Width of the codes it reads, of two operands the wider one.
    weight_bits : int
        Width of a linear operator's weights; else 0.
    """

    kind: str
    count: int
    bits: int
    weight_bits: int = 0


Runs = tuple[tuple[bool, int], ...]
"""Neighbouring multipliers of one kind: whether they are small, and how many."""


class IntegerOperator(ABC):
    """One operator, or several that share a product, with all its integer parameters."""

    kind: ClassVar[str]
    vectors: ClassVar[tuple[str, ...]] = ()
    """Paths in its record of the parameters that differ by channel; others are one number."""
    inputs: tuple[str, ...]
    """Names of the values it reads."""
    operands: tuple[Boundary, ...]
    """Their quantisations."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the values it computes."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Features of every value it computes."""

    @property
    def types(self) -> tuple[IntegerType, ...]:
        """Type of the codes of every value it computes."""
        return tuple(result.boundary.quantization.type for result in self.results)

    @property
    def results(self) -> tuple[Output, ...]:
        """Values that are requantised from an accumulator."""
        return ()

    @property
    def exponents(self) -> tuple[int, ...]:
        """Exponents e of its biases, one per result, stored behind the shifts; or none."""
        return ()

    @property
    def multiplier_runs(self) -> tuple[Runs, ...]:
        """Multipliers that `prepare` gets: the runs that are joined to each value."""
        runs = tuple(
            (small, sum(one.multipliers.size for one in run))
            for small, run in groupby((r.requantization for r in self.results), attrgetter("small"))
        )
        return (runs,) if runs else ()

    @abstractmethod
    def prepare(self, primitives: Storing[Value], given: Prepared[Value]) -> Any:
        """The record of parameters for `compute`, made once before the recurrence."""

    @abstractmethod
    def compute(
        self, primitives: Computing[Value], parameters: Any, *operands: Value
    ) -> Sequence[Value]:
        """The arithmetic of one step, written over the primitives of any back end."""

    @abstractmethod
    def flash(self) -> Iterator[FlashItem]:
        """Parameters that it stores itself; its stage stores the others."""

    @abstractmethod
    def proofs(self) -> Iterator[Proof]:
        """Accumulator ranges."""

    @property
    @abstractmethod
    def work(self) -> Iterator[Work]:
        """Arithmetic per step and sequence, one entry per elementary operator."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates per step and sequence."""
        return sum(work.count for work in self.work if work.weight_bits)

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for operators whose general `compute` differs in numbers only."""
        kinds = (*(operand.quantization.type for operand in self.operands), *self.types)
        return (type(self), self.inputs, self.outputs, *(kind.container for kind in kinds))

    @property
    def gathers(self) -> int:
        """Features of its operand if every result reads all of them, as in a product; else 0."""
        return 0

    @property
    def products(self) -> int:
        """Number of matrix products that a result is computed from."""
        return 0

    @property
    def operand_bits(self) -> int:
        """Width of the widest operand."""
        return max(operand.quantization.bits for operand in self.operands)


@dataclass(frozen=True, eq=False)
class ZeroPoints:
    """The zero points of one layer's values, stored in two arrays: bytes, and words of wide codes.

    Parameters
    ----------
    name : str
        Initializer of the bytes.
    values : mapping of str to Quantization
        Quantisations by name of the boundary.
    """

    name: str
    values: Mapping[str, Quantization]

    @cached_property
    def codes(self) -> Codes:
        """The stored bytes."""
        return np.asarray([q.zero_point for q in self._apart[False].values()], np.uint8)

    @cached_property
    def words(self) -> npt.NDArray[np.uint16]:
        """The stored zero points of wide codes."""
        return np.asarray([q.zero_point for q in self._apart[True].values()], np.uint16)

    @property
    def words_name(self) -> str:
        """Initializer of the zero points of wide codes."""
        return f"{self.name}/wide"

    def stored(self, p: Storing[Value]) -> Value:
        """All of them in the order of `position`, int32."""
        found = [p.bytes(self.name, self.codes)] if self.codes.size else []
        if self.words.size:
            found.append(p.words(self.words_name, self.words))
        return found[0] if len(found) == 1 else p.concatenate(found)

    def position(self, boundary: Boundary) -> int:
        """Place of a boundary's zero point."""
        return self._places[boundary.name]

    def flash(self) -> Iterator[FlashItem]:
        """One byte per zero point, two for wide codes."""
        yield FlashItem(self.name, "zero_point", self.codes.size)
        if self.words.size:
            yield FlashItem(self.words_name, "zero_point", self.words.nbytes)

    @cached_property
    def _apart(self) -> dict[bool, dict[str, Quantization]]:
        return {
            wide: {name: q for name, q in self.values.items() if q.type.wide == wide}
            for wide in (False, True)
        }

    @cached_property
    def _places(self) -> dict[str, int]:
        return {n: place for place, n in enumerate([*self._apart[False], *self._apart[True]])}


@dataclass(frozen=True, eq=False)
class Stage:
    """Operators that are computed together and store their small parameters in common arrays.

    Parameters
    ----------
    name : str
        ``/<layer>/<direction>/<stage>``, the prefix of its initializers.
    operators : tuple of IntegerOperator
        In order.
    zero_points : ZeroPoints
        Of the layer.
    """

    name: str
    operators: tuple[IntegerOperator, ...]
    zero_points: ZeroPoints

    @cached_property
    def results(self) -> tuple[Output, ...]:
        """Requantised values of all operators, in the order of `shifts` and `reaches`."""
        return tuple(result for operator in self.operators for result in operator.results)

    @property
    def shifts(self) -> Codes:
        """Shift s of every result, then the exponents of biases."""
        exponents = [e for operator in self.operators for e in operator.exponents]
        return np.asarray([r.requantization.shift for r in self.results] + exponents, np.uint8)

    @property
    def reaches(self) -> Codes:
        """Reach k of every result."""
        return np.asarray([r.requantization.reach for r in self.results], np.uint8)

    @property
    def stores_reaches(self) -> bool:
        """Whether any result needs its reach."""
        return any(result.reaches for result in self.results)

    @property
    def multipliers(self) -> npt.NDArray[np.int16]:
        """Multipliers M of all results, without the small ones."""
        return self._multipliers(small=False).astype(np.int16)

    @property
    def small_multipliers(self) -> Codes:
        """Multipliers M of 8 bits."""
        return self._multipliers(small=True).astype(np.uint8)

    def _multipliers(self, *, small: bool) -> npt.NDArray[np.int64]:
        parameters = [result.requantization for result in self.results]
        found = [one.multipliers for one in parameters if one.small == small]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    @property
    def small_name(self) -> str:
        """Initializer of the multipliers of 8 bits."""
        return f"{self.name}/multiplier/small"

    def flash(self) -> Iterator[FlashItem]:
        """The operators' own parameters, then multipliers, shifts and reaches."""
        for operator in self.operators:
            yield from operator.flash()
        if not self.results:
            return
        for name, held in (
            (f"{self.name}/multiplier", self.multipliers),
            (self.small_name, self.small_multipliers),
        ):
            if held.size:
                yield FlashItem(name, "multiplier", held.nbytes)
        yield FlashItem(f"{self.name}/shift", "shift", self.shifts.size)
        if self.stores_reaches:
            yield FlashItem(f"{self.name}/reach", "reach", self.reaches.size)


@dataclass(frozen=True, eq=False)
class IntegerRecurrence(Direction):
    """One direction of a layer.

    Parameters
    ----------
    name : str
        ``/<layer>/<direction>``.
    reverse : bool
        Whether time runs backwards.
    prologue : Stage
        Computed for all steps at once.
    body : Stage
        Computed step by step.
    carries : tuple of Carry
        What it keeps from step to step, under full names.
    emits : str
        Name of the value that leaves it at every step.
    """

    name: str
    reverse: bool
    prologue: Stage
    body: Stage
    carries: tuple[Carry, ...]
    emits: str

    @cached_property
    def widths(self) -> dict[str, int]:
        """Features of every value it computes, by name."""
        pairs = (zip(o.outputs, o.widths, strict=True) for o in self.operators)
        return {name: width for pair in pairs for name, width in pair}

    @cached_property
    def writers(self) -> dict[str, IntegerOperator]:
        """Operator that computes every value, by name of the value."""
        return {name: operator for operator in self.operators for name in operator.outputs}

    @cached_property
    def reads_input(self) -> bool:
        """Whether operators read the input step by step."""
        return any(self.input in operator.inputs for operator in self.body.operators)

    @cached_property
    def types(self) -> dict[str, IntegerType]:
        """Types of the codes of every value it computes, by name."""
        pairs = (zip(o.outputs, o.types, strict=True) for o in self.operators)
        return {name: kind for pair in pairs for name, kind in pair}

    @property
    def stages(self) -> tuple[Stage, Stage]:
        """Prologue, then body."""
        return self.prologue, self.body

    @property
    def operators(self) -> tuple[IntegerOperator, ...]:
        """Operators of both stages."""
        return self.prologue.operators + self.body.operators


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One recurrent node, or one dense layer, of the host graph as integers.

    Parameters
    ----------
    name, node : str
        As in `onnxgru.core.network.Layer`.
    ports : Ports
        What it reads and writes.
    input : Boundary
        Of the sequence it reads. It is another layer's output where this layer reads codes.
    carries : mapping of str to str
        Names of the carries' boundaries, by name of the carry.
    output : str
        Name of the output's boundary.
    grids : mapping of str to Boundary
        Boundaries that all directions share, by name: of the carries, of the output, and of the
        operands of a delta network.
    recurrences : tuple of IntegerRecurrence
        One per direction.
    input_size, hidden_size : int
        I and H.
    reads_codes : bool
        Whether the input is another layer's output, passed on as codes.
    dequantized : frozenset of str
        Names of the boundaries whose codes are dequantised for a float value.
    zero_points : ZeroPoints
        Of everything in the layer.
    """

    name: str
    node: str
    ports: Ports
    input: Boundary
    carries: Mapping[str, str]
    output: str
    grids: Mapping[str, Boundary]
    recurrences: tuple[IntegerRecurrence, ...]
    input_size: int
    hidden_size: int
    reads_codes: bool
    dequantized: frozenset[str]
    zero_points: ZeroPoints

    @property
    def emitted(self) -> Quantization:
        """Quantisation of the output."""
        return self.grids[self.output].quantization

    def carried(self, carry: str) -> Quantization:
        """Quantisation of a carry of the cell."""
        return self.grids[self.carries[carry]].quantization

    def grid(self, recurrence: IntegerRecurrence, carry: str) -> str:
        """Name of the boundary of a carry; `carry` is its name in the layer, see `bound`."""
        bound = recurrence.bound[carry]
        if not bound.holds:
            return self.carries[carry]
        return recurrence.writers[bound.written_by].operands[0].name

    def zeros(self, recurrence: IntegerRecurrence) -> dict[str, np.unsignedinteger[Any]]:
        """Code of 0.0 of every carry, by its name in the layer."""
        grids = {carry: self.grid(recurrence, carry) for carry in recurrence.bound}
        return {carry: self.grids[grid].quantization.zero for carry, grid in grids.items()}

    def flash(self) -> Iterator[FlashItem]:
        """Parameters of the layer's boundary and of all its operators."""
        if not self.reads_codes:
            yield FlashItem(f"{self.input.name}/reciprocal", "scale", 4)
        for carry in self.ports.initial:
            yield FlashItem(f"{self.carries[carry]}/reciprocal", "scale", 4)
        for name in self.grids:
            if name in self.dequantized:
                yield FlashItem(f"{name}/scale", "scale", 4)
        yield from self.zero_points.flash()
        for recurrence in self.recurrences:
            for stage in recurrence.stages:
                yield from stage.flash()


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
    def wide(self) -> bool:
        """Whether any codes are wide."""
        work = (work for operator in self.operators for work in operator.work)
        return any(max(one.bits, one.weight_bits) > MAXIMUM_BITS for one in work) or any(
            quantization.type.wide for quantization in self.values.values()
        )

    @property
    def operators(self) -> Iterator[IntegerOperator]:
        """Operators of all layers and directions."""
        for layer in self.layers:
            for recurrence in layer.recurrences:
                yield from recurrence.operators

    def flash(self) -> tuple[FlashItem, ...]:
        """Everything that a device keeps in flash; shared contents are listed once."""
        items: dict[object, FlashItem] = {}
        for layer in self.layers:
            for item in layer.flash():
                items.setdefault((item.role, item.content) if item.content else item.name, item)
        return tuple(items.values())

    def proofs(self) -> tuple[Proof, ...]:
        """Accumulator ranges of every operator."""
        return tuple(proof for operator in self.operators for proof in operator.proofs())
