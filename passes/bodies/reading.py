"""Reading: from the nodes of a body to terms.

Every value of a body is one of these:

- `Features`: a vector per sequence, with the meaning of its axes;
- a constant array, such as a weight;
- a `Count`: the number of the step plus an offset;
- a `Steps`: the size of an axis of a value outside;
- a `Going`: a condition of a ``Loop`` that holds up to some step;
- a `Mask`, or a result of one; see `onnxgru.passes.bodies.masks`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.activations import FORMS, Activation
from onnxgru.passes.bodies import masks, moving
from onnxgru.passes.bodies.lengths import Steps
from onnxgru.passes.bodies.masks import Mask, Masked, Selected
from onnxgru.passes.bodies.moving import BATCH, FEATURES, Axes
from onnxgru.passes.bodies.terms import Term, Terms, UnknownError

Array = npt.NDArray[Any]

FUNCTIONS = (
    "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip
"""Operators that are functions of a cell."""
_DEFAULTS = {"Elu": 1.0, "HardSigmoid": 0.2, "LeakyRelu": 0.01, "ThresholdedRelu": 1.0}
"""Defaults of alpha, which differ from those of a recurrent operator's activations."""


@dataclass(frozen=True, eq=False)
class Features:
    """A vector per sequence.

    Parameters
    ----------
    term : Term
        How it is computed.
    axes : tuple of str
        Meaning of its axes; see `onnxgru.passes.bodies.moving`.
    """

    term: Term
    axes: Axes


@dataclass(frozen=True)
class Count:
    """The number of the step, from 0, plus an offset."""

    offset: int


@dataclass(frozen=True)
class Limit:
    """How many steps a condition allows: a size plus a number."""

    size: Steps | int
    more: int


@dataclass(frozen=True)
class Going:
    """A condition that holds until one of its limits is reached."""

    limits: frozenset[Limit]


Read = Features | Array | Count | Steps | Going | Mask | Masked | Selected


class Reader:
    """Reads the values of a body.

    Parameters
    ----------
    terms : Terms
        Makes the terms.
    body : onnx_ir.Graph
        The body.
    outside : callable
        From a value of the outer graph to what it is; raises `UnknownError`.
    slices : callable
        From a sequence of the outer graph and its axis of time to its slice at this step.
    """

    def __init__(
        self,
        terms: Terms,
        body: ir.Graph,
        outside: Callable[[ir.Value], Read],
        slices: Callable[[ir.Value, int], Features | Mask],
    ) -> None:
        self._terms, self._body = terms, body
        self._known: dict[ir.Value, Read] = {}
        self._outside, self._slices = outside, slices

    def __call__(self, value: ir.Value) -> Read:
        """What a value is.

        Raises
        ------
        UnknownError
            If it is computed by an operator that no cell has.
        """
        if value not in self._known:
            self._known[value] = self._read(value)
        return self._known[value]

    def know(self, value: ir.Value, read: Read) -> None:
        """Set what an input of the body is."""
        self._known[value] = read

    def features(self, value: ir.Value, what: str) -> Features:
        """What a value is, which must be features."""
        found = self(value)
        if not isinstance(found, Features):
            raise UnknownError(f"{what} {value.name} does not depend on the sequence")
        return found

    def _read(self, value: ir.Value) -> Read:
        if value.const_value is not None and not value.is_graph_input():
            return value.const_value.numpy()
        node = value.producer()
        if node is None or node.graph is not self._body:
            return self._outside(value)
        if node.op_type == "Gather" and node.domain == "":
            data, index = node.inputs[:2]
            if data is not None and index is not None and isinstance(self(index), Count):
                return self._gathered(node, data, index)
        operands = [None if v is None else self(v) for v in node.inputs]
        if all(operand is None or isinstance(operand, np.ndarray) for operand in operands):
            return self._folded(node, value, operands)
        if any(isinstance(operand, Mask | Masked | Selected) for operand in operands):
            return cast("Read", masks.rule(node, operands))
        rule = _RULES.get("" if node.domain else node.op_type)
        if rule is None:
            raise _unknown(node)
        plain = all(o is None or isinstance(o, Features | np.ndarray) for o in operands)
        if not plain and node.op_type not in _COUNTING:
            raise UnknownError(f"its body computes {node.op_type} of its counter")
        return _checked(value, rule(self._terms, node, operands, value))

    def _gathered(self, node: ir.Node, data: ir.Value, index: ir.Value) -> Features | Mask:
        count = self(index)
        if not isinstance(count, Count) or count.offset or (index.shape or ()) != ():
            raise UnknownError("Gather takes another step of a sequence than this one")
        return self._slices(data, node.attributes.get_int("axis", 0))

    @staticmethod
    def _folded(node: ir.Node, value: ir.Value, operands: list[Any]) -> Array:
        from onnx.reference import ReferenceEvaluator

        graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        inner = any(a.type in graphs for a in node.attributes.values())
        if inner or node.domain or node.op_type.startswith("Random"):
            raise _unknown(node)
        feeds = {str(v.name): a for v, a in zip(node.inputs, operands, strict=True) if v}
        results: Any = ReferenceEvaluator(ir.to_proto(node)).run(None, feeds)
        return np.asarray(results[value.index() or 0])


Rule = Callable[[Terms, ir.Node, list[Any], ir.Value], Read]


def _checked(value: ir.Value, found: Read) -> Read:
    """What a value is, checked against its inferred shape."""
    if isinstance(found, Features) and value.shape is not None:
        sizes = [found.term.width if axis == FEATURES else None for axis in found.axes]
        known = [size if isinstance(size, int) else None for size in value.shape]
        if len(sizes) != len(known) or any(
            a != b for a, b in zip(sizes, known, strict=True) if None not in (a, b)
        ):
            raise UnknownError(f"its body moves the axes of {value.name} in an unknown way")
    return found


def _unknown(node: ir.Node) -> UnknownError:
    return UnknownError(f"its body has the operator {node.op_type}, which cells are not made of")


def _split_operands(operands: list[Any]) -> tuple[Features, Array, bool]:
    """The features and the constant of an operator of two operands, and which comes first."""
    first, second = operands
    return (second, first, True) if isinstance(first, np.ndarray) else (first, second, False)


def _add(terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    if any(isinstance(operand, Count) for operand in operands):
        return _counted(operands)
    first, second = operands
    if isinstance(first, Features) and isinstance(second, Features):
        axes = moving.broadcast(first.axes, second.axes)
        return Features(terms.add(first.term, second.term), axes)
    features, other, _ = _split_operands(operands)
    numbers, axes = moving.vector(other, features.axes, features.term.width)
    return Features(terms.shift(features.term, numbers), axes)


def _counted(operands: list[Any]) -> Count:
    numbers = [int(o) for o in operands if isinstance(o, np.ndarray) and o.size == 1]
    counts = [o for o in operands if isinstance(o, Count)]
    if len(numbers) + len(counts) != len(operands) or len(counts) != 1:
        raise UnknownError("its body adds its counter to what is not constant")
    return Count(counts[0].offset + sum(numbers))


def _sub(terms: Terms, node: ir.Node, operands: list[Any], value: ir.Value) -> Read:
    first, second = operands
    if isinstance(second, Features):
        return _add(terms, node, [first, Features(terms.negative(second.term), second.axes)], value)
    if not isinstance(second, np.ndarray):
        raise UnknownError("its body subtracts its counter")
    return _add(terms, node, [first, -second], value)


def _mul(terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    first, second = operands
    if isinstance(first, Features) and isinstance(second, Features):
        axes = moving.broadcast(first.axes, second.axes)
        return Features(terms.mul(first.term, second.term), axes)
    features, other, _ = _split_operands(operands)
    numbers, axes = moving.vector(other, features.axes, features.term.width)
    return Features(terms.scale(features.term, numbers), axes)


def _div(terms: Terms, node: ir.Node, operands: list[Any], value: ir.Value) -> Read:
    first, second = operands
    if not isinstance(second, np.ndarray) or not second.all():
        raise UnknownError("its body divides by what varies, or by 0")
    return _mul(terms, node, [first, 1.0 / second.astype(np.float64)], value)


def _neg(terms: Terms, _node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    (features,) = operands
    return Features(terms.negative(features.term), features.axes)


def _matmul(terms: Terms, _node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    features, other, swapped = _split_operands(operands)
    if not isinstance(other, np.ndarray):
        raise UnknownError("its body has a product of matrices that both vary")
    weight = other if swapped else other.T
    if other.ndim != 2:
        raise UnknownError(f"its body has a product with a weight of {other.ndim} axes, not 2")
    place = -2 if swapped and len(features.axes) > 1 else -1
    if features.axes[place] != FEATURES:
        raise UnknownError("its body has a product along another axis than that of the features")
    term = terms.linear(features.term, weight, np.zeros(len(weight), np.float32))
    return Features(term, features.axes)


def _gemm(terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    features, weight, *rest = operands
    attributes = node.attributes
    constant = isinstance(weight, np.ndarray) and all(
        each is None or isinstance(each, np.ndarray) for each in rest
    )
    if not isinstance(features, Features) or not constant:
        raise UnknownError("its body has a Gemm without a constant weight and bias")
    if attributes.get_int("transA", 0) or features.axes != (BATCH, FEATURES):
        raise UnknownError("its body has a product along another axis than that of the features")
    turned = weight if attributes.get_int("transB", 0) else weight.T
    weight = (attributes.get_float("alpha", 1.0) * turned).astype(np.float32)
    term = terms.linear(features.term, weight, np.zeros(len(weight), np.float32))
    if rest and rest[0] is not None:
        bias, _ = moving.vector(rest[0], features.axes, term.width)
        term = terms.shift(term, attributes.get_float("beta", 1.0) * bias)
    return Features(term, features.axes)


def _function(terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    (features,) = operands
    return Features(terms.lookup(features.term, function(node)), features.axes)


def function(node: ir.Node) -> Activation:
    """The function that a node of `FUNCTIONS` computes, with its operator's defaults."""
    name, attributes = node.op_type, node.attributes
    alpha = attributes.get_float("alpha", _DEFAULTS.get(name, 0.0))
    beta = attributes.get_float("beta", 0.5 if FORMS[name].beta is not None else 0.0)
    return Activation(name, alpha, beta)


def _clip(terms: Terms, _node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    features, *limits = operands
    given = [*limits, None, None][:2]
    if not isinstance(features, Features) or any(isinstance(each, Features) for each in given):
        raise UnknownError("its body has a Clip between limits that vary")
    low, high = (
        default if limit is None else float(np.reshape(limit, -1)[0])
        for limit, default in zip(given, (-np.inf, np.inf), strict=True)
    )
    high = np.inf if high > np.finfo(np.float32).max / 2 else high
    return Features(terms.clip(features.term, low, high), features.axes)


def _same(_terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    found: Read = operands[0]
    if isinstance(found, Features) and node.op_type == "Cast":
        wanted = node.attributes.get_int("to", 0)
        if wanted != ir.DataType.FLOAT:
            raise UnknownError("its body casts features to another type")
    return found


def _moved(terms: Terms, node: ir.Node, operands: list[Any], value: ir.Value) -> Read:
    features, *others = operands
    if isinstance(features, Count | Steps | Going):
        return features  # a number, whatever its shape
    constant = all(other is None or isinstance(other, np.ndarray) for other in others)
    if not isinstance(features, Features) or not constant:
        raise UnknownError(f"its body has a {node.op_type} whose sizes vary")
    place = features.axes, features.term.width
    if node.op_type in ("Slice", "Split"):
        start, stop = moving.taken(node, *place, others, value)
        return Features(terms.part(features.term, start, stop), features.axes)
    return Features(features.term, moving.moved(node, *place, others, value))


def _concat(terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    found = {operand.axes for operand in operands if isinstance(operand, Features)}
    axes = found.pop()
    if found or not all(isinstance(operand, Features) for operand in operands):
        raise UnknownError("its body has a Concat of what are not all features")
    if axes[node.attributes.get_int("axis", 0)] != FEATURES:
        raise UnknownError("its body has a Concat along another axis than that of the features")
    return Features(terms.concat([operand.term for operand in operands]), axes)


def _less(_terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    first, second = operands if node.op_type.startswith("Less") else operands[::-1]
    more = int(node.op_type.endswith("OrEqual"))
    if isinstance(second, np.ndarray) and second.size == 1 and float(second.item()).is_integer():
        second = int(second.item())
    if not isinstance(first, Count) or not isinstance(second, Steps | int):
        raise UnknownError("its condition may end it before the last step")
    return Going(frozenset({Limit(second, 1 - first.offset + more)}))


def _and(_terms: Terms, node: ir.Node, operands: list[Any], _value: ir.Value) -> Read:
    limits: frozenset[Limit] = frozenset()
    for operand in operands:
        if isinstance(operand, Going):
            limits |= operand.limits
        elif not (isinstance(operand, np.ndarray) and operand.all()):
            raise UnknownError("its condition may end it before the last step")
    return Going(limits)


_MOVES = ("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
_COUNTING = frozenset(
    {"Add", "And", "Cast", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Sub"}
    | set(_MOVES)
)
"""Operators that may read a counter, or a condition."""

_RULES: Mapping[str, Rule] = {
    "Add": _add,
    "And": _and,
    "Cast": _same,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _div,
    "Gemm": _gemm,
    "Identity": _same,
    "Greater": _less,
    "GreaterOrEqual": _less,
    "Less": _less,
    "LessOrEqual": _less,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Sub": _sub,
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(_MOVES, _moved),
}
