"""Objectives of a search: the error, and one or two sizes of the program.

::

    error             always first: the metric, turned so that less is better
    flash             bytes that a device stores
    weights           bits of W and R, the published measure
    bitops            bit operations per step
    operations        multiplications per step that remain in a delta network, on validation data
    cost:table.toml   cost of a step by a table of the chip, see `onnxgru.cost.tables`

The last objective is the size by which a member is chosen, and the axis of the picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onnxgru.core.errors import UsageError
from onnxgru.core.program import IntegerProgram
from onnxgru.cost.account import account
from onnxgru.cost.tables import CostTable

ERROR = "error"
OPERATIONS = "operations"
COST = "cost:"
SIZES: Mapping[str, tuple[str, str]] = {
    "flash": ("flash_bytes", "flash bytes"),
    "weights": ("weight_bits", "weight bits"),
    "bitops": ("bitops", "bit operations a step"),
}
"""By name: the figure of `onnxgru.cost.account.Account`, and its title."""


@dataclass(frozen=True)
class Size:
    """An objective beside the error.

    Parameters
    ----------
    key : str
        Its name in ``front.json``.
    title : str
        Its name in tables and pictures.
    measure : callable, optional
        From a program to its value. It can be pickled, so that other processes can measure. None
        for a value that is counted while the program runs.
    """

    key: str
    title: str
    measure: Callable[[IntegerProgram], float] | None

    def value(self, program: IntegerProgram, counted: float | None) -> float:
        """Its value for a program.

        Parameters
        ----------
        program : IntegerProgram
            The program.
        counted : float, optional
            The value that was counted while the program ran.
        """
        found = counted if self.measure is None else self.measure(program)
        if found is None:
            raise ValueError(f"{self.key} is counted while a program runs")
        return found


def counts(sizes: Sequence[Size]) -> bool:
    """Whether one of the objectives is counted while a program runs."""
    return any(size.measure is None for size in sizes)


def parse(text: str) -> tuple[str, ...]:
    """Names of the objectives in ``error,flash``; no file is read.

    Raises
    ------
    UsageError
        If a name is unknown or given twice, the first is not ``error``, or there are not two or
        three names.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in (ERROR, *SIZES, OPERATIONS) and not (name.startswith(COST) and name != COST):
            raise UsageError(
                f"an objective must be one of {', '.join((ERROR, *SIZES, OPERATIONS))} and "
                f"{COST}TABLE.toml, "
                f"got {name!r}"
            )
    if names[0] != ERROR or not 2 <= len(names) <= 3:
        raise UsageError(
            f"objectives must be error and one or two sizes, such as error,flash, got {text!r}"
        )
    kinds = [COST if name.startswith(COST) else name for name in names]
    if len(set(kinds)) < len(kinds):
        raise UsageError(f"objectives must be different ones, got {text!r}")
    return names


def sizes(text: str) -> tuple[Size, ...]:
    """The objectives beside the error, with their cost table read.

    Raises
    ------
    UsageError
        As `parse`, or if a cost table is wrong.
    """
    return tuple(_size(name) for name in parse(text)[1:])


def _size(name: str) -> Size:
    if name.startswith(COST):
        table = CostTable.load(Path(name.removeprefix(COST)))
        return Size("cost", f"cost, {table.unit} a step" if table.unit else "cost a step", table)
    if name == OPERATIONS:
        return Size(name, "multiplications a step", None)
    key, title = SIZES[name]
    return Size(key, title, partial(_figure, key))


def _figure(key: str, program: IntegerProgram) -> float:
    return float(getattr(account(program), key))
