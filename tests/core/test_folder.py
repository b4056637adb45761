"""The output folder: what a killed process leaves behind is removed, what another writes is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onnxgru.core import folder
from onnxgru.core.folder import STAGED, Folder

pytest.importorskip("fcntl", reason="the file system's locks tell who is alive")

STUCK = """
import sys
from pathlib import Path
from onnxgru.core.folder import Folder

def contents():
    yield "a.bin", b"a"
    print("writing", flush=True)
    sys.stdin.read()

class Slow(dict):
    def items(self):
        return contents()

Folder(Path(sys.argv[1])).write(Slow())
"""


def staged(path: Path) -> list[Path]:
    return list(path.glob(f"{STAGED}*"))


def test_files_of_a_killed_process_are_removed_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUCK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        (left,) = staged(tmp_path)
        Folder(tmp_path).write({"b.bin": b"b"})
        assert staged(tmp_path) == [left]  # its process is alive
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert staged(tmp_path) == [left]
    Folder(tmp_path).write({"c.bin": b"c"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bin", "c.bin"]


def test_without_locks_nothing_of_others_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / f"{STAGED}other"
    other.mkdir()
    monkeypatch.setattr(folder, "_lock", lambda _folder, **_how: (False, None))
    Folder(tmp_path).write({"b.bin": b"b"})
    assert other.is_dir() and (tmp_path / "b.bin").read_bytes() == b"b"
