"""Brief: a scheme in few bytes, for the metadata of graphs.

Equal settings are written once. Recurrences with equal settings share their list of operators::

    {"settings": [{"bits": 8}, {"bits": 8, "weight_bits": 4, "shape": [16, 16]}],
     "inputs": [[["/"], [0, "first", "second"]]],
     "operators": [[["/first/forward/", "/second/forward/"],
                    [1, "a.input", "a.hidden"], [0, "a.sum", "a.gate"], ...]]}

Every entry has a list of prefixes of names. Lists follow that have an index into the settings and
the suffixes of the names with these settings. Settings that have their defaults are left out.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnxgru.core.errors import SchemeError
from onnxgru.core.scheme import FORMAT, Scheme

SECTIONS = ("inputs", "operators")


def dumped(scheme: Scheme) -> dict[str, object]:
    """The JSON object of a scheme, which `parsed` reads."""
    document = scheme.brief()
    settings: list[object] = []
    found: dict[str, object] = {"settings": settings}
    for section in SECTIONS:
        entries: Any = document[section]
        found[section] = list(_grouped(entries, settings))
    return found


def parsed(document: Mapping[str, Any], source: str) -> Scheme:
    """The scheme of a JSON object; `source` is its origin, for messages.

    Raises
    ------
    SchemeError
        If it is damaged or has a bad entry.
    """
    if "settings" not in document:  # an earlier version wrote the graph
        return Scheme.parse(document, source)
    settings = document["settings"]
    try:
        sections = {
            section: {
                f"{begin}{end}": settings[place]
                for begins, *runs in document[section]
                for begin in begins
                for place, *ends in runs
                for end in ends
            }
            for section in SECTIONS
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SchemeError(
            f"{source}: the scheme in its metadata must be as onnxgru wrote it, but it is damaged "
            f"({type(error).__name__}); emit the graph again"
        ) from error
    return Scheme.parse({"format": FORMAT, **sections}, source)


def _grouped(entries: Mapping[str, object], settings: list[object]) -> Iterator[list[object]]:
    """Consecutive entries; those that differ only in the prefix of their names are one."""
    found: list[tuple[str, list[object]]] = []
    for begin, names in itertools.groupby(entries, _begin):
        found.append((begin, list(_runs(begin, list(names), entries, settings))))
    for runs, alike in itertools.groupby(found, lambda each: each[1]):
        yield [[begin for begin, _ in alike], *runs]


def _begin(name: str) -> str:
    """The prefix that an operator's name shares with others of its recurrence."""
    return name[: name.rfind("/") + 1]


def _runs(
    begin: str, names: Sequence[str], entries: Mapping[str, object], settings: list[object]
) -> Iterator[list[object]]:
    """Consecutive names that have the same settings."""
    for name in names:
        if entries[name] not in settings:
            settings.append(entries[name])
    for place, alike in itertools.groupby(names, lambda name: settings.index(entries[name])):
        yield [place, *(name.removeprefix(begin) for name in alike)]
