"""Axes: from an axis of a value back to the axes of graph inputs that it comes from.

An axis is followed backwards through every operator that keeps axes apart, into all operands: the
batch of a sum comes from both terms. An operator that mixes axes (a Reshape that joins two, a
reduction over the axis, a subgraph) ends the search in this operand only.
"""

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from onnxgru.passes.graph import recurrent

_KEEPING = frozenset(
    {
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization",
        "BitwiseNot", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumSum",
        "DequantizeLinear", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "GroupNormalization",
        "HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "IsInf",
        "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
        "MeanVarianceNormalization", "Mish", "Neg", "Not", "Pad", "QuantizeLinear",
        "RMSNormalization", "Reciprocal", "Relu", "ReverseSequence", "Round", "Selu", "Shrink",
        "Sigmoid", "Sign",
        "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Swish", "Tan",
        "Tanh", "ThresholdedRelu", "Tile", "TopK", "Trilu", "Bernoulli", "DynamicQuantizeLinear",
        "RandomNormalLike", "RandomUniformLike",
    }
)  # fmt: skip
"""Operators whose result has the axes of their first operand."""

_BROADCASTING = frozenset(
    {
        "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal",
        "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul",
        "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
    }
)  # fmt: skip
_PRODUCTS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul"})
_SPATIAL = frozenset(
    {
        "AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DeformConv",
        "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool", "QLinearConv",
        "Resize", "SpaceToDepth", "Upsample",
    }
)  # fmt: skip
_MIXED = frozenset({"DepthToSpace", "GlobalAveragePool", "GlobalMaxPool", "SpaceToDepth", "Col2Im"})

Place = tuple[ir.Value | None, int]


def origin(value: ir.Value | None, axis: int) -> tuple[str, int] | None:
    """The first graph input, and its axis, that an axis of a value comes from.

    Parameters
    ----------
    value : onnx_ir.Value
        A value of a normalised graph.
    axis : int
        Axis of it, not negative.

    Returns
    -------
    tuple of str and int, or None
    """
    return next(iter(origins(value, axis).items()), None)


def origins(value: ir.Value | None, axis: int) -> dict[str, int]:
    """All graph inputs, with their axes, that an axis of a value comes from.

    Parameters
    ----------
    value : onnx_ir.Value
        A value of a normalised graph.
    axis : int
        Axis of it, not negative.

    Returns
    -------
    dict of str to int
        Axis by graph input, in the order in which they were found.
    """
    found: dict[str, int] = {}
    pending: list[Place] = [(value, axis)]
    seen: set[tuple[ir.Value, int]] = set()
    while pending:
        current, place = pending.pop()
        if current is None or place < 0 or (current, place) in seen:
            continue
        seen.add((current, place))
        if current.is_graph_input():
            if current.const_value is None:
                found.setdefault(str(current.name), place)
            continue
        node = current.producer()
        if node is not None and node.domain in ("", "ai.onnx"):
            pending.extend(reversed(list(_before(node, current, place))))
    return found


def rank(value: ir.Value | None) -> int | None:
    """Number of axes of a value, None where it is not known."""
    return None if value is None or value.shape is None else len(value.shape)


def _before(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    """Values and axes that an axis of a node's output comes from."""
    first = node.inputs[0] if node.inputs else None
    kind = node.op_type
    if kind in _KEEPING:
        yield first, axis
    elif kind in _BROADCASTING:
        yield from (_aligned(operand, result, axis) for operand in node.inputs)
    elif kind in _SPATIAL:
        if axis == 0 or (axis > 1 and kind not in _MIXED) or (axis == 1 and "Pool" in kind):
            yield first, axis
    elif recurrent.signature(node) is not None:
        yield from _recurrent(node, result, axis)
    elif kind in _STRUCTURAL:
        yield from _STRUCTURAL[kind](node, result, axis)
    elif kind.startswith(("Reduce", "ArgM")):
        yield from _reduced(node, axis)


def _aligned(operand: ir.Value | None, result: ir.Value, axis: int) -> Place:
    """Axis of an operand that is broadcast to a result; -1 where it has none there."""
    own, whole = rank(operand), rank(result)
    if operand is None or operand.shape is None or own is None or whole is None:
        return operand, -1 if operand is None or operand.const_value is not None else axis
    place = axis - (whole - own)
    spread = place >= 0 and operand.shape[place] == 1 and _size(result, axis) != 1
    return operand, -1 if spread else place


def _size(value: ir.Value, axis: int) -> object:
    return None if value.shape is None or axis >= len(value.shape) else value.shape[axis]


def _recurrent(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    given, batched = recurrent.inputs(node), recurrent.batch_first(node)
    sequence = recurrent.outputs(node).get("Y") is result
    time, batch = (
        (1, 0) if batched and sequence else (0, 2) if sequence else (-1, 0 if batched else 1)
    )
    if axis == time:
        yield given.get("X"), 1 if batched else 0
    elif axis == batch:
        place = 0 if batched else 1
        for role in ("X", *recurrent.initial(node)):
            yield given.get(role), place


def _transpose(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    order: list[int] = list(node.attributes.get_ints("perm", ()))
    count = rank(node.inputs[0]) or rank(result) or len(order)
    order = order or list(range(count))[::-1]
    yield node.inputs[0], order[axis]


def _product(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    left = node.inputs[0]
    right = node.inputs[3 if node.op_type == "QLinearMatMul" else 1]
    whole, a, b = rank(result), rank(left), rank(right)
    if whole is None or a is None or b is None:
        return
    last = axis == whole - 1 and b > 1
    row = axis == whole - 1 - (b > 1) and a > 1
    if last:
        yield right, b - 1
    elif row:
        yield left, a - 2
    else:  # axes of a stack of matrices are broadcast
        for operand, own in ((left, a), (right, b)):
            place = axis - (whole + (a == 1) + (b == 1) - own)
            if own > 2 and place >= 0 and operand is not None and operand.shape is not None:
                spread = operand.shape[place] == 1 and _size(result, axis) != 1
                yield operand, -1 if spread else place


def _gemm(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    name, index = (("transA", 0), ("transB", 1))[axis]
    yield node.inputs[index], axis if not node.attributes.get_int(name, 0) else 1 - axis
    if len(node.inputs) > 2:
        yield _aligned(node.inputs[2], result, axis)


def _concat(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    yield from ((operand, axis) for operand in node.inputs)


def _expand(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    yield _aligned(node.inputs[0], result, axis)


def _gather(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    data, indices = node.inputs[0], node.inputs[1]
    size, count = rank(data), rank(indices)
    if size is None or count is None:
        return
    along = node.attributes.get_int("axis", 0) % size
    if axis < along:
        yield data, axis
    elif axis < along + count:
        yield indices, axis - along
    else:
        yield data, axis - count + 1


def _one_hot(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    count = rank(node.inputs[0])
    if count is not None:
        new = node.attributes.get_int("axis", -1) % (count + 1)
        yield node.inputs[0], -1 if axis == new else axis - (axis > new)


def _gather_elements(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    yield node.inputs[0], axis
    yield node.inputs[1], axis


def _scatter(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    """The axis of the tensor, often zeros, and of the updates that are written into it."""
    yield node.inputs[0], axis
    indices, updates = node.inputs[1], node.inputs[2]
    if node.op_type == "ScatterElements":
        yield updates, axis
    elif indices is not None and indices.shape is not None:
        count = rank(indices) or 0
        leading = indices.shape[count - 1]  # axes of the tensor that an index names
        if isinstance(leading, int) and axis >= leading:
            yield updates, axis - leading + count - 1


def _flatten(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    first = node.inputs[0]
    count = rank(first)
    if first is None or first.shape is None or count is None:
        return
    along = node.attributes.get_int("axis", 1)
    along += count if along < 0 else 0
    group = range(along) if axis == 0 else range(along, count)
    kept = [place for place in group if first.shape[place] != 1]
    if len(kept) == 1 or (len(group) == 1):
        yield first, (kept or list(group))[0]


def _einsum(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    if "->" not in equation or "." in equation:
        return
    before, after = equation.split("->")
    letter = after[axis]
    for operand, letters in zip(node.inputs, before.split(","), strict=True):
        if letter in letters:
            yield operand, letters.index(letter)


def _numbers(node: ir.Node, index: int, attribute: str) -> list[int] | None:
    """Axes of a node: an input since opset 13 or 18, an attribute before; None if computed."""
    if attribute in node.attributes:
        return [int(n) for n in node.attributes.get_ints(attribute, ())]
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None:
        return []
    return (
        None
        if value.const_value is None
        else value.const_value.numpy().reshape(-1).astype(int).tolist()
    )


def _squeeze(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    first = node.inputs[0]
    count, numbers = rank(first), _numbers(node, 1, "axes")
    if count is None or numbers is None or first is None or first.shape is None:
        return
    gone = {n % count for n in numbers} or {n for n in range(count) if first.shape[n] == 1}
    kept = [place for place in range(count) if place not in gone]
    if axis < len(kept):
        yield first, kept[axis]


def _unsqueeze(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    count, numbers = rank(node.inputs[0]), _numbers(node, 1, "axes")
    if count is None or numbers is None:
        return
    new = {n % (count + len(numbers)) for n in numbers}
    kept = [place for place in range(count + len(numbers)) if place not in new]
    if axis in kept:
        yield node.inputs[0], kept.index(axis)


def _reduced(node: ir.Node, axis: int) -> Iterator[Place]:
    first = node.inputs[0]
    count = rank(first)
    if node.op_type.startswith("Arg"):
        numbers: list[int] | None = [node.attributes.get_int("axis", 0)]
    else:
        numbers = _numbers(node, 1, "axes")
    if count is None or numbers is None:
        return
    gone = {n % count for n in numbers}
    if not gone and not node.attributes.get_int("noop_with_empty_axes", 0):
        gone = set(range(count))
    if node.attributes.get_int("keepdims", 1):
        yield first, -1 if axis in gone else axis
    else:
        kept = [place for place in range(count) if place not in gone]
        yield first, kept[axis] if axis < len(kept) else -1


def _reshape(node: ir.Node, result: ir.Value, axis: int) -> Iterator[Place]:
    """An axis survives a Reshape if the axes before it, or those behind it, keep their sizes.

    It also survives if it is joined with axes of size 1 only.
    """
    first, target = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    wanted = None
    if target is not None and target.const_value is not None:
        wanted = [int(n) for n in target.const_value.numpy()]
        if axis < len(wanted) and wanted[axis] == 0 and not node.attributes.get_int("allowzero", 0):
            yield first, axis
            return
    if first is None or first.shape is None or result.shape is None:
        return
    before: list[object] = list(first.shape)
    after: list[object] = list(result.shape)
    if axis >= len(after):
        return
    rest = wanted is not None and axis < len(wanted) and wanted[axis] == -1
    # Of several axes of size 1, the one at the same place.
    for place in sorted(range(len(before)), key=lambda place: place != axis):
        if _stays(before, after, place, axis) or (rest and _left(before, after, place, axis)):
            yield first, place
            return


def _stays(before: list[object], after: list[object], place: int, axis: int) -> bool:
    """Whether axis `place` of a shape is axis `axis` of the reshaped one."""
    if not _same(before[place], after[axis]):
        return False
    return _equal(before[:place], after[:axis]) or _equal(before[place + 1 :], after[axis + 1 :])


def _left(before: list[object], after: list[object], place: int, axis: int) -> bool:
    """Whether all other axes are equal, so that axis `place` of a shape is axis `axis`."""
    return _equal(before[:place], after[:axis]) and _equal(before[place + 1 :], after[axis + 1 :])


def _same(one: object, other: object) -> bool:
    if isinstance(one, int) or isinstance(other, int):
        return one == other
    return getattr(one, "value", None) is not None and one == other


def _equal(one: list[object], other: list[object]) -> bool:
    """Whether sizes have equal products: the same symbols, and numbers with equal products."""
    symbols = [sorted(str(n) for n in sizes if not isinstance(n, int)) for sizes in (one, other)]
    known = all(getattr(n, "value", n) is not None for n in (*one, *other))
    numbers = [prod(n for n in sizes if isinstance(n, int)) for sizes in (one, other)]
    return known and symbols[0] == symbols[1] and numbers[0] == numbers[1]


_STRUCTURAL = {
    "Transpose": _transpose,
    "Concat": _concat,
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gemm": _gemm,
    "OneHot": _one_hot,
    "Reshape": _reshape,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    **dict.fromkeys(_PRODUCTS, _product),
}
