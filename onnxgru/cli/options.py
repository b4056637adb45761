"""Flags made from the declarations of settings."""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from onnxgru.settings.declare import Setting, Settings, declared, themes
from onnxgru.settings.manual import explained


def add(group: Any, one: Setting, text: str | None = None) -> None:
    """Add the flag of a setting.

    The namespace has it only if it is given, so that it takes precedence over a file.

    Parameters
    ----------
    group : argparse.ArgumentParser or group
        What the flag is added to.
    one : Setting
        The setting.
    text : str, optional
        Its help; what it says of itself where left out.
    """
    reads = one.kind.flag()
    if reads.get("action") != "store_true":
        reads["metavar"] = one.kind.metavar
    group.add_argument(
        *([one.short] if one.short else []),
        one.flag,
        dest=one.name,
        default=argparse.SUPPRESS,
        help=(text or explained(one)).replace("%", "%%"),
        **reads,
    )


def add_themes(
    parser: argparse.ArgumentParser,
    cls: type[Settings],
    names: Collection[str] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Add the flags of settings in one group per theme.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        What the flags are added to.
    cls : type
        Class of the settings.
    names : collection of str, optional
        Which settings; all where left out.
    texts : mapping of str to str, optional
        Help of a command's own for some of them.
    """
    for theme in themes(cls):
        wanted = [s for s in declared(theme).values() if names is None or s.name in names]
        if wanted:
            group = parser.add_argument_group(theme.about.title, theme.about.note or None)
            for one in wanted:
                add(group, one, (texts or {}).get(one.name))


def given(arguments: argparse.Namespace, cls: type[Settings]) -> dict[str, Any]:
    """Values of the settings that the command line gives."""
    known = declared(cls).items()
    return {n: s.kind.kept(getattr(arguments, n)) for n, s in known if hasattr(arguments, n)}
