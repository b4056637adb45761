"""The table of kinds: which module computes what the cells' tables name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx_ir as ir

from onnxgru.core.program import IntegerOperator
from onnxgru.custom_ops import add, linear, lookup, mul

EQUATIONS: Mapping[str, Callable[..., ir.Value]] = MappingProxyType(
    {
        "linear": linear.equation,
        "add": add.equation,
        "mul": mul.equation,
        "lookup": lookup.equation,
    }
)
"""Float nodes of every kind: ``equation(tape, operator, *operands)``."""

ELEMENTWISE: Mapping[str, Callable[..., IntegerOperator]] = MappingProxyType(
    {"add": add.Add.derive, "mul": mul.Mul.derive, "lookup": lookup.Lookup.derive}
)
"""Derivation of integer operators: ``derive(operator, inputs, operands, result)``; linear
operators are derived in groups."""
