"""What the command line prints and where, how it starts, and what it says of other models."""

import io
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from onnxgru.cli import main
from onnxgru.cli.live import grown
from tests.journeys import (
    PLAIN,
    SHORT,
    copy_digits,
    environment,
    names,
    prepared,
    process,
    read,
    unfolded,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, with the digits model and its results."""
    yield from prepared(tmp_path_factory.mktemp("digits"))


# --- looking, comparing, exporting ---------------------------------------------------------------


@pytest.mark.parametrize("model", ["digits_row.onnx", "plain/integer.onnx", "plain/annotated.onnx"])
def test_inspect_shows_every_kind_of_model(place, capsys, model):
    assert main(["inspect", model]) == 0
    text = capsys.readouterr().out
    assert model in text and "reset.hidden" in text
    assert main(["inspect", model, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file_bytes"] == (place / model).stat().st_size
    assert found["quantized"] == model.startswith("plain")
    if found["quantized"]:
        assert found["sizes"] == read(place / "plain/report.json")["sizes"]
        assert len(found["operators"]) == 17
    else:
        assert len(found["layers"][0]["operators"]) == 17


def test_evaluate_compares_models(place, capsys):
    models = ["digits_row.onnx", "plain/integer.onnx", "plain/annotated.onnx"]
    command = ["evaluate", *models, "--data", "digits_row.holdout.npz"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert all(model in text for model in models) and "100 sequences" in text
    assert main([*command, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    quality = read(place / "plain" / "report.json")["quality"]["holdout"]
    rows = found["rows"]
    assert [row["quality"] for row in rows[:2]] == pytest.approx(
        [quality["float"], quality["integer"]], abs=1e-4
    )
    assert rows[0]["agreement_sqnr"] is None and rows[1]["agreement_sqnr"] > 10


def test_export_writes_a_torch_module(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.gru = torch.nn.GRU(3, 5, batch_first=True)\n"
        "        self.head = torch.nn.Linear(5, 2)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.gru(x)[0])\n"
    )
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    command = ["export", "small_net:Net", "-o", "net.onnx", "--input-shape", "1,7,3"]
    assert main([*command, "--format", "json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["path"] == "net.onnx" and done["operators"] == ["GRU"] and done["difference"] < 1e-5
    assert main(["quantize", "net.onnx", "-q", "--bits", "8"]) == 0
    assert names(tmp_path / "net-onnxgru") >= PLAIN


# --- how it prints -------------------------------------------------------------------------------


def test_json_is_alone_on_standard_output(place, capsys):
    ran = process(
        place, "quantize", "digits_row.onnx", "-o", "j", "--format", "json", "--bits", "5"
    )
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["folder"] == "j"
    assert document == {**read(place / "j" / "report.json"), "folder": "j"}
    assert "calibrating ..." in ran.stderr
    pick = ["pick", "short", "--index", "0", "-o", "picked"]
    assert main([*pick, "--format", "json", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["search"]["chosen"]["index"] == 0
    lines = unfolded(printed.err).splitlines()  # the smallest member has 2 bits nearly everywhere
    assert all(line.startswith("warning: ") for line in lines)
    assert "accuracy falls from" in lines[0] and "units of /gru are frozen" in lines[1]


def test_pipes_get_plain_lines(place):
    """Whatever the environment says of terminals."""
    settings = {"FORCE_COLOR": "1", "COLUMNS": "40"}
    ran = process(place, "quantize", "digits_row.onnx", "-o", "piped", *SHORT, **settings)
    assert ran.returncode == 0, ran.stderr
    lines = [*ran.stdout.splitlines(), *ran.stderr.splitlines()]
    assert not [line for line in lines if "\x1b" in line or "\r" in line or line != line.rstrip()]
    assert "generation 4/4, 32/32 schemes" in ran.stderr
    # Rows of tables are never folded, sentences always.
    assert any(line.startswith("uniform 8 ") and line.endswith(" %") for line in lines)
    assert max(map(len, ran.stdout.splitlines())) <= 80


def terminal(place: Path, *arguments: str, columns: int = 80, **settings: str) -> tuple[int, str]:
    """Exit code and output of a run on a terminal of a width."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    leader, follower = pty.openpty()
    size = (24).to_bytes(2, sys.byteorder) + columns.to_bytes(2, sys.byteorder) + bytes(4)
    fcntl.ioctl(follower, termios.TIOCSWINSZ, size)
    running = subprocess.Popen(
        [sys.executable, "-m", "onnxgru", *arguments],
        cwd=place,
        env=environment(TERM="xterm-256color", **settings),
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    parts: list[bytes] = []
    while select.select([leader], [], [], 60)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return running.wait(timeout=60), b"".join(parts).decode()


def widest(text: str) -> int:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return max(len(line) for line in re.split(r"[\r\n]+", plain))


def test_terminals_of_80_columns_see_progress_and_whole_lines(place):
    shutil.rmtree(place / "seen", ignore_errors=True)
    code, text = terminal(place, "quantize", "digits_row.onnx", "-o", "seen", *SHORT)
    assert code == 0, text
    assert "\x1b[" in text and "searching" in text and "generation" in text
    assert widest(text) <= 80
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]
    result = lines[next(n for n, line in enumerate(lines) if "number  flash bytes" in line) :]
    assert len(result) < 24, result
    assert "chosen: number" in text and "report.md first" in result[-1]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def seen(monkeypatch: pytest.MonkeyPatch, *command: str, **settings: str) -> str:
    """Output of a command in this process on a terminal of 80 columns."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", screen)
        assert main(command) == 0
    return screen.getvalue()


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "digits_row.onnx"),
        ("inspect", "plain/integer.onnx"),
        ("evaluate", "digits_row.onnx", "plain/integer.onnx", "--data", "digits_row.holdout.npz"),
    ],
)
def test_tables_fit_80_columns(place, monkeypatch, command):
    text = seen(monkeypatch, *command)
    assert text.strip() and widest(text) <= 80, text


@pytest.mark.parametrize("settings", [{}, {"NO_COLOR": "1"}], ids=str)
def test_no_color_is_respected(place, monkeypatch, settings):
    shutil.rmtree(place / "seen", ignore_errors=True)
    text = seen(monkeypatch, "quantize", "digits_row.onnx", "-o", "seen", *SHORT, **settings)
    colours = re.findall(r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;[0-9]+)*m", text)
    assert "searching" in text and bool(colours) == (not settings)


# --- how it starts -------------------------------------------------------------------------------


def median_seconds(command: Sequence[str]) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def test_help_answers_at_once():
    """Under 0.3 s; on a busy or slow machine, within ten bare starts of Python."""
    bare = median_seconds(["-c", "pass"])
    assert median_seconds(["-m", "onnxgru", "--help"]) < max(0.3, 10 * bare)


# --- real models ---------------------------------------------------------------------------------

REAL = ("rnnoise_somnolent_hogwash", "nsnetv2_converted", "gtcrn_simple")


@pytest.mark.skipif(
    "ONNXGRU_DATA" not in os.environ, reason="ONNXGRU_DATA, a folder with models/*.onnx, is unset"
)
@pytest.mark.parametrize("name", REAL)
def test_real_models_are_quantised_or_refused_in_one_sentence(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    model = Path(os.environ["ONNXGRU_DATA"]) / "models" / f"{name}.onnx"
    if not model.is_file():
        pytest.skip(f"{model} is missing")
    assert main(["inspect", str(model)]) == 0
    capsys.readouterr()
    code = main(["quantize", str(model), "--bits", "8", "-o", "out"])
    told = capsys.readouterr().err
    assert "defect of onnxgru" not in told
    if code:
        assert code == 1 and unfolded(told).splitlines()[-1].startswith("onnxgru: ")
        assert not (tmp_path / "out").exists()
    else:
        assert names(tmp_path / "out") >= PLAIN - {"test_data_set_0/input_0.pb"}


def test_front_grows_by_what_nothing_else_beats():
    front: list[tuple[float, float]] = []
    for member, kept in (
        ((10, 90), [(10, 90)]),
        ((20, 90), [(10, 90)]),  # larger for nothing
        ((20, 95), [(10, 90), (20, 95)]),
        ((5, 80), [(5, 80), (10, 90), (20, 95)]),
        ((8, 92), [(5, 80), (8, 92), (20, 95)]),
        ((5, 99), [(5, 99)]),
    ):
        front = grown(front, member)
        assert front == kept


def test_any_path_in_the_c_locale(tmp_path):
    """Also where Python may not fall back to UTF-8; what is written is UTF-8."""
    place = tmp_path / "мой путь"
    place.mkdir()
    copy_digits(place, 60)
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = process(
        place, "quantize", "../мой путь/digits_row.onnx", "-o", "мой out", *SHORT, **settings
    )
    assert ran.returncode == 0, ran.stderr
    assert "onnxgru pick 'мой out' --index N" in ran.stdout
    assert read(place / "мой out/report.json")["model"]["path"] == str(place / "digits_row.onnx")
    ran = process(place, "pick", "мой out", "--index", "0", "-q", **settings)
    assert ran.returncode == 0, ran.stderr
    assert r"\u043c\u043e\u0439 out" in (place / "мой out/member-00/report.html").read_text("utf-8")
