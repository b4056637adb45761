"""The output folder: what is in it, and how it is written without ever losing anything."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from onnxgru.core import files
from onnxgru.core.errors import OutputError

JOURNAL = "journal.jsonl"
REPORT = "report.json"
KNOWN = frozenset(
    {"integer.onnx", "annotated.onnx", "scheme.json", "calibration.json", "front.json"}
    | {"front.csv", "front.png", "report.md", REPORT, JOURNAL, "test_data_set_0"}
)
"""Names that `quantize` writes, and that ``--force`` may replace."""


class Folder:
    """An output folder.

    Parameters
    ----------
    path : Path
        The folder; its parent must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, *, force: bool, resume: bool) -> None:
        """Find out, before any work, whether the folder can be written.

        Raises
        ------
        OutputError
            If it holds something already and neither `force` nor `resume` is given, there is
            nothing to resume, or it cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(
                f"{self.path}: the output must be a folder, it is a file; give another with -o"
            )
        occupied = self.path.is_dir() and any(self.path.iterdir())
        if resume and not (self.path / JOURNAL).is_file():
            raise OutputError(
                f"{self.path}: there is no {JOURNAL} to resume; leave out --resume to begin"
            )
        if occupied and not (force or resume):
            raise OutputError(
                f"{self.path}: the output folder exists and is not empty; continue a search with "
                "--resume, replace its results with --force, or give another folder with -o"
            )
        place = self.path if self.path.is_dir() else self.path.parent
        if not place.is_dir():
            raise OutputError(
                f"{self.path}: its parent folder does not exist; make it, or give another with -o"
            )
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"{place}: cannot be written to; give another folder with -o")

    def open(self, *, force: bool) -> None:
        """Make the folder; with `force`, clear it of earlier results, and of nothing else.

        Raises
        ------
        OutputError
            If the file system refuses.
        """
        try:
            self.path.mkdir(exist_ok=True)
            if force:
                for name in KNOWN:
                    found = self.path / name
                    if found.is_dir():
                        shutil.rmtree(found)
                    else:
                        found.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); give another folder with -o"
            ) from error

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files atomically, in the order given: the report comes last.

        Raises
        ------
        OutputError
            If one cannot be written.
        """
        for name, content in contents.items():
            target = self.path / name
            try:
                target.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{target.parent}: cannot be made ({error.strerror}); give another folder"
                ) from error
            files.write(target, content)
