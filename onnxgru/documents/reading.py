"""Reading JSON objects as dataclasses, by the types of their fields."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

_KEY = "key"


def named(key: str, **settings: Any) -> Any:
    """A field of a dataclass that has another name in the document.

    Parameters
    ----------
    key : str
        Its name there.
    **settings
        As `dataclasses.field` takes them.
    """
    return field(metadata={_KEY: key}, **settings)


def read(kind: type[T], document: Mapping[str, Any]) -> T:
    """A dataclass from an object of a document.

    Fields that have a default may be missing. Entries that are no fields are left out: a later
    version may know more. Lists become tuples.

    Parameters
    ----------
    kind : type
        A dataclass of plain values, other dataclasses, mappings by text, tuples, and None.
    document : mapping
        The object.

    Raises
    ------
    KeyError
        If a field is missing.
    TypeError
        If something that must be an object or a list is none.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{document!r}, which must be an object,")
    found = {}
    dataclass: Any = kind
    for each, hint in _layout(dataclass):
        key = each.metadata.get(_KEY, each.name)
        if key in document:
            found[each.name] = _value(hint, document[key])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise KeyError(key)
    return kind(**found)


@cache
def _layout(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    """Fields of a dataclass with their types."""
    hints = get_type_hints(kind)
    return tuple((each, hints[each.name]) for each in fields(kind))


def _value(hint: Any, value: Any) -> Any:
    """What a document holds where a type is wanted."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        if value is None:
            return None
        others = [one for one in inner if one is not NoneType]
        return _value(others[0], value) if len(others) == 1 else value
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{value!r}, which must be a list,")
        return tuple(_value(inner[0], entry) for entry in value)
    if origin is Mapping and inner[1] is not Any:
        return {name: _value(inner[1], entry) for name, entry in value.items()}
    return value
