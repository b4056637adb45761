"""How the command line is understood, what its help looks like, and what a wrong one is told."""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TextIO

from onnxgru import __version__
from onnxgru.cli.commands import COMMANDS
from onnxgru.core.errors import UsageError

_COLUMN = 26
"""Where explanations begin."""

_CHOICE = re.compile(r"argument command: invalid choice: '(.*?)'")


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations, raises `UsageError`, and suggests what may have been meant."""

    basic: tuple[str, ...] = ()
    """What short help shows; everything where empty."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise a sentence for what argparse refuses."""
        where = self.prog.partition(" ")[2]
        if found := _CHOICE.match(message):
            message = f"there is no command {found[1]!r}{_meant(found[1], COMMANDS)}"
        raise UsageError(f"{where + ': ' if where else ''}{message}; see {self.prog} --help")

    def known_flags(self) -> list[str]:
        """All flags of the command."""
        return list(self._option_string_actions)

    def format_help(self) -> str:
        """Help with what most users need."""
        return self._help(self.basic, sys.stdout)

    def format_all(self) -> str:
        """Help with everything, in groups."""
        return self._help((), sys.stdout)

    def format_for(self, stream: TextIO) -> str:
        """Help for a stream, in colour if that is a terminal."""
        return self._help(self.basic, stream)

    def _help(self, basic: Sequence[str], stream: TextIO) -> str:
        formatter = _formatter(self.prog, stream)
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        groups = [(g.title, g.description, g._group_actions) for g in self._action_groups]
        if basic:
            shown = [a for _, _, actions in groups[1:] for a in actions if a.dest in basic]
            title = "options that most users need; --help-all shows all"
            groups = [groups[0], (title, None, sorted(shown, key=lambda a: basic.index(a.dest)))]
        for heading, note, actions in groups:
            formatter.start_section(heading)
            formatter.add_text(note)
            formatter.add_arguments(actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


def _formatter(prog: str, stream: TextIO) -> argparse.HelpFormatter:
    """What lays out help: plain, but in colour on a terminal."""
    base: Any = argparse.RawDescriptionHelpFormatter
    if stream.isatty() and "NO_COLOR" not in os.environ:
        from rich_argparse import RawDescriptionRichHelpFormatter

        base = RawDescriptionRichHelpFormatter

    class Formatter(base):  # type: ignore[misc]  # one of two, chosen when it is needed
        help_markup = text_markup = False
        group_name_formatter = str  # as they are written

        def add_argument(self, action: argparse.Action) -> None:
            super().add_argument(action)
            self._action_max_length = _COLUMN - 2  # one column for all groups

    made: argparse.HelpFormatter = Formatter(prog, max_help_position=_COLUMN)
    return made


class _HelpAll(argparse.Action):
    """Print the help with everything, and end."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_values: object) -> NoReturn:
        assert isinstance(parser, Parser)
        sys.stdout.write(parser.format_all())
        parser.exit()


def _meant(text: str, known: Iterable[str]) -> str:
    names = list(known)
    close = get_close_matches(text, names, n=1)
    return f", did you mean {close[0]!r}" if close else f"; there are {', '.join(names)}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Understand the arguments of a command line.

    Raises
    ------
    UsageError
        If they are wrong.
    """
    words = sys.argv[1:] if arguments is None else arguments
    parser, commands = make(next((word for word in words if word in COMMANDS), None))
    parsed, left = parser.parse_known_args(arguments)
    if left:
        command = commands[parsed.command]
        flags = [name for name in command.known_flags() if name.startswith("--")]
        wrong = next((text for text in left if text.startswith("-")), left[0])
        hint = ""
        if wrong.startswith("-"):
            close = get_close_matches(wrong.split("=")[0], flags, n=1, cutoff=0.7)
            begun = [flag for flag in flags if flag.startswith(wrong.split("=")[0])]
            if meant := (begun if len(wrong) > 3 else []) or close:
                hint = f", did you mean {meant[0]}"
            elif owners := _owners(wrong.split("=")[0]):
                hint = f", it belongs to {' and '.join(f'onnxgru {name}' for name in owners)}"
        raise UsageError(
            f"{parsed.command}: unrecognized arguments: {' '.join(left)}{hint}; see "
            f"{command.prog} --help"
        )
    return parsed


def _owners(flag: str) -> list[str]:
    """The commands that have a flag."""
    _, commands = make()
    return [name for name, command in commands.items() if flag in command.known_flags()]


def usage() -> str:
    """The help that stands for no command at all."""
    return make()[0].format_for(sys.stderr)


def make(only: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """The parser of the command line, and those of its commands by name.

    Parameters
    ----------
    only : str, optional
        The command whose arguments are wanted; those of all commands where left out.
    """
    parser = Parser(
        prog="onnxgru",
        description="Shrink trained recurrent layers to verified integer ONNX graphs.",
        epilog="onnxgru COMMAND --help says more about a command, and ends with examples.\n"
        "Start with: onnxgru quantize model.onnx",
    )
    parser.add_argument("--version", action="version", version=f"onnxgru {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="command", parser_class=Parser
    )
    made: dict[str, Parser] = {}
    for name, command in COMMANDS.items():
        made[name] = one = commands.add_parser(
            name,
            add_help=False,  # it is added with the general options
            usage=f"onnxgru {name} {command.usage}",
            help=command.about,
            description=command.about[0].upper() + command.about[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  onnxgru {line}" for line in command.examples),
        )
        if only not in (None, name):
            continue
        one.basic = command.basic
        command.add(one)
        _add_general(one.add_argument_group("general options"), long=bool(command.basic))
    return parser, made


def _add_general(group: Any, *, long: bool) -> None:
    """Flags that every command has."""
    group.add_argument("-h", "--help", action="help", help="show this help, and end")
    if long:
        group.add_argument(
            "--help-all", action=_HelpAll, default=argparse.SUPPRESS, help="show all options"
        )
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, only warnings and results"
    )
    group.add_argument("-v", "--verbose", action="store_true", help="show a traceback on errors")
    group.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="form of the results on stdout (default: text)",
    )
