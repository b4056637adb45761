"""Steps: from one direction of a layer to the statements of its step in C.

The loops are those of `onnxgru.core.schedule`; what stands in them is printed from the expressions
that the operators' own `compute` gives. Nothing here knows a cell, or a kind of operator.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxgru.core.integers import IntegerType, WeightType
from onnxgru.core.program import IntegerLayer, IntegerRecurrence
from onnxgru.core.schedule import CARRY, CODES, NEXT, STEPS, SUMS, ComputedValue, Memory, Schedule
from onnxgru.custom_ops.kernels import stage
from onnxgru.firmware.arrays import Arrays, Names
from onnxgru.firmware.calls import chain, require_fit, spread
from onnxgru.firmware.expressions import (
    Beside,
    Call,
    Element,
    Expression,
    Expressions,
    Number,
    Parameter,
    Product,
    Stored,
    Weights,
    columns,
    parameters,
)

RESERVED = (
    "layer",
    "x",
    "i",
    "j",
    "clip",
    "half",
    "power",
    "total",
    "shift_right",
    "centre",
    "pair",
)
"""Names that the templates use."""


@dataclass(frozen=True)
class StructMember:
    """An array of the struct of a direction.

    Parameters
    ----------
    type, name : str
        In C.
    count : int
        Elements.
    about : str
        What it holds.
    """

    type: str
    name: str
    count: int
    about: str


@dataclass(frozen=True)
class Statement:
    """What is computed of one value for one unit.

    Parameters
    ----------
    about : str
        The operator, for a comment; empty where a statement belongs to the one before.
    lines : tuple of str
        In C.
    """

    about: str
    lines: tuple[str, ...]


@dataclass
class LoopText:
    """One loop over units.

    Parameters
    ----------
    width : int
        Units.
    before : list of str
        Statements in front of it.
    statements : list of Statement
        Its body.
    """

    width: int
    before: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Step:
    """A direction in C.

    Parameters
    ----------
    name : str
        What its functions begin with.
    recurrence : IntegerRecurrence
        The direction.
    members : tuple of StructMember
        Its struct.
    reset, after : tuple of str
        Statements of the reset, and those behind the last loop.
    loops : tuple of LoopText
        The step.
    emitted : str
        The array of the struct that holds what leaves the step.
    products : frozenset of tuple of str and int
        Functions that are called: a form, and a width of weights.
    ram : int
        Bytes of the struct.
    """

    name: str
    recurrence: IntegerRecurrence
    members: tuple[StructMember, ...]
    reset: tuple[str, ...]
    loops: tuple[LoopText, ...]
    after: tuple[str, ...]
    emitted: str
    products: frozenset[tuple[str, int]]
    ram: int


def code_type(kind: IntegerType) -> str:
    """Type of codes in C."""
    return f"{kind.container.name}_t"


def step(layer: IntegerLayer, recurrence: IntegerRecurrence, arrays: Arrays, name: str) -> Step:
    """The step of one direction.

    Parameters
    ----------
    layer : IntegerLayer
        The layer.
    recurrence : IntegerRecurrence
        One of its directions.
    arrays : Arrays
        Takes what is kept in flash.
    name : str
        What functions begin with.

    Raises
    ------
    ModelError
        If sums of a product could leave 32 bits.
    """
    return _Writer(layer, recurrence, arrays).step(name)


_MEMBERS = {
    CARRY: ("", "code_type", "codes that are kept"),
    NEXT: ("_next", "code_type", "their next value"),
    CODES: ("", "code_type", "codes"),
    SUMS: ("_sums", "int32_t", "sums of products, kept"),
    STEPS: ("_steps", "", "distance from the zero point"),
}


class _Writer:
    """Writes one direction."""

    def __init__(self, layer: IntegerLayer, recurrence: IntegerRecurrence, arrays: Arrays) -> None:
        self._layer, self._recurrence, self._arrays = layer, recurrence, arrays
        self._schedule = Schedule.of(recurrence)
        self._names = Names(RESERVED)
        self._members: dict[tuple[str, str], StructMember] = {}
        self._records: dict[tuple[str, ...], Any] = {}
        for part in recurrence.stages:
            self._records |= stage.prepare(Expressions(), part)
        self._zeros = layer.zero_points.stored(Expressions())
        self._forms: set[tuple[str, int]] = set()
        self._hoisted: dict[str, str] = {}
        self._before: list[str] = []
        self._owner = ""
        self._products: list[Product] = []
        self._totals: set[str] = set()

        for memory in self._schedule.memory:
            self._members[memory.value, memory.role] = self._member(memory)

    def _local(self, value: str) -> str:
        return value.removeprefix(f"{self._recurrence.name}/")

    def _name(self, value: str) -> str:
        return self._names(self._local(value))

    def _kind(self, value: str) -> IntegerType:
        """Type of the codes of a computed value, a carry or the input."""
        if value == self._recurrence.input:
            return self._layer.input.quantization.type
        for carry in self._recurrence.carries:
            if carry.name == value:
                value = carry.written_by
        return self._recurrence.types[value]

    def _member(self, memory: Memory) -> StructMember:
        suffix, kind, about = _MEMBERS[memory.role]
        if memory.role == STEPS:
            kind = "int32_t" if self._kind(memory.value).wide else "int16_t"
        elif kind == "code_type":
            kind = code_type(self._kind(memory.value))
        name = f"{self._name(memory.value)}{suffix}"
        return StructMember(kind, name, memory.count, f"{self._local(memory.value)}: {about}")

    def _array(self, value: str, role: str) -> str:
        return f"layer->{self._members[value, role].name}"

    def step(self, name: str) -> Step:
        """All of it."""
        recurrence, schedule = self._recurrence, self._schedule
        loops = []
        expressions = self._expressions()
        for place, loop in enumerate(schedule.loops):
            loops.append(self._loop(place, loop.width, loop.rows, expressions))
        after = []
        for carry in recurrence.carries:
            if carry.name in schedule.doubled:
                old, new = self._array(carry.name, CARRY), self._array(carry.name, NEXT)
                count = self._members[carry.name, CARRY].count
                after += _each(count, f"{old}[j] = {new}[j];", "j")
        return Step(
            name,
            recurrence,
            tuple(self._members.values()),
            tuple(self._reset()),
            tuple(loops),
            tuple(after),
            self._members[self._emitted()].name,
            frozenset(self._forms),
            schedule.ram,
        )

    def _emitted(self) -> tuple[str, str]:
        for carry in self._recurrence.carries:
            if carry.written_by == self._recurrence.emits:
                return carry.name, CARRY
        return self._recurrence.emits, CODES

    def _expressions(self) -> dict[str, Expression]:
        """How an element of every value is computed."""
        found: dict[str, Expression] = {}
        for operator in self._recurrence.operators:
            record = parameters(self._records[operator.outputs])
            operands = [Element(name) for name in operator.inputs]
            results = operator.compute(Expressions(), record, *operands)
            found.update(zip(operator.outputs, results, strict=True))
        return found

    def _reset(self) -> Iterator[str]:
        for local, carry in self._recurrence.bound.items():
            boundary = self._layer.grids[self._layer.grid(self._recurrence, local)]
            target, member = self._array(carry.name, CARRY), self._members[carry.name, CARRY]
            zero = self._text(self._zero(boundary))
            yield from _each(member.count, f"{target}[i] = ({member.type}){zero};", "i")
        for (value, role), member in self._members.items():
            if role == SUMS:
                yield from _each(member.count, f"{self._array(value, role)}[i] = 0;", "i")

    def _zero(self, boundary: Any) -> Expression:
        return columns(self._zeros, self._layer.zero_points.position(boundary), 1)

    def _loop(
        self,
        place: int,
        width: int,
        rows: Sequence[ComputedValue],
        expressions: Mapping[str, Expression],
    ) -> LoopText:
        text = LoopText(width)
        self._before, self._hoisted = text.before, {}
        for name, first in self._schedule.gathered.items():
            if first == place and name not in self._schedule.places:
                self._centre(name)
        made = {row.name for row in rows}
        loads: dict[str, str] = {}
        for row in rows:
            for name in row.operator.inputs:
                if not row.operator.gathers and name not in made and name not in loads:
                    loads[name] = f"const int32_t {self._name(name)} = {self._load(name)}[j];"
        if loads:
            text.statements.append(Statement("", tuple(loads.values())))
        for name in dict.fromkeys(name for row in rows for name in row.operator.inputs):
            self._add_up(name, rows)
        for row in rows:
            text.statements.append(self._row(row, expressions[row.name]))
        for row in rows:
            text.statements.extend(self._changed(row))
        if stores := [line for row in rows for line in self._stores(row)]:
            text.statements.append(Statement("", tuple(stores)))
        return text

    def _add_up(self, name: str, rows: Sequence[ComputedValue]) -> None:
        """Add up what is held of an operand, once, before products of it are read."""
        read = any(row.operator.gathers and name in row.operator.inputs for row in rows)
        if not read or name not in self._schedule.held or name in self._totals:
            return
        operand = self._operand(name)
        if not operand.quantization.type.wide:
            self._totals.add(name)
            (carry,) = (c for c in self._recurrence.carries if c.written_by == name)
            member = self._members[carry.name, CARRY]
            called = f"total(layer->{member.name}, {self._text(self._zero(operand))}"
            self._before.append(f"const int32_t {self._total(name)} = {called}, {member.count});")

    def _centre(self, name: str) -> None:
        """Copy an operand with its zero point subtracted."""
        steps, member = self._array(name, STEPS), self._members[name, STEPS]
        source = "x" if name == self._recurrence.input else self._array(name, CARRY)
        zero = self._text(self._zero(self._operand(name)))
        wide = member.type == "int32_t"
        called = f"centre{'_wide' if wide else ''}({steps}, {source}, {zero}, {member.count})"
        total = self._total(name)
        self._before.append(f"{called};" if wide else f"const int32_t {total} = {called};")

    def _operand(self, name: str) -> Any:
        """Quantisation of what products read."""
        for operator in self._recurrence.operators:
            if operator.gathers and name in operator.inputs:
                return operator.operands[operator.inputs.index(name)]
        raise ValueError(f"no product reads {name}")

    def _total(self, name: str) -> str:
        return f"{self._name(name)}_total"

    def _load(self, name: str) -> str:
        """The array that holds the codes of a value that another loop computed, or of an input."""
        if name == self._recurrence.input:
            return "x"
        for carry in self._recurrence.carries:
            if carry.name == name:
                return self._array(name, CARRY)
            if carry.written_by == name:
                doubled = carry.name in self._schedule.doubled
                return self._array(carry.name, NEXT if doubled else CARRY)
        return self._array(name, CODES)

    def _row(self, row: ComputedValue, expression: Expression) -> Statement:
        """One value: its product, where it has one, and what follows."""
        self._owner = self._name(row.name)
        self._products = list(dict.fromkeys(_products(expression)))
        lines = [
            f"const int32_t {self._text(product)} = {self._product(row, place, product)};"
            for place, product in enumerate(self._products)
        ]
        return Statement(
            self._about(row), (*lines, f"const int32_t {self._owner} = {self._text(expression)};")
        )

    def _about(self, row: ComputedValue) -> str:
        kind = row.operator.types[row.part]
        return f"{self._local(row.name)}: {row.operator.kind}, {kind.bits} bits"

    def _product(self, row: ComputedValue, place: int, product: Product) -> str:
        """A product for one unit, from packed weights or from kept sums."""
        weights = _matrix(product)
        operand = self._operand(product.operand).quantization
        if product.operand in self._schedule.held:
            first = f"{place * row.width} + " if place else ""
            text = f"{self._array(row.name, SUMS)}[{first}j]"
            return text if operand.type.wide else self._corrected(text, product)
        packed, words, stream = self._arrays.weights(weights, turned=False)
        form = "wide" if operand.type.wide else "dot"
        if form == "dot":
            require_fit(weights, operand)
        self._forms.add((form, weights.bits))
        steps = self._array(product.operand, STEPS)
        text = chain(form, packed.shape, "0", steps, words, stream, "j")
        return text if form == "wide" else self._corrected(text, product)

    def _corrected(self, text: str, product: Product) -> str:
        """A product with the weights from one with their codes, which are not negative."""
        weights = _matrix(product)
        kind = WeightType(weights.bits)
        factor = f"{kind.spacing} * " if kind.spacing > 1 else ""
        offset = kind.maximum + (kind.spacing == 1)
        return f"{factor}{text} - {offset} * {self._total(product.operand)}"

    def _changed(self, row: ComputedValue) -> Iterator[Statement]:
        """Where a held element changed, add what that changes to the sums that are kept."""
        if row.name not in self._schedule.held:
            return
        (carry,) = (c for c in self._recurrence.carries if c.written_by == row.name)
        change = f"{self._name(row.name)}_change"
        held = self._array(carry.name, CARRY)
        lines = [
            f"const int32_t {change} = {self._name(row.name)} - {held}[j];",
            f"if ({change} != 0) {{",
        ]
        for loop in self._schedule.loops:
            for reader in loop.rows:
                if not (reader.operator.gathers and row.name in reader.operator.inputs):
                    continue
                record = parameters(self._records[reader.operator.outputs])
                found = reader.operator.compute(Expressions(), record, Element(row.name))
                each = dict.fromkeys(_products(found[reader.part]))
                for place, product in enumerate(each):
                    weights = _matrix(product)
                    packed, words, stream = self._arrays.weights(weights, turned=True)
                    wide = self._operand(row.name).quantization.type.wide
                    form = "spread_wide" if wide else "spread"
                    if not wide:
                        require_fit(weights, self._operand(row.name).quantization)
                    self._forms.add((form, weights.bits))
                    sums = self._array(reader.name, SUMS)
                    sums = f"{sums} + {place * reader.width}" if place else sums
                    calls = spread(form, packed.shape, sums, change, words, stream)
                    lines += [f"    {call};" for call in calls]
        yield Statement(f"products of {self._local(row.name)}", (*lines, "}"))

    def _stores(self, row: ComputedValue) -> Iterator[str]:
        """Where a value is kept."""
        name = self._name(row.name)
        for carry in self._recurrence.carries:
            if carry.written_by == row.name:
                role = NEXT if carry.name in self._schedule.doubled else CARRY
                member = self._members[carry.name, role]
                yield f"layer->{member.name}[j] = ({member.type}){name};"
        if (row.name, CODES) in self._members:
            member = self._members[row.name, CODES]
            yield f"layer->{member.name}[j] = ({member.type}){name};"
        if (row.name, STEPS) in self._members:
            member = self._members[row.name, STEPS]
            zero = self._text(self._zero(self._operand(row.name)))
            steps = f"{name} - {zero}"
            yield f"layer->{member.name}[j] = ({member.type})({steps});"
            if member.type == "int16_t":
                total = self._total(row.name)
                self._before.append(f"int32_t {total} = 0;")
                yield f"{total} += {steps};"

    def _text(self, expression: Expression) -> str:
        match expression:
            case Number(value):
                return str(value) if value >= 0 else f"({value})"
            case Stored(_, _, start, count):
                array = self._arrays.stored(expression, expression.name)
                place = str(start) if count == 1 else (f"{start} + j" if start else "j")
                return f"{array}[{place}]"
            case Element(name):
                return self._name(name)
            case Product():
                number = self._products.index(expression) + 1
                return f"{self._owner}_product{f'_{number}' if number > 1 else ''}"
            case Parameter(path, value):
                return self._parameter(path, value)
            case Call(operation, operands):
                return self._call(operation, operands)
        raise ValueError(f"{expression} has no text")

    def _parameter(self, path: str, value: Expression) -> str:
        if isinstance(value, Number) or not _scalar(value):
            return self._text(value)
        whole = f"{self._owner}.{path.removesuffix('.mask')}"
        if whole not in self._hoisted:
            inner = whole.removeprefix(f"{self._owner}.").removeprefix("requantization.")
            short = f"{self._owner}_{inner.removeprefix('finish.').replace('.', '_')}"
            if short in self._hoisted.values():
                short = whole.replace(".", "_")
            self._hoisted[whole] = short
            self._before.append(f"const int32_t {short} = {self._bare(value)};")
        return self._hoisted[whole]

    def _bare(self, expression: Expression) -> str:
        """Text of an expression that nothing stands beside."""
        text = self._text(expression)
        whole = isinstance(expression, Call) and expression.operation in ("add", "sub")
        return text[1:-1] if whole else text

    def _call(self, operation: str, operands: Sequence[Expression]) -> str:
        if operation == "look_up":
            table, index = operands
            stored = table.value if isinstance(table, Parameter) else table
            assert isinstance(stored, Stored)
            return f"{self._arrays.stored(stored, stored.name)}[{self._bare(index)}]"
        text = self._bare if operation in _FUNCTIONS else self._text
        return _FORMATS[operation].format(*map(text, operands))


_FORMATS = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "{} * {}",
    "floor_shift": "shift_right({}, {})",
    "clip": "clip({}, {}, {})",
    "power": "power({})",
    "half": "half({})",
}

_FUNCTIONS = ("floor_shift", "clip", "power", "half")


def _each(count: int, line: str, counter: str) -> list[str]:
    """A loop of one statement."""
    return [f"for ({counter} = 0; {counter} < {count}; ++{counter}) {{", f"    {line}", "}"]


def _scalar(expression: Expression) -> bool:
    """Whether a value is the same for all units."""
    match expression:
        case Stored(count=count):
            return count == 1
        case Call(_, operands):
            return all(map(_scalar, operands))
        case Parameter(_, value):
            return _scalar(value)
    return isinstance(expression, Number)


def _products(expression: Expression) -> Iterator[Product]:
    match expression:
        case Product():
            yield expression
        case Call(_, operands):
            for operand in operands:
                yield from _products(operand)


def _matrix(product: Product) -> Weights:
    assert isinstance(product.weights, Weights) and not isinstance(product.weights, Beside)
    return product.weights
