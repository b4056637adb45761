"""What a long study has measured, piece by piece, in a file that it goes on with."""

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxgru import __version__
from onnxgru.core import files


@dataclass(frozen=True)
class Piece:
    """Something that is measured by itself.

    Parameters
    ----------
    keys : tuple of str
        Its place in the record.
    make : callable
        Measures it.
    arguments : tuple
        Of that.
    """

    keys: tuple[str, ...]
    make: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]

    def __call__(self) -> tuple[dict[str, Any], float]:
        """What was measured, and the seconds that it took."""
        started = time.perf_counter()
        found = self.make(*self.arguments)
        return found, time.perf_counter() - started


class Record:
    """What has been measured, in a file that is written after every piece.

    Every piece names the version of onnxgru that it is of: what a change does not touch need not be
    measured again.

    Parameters
    ----------
    path : Path, optional
        The file; it is gone on with if it is of the same command.
    command : dict
        What was asked.
    """

    def __init__(self, path: Path | None, command: dict[str, Any]) -> None:
        self._path = path
        self.document: dict[str, Any] = {"command": command, "seconds": 0}
        self.document |= {"narrow": {}, "tuned": {}}
        if path is not None and path.is_file():
            found = json.loads(path.read_text("utf-8"))
            if found.get("command") != command:
                raise SystemExit(f"{path}: holds another study; give another file, or remove it")
            self.document = found

    def measure(self, pieces: Sequence[Piece], jobs: int, say: Callable[[str], None]) -> None:
        """Measure what is not there yet, in so many processes; in this one if that is one."""
        missing = [piece for piece in pieces if not self._has(piece.keys)]
        if jobs == 1:
            for piece in missing:
                self._keep(piece, piece(), say)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context) as pool:
            running = {pool.submit(piece): piece for piece in missing}
            try:
                for done in as_completed(running):
                    self._keep(running[done], done.result(), say)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _has(self, keys: Sequence[str]) -> bool:
        place: Any = self.document
        for key in keys:
            if key not in place:
                return False
            place = place[key]
        return True

    def _keep(
        self, piece: Piece, result: tuple[dict[str, Any], float], say: Callable[[str], None]
    ) -> None:
        found, seconds = result
        place = self.document
        for key in piece.keys[:-1]:
            place = place.setdefault(key, {})
        place[piece.keys[-1]] = json.loads(json.dumps(found)) | {"onnxgru": __version__}
        self.document["seconds"] += round(seconds)
        if self._path is not None:
            files.write(self._path, (json.dumps(self.document, indent=1) + "\n").encode())
        say(f"{' '.join(piece.keys)}: {found['holdout']:.2f} % ({seconds:.0f} s)")
