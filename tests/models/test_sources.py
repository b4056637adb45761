"""Finding and downloading: from a server on this machine, in place of the public ones."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxgru.cli import main
from onnxgru.core.errors import DataError
from onnxgru.models import mnist, sources, speech
from onnxgru.models.task import Download
from onnxgru.models.zoo import TASKS
from tests.journeys import unfolded

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Nothing on stderr."""


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """Address of a server of a folder with one file."""
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "file.gz").write_bytes(CONTENT)

    def handler(*arguments):
        return Quiet(*arguments, directory=str(tmp_path / "public"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and no folder named by the user."""
    monkeypatch.delenv(sources.VARIABLE, raising=False)
    monkeypatch.setenv("ONNXGRU_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def test_download_is_cached(server, cache, tmp_path, capsys):
    source = sources.Source("set", "file.gz", f"{server}/file.gz", DIGEST)
    heard: list[Download] = []
    path = sources.find(source, heard.append)
    assert path == cache / "data" / "set" / "file.gz"
    assert path.read_bytes() == CONTENT
    assert heard[-1] == Download("file.gz", len(CONTENT), len(CONTENT))
    done = [event.done for event in heard]
    assert done == sorted(done) and len(set(done)) == 100
    (tmp_path / "public" / "file.gz").unlink()
    assert sources.find(source, heard.append) == path  # without the server
    assert capsys.readouterr() == ("", "")


def test_a_damaged_copy_is_fetched_again(server, cache):
    source = sources.Source("set", "file.gz", f"{server}/file.gz", DIGEST)
    path = sources.find(source, lambda event: None)
    path.write_bytes(CONTENT[:-1])
    assert sources.find(source, lambda event: None).read_bytes() == CONTENT


def test_wrong_checksum(server, cache):
    source = sources.Source("set", "file.gz", f"{server}/file.gz", "0" * 64)
    with pytest.raises(DataError, match=rf"/file.gz: must have the SHA-256 {'0' * 64}") as caught:
        sources.find(source, lambda event: None)
    assert sources.VARIABLE in str(caught.value)
    assert not (cache / "data" / "set" / "file.gz").exists()


@pytest.mark.parametrize("url", ["{server}/absent.gz", "http://127.0.0.1:9/file.gz"])
def test_no_answer(server, cache, url):
    source = sources.Source("set", "file.gz", url.format(server=server), DIGEST)
    with pytest.raises(DataError) as caught:
        sources.find(source, lambda event: None)
    (message,) = str(caught.value).splitlines()
    assert "cannot be downloaded" in message
    assert f"set/file.gz, and name that folder with {sources.VARIABLE}" in message


def test_a_cache_that_cannot_be_written(server, cache):
    cache.write_text("a file")
    source = sources.Source("set", "file.gz", f"{server}/file.gz", DIGEST)
    with pytest.raises(DataError, match="name another cache folder with ONNXGRU_CACHE"):
        sources.find(source, lambda event: None)


def test_progress_of_a_download(server, cache, monkeypatch, capsys):
    """On the command line; what was fetched is not MNIST, which is said then."""
    published = {name: (DIGEST, DIGEST) for name in mnist._PUBLISHED}
    monkeypatch.setattr(mnist, "_PUBLISHED", published)
    monkeypatch.setattr(mnist, "HOME", f"{server}/file.gz?")
    assert main(["zoo", "mnist-row", "-o", str(cache)]) == 1
    first, *_, last, error = unfolded(capsys.readouterr().err).splitlines()
    assert first.endswith("/102,400 bytes of train-images-idx3-ubyte.gz")
    assert last == "102,400/102,400 bytes of train-images-idx3-ubyte.gz"
    assert (
        "train-images-idx3-ubyte.gz: must be the file as published, but it cannot be unp" in error
    )


@pytest.mark.parametrize("name", ["mnist-row", "mnist-pixel", "speech-4", "speech-10"])
def test_a_folder_without_the_file(name, tmp_path, monkeypatch):
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    recipe = TASKS[name].recipe
    with pytest.raises(DataError, match=r"no such file; put it into the folder that ONNXGRU_DATA"):
        TASKS[name].load(recipe, None, lambda event: None)


def test_other_forms_in_the_folder(tmp_path, monkeypatch):
    """Speech Commands may be there with the keywords only; the official archive goes first."""
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    folder = tmp_path / "speech_commands"
    folder.mkdir()
    keywords = folder / "speech_commands_test_set_v0.02_keywords.tar.xz"
    keywords.write_bytes(b"")
    assert sources.find(speech.SOURCE, lambda event: None) == keywords
    official = folder / "speech_commands_test_set_v0.02.tar.gz"
    official.write_bytes(b"")
    assert sources.find(speech.SOURCE, lambda event: None) == official
