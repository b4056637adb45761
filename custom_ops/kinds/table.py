"""The table of kinds: what computes the operators that the cells' tables name.

Integer arithmetic, work and flash of a kind are in its module's class; the oracle and training
write the arithmetic a second time on purpose, and no other module has a list of kinds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

from onnxgru.core.network import LookupOperator
from onnxgru.core.program import Boundary, IntegerOperator
from onnxgru.custom_ops.kinds import add, copy, delta, linear, lookup, mul, scale
from onnxgru.custom_ops.kinds.interpolation import Interpolation


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of operator.

    Parameters
    ----------
    equation : callable
        Float nodes: ``equation(tape, operator, *operands)``.
    derive : callable, optional
        Integer operator: ``derive(operator, inputs, operands, result)``; None where operators are
        derived in groups.
    integer : type
        Class of the integer operator.
    sign : str
        What drawings show; empty where they show the function.
    """

    equation: Callable[..., ir.Value]
    derive: Callable[..., IntegerOperator] | None
    integer: type[IntegerOperator]
    sign: str = ""

    def derived(self, *arguments: Any) -> IntegerOperator:
        """Integer operator of a kind that is not derived in groups."""
        if self.derive is None:
            raise ValueError(f"operators of kind {self.integer.kind} are derived in groups")
        return self.derive(*arguments)


def _derive_lookup(
    operator: LookupOperator,
    inputs: tuple[str, ...],
    operands: tuple[Boundary, ...],
    result: Boundary,
) -> IntegerOperator:
    """By a table of all codes, or by one with lines between its entries for wide codes."""
    (operand,) = operands
    made = Interpolation if operand.quantization.type.wide else lookup.Lookup
    return made.derive(operator, inputs, operands, result)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "linear": Kind(linear.equation, None, linear.Linear),
        "add": Kind(add.equation, add.Add.derive, add.Add, "+"),
        "mul": Kind(mul.equation, mul.Mul.derive, mul.Mul, "\N{MULTIPLICATION SIGN}"),
        "scale": Kind(
            scale.equation, scale.Scale.derive, scale.Scale, "\N{MULTIPLICATION SIGN} vector"
        ),
        "lookup": Kind(lookup.equation, _derive_lookup, lookup.Lookup),
        "copy": Kind(copy.equation, copy.Copy.derive, copy.Copy, "="),
        "delta": Kind(
            delta.equation, delta.Delta.derive, delta.Delta, "\N{GREEK CAPITAL LETTER DELTA}"
        ),
    }
)
"""By the name that cells' tables use."""
