"""Cost of a program on a chip that a user describes: cycles or energy per step.

The table is TOML. ``[linear]`` has the cost of one multiply-accumulate by widths, weight x operand.
``[add]``, ``[mul]`` and ``[lookup]`` have the cost of one element by the width of the widest
operand::

    unit = "cycles"

    [linear]
    "8x8" = 1.0
    "4x8" = 0.6

    [add]
    8 = 2.0

    [mul]
    8 = 2.0

    [lookup]
    8 = 3.0

A width that is not in a section costs as much as the next wider one there: above, all weights of up
to 4 bits cost 0.6. Without a row for 16 bits, an operand of 16 bits costs twice as much as one of 8
bits, because its two bytes are computed separately, and the same holds for weights. A section with
n weight widths and m operand widths must have all n x m rows, and a row for 8 bits. Such tables of
latencies are used in Free Bits (Rutishauser et al. 2023).
"""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxgru.core.choices import MAXIMUM_BITS, WIDE_BITS, WIDTHS
from onnxgru.core.errors import UsageError
from onnxgru.core.program import IntegerProgram

KINDS = {"linear": "multiply-accumulate", "add": "element", "mul": "element", "lookup": "element"}
"""Sections, and the unit that each row has the cost of."""

Row = tuple[int, int]  # bits of the weights (0 without) and of the operand


@dataclass(frozen=True)
class CostTable:
    """Costs by kind and widths.

    Parameters
    ----------
    unit : str
        Unit of the costs, such as ``cycles``.
    rows : mapping of str to mapping
        By kind, the cost at every pair of widths: width of the weights, 2 to 8 and 16 (0 without
        weights), and width of the operand, 2 to 8 and 16.
    """

    unit: str
    rows: Mapping[str, Mapping[Row, float]]

    @classmethod
    def load(cls, path: Path) -> "CostTable":
        """Read a table.

        Raises
        ------
        UsageError
            If it cannot be read, is not TOML, has an unknown key, lacks a section or row, or has a
            cost that is not a number of at least 0.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"{path}: the cost table cannot be read ({error.strerror}); give another path"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"{path}: the cost table must be TOML, but {error}; correct the file"
            ) from error
        for key in document:
            if key not in ("unit", *KINDS):
                raise UsageError(
                    f"{path}: a cost table has unit, {', '.join(f'[{k}]' for k in KINDS)} and "
                    f"nothing else, got {key!r}"
                )
        unit = document.get("unit", "")
        if not isinstance(unit, str):
            raise UsageError(f'{path}: unit must be a text such as "cycles", got {unit!r}')
        return cls(unit, {kind: _section(path, kind, document.get(kind)) for kind in KINDS})

    def __call__(self, program: IntegerProgram) -> float:
        """Cost per step and sequence, in the table's unit."""
        return math.fsum(
            work.count * self.rows[work.kind][work.weight_bits, work.bits]
            for operator in program.operators
            for work in operator.work
        )


def _section(path: Path, kind: str, section: object) -> dict[Row, float]:
    """Costs at all widths, from the rows of the table."""
    form = '"4x8" (weights x operand)' if kind == "linear" else '"8" (widest operand)'
    if not isinstance(section, dict):
        raise UsageError(
            f"{path}: [{kind}] is missing; it must give the cost of one {KINDS[kind]} by widths, "
            f"in rows such as {form}"
        )
    written: dict[Row, float] = {}
    for key, cost in section.items():
        match = re.fullmatch(r"([2-8]|16)x([2-8]|16)" if kind == "linear" else r"()([2-8]|16)", key)
        if match is None:
            raise UsageError(
                f"{path}: a row of [{kind}] must be such as {form}, widths 2 to 8, and 16, "
                f"got {key!r}"
            )
        if type(cost) not in (int, float) or not 0 <= cost < math.inf:
            raise UsageError(f"{path}: [{kind}] {key} must be a number of at least 0, got {cost!r}")
        written[int(match[1] or 0), int(match[2])] = float(cost)
    weights = {row[0] for row in written} | {MAXIMUM_BITS if kind == "linear" else 0}
    operands = {row[1] for row in written} | {MAXIMUM_BITS}
    for weight in sorted(weights):
        for operand in sorted(operands):
            if (weight, operand) not in written:
                key = f"{weight}x{operand}" if weight else f"{operand}"
                raise UsageError(
                    f'{path}: [{kind}] lacks the row "{key}"; it must have one for every pair of '
                    "the widths in it, and for 8 bits"
                )
    if WIDE_BITS not in operands:
        written |= {(w, WIDE_BITS): 2 * written[w, MAXIMUM_BITS] for w in weights}
    operands.add(WIDE_BITS)
    if kind == "linear" and WIDE_BITS not in weights:
        written |= {(WIDE_BITS, o): 2 * written[MAXIMUM_BITS, o] for o in operands}
        weights.add(WIDE_BITS)
    return {
        (weight, bits): written[_next(weights, weight), _next(operands, bits)]
        for weight in ((*WIDTHS, WIDE_BITS) if kind == "linear" else (0,))
        for bits in (*WIDTHS, WIDE_BITS)
    }


def _next(widths: set[int], bits: int) -> int:
    return min(width for width in widths if width >= bits)
