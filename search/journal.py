"""The journal of a search: a JSON-lines file that only grows and survives a kill at any byte.

The first line names the format and what the evaluations belong to; every further line is one
evaluation, written at once and synced before the next begins::

    {"format": "onnxgru.journal/1", "key": "9f86...", "genes": [{"name": ..., "choices": [...]},
     ...], "objectives": ["error", "flash_bytes"], "parts": {"seed": 0, ...}}
    {"genome": [8, 4], "objectives": [0.0625, 1234.0], "violation": 0.0, "generation": 1}

Numbers come back exactly as they were written. A last line without its line feed is what a kill
left of a write: it is dropped. Anything else that does not fit is refused, never skipped. While a
journal is open no other process can open it (where the file system has locks).
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnxgru.core import files
from onnxgru.core.errors import OutputError, UsageError
from onnxgru.search.front import Member
from onnxgru.search.genome import Gene, Genome, Space

FORMAT = "onnxgru.journal/1"
_SHOWN = 60  # characters of a foreign line that a message quotes
_NAMED = 3  # differences that a message names
_HASH = 64  # characters of a SHA-256


class Journal:
    """An open journal; made by `create` or `resume`, closed by `close` or a ``with`` block."""

    def __init__(self, path: Path, file: FileIO, space: Space, objectives: Sequence[str]) -> None:
        self._path = path
        self._file = file
        self._space = space
        self._objectives = len(objectives)
        self._members: dict[Genome, Member] = {}
        self._end = 0

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        key: str,
        genes: Sequence[Gene],
        objectives: Sequence[str],
        parts: Mapping[str, object] | None = None,
    ) -> Self:
        """Start a journal in a new file.

        Parameters
        ----------
        path : path
            A file that does not exist, in a folder that does.
        key : str
            Hash (SHA-256, hexadecimal) of all that an evaluation depends on besides its genome.
        genes : sequence of Gene
            Genes of the genomes.
        objectives : sequence of str
            Name of each objective, in order.
        parts : mapping, optional
            What the key is a hash of, by name, so that a difference can be named.

        Raises
        ------
        OutputError
            If the file exists or cannot be written.
        """
        return cls._open(Path(path), "xb+", _header(key, genes, objectives, parts), genes)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        key: str,
        genes: Sequence[Gene],
        objectives: Sequence[str],
        parts: Mapping[str, object] | None = None,
    ) -> Self:
        """Open an existing journal, drop a torn last line, and read the rest.

        Parameters
        ----------
        path : path
            A file written by `create`, however far it came.
        key, genes, objectives, parts
            As given to `create`.

        Raises
        ------
        OutputError
            If the file is missing, is no journal, belongs to another key, genes or objectives,
            has a line that is no evaluation, or is in use by another process.
        """
        return cls._open(Path(path), "rb+", _header(key, genes, objectives, parts), genes)

    @classmethod
    def _open(cls, path: Path, mode: str, header: Mapping[str, Any], genes: Sequence[Gene]) -> Self:
        try:
            file = FileIO(path, mode)
        except FileExistsError as error:
            raise OutputError(
                f"{path}: a new journal needs a file that does not exist, and this one does; "
                f"resume it or remove it"
            ) from error
        except OSError as error:
            raise OutputError(
                f"{path}: the journal must be a file that can be read and written, but "
                f"{error.strerror}; check the path"
            ) from error
        journal = cls(path, file, Space(tuple(genes)), header["objectives"])
        try:
            journal._lock()
            journal._load(header)
        except BaseException:
            journal.close()
            raise
        return journal

    def _lock(self) -> None:
        """Refuse a second process: both would write, and neither would know the other's lines."""
        if files.lock(self._file.fileno()) is False:
            raise OutputError(
                f"{self._path}: the journal must not be in use, but another process has it open; "
                f"wait until that search ends, or stop it"
            )

    def _load(self, header: Mapping[str, Any]) -> None:
        """Read the lines that are whole, and cut off what is not."""
        content = self._file.readall()
        first = _line(header)
        whole = content[: content.rfind(b"\n") + 1]
        # Not even the first line is whole. A file that holds something else is not ours to cut.
        if not whole and first.startswith(content):
            self._truncate()
            self._write(first)
            return
        lines = whole.split(b"\n")[:-1]
        self._check_header(lines[0] if lines else content, header)
        for number, line in enumerate(lines[1:], start=2):
            member = self._member(number, line)
            self._members[member.genome] = member
        self._end = len(whole)
        if len(whole) < len(content):
            self._truncate()

    def _check_header(self, line: bytes, expected: Mapping[str, Any]) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            text = line[:_SHOWN].decode(errors="replace")
            raise OutputError(
                f"{self._path}: the first line of a journal must name the format '{FORMAT}', "
                f"got {text!r}; give another path"
            )
        self._check_parts(found.get("parts"), expected.get("parts"))
        for name, value in expected.items():
            if name != "parts" and found.get(name) != value:
                raise OutputError(
                    f"{self._path}: the journal must have the {name} of this search, "
                    f"{_shortened(value)}, but has {_shortened(found.get(name))}: its model, data "
                    f"or settings were others; repeat those, or start a new search elsewhere"
                )

    def _check_parts(self, found: object, wanted: Mapping[str, object] | None) -> None:
        """Name what differs; journals of earlier versions do not say what they depend on."""
        if not isinstance(found, dict) or wanted is None:
            return
        others = [
            (f"{name} {_told(found[name])}" if name in found else f"no {name}")
            + f", and this one has {_told(wanted[name]) if name in wanted else 'none'}"
            for name in {**found, **wanted}
            if found.get(name) != wanted.get(name)
        ]
        if others:
            raise OutputError(
                f"{self._path}: cannot resume: the search in this folder had "
                f"{'; '.join(others[:_NAMED])}{'; and more' * (len(others) > _NAMED)}; repeat what "
                "it had, or start a new search elsewhere"
            )

    def _member(self, number: int, line: bytes) -> Member:
        try:
            record = json.loads(line)
            if set(record) != {"genome", "objectives", "violation", "generation"}:
                raise ValueError("its names are others")
            if not all(type(value) is int for value in [*record["genome"], record["generation"]]):
                raise ValueError("its genome and generation are not integers")
            numbers = [*record["objectives"], record["violation"]]
            if not all(type(value) is float for value in numbers):
                raise ValueError("its objectives and violation are not decimal numbers")
            if len(record["objectives"]) != self._objectives:
                raise ValueError(f"it does not have {self._objectives} objectives")
            self._space.validate(tuple(record["genome"]))
            member = Member(record["genome"], record["objectives"], record["violation"])
            if member.genome in self._members:
                raise ValueError("its genome was there before")
        except (ValueError, TypeError, UsageError) as error:
            text = line[:_SHOWN].decode(errors="replace")
            raise OutputError(
                f"{self._path}, line {number}: a line of a journal must be one evaluation, got "
                f"{text!r} ({error}); restore the file, or start a new search elsewhere"
            ) from error
        return member

    @property
    def members(self) -> tuple[Member, ...]:
        """Everything evaluated, in the order in which it was written."""
        return tuple(self._members.values())

    def lookup(self, genome: Genome) -> Member | None:
        """Return the evaluation of a genome, or None if the journal has none."""
        return self._members.get(genome)

    def append(self, member: Member, generation: int) -> None:
        """Write one evaluation; when this returns, a kill does not lose it.

        Parameters
        ----------
        member : Member
            Not yet in the journal, of its genes and with its number of objectives.
        generation : int
            When it was first evaluated, from 1.

        Raises
        ------
        UsageError
            If the member does not fit.
        OutputError
            If it cannot be written (a full disk); the file still ends in a whole line.
        """
        self._space.validate(member.genome)
        if len(member.objectives) != self._objectives or member.genome in self._members:
            raise UsageError(
                f"an evaluation must have {self._objectives} objectives and a genome that the "
                f"journal does not know yet, got {member}"
            )
        self._write(
            _line(
                {
                    "genome": list(member.genome),
                    "objectives": list(member.objectives),
                    "violation": member.violation,
                    "generation": generation,
                }
            )
        )
        self._members[member.genome] = member

    def _write(self, line: bytes) -> None:
        try:
            # The file is unbuffered: this is one system call, and a full disk may take a part.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._truncate()
            raise OutputError(
                f"{self._path}: an evaluation must be written before the next begins, but "
                f"{error.strerror}; the {len(self._members)} before it are safe: make room and "
                f"resume"
            ) from error
        self._end += len(line)

    def _truncate(self) -> None:
        self._file.truncate(self._end)
        self._file.seek(self._end)

    def close(self) -> None:
        """Close the file and let go of the lock; closing twice is closing once."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _header(
    key: str,
    genes: Sequence[Gene],
    objectives: Sequence[str],
    parts: Mapping[str, object] | None,
) -> dict[str, Any]:
    listed = [{"name": gene.name, "choices": list(gene.choices)} for gene in genes]
    header = {"format": FORMAT, "key": key, "genes": listed, "objectives": list(objectives)}
    return header if parts is None else header | {"parts": dict(parts)}


def _told(value: object) -> str:
    """A part in a message; hashes are shortened."""
    if isinstance(value, str):
        return f"{value[:8]}..." if len(value) == _HASH else value
    return _shortened(value)


def _line(record: Mapping[str, object]) -> bytes:
    # json writes floats as repr does: the shortest text that reads back as the same number.
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
