import errno
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from onnxgru.core.errors import OutputError, UsageError
from onnxgru.search.front import Member
from onnxgru.search.genome import Gene
from onnxgru.search.journal import Journal
from tests.search import toy

GENES = (Gene("a", (2, 3, 4)), Gene("b", (2, 8)))
NAMES = ("error", "bytes")
KEY = "ab" * 32
MEMBERS = (
    Member((2, 8), (0.1 + 0.2, 1e-320)),
    Member((3, 8), (-0.0, 1.7976931348623157e308), 0.1),
    Member((4, 2), (1 / 3, 12.0), -1.0),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def written(path):
    with Journal.create(path, KEY, GENES, NAMES) as journal:
        for number, member in enumerate(MEMBERS, start=1):
            journal.append(member, number)
    return path


def test_lines(written):
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert lines[0] == {
        "format": "onnxgru.journal/1",
        "key": KEY,
        "genes": [{"name": "a", "choices": [2, 3, 4]}, {"name": "b", "choices": [2, 8]}],
        "objectives": ["error", "bytes"],
    }
    assert lines[2] == {
        "genome": [3, 8],
        "objectives": [-0.0, 1.7976931348623157e308],
        "violation": 0.1,
        "generation": 2,
    }


def test_numbers_come_back_exactly(written):
    before = written.read_bytes()
    with Journal.resume(written, KEY, GENES, NAMES) as journal:
        assert repr(journal.members) == repr(MEMBERS)
        assert journal.lookup((3, 8)) == MEMBERS[1]
        assert journal.lookup((3, 2)) is None
    assert written.read_bytes() == before


def test_appended_lines_are_on_disk_at_once(path):
    with Journal.create(path, KEY, GENES, NAMES) as journal:
        for count, member in enumerate(MEMBERS, start=1):
            journal.append(member, 1)
            assert path.read_bytes().count(b"\n") == 1 + count
            assert journal.lookup(member.genome) is member


def test_resume_from_every_byte(written):
    content = written.read_bytes()
    for length in range(len(content)):
        written.write_bytes(content[:length])
        whole = max(content[:length].count(b"\n") - 1, 0)
        with Journal.resume(written, KEY, GENES, NAMES) as journal:
            assert journal.members == MEMBERS[:whole]
            for number, member in enumerate(MEMBERS[whole:], start=whole + 1):
                journal.append(member, number)
        assert written.read_bytes() == content


def test_a_torn_line_of_zeros_is_dropped(written):
    content = written.read_bytes()
    written.write_bytes(content + bytes(512))
    with Journal.resume(written, KEY, GENES, NAMES) as journal:
        assert journal.members == MEMBERS
    assert written.read_bytes() == content


def test_create_refuses_a_file_that_exists(written):
    before = written.read_bytes()
    with pytest.raises(OutputError, match=r"journal\.jsonl: .*does not exist.*resume it or remove"):
        Journal.create(written, KEY, GENES, NAMES)
    assert written.read_bytes() == before


@pytest.mark.parametrize("start", [Journal.create, Journal.resume])
def test_a_path_that_cannot_be_opened(tmp_path, start):
    with pytest.raises(OutputError, match=r"nowhere.*No such file.*check the path"):
        start(tmp_path / "nowhere" / "journal.jsonl", KEY, GENES, NAMES)


def test_resume_refuses_another_search(written):
    before = written.read_bytes()
    other = (Gene("a", (2, 3, 4)), Gene("b", (2, 4)))
    for key, genes, names, words in (
        ("cd" * 32, GENES, NAMES, "have the key of this search, 'cdcd.*but has 'abab"),
        (KEY, other, NAMES, "have the genes of this search"),
        (KEY, GENES, ("error", "bits"), r"\['error', 'bits'\], but has \['error', 'bytes'\]"),
    ):
        with pytest.raises(OutputError, match=words) as caught:
            Journal.resume(written, key, genes, names)
        assert "start a new search elsewhere" in str(caught.value)
        assert str(written) in str(caught.value)
    assert written.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"a diary",
        b"a diary\n",
        b"\x00\xff\n",
        b"[]\n",
        b'{"format": "onnxgru.journal/2"}\n',
        b'{"format": "onnxgru.scheme/1"}\n{"genome": []}\n',
    ],
)
def test_resume_refuses_and_keeps_what_is_no_journal(path, content):
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"name the format 'onnxgru\.journal/1', got"):
        Journal.resume(path, KEY, GENES, NAMES)
    assert path.read_bytes() == content


RECORD = {"genome": [3, 2], "objectives": [0.5, 2.0], "violation": 0.0, "generation": 1}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "Expecting value"),
        (b"\x00\x00\xff", "got"),
        (b'{"genome": [2, 8], "objec', "got"),
        (b"[1, 2]", "names are others"),
        (b"7", "got '7'"),
        (json.dumps({**RECORD, "more": 1}).encode(), "names are others"),
        (json.dumps({**RECORD, "genome": [5, 2]}).encode(), "gene 'a' must be one of"),
        (json.dumps({**RECORD, "genome": [3]}).encode(), "must have 2 values"),
        (json.dumps({**RECORD, "genome": [3.0, 2]}).encode(), "not integers"),
        (json.dumps({**RECORD, "genome": [2, 8]}).encode(), "was there before"),
        (json.dumps({**RECORD, "objectives": [0.5]}).encode(), "2 objectives"),
        (json.dumps({**RECORD, "objectives": ["0.5", 2.0]}).encode(), "not decimal"),
        (json.dumps({**RECORD, "objectives": [float("nan"), 2.0]}).encode(), "finite"),
        (json.dumps({**RECORD, "violation": None}).encode(), "not decimal"),
    ],
)
def test_resume_refuses_a_corrupt_line(written, line, words):
    lines = written.read_bytes().split(b"\n")
    lines.insert(2, line)
    content = b"\n".join(lines)
    written.write_bytes(content)
    with pytest.raises(OutputError, match=words) as caught:
        Journal.resume(written, KEY, GENES, NAMES)
    assert "journal.jsonl, line 3: " in str(caught.value)
    assert "restore the file" in str(caught.value)
    assert written.read_bytes() == content


def test_the_record_of_the_corruptions_is_itself_sound(written):
    with written.open("ab") as file:
        file.write(json.dumps(RECORD).encode() + b"\n")
    with Journal.resume(written, KEY, GENES, NAMES) as journal:
        assert journal.members[-1] == Member((3, 2), (0.5, 2.0))


def test_append_refuses_what_does_not_fit(written):
    with Journal.resume(written, KEY, GENES, NAMES) as journal:
        with pytest.raises(UsageError, match="gene 'a'"):
            journal.append(Member((7, 8), (0.5, 2.0)), 1)
        for member in (MEMBERS[0], Member((3, 2), (0.5,))):
            with pytest.raises(UsageError, match=r"2 objectives and a genome.*not know yet"):
                journal.append(member, 1)
        assert journal.members == MEMBERS


@contextmanager
def largest_file(size):
    """Let no file grow beyond `size` bytes: a write then takes a part, or nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_leaves_whole_lines_and_can_be_resumed(path, room):
    with Journal.create(path, KEY, GENES, NAMES) as journal:
        journal.append(MEMBERS[0], 1)
        before = path.read_bytes()
        with (
            largest_file(len(before) + room),
            pytest.raises(OutputError, match="the 1 before it are safe: make room and resume"),
        ):
            journal.append(MEMBERS[1], 1)
        assert path.read_bytes() == before
        assert journal.lookup(MEMBERS[1].genome) is None
        journal.append(MEMBERS[1], 1)  # there is room again
    with Journal.resume(path, KEY, GENES, NAMES) as journal:
        assert journal.members == MEMBERS[:2]


def test_every_line_is_synced_or_taken_back(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(path.read_bytes()))
    with Journal.create(path, KEY, GENES, NAMES) as journal:
        journal.append(MEMBERS[0], 1)
        assert [content.count(b"\n") for content in synced] == [1, 2]

        def broken(number):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(OutputError, match="Input/output error; the 1 before it are safe"):
            journal.append(MEMBERS[1], 1)
    assert path.read_bytes() == synced[-1]


def test_an_open_journal_refuses_a_second_opening(written):
    with (
        Journal.resume(written, KEY, GENES, NAMES),
        pytest.raises(OutputError, match=r"another process has it open.*wait"),
    ):
        Journal.resume(written, KEY, GENES, NAMES)
    Journal.resume(written, KEY, GENES, NAMES).close()


def test_a_refused_resume_lets_go_of_the_lock(written):
    with pytest.raises(OutputError, match="key"):
        Journal.resume(written, "", GENES, NAMES)
    Journal.resume(written, KEY, GENES, NAMES).close()


def test_two_processes_refuse_each_other(path):
    command = [sys.executable, toy.__file__, str(path), "4", "100", "0", "0.01"]
    with subprocess.Popen(command) as process:
        try:
            while not path.exists() or path.read_bytes().count(b"\n") < 2:
                assert process.poll() is None
                time.sleep(0.005)
            with pytest.raises(OutputError, match="another process has it open"):
                Journal.resume(path, toy.KEY, toy.SPACE.genes, toy.OBJECTIVES)
        finally:
            process.kill()
    with Journal.resume(path, toy.KEY, toy.SPACE.genes, toy.OBJECTIVES):  # a kill unlocks
        second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.returncode == 1
    assert "another process has it open" in second.stderr


def test_what_differs_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    parts = {"seed": 0, "model": "a" * 64, "widths": "2-8", "version of numpy": "2.1"}
    Journal.create(path, KEY, GENES, NAMES, parts).close()
    Journal.resume(path, KEY, GENES, NAMES, parts).close()
    Journal.resume(path, KEY, GENES, NAMES).close()
    for others, words in (
        ({"seed": 3}, "had seed 0, and this one has 3; repeat what it had"),
        ({"model": "b" * 64}, "had model aaaaaaaa..., and this one has bbbbbbbb...;"),
        ({"widths": "2,4"}, "had widths 2-8, and this one has 2,4;"),
        ({"share": "gate"}, "had no share, and this one has gate;"),
        (dict.fromkeys(parts, 1), "had seed 0, and this one has 1; model"),
        (dict.fromkeys(parts, 1), "widths 2-8, and this one has 1; and more; repeat"),
    ):
        with pytest.raises(OutputError, match="cannot resume: ") as caught:
            Journal.resume(path, "other", GENES, NAMES, parts | others)
        assert words in str(caught.value)
    with pytest.raises(OutputError, match="its model, data or settings were others"):
        Journal.resume(path, "other", GENES, NAMES)
