"""Arrays: everything that a program keeps in flash as C arrays, under names that C allows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import Floats
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.firmware.expressions import Stored, Weights
from onnxgru.firmware.packing import Packed, pack

KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while".split()
)

Numbers = npt.NDArray[np.integer[Any] | np.floating[Any]]


class Names:
    """Gives every name of a program a name that C allows, and no two the same one.

    Parameters
    ----------
    taken : iterable of str
        Names that are in use already.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | KEYWORDS
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The name in C."""
        if name not in self._known:
            plain = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").lower() or "value"
            plain = f"_{plain}"[plain[0].isalpha() :]
            found, number = plain, 2
            while found in self._taken:
                found, number = f"{plain}_{number}", number + 1
            self._taken.add(found)
            self._known[name] = found
        return self._known[name]


@dataclass(frozen=True, eq=False)
class Array:
    """A constant array.

    Parameters
    ----------
    name : str
        In C.
    values : ndarray
        Elements; their type is that of the array.
    about : str
        What they are.
    """

    name: str
    values: Numbers
    about: str

    @property
    def type(self) -> str:
        """Type of an element in C."""
        return "float" if self.values.dtype == np.float32 else f"{self.values.dtype.name}_t"

    @property
    def lines(self) -> list[str]:
        """Elements as literals, a line of at most 100 characters each."""
        return lines(self.values)


def lines(values: Numbers) -> list[str]:
    """Elements as literals, in lines of at most 100 characters."""
    found, line = [], ""
    for value in values.reshape(-1):
        text = literal(value)
        if line and len(line) + len(text) > 94:
            found.append(line.rstrip())
            line = ""
        line += f"{text}, "
    return [*found, line.rstrip()] if line else found


def literal(value: Any) -> str:
    """A number as C reads it."""
    if isinstance(value, np.floating):
        text = f"{value:.9g}"
        return f"{text if '.' in text or 'e' in text else text + '.0'}f"
    if value.dtype == np.uint32:
        return f"0x{value:08x}u"
    if value == -(2**31):
        return "(-2147483647 - 1)"
    return str(int(value))


class Arrays:
    """The arrays of a program; those that several operators share are there once.

    Parameters
    ----------
    program : IntegerProgram
        The program.
    prefix : str
        What names of arrays begin with.
    """

    def __init__(self, program: IntegerProgram, prefix: str) -> None:
        self._prefix, self._names = prefix, Names()
        self._shared: dict[str, str] = {}
        self._found: dict[str, Array] = {}
        self._packed: dict[str, Packed] = {}
        first: dict[object, str] = {}
        for item in (item for layer in program.layers for item in layer.flash()):
            key = (item.role, item.content) if item.content else item.name
            self._shared[item.name] = first.setdefault(key, item.name)

    def __iter__(self) -> Any:
        """All arrays that were asked for, those of long elements first: no bytes lie between."""
        found = [array for array in self._found.values() if array.values.size]
        return iter(sorted(found, key=lambda array: -array.values.itemsize))

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.values.nbytes for array in self)

    def stored(self, stored: Stored, about: str) -> str:
        """Name of a stored array."""
        return self._array(stored.name, "", stored.values, about)

    def floats(self, name: str, value: float, about: str) -> str:
        """Name of an array of one real number."""
        values: Floats = np.asarray([value], np.float32)
        return self._array(name, "", values, about)

    def weights(self, weights: Weights, *, turned: bool) -> tuple[Packed, str, str]:
        """A packed matrix, and the names of its words and bytes.

        Parameters
        ----------
        weights : Weights
            The matrix (outputs, inputs).
        turned : bool
            Whether rows are what an input changes, and not what an output needs.
        """
        name = self._shared.get(weights.name, weights.name)
        key = f"{name}|turned" if turned else name
        if key not in self._packed:
            codes = weights.codes.T if turned else weights.codes
            self._packed[key] = pack(np.ascontiguousarray(codes), weights.bits)
        packed = self._packed[key]
        about = f"{weights.name}: {weights.bits} bits, {codes_shape(packed)}"
        suffix = "_turned" if turned else ""
        return (
            packed,
            self._array(name, f"{suffix}_words", packed.words, about),
            self._array(name, f"{suffix}_bytes", packed.bytes, about),
        )

    def _array(self, name: str, suffix: str, values: Numbers, about: str) -> str:
        key = self._shared.get(name, name)
        found = f"{self._prefix}_{self._names(key)}{suffix}"
        self._found.setdefault(found, Array(found, values, about))
        return found


def codes_shape(packed: Packed) -> str:
    """Rows and columns of a matrix, in words."""
    return f"{packed.shape.rows} rows of {packed.shape.columns}"


def scales(layer: IntegerLayer) -> dict[str, float]:
    """Real numbers that a layer keeps in flash, by the name of their item."""
    found = {f"{layer.input.name}/reciprocal": layer.input.quantization.reciprocal}
    for name, boundary in layer.grids.items():
        found[f"{name}/scale"] = boundary.quantization.scale
        found[f"{name}/reciprocal"] = boundary.quantization.reciprocal
    wanted: Sequence[str] = [item.name for item in layer.flash() if item.role == "scale"]
    return {name: found[name] for name in wanted}
