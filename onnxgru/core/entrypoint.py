"""Objects a user names as ``package.module:name``: data readers, metrics, model factories."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from onnxgru.core.errors import UsageError

_PATTERN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_entrypoint(text: str) -> bool:
    """Whether `text` has the form ``package.module:name``; nothing is imported."""
    return _PATTERN.fullmatch(text) is not None


def load_entrypoint(text: str) -> Callable[..., Any]:
    """Import the callable named ``package.module:name``.

    The current folder is searched first, as ``python -m`` does, because users keep these
    functions in a file beside their model.

    Parameters
    ----------
    text : str
        For example ``recordings:batches``.

    Returns
    -------
    Callable
        The object; not called yet.

    Raises
    ------
    UsageError
        If the text has another form, the module cannot be imported, it has no such name, or the
        object cannot be called.
    """
    if not is_entrypoint(text):
        raise UsageError(
            f"{text!r}: must have the form package.module:name, such as net:make for make in "
            "net.py of the current folder"
        )
    module_name, name = text.split(":")
    if module_name.endswith(".py"):
        plain = module_name.removesuffix(".py")
        raise UsageError(f"{text}: must name a module, not its file; give {plain}:{name}")
    with _current_folder_first():
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # a user's module may raise anything while it is imported
            raise UsageError(
                f"{text}: module {module_name!r} must be importable from the current folder or "
                f"the Python path, importing it raised {type(error).__name__}: {error}"
            ) from error
    found: Any = getattr(module, name, None)
    if found is None:
        public = sorted(key for key, value in vars(module).items() if _offered(key, value, module))
        raise UsageError(
            f"{text}: module {module_name!r} has no {name!r}; it has: {', '.join(public) or '-'}"
        )
    if not callable(found):
        raise UsageError(f"{text}: must be callable, it is of type {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def _offered(key: str, value: object, module: object) -> bool:
    """Whether an attribute is a public callable that `module` itself defines."""
    own = getattr(value, "__module__", None) == getattr(module, "__name__", None)
    return own and callable(value) and not key.startswith("_")


@contextmanager
def _current_folder_first() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
