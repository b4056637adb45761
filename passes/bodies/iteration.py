"""Iteration: how ``Scan`` and ``Loop`` exchange values with their bodies.

Source: ONNX operator specification. A ``Scan`` declares its sequences. In a ``Loop``, a value is a
sequence if ``Gather`` reads it at the counter, and the loop must have as many steps as it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from onnxgru.passes.bodies import moving
from onnxgru.passes.bodies.ends import lengthened
from onnxgru.passes.bodies.equations import Carried, Emitted, Equations, origin, read
from onnxgru.passes.bodies.lengths import UNLIMITED, Steps, steps
from onnxgru.passes.bodies.masks import Selected
from onnxgru.passes.bodies.reading import Count, Features, Going, Limit, Read, Reader
from onnxgru.passes.bodies.sequences import Sequences, joined
from onnxgru.passes.bodies.terms import Term, Terms, UnknownError
from onnxgru.passes.graph.values import constant_value


def equations(node: ir.Node) -> Equations:
    """What a ``Scan`` or ``Loop`` of a normalised graph computes.

    Raises
    ------
    UnknownError
        If its body is no cell.
    """
    try:
        return _SCAN_OR_LOOP[node.op_type](node)
    except RecursionError as error:
        raise UnknownError("its body is longer than cells are") from error


@dataclass
class _Kept:
    """A value that a body reads and returns for the next step."""

    inner: ir.Value
    first: ir.Value
    following: ir.Value
    last: ir.Value


@dataclass
class _Iteration:
    """What `Scan` and `Loop` have in common."""

    node: ir.Node
    body: ir.Graph
    terms: Terms = field(default_factory=Terms)
    aliases: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sequences = Sequences(self.terms)
        self.reader = Reader(self.terms, self.body, self.outside, self.sequences.step)

    def outside(self, value: ir.Value) -> Read:
        """A value of the outer graph that the body captures, or carries without change."""
        value = self.aliases.get(value, value)
        array = constant_value(value)
        if array is not None:
            return array
        if (size := steps(value)) is not None:
            return size
        raise UnknownError(
            f"its body reads {value.name}, which is neither constant nor a slice of a sequence"
        )

    def read(
        self,
        kept: Sequence[_Kept],
        emitted: Sequence[tuple[ir.Value, ir.Value, int]],
        *,
        reverse: bool = False,
    ) -> Equations:
        """Equations of the carries and of the emitted value."""
        unchanged: list[tuple[ir.Value, ir.Value]] = []
        counted: list[_Kept] = []
        states: list[tuple[_Kept, moving.Axes]] = []
        for each in kept:
            if origin(each.following) is each.inner:
                unchanged.append((each.last, each.first))
                self.aliases[each.inner] = each.first
            elif each.inner.dtype is not None and each.inner.dtype.is_integer():
                counted.append(each)
                self.reader.know(each.inner, Count(_number(each)))
            else:
                if each.inner.dtype != ir.DataType.FLOAT:
                    raise UnknownError(f"what it carries, {each.inner.name}, must be float32")
                axes = moving.named(each.inner.shape or each.first.shape, f"{each.inner.name}")
                width = moving.width(_shaped(each), axes)
                source = self.terms.source(f"carry {len(states)}", width)
                states.append((each, axes))
                self.reader.know(each.inner, Features(source, axes))
        for each in counted:
            if self.reader(each.following) != Count(_number(each) + 1):
                raise UnknownError(f"its counter {each.inner.name} is not counted up by 1")
            if read(each.last):
                raise UnknownError(f"its counter {each.last.name} is read behind it")
        carried = [self._carried(*state) for state in states]
        leaving = [entry for entry in emitted if read(entry[1])]
        if len(leaving) > 1:
            names = ", ".join(str(outer.name) for _, outer, _ in leaving)
            raise UnknownError(f"it gives {len(leaving)} sequences, {names}, where cells give one")
        found = None
        for inner, outer, axis in leaving:
            features, held = self._held(inner, "what it gives at every step,")
            place = axis % (len(features.axes) + 1)
            axes = (*features.axes[:place], moving.TIME, *features.axes[place:])
            old = held.old if held is not None else None
            found = Emitted(features.term, axes, outer, held.mask if held else None, old)
        kept_as_given = tuple((last, first) for last, first in unchanged if read(last))
        return self._settled(carried, found, reverse, kept_as_given)

    def _settled(
        self,
        carried: Sequence[Carried],
        emitted: Emitted | None,
        reverse: bool,
        kept: tuple[tuple[ir.Value, ir.Value], ...],
    ) -> Equations:
        """Equations that read one sequence, without parts of vectors."""
        roots = tuple(self.sequences.roots)
        if not roots:
            raise UnknownError("its body reads no sequence")
        parts: dict[Term, Term] = {}
        source = roots[0].source
        if len(roots) > 1:
            source, parts = joined(self.terms, roots)

        def settled(term: Term) -> Term:
            return self.terms.settled(term, parts)

        found = Equations(
            self.terms,
            tuple(replace(each, following=settled(each.following)) for each in carried),
            roots,
            source,
            None if emitted is None else replace(emitted, term=settled(emitted.term)),
            reverse,
            kept,
        )
        found = lengthened(found, self.sequences.given)
        return found.turned() if all(moving.BACK in root.axes for root in roots) else found

    def _carried(self, each: _Kept, axes: moving.Axes) -> Carried:
        name = each.inner.name
        following, held = self._held(each.following, "what it carries,")
        given = self.reader.features(each.inner, "what it carries,")
        if following.axes != axes or following.term.width != given.term.width:
            raise UnknownError(f"what it carries, {name}, changes its axes")
        last = each.last if read(each.last) else None
        if held is not None and held.old is not given.term:
            raise UnknownError(f"its body holds something else than what it carries, {name}")
        found = None if held is None else held.mask
        return Carried(given.term, following.term, axes, each.first, last, found)

    def _held(self, value: ir.Value, what: str) -> tuple[Features, Selected | None]:
        """Features of a value while its sequence goes on, and its mask if it has one."""
        found = self.reader(value)
        if isinstance(found, Selected):
            return Features(found.new, found.axes), found
        return self.reader.features(value, what), None


def _shaped(each: _Kept) -> ir.Value:
    return each.inner if each.inner.shape is not None else each.first


def _number(each: _Kept) -> int:
    array = constant_value(each.first)
    if array is None or array.size != 1:
        raise UnknownError(f"its counter {each.inner.name} begins with what is not constant")
    return int(array.reshape(-1)[0])


def _scan(node: ir.Node) -> Equations:
    body = node.attributes["body"].as_graph()
    count = node.attributes.get_int("num_scan_inputs", 0)
    iteration = _Iteration(node, body)
    states = len(node.inputs) - count
    given = [value for value in node.inputs if value is not None]
    joined = len(node.outputs) - states
    attributes = node.attributes
    axes = list(attributes.get_ints("scan_input_axes", ())) or [0] * count
    placed = list(attributes.get_ints("scan_output_axes", ())) or [0] * joined
    backwards = _directions(node, count, joined)
    for inner, outer, axis in zip(body.inputs[states:], given[states:], axes, strict=True):
        iteration.reader.know(inner, iteration.sequences.step(outer, axis))
    kept = [
        _Kept(*values)
        for values in zip(
            body.inputs[:states], given[:states], body.outputs[:states], node.outputs[:states],
            strict=True,
        )
    ]  # fmt: skip
    emitted = list(zip(body.outputs[states:], node.outputs[states:], placed, strict=True))
    return iteration.read(kept, emitted, reverse=backwards)


def _directions(node: ir.Node, given: int, made: int) -> bool:
    """Whether time runs backwards."""
    found = set()
    for name, count in (("scan_input_directions", given), ("scan_output_directions", made)):
        found |= set(node.attributes.get_ints(name, ()) or [0] * count)
    if len(found) > 1:
        raise UnknownError("its sequences run in different directions")
    return found == {1}


def _loop(node: ir.Node) -> Equations:
    body = node.attributes["body"].as_graph()
    iteration = _Iteration(node, body)
    trips, condition, *given = node.inputs
    if condition is not None and not _holds(condition):
        raise UnknownError(f"its condition {condition.name} may be false before the first step")
    counter, going, *inner = body.inputs
    iteration.reader.know(counter, Count(0))
    iteration.reader.know(going, Going(frozenset()))
    count = len(given)
    kept = [
        _Kept(*values)
        for values in zip(
            inner, [v for v in given if v is not None], body.outputs[1 : count + 1],
            node.outputs[:count], strict=True,
        )
    ]  # fmt: skip
    emitted = [
        (value, outer, 0)
        for value, outer in zip(body.outputs[count + 1 :], node.outputs[count:], strict=True)
    ]
    found = iteration.read(kept, emitted)
    goes_on = iteration.reader(body.outputs[0])
    limits: set[Limit] = set()
    if isinstance(goes_on, Going):
        limits |= goes_on.limits
    elif not (isinstance(goes_on, np.ndarray) and goes_on.all()):
        raise UnknownError("its condition may end it before the last step")
    if trips is not None:
        limits.add(Limit(_steps(trips), 0))
    _require_all_steps(iteration.sequences, limits)
    return found


def _steps(value: ir.Value) -> Steps | int:
    array = constant_value(value)
    if array is not None:
        return int(array.reshape(-1)[0])
    found = steps(value)
    if found is None:
        raise UnknownError(f"its trip count {value.name} is not the length of its sequence")
    return found


def _require_all_steps(sequences: Sequences, limits: set[Limit]) -> None:
    """Check that a loop has as many steps as its sequences."""
    for value, axis in sequences.given:
        size = None if value.shape is None else value.shape[axis]
        ends = False
        for limit in limits:
            if isinstance(limit.size, int):
                if limit.size >= UNLIMITED:
                    continue
                if not isinstance(size, int) or limit.size + limit.more < size:
                    raise UnknownError(
                        f"its trip count is {limit.size + limit.more}, which must be the length "
                        f"of {value.name} on axis {axis}, {size}"
                    )
                ends |= limit.size + limit.more == size
            elif limit.size.same(Steps(value, axis)):
                ends |= limit.more == 0
            else:
                raise UnknownError(
                    f"its trip count is the size of {limit.size.value.name}, which must be the "
                    f"length of {value.name}"
                )
        if not ends:
            raise UnknownError(f"its trip count must be the length of {value.name}")


def _holds(value: ir.Value) -> bool:
    """Whether a condition holds before the first step, if sequences have at least one step."""
    array = constant_value(value)
    if array is not None:
        return bool(array.all())
    node = value.producer()
    if node is None:
        return False
    if node.op_type in ("And", "Identity"):
        return all(operand is not None and _holds(operand) for operand in node.inputs)
    if node.op_type == "Less":
        first, second = (constant_value(operand) for operand in node.inputs)
        size = node.inputs[1]
        return (
            first is not None
            and second is None
            and not first.any()
            and (size is not None and steps(size) is not None)
        )
    return False


_SCAN_OR_LOOP = {"Scan": _scan, "Loop": _loop}
ITERATING = tuple(_SCAN_OR_LOOP)
"""Operators that have a body."""
