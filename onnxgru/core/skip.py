"""Skip: linear operators that keep weights and operands of 16 bits.

After the selected path skipping of Rezk et al. 2022, "Shrink and Eliminate" (Information 13:176):
some linear operators, such as the candidate's product with the state, are left out of narrow
quantisation. Other operators that read the same operand read a copy of it at its earlier width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from onnxgru.core.choices import MAXIMUM_BITS, WIDE_BITS
from onnxgru.core.errors import UsageError
from onnxgru.core.network import Layer, LinearOperator, Recurrence
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme

FIRST = "first:"
"""Prefix of a name that stands for operators of the first recurrent layer only."""


def named(layers: Sequence[Layer], names: Sequence[str]) -> tuple[str, ...]:
    """Full names of the linear operators that a user names.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    names : sequence of str
        Each is the name of an operator in its cell, such as ``new.hidden``, a full name, or the
        name of a layer. Shell patterns are allowed. The prefix ``first:`` limits a name to the
        first recurrent layer.

    Raises
    ------
    UsageError
        If a name fits no linear operator.
    """
    recurrent = [layer for layer in layers if layer.recurrent]
    found: dict[str, None] = {}
    for name in names:
        pattern = name.removeprefix(FIRST)
        among = recurrent[:1] if name.startswith(FIRST) else layers
        fitting = [
            operator.name
            for layer in among
            for operator in layer.linears
            if any(fnmatchcase(n, pattern) for n in (operator.name, operator.row, layer.name))
        ]
        if not fitting:
            rows = dict.fromkeys(o.row for layer in among for o in layer.linears)
            raise UsageError(
                f"skip must name linear operators or layers of the model, got {name!r}; the "
                f"operators are {', '.join(rows)}, the layers "
                f"{', '.join(layer.name for layer in among)}"
            )
        found |= dict.fromkeys(fitting)
    return tuple(found)


def applied(scheme: Scheme, layers: Iterable[Layer], names: Iterable[str]) -> Scheme:
    """The scheme with 16 bits for weights and operands of linear operators.

    A layer that reads the codes of another layer still reads them at their width.

    Parameters
    ----------
    scheme : Scheme
        All other widths. The widths of the operands become those of their copies.
    layers : iterable of Layer
        The network.
    names : iterable of str
        Full names of the operators.
    """
    inputs, operators, wanted = dict(scheme.inputs), dict(scheme.operators), set(names)
    for layer in layers:
        for recurrence in layer.recurrences:
            for operator in recurrence.linears:
                if operator.name not in wanted:
                    continue
                operators[operator.name] = _with_wide_weights(operators[operator.name])
                writers = _writers(layer, recurrence, operator)
                if not writers:
                    inputs[layer.name] = _widened(inputs[layer.name])
                for name in writers:
                    operators[name] = _widened(operators[name])
    return Scheme(inputs, operators)


def with_wide_states(scheme: Scheme, layers: Iterable[Layer]) -> Scheme:
    """The scheme with 16 bits for states that are sums and for their terms.

    Narrow operators read copies of these states at their earlier widths. See
    `Layer.summed_states`.
    """
    operators = dict(scheme.operators)
    for layer in layers:
        for name, writes in layer.summed_states.items():
            entry = operators[name]
            operators[name] = _widened(entry) if writes else replace(entry, bits=WIDE_BITS)
    return Scheme(scheme.inputs, operators)


def _writers(layer: Layer, recurrence: Recurrence, operator: LinearOperator) -> tuple[str, ...]:
    """Operators that compute the operand, in all directions that share its quantisation."""
    (operand,) = operator.inputs
    if operand == recurrence.input:
        return ()
    return layer.writers.get(layer.grids.get(operand, ""), (operand,))


def _with_wide_weights(entry: OutputScheme) -> OutputScheme:
    return replace(entry, weight_bits=WIDE_BITS) if isinstance(entry, LinearScheme) else entry


def _widened(entry: OutputScheme) -> OutputScheme:
    if entry.bits > MAXIMUM_BITS:
        return entry
    return replace(entry, bits=WIDE_BITS, copy=entry.bits)
