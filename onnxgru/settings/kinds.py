"""What values a setting may have: one class a kind.

A kind says in words and as a test what a value must be, how a command-line flag reads it, and how
it is written in a TOML file.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxgru.core import choices
from onnxgru.core.errors import UsageError


class Kind(ABC):
    """What values a setting may have."""

    metavar: str
    """What stands for the value in help."""

    @abstractmethod
    def wanted(self) -> str:
        """What a value must be, in words."""

    @abstractmethod
    def fits(self, value: Any) -> bool:
        """Whether a value is one of them."""

    def examine(self, value: Any) -> None:
        """Raise `UsageError` with a sentence of its own for a value that fits only in form."""
        return

    def kept(self, value: Any) -> Any:
        """The value as the configuration keeps it."""
        return value

    def beside(self, value: Any, _folder: Path) -> Any:
        """The value from a file in a folder that relative paths are relative to."""
        return value

    def flag(self) -> dict[str, Any]:
        """How a flag of argparse reads it."""
        return {}

    def choices(self) -> tuple[str, ...]:
        """The values, where they are few; for help."""
        return ()


class Switch(Kind):
    """True or false."""

    def wanted(self) -> str:
        """Both."""
        return "true or false"

    def fits(self, value: Any) -> bool:
        """Whether it is a bool."""
        return isinstance(value, bool)

    def flag(self) -> dict[str, Any]:
        """A flag without a value."""
        return {"action": "store_true"}


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number.

    Parameters
    ----------
    minimum : int
        The smallest.
    maximum : int, optional
        The largest.
    metavar : str
        What stands for it in help.
    also : int, optional
        One more, beyond the largest.
    """

    minimum: int
    maximum: int | None = None
    metavar: str = "N"
    also: int | None = None

    @property
    def _reach(self) -> str:
        if self.maximum is None:
            return f"of at least {self.minimum}"
        return f"from {self._range}"

    @property
    def _range(self) -> str:
        last = "" if self.also is None else f", or {self.also}"
        return f"{self.minimum} to {self.maximum}{last}"

    def wanted(self) -> str:
        """The range in words."""
        return f"a whole number {self._reach}"

    def fits(self, value: Any) -> bool:
        """Whether it is an int, no bool, in the range."""
        return (
            type(value) is int
            and self.minimum <= value
            and (self.maximum is None or value <= self.maximum or value == self.also)
        )

    def flag(self) -> dict[str, Any]:
        """Read as int."""
        return {"type": int}

    def choices(self) -> tuple[str, ...]:
        """The range, where it has two ends."""
        return () if self.maximum is None else (self._range,)


@dataclass(frozen=True)
class Number(Kind):
    """A number.

    Parameters
    ----------
    reach : str
        Which numbers, in words that follow "a number".
    within : callable
        Whether a number is one of them.
    """

    reach: str
    within: Callable[[float], bool]
    metavar = "X"

    def wanted(self) -> str:
        """The range in words."""
        return f"a number {self.reach}"

    def fits(self, value: Any) -> bool:
        """Whether it is an int or float, no bool, in the range."""
        return type(value) in (int, float) and self.within(value)

    def flag(self) -> dict[str, Any]:
        """Read as float."""
        return {"type": float}


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few names.

    Parameters
    ----------
    names : tuple of str
        The names.
    """

    names: tuple[str, ...]
    metavar = "NAME"

    def wanted(self) -> str:
        """All names."""
        return f"one of {', '.join(self.names)}"

    def fits(self, value: Any) -> bool:
        """Whether it is one of the names."""
        return value in self.names

    def choices(self) -> tuple[str, ...]:
        """All names."""
        return self.names


@dataclass(frozen=True)
class Text(Kind):
    """A text of some form.

    Parameters
    ----------
    form : str
        Which texts, in words.
    metavar : str
        What stands for it in help.
    pattern : str
        Regular expression that a text must match as a whole.
    parse : callable, optional
        Raises `UsageError` for a text that is wrong although it matches.
    """

    form: str
    metavar: str
    pattern: str = r"(?s).*"
    parse: Callable[[str], object] | None = None

    def wanted(self) -> str:
        """The form."""
        return self.form

    def fits(self, value: Any) -> bool:
        """Whether it is a text that matches."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value, re.ASCII) is not None

    def examine(self, value: Any) -> None:
        """Parse it."""
        if self.parse is not None:
            self.parse(value)


class Thresholds(Kind):
    """Thresholds of a delta network."""

    metavar = "THETA"

    def wanted(self) -> str:
        """What `onnxgru.core.choices.thresholds` understands."""
        return "auto, a number of codes, or a text such as hidden=8,inputs=2"

    def fits(self, value: Any) -> bool:
        """Whether it is a text or a whole number that is not negative."""
        return isinstance(value, str) or (type(value) is int and value >= 0)

    def examine(self, value: Any) -> None:
        """Parse it."""
        choices.thresholds(str(value))

    def kept(self, value: Any) -> Any:
        """A text."""
        return None if value is None else str(value)


@dataclass(frozen=True)
class Texts(Kind):
    """A tuple of texts; a flag that can be repeated, a list in TOML.

    Parameters
    ----------
    form : str
        Which texts, in words.
    metavar : str
        What stands for one of them in help.
    """

    form: str
    metavar: str

    def wanted(self) -> str:
        """The form."""
        return self.form

    def fits(self, value: Any) -> bool:
        """Whether it is a tuple or list of str."""
        return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)

    def kept(self, value: Any) -> Any:
        """A tuple."""
        return tuple(value)

    def flag(self) -> dict[str, Any]:
        """Repeated."""
        return {"action": "append"}


@dataclass(frozen=True)
class Location(Kind):
    """The path of a file or folder.

    Parameters
    ----------
    metavar : str
        What stands for it in help.
    """

    metavar: str = "FILE"

    def wanted(self) -> str:
        """A path."""
        return "a path"

    def fits(self, value: Any) -> bool:
        """Whether it is a path that is not empty."""
        return isinstance(value, str | Path) and str(value) != ""

    def beside(self, value: Any, folder: Path) -> Any:
        """Below the folder, if it is relative."""
        return folder / value


class Recordings(Kind):
    """Recordings: a path, a name ``package.module:name``, or an object of Python."""

    metavar = "DATA"

    def wanted(self) -> str:
        """What `onnxgru.data.reading` understands."""
        from onnxgru.data.reading import KINDS

        return KINDS

    def fits(self, value: Any) -> bool:
        """Whether it can be read."""
        if isinstance(value, str | Path):
            return str(value) != ""
        try:
            return bool(self.kept(value))
        except UsageError:
            return False

    def kept(self, value: Any) -> Any:
        """A `Held` around an object of Python."""
        from onnxgru.data.reading import Held

        return value if value is None or isinstance(value, str | Path | Held) else Held(value)

    def beside(self, value: Any, folder: Path) -> Any:
        """Below the folder, if it is a relative path."""
        return value if ":" in str(value) else folder / value


class Function(Kind):
    """The name of a function, or a function."""

    metavar = "NAME"

    def wanted(self) -> str:
        """Either."""
        return "a name or a function"

    def fits(self, value: Any) -> bool:
        """Whether it is a text or can be called."""
        return isinstance(value, str) or callable(value)


def shown(value: object) -> str:
    """A value in a message: never an array in full."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
