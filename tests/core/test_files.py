"""Files are replaced whole or not at all."""

import os
import pathlib
import stat
from pathlib import Path

import pytest

from onnxgru.core import files
from onnxgru.core.errors import OutputError


def test_writing_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path, plain = tmp_path / "file.json", tmp_path / "plain"
    files.write(path, b"one")
    mode = stat.S_IMODE(path.stat().st_mode)
    files.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == [path.name]
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == mode == stat.S_IMODE(plain.stat().st_mode)


def test_writing_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    files.write(path, b"one")

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(pathlib.Path, "replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        files.write(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "file.json"
    with pytest.raises(OutputError, match="No such file or directory") as caught:
        files.write(missing, b"one")
    assert str(caught.value).startswith(f"{missing}: ")
    with pytest.raises(OutputError, match="Is a directory"):
        files.write(tmp_path, b"one")
    assert not list(tmp_path.iterdir())
