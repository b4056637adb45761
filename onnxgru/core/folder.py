"""The output folder: names of its files, and writing without losing earlier results."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from onnxgru.core import cache, files
from onnxgru.core.errors import OutputError, UsageError

INTEGER, ANNOTATED = "integer.onnx", "annotated.onnx"
SCHEME, CALIBRATION = "scheme.json", "calibration.json"
JOURNAL = "journal.jsonl"
REPORT = "report.json"
PAGE = "report.html"
SENSITIVITY = "sensitivity.json"
SOURCE = "source.onnx"
"""The float model, where a Python program held it and there was no file."""
HEAT_MAP = "sensitivity.png"
FINETUNED_MODEL = "finetuned.onnx"
FINETUNED_WEIGHTS = "finetuned.weights.npz"
FINETUNED_CALIBRATION = "finetuned.calibration.json"
FINETUNED = frozenset({FINETUNED_MODEL, FINETUNED_WEIGHTS, FINETUNED_CALIBRATION})
"""Names of what fine-tuning adds; they belong to the report that they come with."""
TEACHER, MEMBER = "teacher.checkpoint.pt", "finetuning.checkpoint.pt"
"""Checkpoints of fine-tuning a teacher and a scheme; removed when the results are written."""

GOLDEN = "test_data_set_"
"""Prefix of folders with inputs and outputs of the graph; a number follows."""

KNOWN = frozenset(
    {INTEGER, ANNOTATED, SCHEME, CALIBRATION}
    | {"front.json", "front.csv", "front.png", "moments.npz", "report.md", PAGE, REPORT, JOURNAL}
    | {TEACHER, MEMBER, SOURCE}
    | FINETUNED
)
"""Names that `quantize` writes, and that ``--force`` may replace."""

MEASURED = frozenset({SENSITIVITY, HEAT_MAP})
"""Names that `measure_sensitivity` writes, before the other files or beside them."""

STAGED = ".partial-"
"""Prefix of folders that hold files while they are written."""


def path_of(value: object, name: str = "folder") -> Path:
    """A path that a Python program gives.

    Parameters
    ----------
    value : str, path or Result
        The path, or a result, which stands for its folder.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    UsageError
        If it is no path.
    """
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} must be a path, it is of type {type(value).__name__}")
    return Path(value)


class Folder:
    """An output folder.

    Parameters
    ----------
    path : Path
        The folder; its parent must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, *, force: bool, resume: Collection[str] | None, resumable: bool = True) -> None:
        """Check before any work that the folder can be written.

        Parameters
        ----------
        force : bool
            Earlier results may be replaced.
        resume : collection of str, optional
            To resume: names of the files that an interrupted run may leave; one must be there. None
            for a new run.
        resumable : bool
            Whether the command could go on with what is there.

        Raises
        ------
        OutputError
            If it holds something already and neither `force` nor `resume` is given, there is
            nothing to resume, or it cannot be written.
        """
        occupied = self._is_folder() and any(
            entry.name not in MEASURED
            and not entry.name.startswith(STAGED)
            and not files.is_partial(entry.name)
            for entry in self.path.iterdir()
        )
        if resume and not any((self.path / name).is_file() for name in resume):
            raise OutputError(
                f"{self.path}: there is no {' or '.join(resume)} to resume; leave out --resume to "
                "begin"
            )
        if occupied and not (force or resume):
            going = "continue a search or a fine-tuning with --resume, " if resumable else ""
            raise OutputError(
                f"{self.path}: the output folder exists and is not empty; {going}replace its "
                "results with --force, or give another folder with -o"
            )
        self._check_place()

    def check_beside(self, names: Iterable[str], *, force: bool) -> None:
        """Check that files can be written into the folder beside those that are there.

        Raises
        ------
        OutputError
            If one of them is there already and `force` is not given, or the folder cannot be
            written.
        """
        taken = sorted(n for n in names if self._is_folder() and os.path.lexists(self.path / n))
        if taken and not force:
            raise OutputError(
                f"{self.path / taken[0]}: exists already; replace it with --force, or give "
                "another folder with -o"
            )
        self._check_place()

    def _is_folder(self) -> bool:
        """Whether the folder is there already."""
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise OutputError(
                f"{self.path}: the output must be a folder, it is a file; give another with -o"
            )
        return self.path.is_dir()

    def _check_place(self) -> None:
        """Check that the folder can be made, or written to."""
        place = self.path if self.path.is_dir() else self.path.parent
        if not place.is_dir():
            raise OutputError(
                f"{self.path}: its parent folder does not exist; make it, or give another with -o"
            )
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"{place}: cannot be written to; give another folder with -o")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from writing this folder inside the `with` block.

        The lock is a file in the cache, so that the folder is not made before there are results.

        Raises
        ------
        OutputError
            If another process, or another thread, works for the same folder.
        """
        name = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:32]
        try:
            place = cache.folder() / "locks"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
        except OSError:  # no cache, no lock
            yield
            return
        taken, held = _lock(place / name)
        if taken:
            raise OutputError(
                f"{self.path}: another process has it open and writes its results there; wait "
                "until it ends, or give another folder with -o"
            )
        try:
            yield
        finally:
            if held is not None:
                os.close(held)

    def open(self, *, force: bool) -> None:
        """Make the folder; with `force`, clear it.

        Raises
        ------
        OutputError
            If the file system refuses.
        """
        with self._refusals():
            self.path.mkdir(exist_ok=True)
        if force:
            self.clear()

    def clear(self) -> None:
        """Remove earlier results; other files stay.

        Raises
        ------
        OutputError
            If the file system refuses.
        """
        with self._refusals():
            self._clear({*KNOWN, *self._golden()})

    def write(self, contents: Mapping[str, bytes], *, force: bool = False) -> None:
        """Write all files or none; the last one appears last.

        Files are written to a temporary folder inside this one and moved when all are complete, so
        that a full disk leaves everything as it was.

        Parameters
        ----------
        contents : mapping of str to bytes
            Content by file name; a name may have a folder in it.
        force : bool
            Clear the folder of earlier results before the files are moved.

        Raises
        ------
        OutputError
            If one cannot be written.
        """
        made = not self.path.is_dir()
        with self._refusals():
            self.path.mkdir(exist_ok=True)
            staged, lock = self._stage()
        try:
            for name, content in contents.items():
                target = staged / name
                with self._refusals():
                    target.parent.mkdir(exist_ok=True)
                    target.write_bytes(content)
                    with target.open("rb") as stream:
                        os.fsync(stream.fileno())
            with self._refusals():
                if force:
                    self.clear()
                elif REPORT in contents:
                    self._clear({REPORT, *FINETUNED, *self._golden()})
                for name in contents:
                    target = self.path / name
                    target.parent.mkdir(exist_ok=True)
                    (staged / name).replace(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            if lock is not None:
                os.close(lock)
            if made and not any(self.path.iterdir()):
                self.path.rmdir()

    def _stage(self) -> tuple[Path, int | None]:
        """A locked folder for files that are being written; those of dead processes are removed."""
        _, alone = _lock(self.path, wait=True)
        try:
            for left in self.path.glob(f"{STAGED}*"):
                _, lock = _lock(left)  # a process that was killed has none
                if lock is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)
            staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=self.path))
            return staged, _lock(staged)[1]
        finally:
            if alone is not None:
                os.close(alone)

    def _golden(self) -> set[str]:
        """Names of the test data sets in the folder."""
        found = {path.name for path in self.path.glob(f"{GOLDEN}*")}
        return {name for name in found if name.removeprefix(GOLDEN).isdigit()}

    def _clear(self, names: Iterable[str]) -> None:
        """Remove files and folders if they exist."""
        for name in names:
            found = self.path / name
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn an error of the file system into one sentence."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror or error}); "
                "free some space, or give another folder with -o"
            ) from error


def _lock(folder: Path, *, wait: bool = False) -> tuple[bool, int | None]:
    """Whether another process holds the lock on a path, and the descriptor of our lock, if any."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False, None
    ours = files.lock(descriptor, wait=wait)
    if ours:
        return False, descriptor
    os.close(descriptor)
    return ours is False, None
