"""The help of the command line: every flag is explained, every command has examples that parse."""

import os
import pty
import shlex
import subprocess
import sys
import time

import pytest

from onnxgru.cli import flags, main
from onnxgru.settings import toml
from onnxgru.settings.config import Config
from onnxgru.settings.declare import declared
from onnxgru.settings.manual import explained

PARSERS = flags.make()[1]
LONG = [command for command, parser in PARSERS.items() if parser.basic]
HEAVY = {"matplotlib", "numba", "numpy", "onnx", "onnx_ir", "onnxruntime", "pymoo", "rich", "torch"}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that ends with its help."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", PARSERS)
def test_every_flag_is_explained(command: str) -> None:
    for action in PARSERS[command]._actions:
        assert action.help and len(action.help) > 10, action


def test_help_of_settings_has_their_choices_and_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = " ".join(printed(capsys, "quantize", "--help-all").split())
    for one in declared(Config).values():
        assert one.flag in found and explained(one) in found
    assert "gate or channel (default: channel)" in found
    assert "at a time (default: one per core)" in found


@pytest.mark.parametrize("command", PARSERS)
def test_examples_are_understood(command: str) -> None:
    for line in flags.COMMANDS[command].examples:
        words = [word for word in shlex.split(line) if word not in (">", "settings.toml")]
        if words[-1] != "--config":
            assert flags.parse(words).command == command


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: onnxgru")
    assert all(command in captured.err for command in PARSERS)


@pytest.mark.parametrize("command", PARSERS)
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_help_ends_with_examples(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if flag == "--help" or command in LONG:
        examples = printed(capsys, command, flag).rpartition("\nexamples:\n")[2]
        assert examples.startswith(f"  onnxgru {command} ")


@pytest.mark.parametrize("command", PARSERS)
def test_help_fits_one_screen(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, command, "--help").splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80, len(lines)


def test_short_help_has_what_most_users_need(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "quantize", "--help")
    wanted = ["model", "--search", "--bits", "--scheme", "--calibration", "--validation"]
    wanted += ["--holdout", "--output", "--config", "--help-all"]
    assert [name for name in wanted if name not in text] == []
    assert "--population" not in text


def run(*command: str) -> str:
    """What a fresh interpreter prints."""
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    reader, writer = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *command], stdout=writer, stderr=subprocess.PIPE, env=environment
    ):
        os.close(writer)
        parts = []
        while True:
            try:
                part = os.read(reader, 65536)
            except OSError:  # the other side has closed it
                break
            if not part:
                break
            parts.append(part)
    os.close(reader)
    return b"".join(parts).decode()


def test_help_is_coloured_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    coloured = run("-m", "onnxgru", "quantize", "--help-all")
    assert "\x1b[" in coloured and "package.module:name" in coloured
    assert "fine-tuning:" in coloured and "Fine-Tuning" not in coloured
    assert "\x1b[" not in printed(capsys, "quantize", "--help-all")


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys\nfrom onnxgru.cli import main\n"
        "for words in (['--help'], ['--version'], ['quantize', '--help']):\n"
        "    try:\n        main(words)\n"
        "    except SystemExit as end:\n        assert not end.code\n"
        "print('MODULES', *sys.modules)"
    )
    begin = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    assert set(ran.stdout.partition("MODULES")[2].split()) & HEAVY == set()
    assert seconds < 2  # 0.15 s alone; the machine of a test may be busy


def test_config_prints_a_complete_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    assert capsys.readouterr().out == toml.template()
    assert main(["config", "--format", "json"]) == 0
    assert '"observer": "mse"' in capsys.readouterr().out
