"""Axes: which axis of which graph input becomes the batch or the time axis of a layer.

Followed backwards from a layer's input through operators that keep axes apart. What cannot be
followed (a Reshape that mixes axes) ends in None.
"""

import onnx_ir as ir

_KEEPING = frozenset(
    {
        "Identity", "Cast", "Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "Tanh",
        "Softplus", "Softsign", "Abs", "Neg", "Exp", "Log", "Sqrt", "Clip", "Dropout", "Pow",
        "LayerNormalization", "Erf", "Gelu", "HardSwish", "PRelu", "Softmax",
    }
)  # fmt: skip
_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Where"})


def origin(value: ir.Value | None, axis: int) -> tuple[str, int] | None:
    """Graph input and axis that an axis of a value comes from.

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
    while value is not None:
        if value.is_graph_input():
            return str(value.name), axis
        node = value.producer()
        if node is None or not node.inputs:
            return None
        found = _before(node, axis)
        if found is None:
            return None
        value, axis = found
    return None


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _before(node: ir.Node, axis: int) -> tuple[ir.Value | None, int] | None:
    first, result = node.inputs[0], node.outputs[0]
    kind = node.op_type
    if kind in _KEEPING:
        return first, axis
    if kind == "Transpose":
        order: list[int] = list(node.attributes.get_ints("perm", ()))
        rank = _rank(first) or len(order)
        order = order or list(range(rank))[::-1]
        return first, order[axis]
    if kind in ("Squeeze", "Unsqueeze"):
        return _resized(node, axis)
    if kind == "MatMul":
        same = _rank(result) == _rank(first)
        return (first, axis) if same and _rank(result) != axis + 1 else None
    if kind == "Concat":
        along = node.attributes.get_int("axis", 0)
        size = _rank(result)
        return (first, axis) if size is not None and along % size != axis else None
    if kind == "Reshape":
        return _reshaped(node, axis)
    if kind in _BROADCASTING:
        for operand in node.inputs:
            if (
                operand is not None
                and operand.const_value is None
                and _rank(operand) == _rank(result)
            ):
                return operand, axis
    return None


def _resized(node: ir.Node, axis: int) -> tuple[ir.Value | None, int] | None:
    first = node.inputs[0]
    rank = _rank(first)
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if rank is None or axes is None or axes.const_value is None:
        return None
    numbers = [int(a) for a in axes.const_value.numpy()]
    if node.op_type == "Squeeze":
        kept = [a for a in range(rank) if a not in {n % rank for n in numbers}]
        return first, kept[axis]
    new = {n % (rank + len(numbers)) for n in numbers}
    kept = [a for a in range(rank + len(numbers)) if a not in new]
    return (first, kept.index(axis)) if axis in kept else None


def _reshaped(node: ir.Node, axis: int) -> tuple[ir.Value | None, int] | None:
    """An axis survives a Reshape if all sizes up to it are the same."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return None
    if len(before.shape) <= axis or len(after.shape) <= axis:
        return None
    same = all(before.shape[i] == after.shape[i] for i in range(axis + 1))
    return (before, axis) if same else None
