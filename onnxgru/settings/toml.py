"""Settings in a TOML file: reading a file, and writing a complete one with comments.

A file has one section per theme. A setting may also stand above all sections.
"""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxgru.core.errors import UsageError
from onnxgru.settings import kinds
from onnxgru.settings.config import Config
from onnxgru.settings.declare import Setting, Settings, check_names, declared, themes
from onnxgru.settings.manual import meaning

_HEAD = """\
# Settings of onnxgru: give this file with --config. Every line without a # in front counts.
# The commented lines show the defaults, or an example where nothing is the default.
# Flags of the command line take precedence. Relative paths are relative to this file's folder.
"""


def load(path: Path, cls: type[Settings] = Config) -> dict[str, Any]:
    """Settings of a TOML file by their names.

    Keys are names of settings, with dashes or underscores, in the section of their theme or in
    none. Relative paths become relative to the file's folder.

    Parameters
    ----------
    path : Path
        The file.
    cls : type
        Class of the settings.

    Raises
    ------
    UsageError
        If the file is missing, is not TOML, or has an unknown key, a key in the wrong section or
        twice, or a value that its key does not take.
    """
    import tomllib  # imported here, because help does not need it

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: the configuration cannot be read ({error.strerror}); give another path"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path}: the configuration must be TOML, but {error}; correct the file"
        ) from error
    known = declared(cls)
    settings: dict[str, Any] = {}
    try:
        for name, value in _entries(document, cls):
            one = known[name]
            if name in settings:
                raise UsageError(f"{name} is given twice; leave out one of them")
            one.check(value)
            settings[name] = one.kind.kept(one.kind.beside(value, path.parent))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return settings


def _entries(document: Mapping[str, Any], cls: type[Settings]) -> Iterator[tuple[str, Any]]:
    """Names and values, out of their sections."""
    sections = {theme.about.section: theme for theme in themes(cls)}
    for key, value in document.items():
        if isinstance(value, dict) and key in sections:
            for inner, held in value.items():
                name = inner.replace("-", "_")
                check_names(cls, [name])
                if name not in declared(sections[key]):
                    (home,) = (s for s, theme in sections.items() if name in declared(theme))
                    raise UsageError(f"{name} belongs to section [{home}], not to [{key}]; move it")
                yield name, held
        else:
            name = key.replace("-", "_")
            check_names(cls, [name])
            yield name, value


def template(cls: type[Settings] = Config) -> str:
    """A complete TOML file: every setting with its meaning, and its default commented out."""
    return _HEAD + "".join(f"\n{_section(theme)}" for theme in themes(cls))


def _section(theme: type[Settings]) -> str:
    about = theme.about
    lines = [f"[{about.section}]"]
    lines += _comment(about.note) if about.note else []
    return "\n".join([*lines, *(_entry(one) for one in declared(theme).values())]) + "\n"


def _entry(one: Setting) -> str:
    text = meaning(one)
    text = text[0].upper() + text[1:] + (f" (default: {one.unset})" if one.unset else "") + "."
    value = one.example if one.default is None else one.default
    return "\n".join(["", *_comment(text), f"# {one.name} = {kinds.toml(value)}"])


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent="# ", subsequent_indent="# ")
