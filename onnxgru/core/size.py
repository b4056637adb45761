"""Numbers of bytes as people write them."""

import math
import re
from numbers import Real
from typing import Any

from onnxgru.core.errors import UsageError

_UNITS = {"": 1, "k": 1000, "ki": 1024, "m": 1_000_000, "mi": 2**20}
_PATTERN = re.compile(r"(\d{1,3}(?:[,_ ]\d{3})+|\d+)(\.\d+)?\s*([km]i?)?b?(?:ytes?)?", re.ASCII)


def parse(value: object) -> int:
    """Number of bytes: ``20k`` and ``20 kB`` are 20,000; ``20Ki`` and ``20KiB`` are 20,480.

    Parameters
    ----------
    value : str or int
        A number. As text it may have ``,`` between thousands, and a unit.

    Raises
    ------
    UsageError
        If it is no such number, or below 1.
    """
    found = None
    if isinstance(value, str) and (match := _PATTERN.fullmatch(value.strip().lower())):
        whole, part, unit = match.groups()
        number = float(re.sub("[,_ ]", "", whole) + (part or ""))
        found = int(number * _UNITS[unit or ""])
    elif not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value):
        exact: Any = value
        found = int(exact) if exact == int(exact) else None
    if found is None or found < 1:
        raise UsageError(
            f"a size must be a number of bytes such as 20480, 6,013, 20k, 20 kB or 20KiB, got "
            f"{value!r}"
        )
    return found
