"""Sentences on standard error: lines of 80 columns, paths in one piece."""

import io
import sys

import pytest

from onnxgru.cli import main
from onnxgru.cli.live import Progress
from onnxgru.events import Notice, Stage
from tests.journeys import unfolded

SENTENCE = " ".join(["no recording", "of these", "says anything"] * 8)


class Narrow(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1 and all(len(line) <= 80 for line in lines)
    return unfolded("\n".join(lines)).splitlines()


def test_warnings_and_stages(capsys):
    with Progress() as progress:
        progress(Notice(SENTENCE))
        progress(Stage(SENTENCE))
    assert told(capsys) == [f"warning: {SENTENCE}", f"{SENTENCE} ..."]


def test_errors(capsys):
    assert main(["pick", "nowhere", "--max-bytes", "20q"]) == 2
    (line,) = told(capsys)
    assert line.startswith("onnxgru: ") and "20q" in line


def test_a_long_path_stays_in_one_piece(capsys):
    path = "folder-of-recordings/" * 8 + "m.onnx"
    assert main(["inspect", path]) == 1
    assert path in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_sets_a_narrower_width(monkeypatch, columns):
    stream = Narrow()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    Progress()(Notice(SENTENCE))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= min(columns, 80)
    assert unfolded(stream.getvalue()).strip() == f"warning: {SENTENCE}"


@pytest.mark.parametrize(("command", "resumes"), [("inspect", False), ("quantize", True)])
def test_an_interrupted_command_names_resume_where_it_has_it(monkeypatch, capsys, command, resumes):
    def interrupted(_parsed):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules["onnxgru.cli.run"]._COMMANDS, command, interrupted)
    assert main([command, "m.onnx"]) == 130
    assert ("--resume" in capsys.readouterr().err) == resumes
