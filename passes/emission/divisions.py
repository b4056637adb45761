"""Divisions: an integer graph without BitwiseAnd, which several consumers lack.

For a power of two p, BitwiseAnd computes a floor or a remainder. Divisions compute both. Runtimes
truncate quotients toward zero, and OpenVINO computes them in float32, so that the quotient of a
large value may be wrong by a few. The remainder r shows the error and is small enough for an exact
second division. The sum r + n p is never negative, so truncation is a floor there::

    q = v / p
    r = v - q p                      |r| < p + 256
    floor = q + (r + n p) / p - n    n = 4 + 256 / p
    v & -p = floor p,  v & (p - 1) = v - floor p

This is exact in float32 for p of at most 2^20. A larger p is split into two factors, with one floor
after the other.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxgru.core.errors import ModelError
from onnxgru.core.tape import SHARED, Tape, digest
from onnxgru.passes.graph.values import drop_unused, graphs, take_place

LARGEST = 1 << 20
"""Largest power of two that one floor divides by."""

APART = 256
"""Bound of |r| - p: how far a float32 quotient of int32 numbers, times p, is from the dividend."""

Record = Callable[[str, str, ir.Value, ir.Value], ir.Value]
"""Records one node from its operator type, its role and its two operands."""


class Divisions(ir.passes.InPlacePass):
    """Replace every BitwiseAnd by divisions, in subgraphs too.

    Raises
    ------
    ModelError
        If a mask is not stored, or is neither ``-p`` nor ``p - 1`` for a power of two p.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Record the divisions and remove the nodes."""
        root = Tape(graph=model.graph)
        found = [
            (scope, node)
            for scope in graphs(model.graph)
            for node in scope
            if node.op_type == "BitwiseAnd"
        ]
        masks = {v for _, node in found if (v := node.inputs[1]) and v.is_initializer()}
        for scope, node in found:
            _replace(scope, root, node)
        root.register(model.graph)
        if found:
            drop_unused(model.graph, masks)
        return ir.passes.PassResult(model, bool(found))


def _replace(scope: ir.Graph, root: Tape, node: ir.Node) -> None:
    value, mask = node.inputs
    assert value is not None and mask is not None
    if mask.const_value is None or mask.const_value.dtype != ir.DataType.INT32:
        raise ModelError(
            f"node {node.name!r}: only a BitwiseAnd with a stored int32 mask can be replaced; "
            "give --weights int8"
        )
    masks = mask.const_value.numpy().astype(np.int64)
    floor = bool((masks < 0).all())
    powers = -masks if floor else masks + 1
    if (powers <= 0).any() or (powers & (powers - 1)).any():
        raise ModelError(
            f"node {node.name!r}: only a BitwiseAnd with the mask -p or p - 1 of a power of two p "
            "can be replaced; use --profile compilers"
        )
    tape = Tape(root)
    record = partial(_recorded, tape, node.name or "and")
    parts = np.maximum(powers // LARGEST, 1)
    found = value
    for divisors in (parts, powers // parts):
        if (divisors > 1).any():
            found = _floor(tape, record, found, divisors)
    result = record("Mul", "product", found, _stored(tape, powers))
    if not floor:
        result = record("Sub", "difference", value, result)
    take_place(node.outputs[0], result)
    scope.insert_before(node, tape.nodes)
    scope.remove(node, safe=True)


def _recorded(
    tape: Tape, name: str, operation: str, role: str, left: ir.Value, right: ir.Value
) -> ir.Value:
    """Record one node, named after the node that it replaces and its role."""
    return tape.op(operation, left, right, label=f"{name}/{role}")


def _floor(tape: Tape, record: Record, value: ir.Value, powers: npt.NDArray[np.int64]) -> ir.Value:
    """The floor of a value divided by powers of two."""
    power, more = _stored(tape, powers), 4 + -(-APART // powers)
    quotient = record("Div", "quotient", value, power)
    rest = record("Sub", "rest", value, record("Mul", "multiple", quotient, power))
    raised = record("Add", "raised", rest, _stored(tape, more * powers))
    divided = record("Div", "divided", raised, power)
    exact = record("Sub", "exact", divided, _stored(tape, more))
    return record("Add", "floor", quotient, exact)


def _stored(tape: Tape, array: npt.NDArray[np.int64]) -> ir.Value:
    """An int32 constant of the graph."""
    if not array.ndim:
        return tape.scalar(int(array))
    kept = array.astype(np.int32)
    return tape.shared(f"{SHARED}division/{digest(kept).hex()[:8]}", kept)
