"""Texts about settings: help, docstrings, and the tables of ``docs/settings.md``.

``python -m onnxgru.settings`` prints these tables.
"""

import inspect
import textwrap
from collections.abc import Iterator

from onnxgru.settings.declare import Setting, Settings, declared, themes
from onnxgru.settings.kinds import Switch


def explained(one: Setting) -> str:
    """The meaning of a setting with its choices and its default, for help."""
    text = meaning(one)
    if isinstance(one.kind, Switch):
        return text
    usual = one.unset if one.default in (None, ()) else _plain(one.default)
    return f"{text} (default: {usual})" if usual else text


def meaning(one: Setting) -> str:
    """The meaning of a setting with its choices."""
    names = one.kind.choices()
    if not names or all(name in one.help for name in names):
        return one.help
    return f"{one.help}: {', '.join(names[:-1])}{' or ' if names[1:] else ''}{names[-1]}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def documented(cls: type[Settings]) -> str:
    """The docstring of a class of settings, with all of them as parameters."""
    found = inspect.cleandoc(cls.__doc__ or "")
    before, heading, after = found.partition("Raises\n")
    types = inspect.signature(cls).parameters
    lines = []
    for one in _all(cls):
        kind = types[one.name].annotation
        kind = kind if isinstance(kind, str) else inspect.formatannotation(kind)
        text = textwrap.fill(_sentence(one), 96, initial_indent="    ", subsequent_indent="    ")
        lines += [f"{one.name} : {kind}, default {one.default!r}", text]
    return f"{before}Parameters\n----------\n" + "\n".join(lines) + f"\n\n{heading}{after}"


def _sentence(one: Setting) -> str:
    text = meaning(one)
    return text[0].upper() + text[1:] + (f"; left open: {one.unset}" if one.unset else "") + "."


def _all(cls: type[Settings]) -> Iterator[Setting]:
    return iter(declared(cls).values())


def page(cls: type[Settings]) -> str:
    """A table of all settings for each theme, in Markdown."""
    return "\n\n".join(_table(theme) for theme in themes(cls)) + "\n"


def _table(theme: type[Settings]) -> str:
    about = theme.about
    rows = [f"| `{one.name}` | {_default(one)} | {_cell(meaning(one))} |" for one in _all(theme)]
    note = [about.note, ""] if about.note else []
    return "\n".join(
        [
            f"## [{about.section}]", "", *note,
            "| setting | default | meaning |", "|---|---|---|", *rows,
        ]
    )  # fmt: skip


def _default(one: Setting) -> str:
    if one.default in (None, ()):
        return _cell(one.unset)
    return "off" if one.default is False else f"`{_plain(one.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
