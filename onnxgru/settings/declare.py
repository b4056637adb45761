"""How a setting is declared, and what is derived from its declaration.

A theme is a frozen dataclass below `Settings` with an `About`. Each of its fields is declared by
`setting`, which keeps everything about it in the field's metadata.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

from onnxgru.core.errors import UsageError
from onnxgru.settings.kinds import Kind, shown

T = TypeVar("T")
_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting; see `setting` for the parameters."""

    name: str
    default: Any
    kind: Kind
    help: str
    unset: str
    short: str
    basic: bool
    keyed: bool
    example: Any

    @property
    def flag(self) -> str:
        """The long flag of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def optional(self) -> bool:
        """Whether it may be left open, as None."""
        return self.default is None

    def check(self, value: object) -> None:
        """Check a value by itself, without the other settings.

        Raises
        ------
        UsageError
            If the setting does not take this value.
        """
        if value is None and self.optional:
            return
        if not self.kind.fits(value):
            raise UsageError(f"{self.name} must be {self.kind.wanted()}, got {shown(value)}")
        self.kind.examine(value)


def setting(
    default: T,
    kind: Kind,
    help: str,
    *,
    unset: str = "",
    short: str = "",
    basic: bool = False,
    keyed: bool = True,
    example: object = None,
) -> T:
    """Declare a setting as a field of a frozen dataclass.

    Parameters
    ----------
    default : object
        The default value; None where the setting may be left open.
    kind : Kind
        The values that it takes.
    help : str
        The meaning in words, without the choices and the default, which are added.
    unset : str
        For help: what happens where the setting is left open.
    short : str
        A short flag beside the long one, such as ``-o``.
    basic : bool
        Whether most users need the setting: ``--help`` shows it, and ``--help-all`` all others.
    keyed : bool
        Whether the evaluations of a search depend on the value. It is then part of the key of the
        search's journal, and a search continues only with the same value.
    example : object
        A value for the commented TOML file, where the default is None.

    Returns
    -------
    object
        The field, which type checkers take for a value of the default's type.
    """
    declared = Setting("", default, kind, help, unset, short, basic, keyed, example)
    made: T = field(default=default, metadata={_KEY: declared})
    return made


@dataclass(frozen=True)
class About:
    """A theme of settings in help and in files.

    Parameters
    ----------
    section : str
        Its section in a TOML file.
    title : str
        Its title in help.
    note : str
        A line below the title in help.
    switch : str
        Name of the setting without which the others have no effect, if there is one.
    """

    section: str
    title: str
    note: str = ""
    switch: str = ""


class Settings:
    """Base of every theme, and of the class that joins them; checks values when it is made.

    Raises
    ------
    UsageError
        If a setting is unknown, a value is wrong, or two settings contradict each other.
    """

    about: ClassVar[About]

    def __new__(cls, *_values: object, **settings: object) -> "Settings":
        """Refuse unknown settings, with the nearest known name."""
        check_names(cls, settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for one in declared(type(self)).values():
            value = getattr(self, one.name)
            one.check(value)
            object.__setattr__(self, one.name, one.kind.kept(value))
        for cls in type(self).__mro__:
            if "contradictions" in vars(cls):
                for contradicts, sentence in vars(cls)["contradictions"](self):
                    if contradicts:
                        raise UsageError(sentence)

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Every contradiction between settings: whether it is there, and the error's sentence."""
        return iter(())


def themes(cls: type[Settings]) -> tuple[type[Settings], ...]:
    """The themes that a class joins, in their order."""
    return tuple(base for base in cls.__mro__ if "about" in vars(base))


def declared(cls: type[Settings]) -> Mapping[str, Setting]:
    """All settings of a class by name, theme by theme."""
    return _declared(cast(Any, cls))  # for mypy, which takes no type of a dataclass for hashable


@cache
def _declared(cls: Any) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for base in [*themes(cls), cls]:
        found |= {name: one for name, one in _fields(base).items() if name not in found}
    return found


def _fields(cls: type[Any]) -> dict[str, Setting]:
    # The metadata of a field does not know its name.
    return {
        one.name: Setting(**{**vars(one.metadata[_KEY]), "name": one.name})
        for one in fields(cls)
        if _KEY in one.metadata
    }


def keyed(cls: type[Settings]) -> tuple[str, ...]:
    """Names of the settings that the evaluations of a search depend on."""
    return tuple(name for name, one in declared(cls).items() if one.keyed)


def dependent(theme: type[Settings]) -> tuple[str, ...]:
    """Names of a theme's settings that have no effect without its switch."""
    return tuple(name for name in declared(theme) if name != theme.about.switch)


def defaults(cls: type[Settings], names: Iterable[str]) -> dict[str, Any]:
    """The defaults of some settings, by name."""
    return {name: declared(cls)[name].default for name in names}


def check_names(cls: type[Settings], settings: Iterable[str], where: str = "") -> None:
    """Refuse names that no setting has.

    Parameters
    ----------
    cls : type
        Class of the settings.
    settings : iterable of str
        Names.
    where : str
        The beginning of the error's sentence.

    Raises
    ------
    UsageError
        If no setting has one of the names.
    """
    known = declared(cls)
    for name in settings:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            raise UsageError(
                f"{where}there is no setting {name!r}; "
                + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}")
            )
