"""The schedule of a step on a device: operators in few loops over units, and the memory they need.

Operators that work element by element share a loop: the value that one of them computes for a unit
stays in a register for the next one. A matrix product reads every element of its operand, so it
begins a new loop where the operand is computed in the same step. A product reads a copy of its
operand with the zero point subtracted, ``q - Z``. So a carry may be written while products of the
same step read it.

A delta network makes no such copy. It keeps the last operand as a carry and its product in
accumulators, and multiplies only the elements that changed.

The C code (`onnxgru.firmware`) has these loops and these arrays. The RAM in a report is the size of
its struct.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from onnxgru.core.program import IntegerOperator, IntegerRecurrence

CARRY, NEXT, STEPS, CODES, SUMS = "carry", "next", "steps", "codes", "sums"
"""Roles of memory: see `Memory`."""


@dataclass(frozen=True)
class Memory:
    """One array of the struct.

    Parameters
    ----------
    value : str
        The carry or value that it belongs to.
    role : str
        ``carry``: codes that are kept from step to step. ``next``: the next value of a carry whose
        last value is still needed. ``steps``: q - Z of an operand of products. ``codes``: codes of
        a value that a later loop reads, or that leaves the step. ``sums``: accumulators that are
        kept from step to step.
    count, itemsize : int
        Number of elements, and bytes of each.
    """

    value: str
    role: str
    count: int
    itemsize: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.itemsize


@dataclass(frozen=True)
class ComputedValue:
    """One value that an operator computes.

    Parameters
    ----------
    operator : IntegerOperator
        The operator.
    part : int
        Position of the value among its outputs.
    """

    operator: IntegerOperator
    part: int

    @property
    def name(self) -> str:
        """Name of the value."""
        return self.operator.outputs[self.part]

    @property
    def width(self) -> int:
        """Features of the value."""
        return self.operator.widths[self.part]


@dataclass(frozen=True, eq=False)
class UnitLoop:
    """Values that are computed unit by unit, in order.

    Parameters
    ----------
    width : int
        Number of units.
    rows : tuple of ComputedValue
        Values that are computed for each unit.
    """

    width: int
    rows: tuple[ComputedValue, ...]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Loops and memory of a step of one direction.

    Parameters
    ----------
    recurrence : IntegerRecurrence
        The direction.
    loops : tuple of UnitLoop
        Loops in the order of execution.
    """

    recurrence: IntegerRecurrence
    loops: tuple[UnitLoop, ...]

    @classmethod
    def of(cls, recurrence: IntegerRecurrence) -> "Schedule":
        """The schedule of a direction that needs less RAM, of two.

        One computes every value as early as its operands allow, the other as late as its readers
        allow. A gate that only a later loop reads needs memory if it is computed early.
        """
        early = cls._early(recurrence)
        return min(early, early._late, key=lambda schedule: schedule.ram)

    @classmethod
    def _early(cls, recurrence: IntegerRecurrence) -> "Schedule":
        """Every value in the first loop of its width that its operands allow."""
        widths: list[int] = []
        rows: list[list[ComputedValue]] = []
        made: dict[str, int] = {}
        for operator in recurrence.operators:
            after = 1 if operator.gathers else 0
            first = max((made[name] + after for name in operator.inputs if name in made), default=0)
            for part, (name, width) in enumerate(
                zip(operator.outputs, operator.widths, strict=True)
            ):
                place = first
                while place < len(rows) and widths[place] != width:
                    place += 1
                if place == len(rows):
                    widths.append(width)
                    rows.append([])
                rows[place].append(ComputedValue(operator, part))
                made[name] = place
        loops = (UnitLoop(width, tuple(found)) for width, found in zip(widths, rows, strict=True))
        return cls(recurrence, tuple(loops))

    @property
    def _late(self) -> "Schedule":
        """Every value in the last loop of its width that its readers allow."""
        operators = list(self.recurrence.operators)
        order = [ComputedValue(o, part) for o in operators for part in range(len(o.outputs))]
        places = dict(self.places)
        readers: dict[str, list[tuple[str, int]]] = {}
        for row in order:
            for name in row.operator.inputs:
                readers.setdefault(name, []).append((row.name, int(row.operator.gathers > 0)))
        for row in reversed(order):
            if row.name in readers:
                place = min(places[reader] - before for reader, before in readers[row.name])
                while self.loops[place].width != row.width:
                    place -= 1
                places[row.name] = max(place, places[row.name])
        kept = [
            UnitLoop(loop.width, tuple(row for row in order if places[row.name] == place))
            for place, loop in enumerate(self.loops)
        ]
        return Schedule(self.recurrence, tuple(loop for loop in kept if loop.rows))

    @cached_property
    def places(self) -> dict[str, int]:
        """Position of the loop that computes a value, by name."""
        return {row.name: place for place, loop in enumerate(self.loops) for row in loop.rows}

    @cached_property
    def held(self) -> frozenset[str]:
        """Values whose last propagated codes are carries: products of them are accumulated."""
        return frozenset(carry.written_by for carry in self.recurrence.carries if carry.holds)

    @cached_property
    def gathered(self) -> dict[str, int]:
        """Values that products read as a whole, with the position of the first loop that does."""
        found: dict[str, int] = {}
        for place, name, whole in self._reads:
            if whole and name not in self.held:
                found.setdefault(name, place)
        return found

    @cached_property
    def later(self) -> frozenset[str]:
        """Computed values whose codes are read element by element after their loop."""
        return frozenset(
            name
            for place, name, whole in self._reads
            if not whole and self.places.get(name, place) < place
        )

    @cached_property
    def doubled(self) -> frozenset[str]:
        """Carries that are read after the loop that computes their next value."""
        found = set()
        for carry in self.recurrence.carries:
            written = self.places[carry.written_by]
            for place, name, whole in self._reads:
                read = self.gathered[name] if whole and name in self.gathered else place
                if name == carry.name and read > written:
                    found.add(name)
        return frozenset(found)

    @property
    def _reads(self) -> Iterator[tuple[int, str, bool]]:
        """Every read of a value: position of the loop, name, and whether all elements are read."""
        for place, loop in enumerate(self.loops):
            for row in loop.rows:
                for name in row.operator.inputs:
                    yield place, name, row.operator.gathers > 0

    @cached_property
    def memory(self) -> tuple[Memory, ...]:
        """Arrays of the struct, those of long elements first, so that no padding is needed."""
        recurrence = self.recurrence
        types, widths = recurrence.types, recurrence.widths
        found: list[Memory] = []
        for carry in recurrence.carries:
            written = carry.written_by
            size = widths[written], types[written].container.itemsize
            found.append(Memory(carry.name, CARRY, *size))
            if carry.name in self.doubled:
                found.append(Memory(carry.name, NEXT, *size))
        kept = {carry.written_by for carry in recurrence.carries}
        emitted = {recurrence.emits} - kept
        found += [
            Memory(name, CODES, widths[name], types[name].container.itemsize)
            for name in self.places
            if name in (self.later - kept) | emitted
        ]
        for row in (row for loop in self.loops for row in loop.rows if row.operator.gathers):
            (name,) = row.operator.inputs
            if name in self.held:
                found.append(Memory(row.name, SUMS, row.operator.products * row.width, 4))
        operands = {
            name: (operator.gathers, operator.operands[0].quantization.type)
            for operator in recurrence.operators
            if operator.gathers
            for name in operator.inputs
        }
        for name in self.gathered:
            count, kind = operands[name]
            found.append(Memory(name, STEPS, count, 4 if kind.wide else 2))
        return tuple(sorted(found, key=lambda memory: -memory.itemsize))

    @property
    def ram(self) -> int:
        """Bytes of the struct: the sum over its arrays, rounded up to its alignment."""
        alignment = max((memory.itemsize for memory in self.memory), default=1)
        size = sum(memory.size for memory in self.memory)
        return -(-size // alignment) * alignment
