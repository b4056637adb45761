"""Kinds of values that settings take, one class per kind.

A kind describes its values in words for messages, tests a value, and says how a command-line flag
reads it and how the configuration keeps it.
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
    """Values that a setting takes."""

    metavar: str
    """Placeholder of the value in help."""

    @abstractmethod
    def wanted(self) -> str:
        """The values in words, as the end of "... must be"."""

    @abstractmethod
    def fits(self, value: Any) -> bool:
        """Whether a value is one of these."""

    def examine(self, value: Any) -> None:
        """Check the content of a value that `fits`; raise `UsageError` where it is wrong."""
        return

    def kept(self, value: Any) -> Any:
        """The value as the configuration keeps it."""
        return value

    def beside(self, value: Any, _folder: Path) -> Any:
        """The value as a settings file in a folder means it: paths are relative to the folder."""
        return value

    def flag(self) -> dict[str, Any]:
        """Arguments of ``add_argument`` for a flag of this kind."""
        return {}

    def choices(self) -> tuple[str, ...]:
        """For help: all values, where there are few."""
        return ()


class Switch(Kind):
    """True or false."""

    def wanted(self) -> str:
        """True or false."""
        return "true or false"

    def fits(self, value: Any) -> bool:
        """Whether it is a bool."""
        return isinstance(value, bool)

    def flag(self) -> dict[str, Any]:
        """Arguments of a flag without a value."""
        return {"action": "store_true"}


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number.

    Parameters
    ----------
    minimum : int
        The smallest value.
    maximum : int, optional
        The largest value, if there is a limit.
    metavar : str
        Placeholder of the value in help.
    also : int, optional
        One more value, above `maximum`.
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
        """Whether a value is an int in the range, and not a bool."""
        return (
            type(value) is int
            and self.minimum <= value
            and (self.maximum is None or value <= self.maximum or value == self.also)
        )

    def flag(self) -> dict[str, Any]:
        """Arguments of a flag that reads an int."""
        return {"type": int}

    def choices(self) -> tuple[str, ...]:
        """The range, where it has a largest value."""
        return () if self.maximum is None else (self._range,)


@dataclass(frozen=True)
class Number(Kind):
    """A number.

    Parameters
    ----------
    reach : str
        The range in words that follow "a number", such as "of at least 0".
    within : callable
        Tells whether a number is in the range.
    """

    reach: str
    within: Callable[[float], bool]
    metavar = "X"

    def wanted(self) -> str:
        """The range in words."""
        return f"a number {self.reach}"

    def fits(self, value: Any) -> bool:
        """Whether a value is an int or float in the range, and not a bool."""
        return type(value) in (int, float) and self.within(value)

    def flag(self) -> dict[str, Any]:
        """Arguments of a flag that reads a float."""
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
        """Whether a value is one of the names."""
        return value in self.names

    def choices(self) -> tuple[str, ...]:
        """All names."""
        return self.names


@dataclass(frozen=True)
class Text(Kind):
    """A text of a given form.

    Parameters
    ----------
    form : str
        The form in words, as the end of "... must be".
    metavar : str
        Placeholder of the value in help.
    pattern : str
        Regular expression that the whole text must match.
    parse : callable, optional
        Raises `UsageError` for a text that matches and is wrong all the same.
    """

    form: str
    metavar: str
    pattern: str = r"(?s).*"
    parse: Callable[[str], object] | None = None

    def wanted(self) -> str:
        """The form."""
        return self.form

    def fits(self, value: Any) -> bool:
        """Whether a value is a text that matches."""
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
        """Whether a value is a text or a whole number of at least 0."""
        return isinstance(value, str) or (type(value) is int and value >= 0)

    def examine(self, value: Any) -> None:
        """Parse it."""
        choices.thresholds(str(value))

    def kept(self, value: Any) -> Any:
        """A text."""
        return None if value is None else str(value)


@dataclass(frozen=True)
class Texts(Kind):
    """A tuple of texts: a flag that can be repeated, or a list in TOML.

    Parameters
    ----------
    form : str
        The form in words, as the end of "... must be".
    metavar : str
        Placeholder of one text in help.
    """

    form: str
    metavar: str

    def wanted(self) -> str:
        """The form."""
        return self.form

    def fits(self, value: Any) -> bool:
        """Whether a value is a tuple or list of str."""
        return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)

    def kept(self, value: Any) -> Any:
        """A tuple."""
        return tuple(value)

    def flag(self) -> dict[str, Any]:
        """Arguments of a flag that can be repeated."""
        return {"action": "append"}


@dataclass(frozen=True)
class Location(Kind):
    """The path of a file or folder.

    Parameters
    ----------
    metavar : str
        Placeholder of the value in help.
    """

    metavar: str = "FILE"

    def wanted(self) -> str:
        """A path."""
        return "a path"

    def fits(self, value: Any) -> bool:
        """Whether a value is a path that is not empty."""
        return isinstance(value, str | Path) and str(value) != ""

    def beside(self, value: Any, folder: Path) -> Any:
        """The path, which is relative to the folder unless it is absolute."""
        return folder / value


class DataSource(Kind):
    """Recordings: a path, a name ``package.module:name``, or a Python object."""

    metavar = "DATA"

    def wanted(self) -> str:
        """Everything that `onnxgru.data.reading` reads."""
        from onnxgru.data.reading import KINDS

        return KINDS

    def fits(self, value: Any) -> bool:
        """Whether a value can be read."""
        if isinstance(value, str | Path):
            return str(value) != ""
        try:
            return bool(self.kept(value))
        except UsageError:
            return False

    def kept(self, value: Any) -> Any:
        """The path or name as it is; a Python object in a `Held`."""
        from onnxgru.data.reading import Held

        return value if value is None or isinstance(value, str | Path | Held) else Held(value)

    def beside(self, value: Any, folder: Path) -> Any:
        """A path relative to the folder; a name as it is."""
        return value if ":" in str(value) else folder / value


class Function(Kind):
    """A function, or the name of one."""

    metavar = "NAME"

    def wanted(self) -> str:
        """A name or a function."""
        return "a name or a function"

    def fits(self, value: Any) -> bool:
        """Whether a value is a text or can be called."""
        return isinstance(value, str) or callable(value)


def shown(value: object) -> str:
    """A value in a message; its type where it is long, such as an array."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
