"""The help of the command line: every flag is explained, every command has examples that parse."""

import argparse
import shlex

import pytest

from onnxgru import flags
from onnxgru.cli import main

PARSERS = flags._parser()[1]


@pytest.mark.parametrize("command", PARSERS)
def test_every_flag_is_explained(command: str) -> None:
    for action in PARSERS[command]._actions:
        assert action.help and len(action.help) > 10, action
        if action.option_strings and action.default is not None and not action.required:
            told = "default" in action.help or isinstance(
                action, argparse._StoreTrueAction | argparse._HelpAction
            )
            # Settings without a default of their own are told by their group, or by "where".
            assert told or action.default is argparse.SUPPRESS, action


@pytest.mark.parametrize("command", PARSERS)
def test_examples_are_understood(command: str) -> None:
    for line in flags.COMMANDS[command][2]:
        assert flags.parse(shlex.split(line)).command == command


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: onnxgru")
    assert all(command in captured.err for command in PARSERS)


@pytest.mark.parametrize("command", PARSERS)
def test_help_ends_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"examples:\n  onnxgru {command} " in capsys.readouterr().out
