"""Reading and writing small files; a file is written whole or not at all."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from onnxgru.core.errors import OutputError, SchemeError

PARTIAL = ".partial"


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: a temporary file in the same folder, then a rename.

    Raises
    ------
    OutputError
        If the folder cannot be written to or the disk is full; nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "choose another place with -o or free some space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file or folder for this process alone, until it is closed.

    Parameters
    ----------
    descriptor : int
        Of the file or folder.
    wait : bool
        Wait while another process has the lock.

    Returns
    -------
    bool or None
        True if this process has the lock now, False if another one has it, None if the platform or
        the file system has no locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def is_partial(name: str) -> bool:
    """Whether a file of this name is what `write` leaves when its process is killed."""
    return name.startswith(".") and name.endswith(PARTIAL)


def dump(document: object) -> bytes:
    """JSON with stable bytes: keys in the order given, two spaces, a newline at the end."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return encoded(text + "\n")


def encoded(text: str) -> bytes:
    """Text as UTF-8; bytes of file names that the locale could not decode are kept."""
    return text.encode("utf-8", "surrogateescape")


def shown(path: Path) -> str:
    """Path as text that is valid UTF-8 in every locale."""
    return os.fsencode(path).decode("utf-8", "replace")


def recorded(text: str) -> Path:
    """Path that a document written by onnxgru names, decoded in this process's locale."""
    return Path(os.fsdecode(encoded(text)))


def parse(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON object that names its own format.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What its ``format`` must be, such as ``onnxgru.scheme/1``.

    Raises
    ------
    SchemeError
        If the file is missing, is not JSON, or is of another format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemeError(
            f"{path}: cannot be read ({error.strerror}); give the path of a {kind} file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SchemeError(f"{path}: must be JSON, but {error}; restore or rewrite it") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != kind:
        raise SchemeError(
            f'{path}: must be a JSON object with "format": "{kind}", found {found!r}; '
            "use a file that this version of onnxgru wrote"
        )
    return dict(document)


def digest(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
