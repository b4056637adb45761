"""What the command line takes: commands, flags, their help, and what to say to a wrong one.

Nothing is abbreviated, and nothing but argparse is imported.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from onnxgru import __version__, options
from onnxgru.core import size
from onnxgru.core.errors import UsageError

_CHOICE = re.compile(r"argument command: invalid choice: '(.*?)'")


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations, raises `UsageError`, and suggests what may have been meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings
        )

    def error(self, message: str) -> NoReturn:
        """Raise a sentence for what argparse refuses."""
        where = self.prog.partition(" ")[2]
        if found := _CHOICE.match(message):
            message = f"there is no command {found[1]!r}{_meant(found[1], COMMANDS)}"
        raise UsageError(f"{where + ': ' if where else ''}{message}; see {self.prog} --help")


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
    parser, commands = _parser()
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
        raise UsageError(
            f"{parsed.command}: unrecognized arguments: {' '.join(left)}{hint}; see "
            f"{command.prog} --help"
        )
    return parsed


def usage() -> str:
    """The help that stands for no command at all."""
    return _parser()[0].format_help()


class _Command(Parser):
    def known_flags(self) -> list[str]:
        """All flags of the command."""
        return list(self._option_string_actions)


def _parser() -> tuple[Parser, dict[str, _Command]]:
    parser = Parser(
        prog="onnxgru",
        description="Shrink trained GRUs to verified integer ONNX graphs, each operator at its "
        "own bit-width.",
        epilog="onnxgru COMMAND --help says more. Start with: onnxgru quantize model.onnx",
    )
    parser.add_argument("--version", action="version", version=f"onnxgru {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="command", parser_class=_Command
    )
    common = _Command(add_help=False)
    common.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, only warnings and results"
    )
    common.add_argument("-v", "--verbose", action="store_true", help="show a traceback on errors")
    common.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="form of the results on stdout (default text)",
    )
    made = {}
    for name, (help_text, add, examples) in COMMANDS.items():
        made[name] = commands.add_parser(
            name,
            parents=[common],
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  onnxgru {line}" for line in examples),
        )
        add(made[name])
    return parser, made


def _size(text: str) -> int:
    try:
        return size.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"a shape must be sizes such as 1,28,28, got {text!r}"
        ) from error


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(settings=True)
    parser.add_argument("model", type=Path, help="an ONNX file with float GRUs")
    what = parser.add_argument_group("what to do", "One of these; uniform 8 bits by default.")
    options.add(
        what, "--bits", type=int, metavar="N", help="all weights and outputs at N bits, 2 to 8"
    )
    options.add(
        what, "--scheme", metavar="JSON", help="widths of every operator from a scheme.json"
    )
    options.add(
        what,
        "--search",
        action="store_true",
        help="search for widths: the Pareto front of accuracy and flash bytes",
    )
    options.add(
        what,
        "--weights-file",
        metavar="NPZ",
        help="with --scheme: integers of its weights from a finetuned.weights.npz",
    )
    options.add_data(parser, "calibration", "validation", "holdout")
    output = parser.add_argument_group("output")
    options.add(output, "-o", "--output", help=options.OUTPUT.format(default="<model>-onnxgru"))
    options.add(
        output, "--force", action="store_true", help="replace the results in an existing folder"
    )
    options.add(
        output,
        "--resume",
        action="store_true",
        help="continue an interrupted search or fine-tuning in its folder",
    )
    options.add(
        output,
        "--recurrence",
        help="form of the graph: scan (default) takes any length, step is called once per step "
        "with the state as input and output, unrolled has no loop",
    )
    options.add(
        output,
        "--steps",
        type=int,
        metavar="T",
        help="length of the unrolled form (default: the model's)",
    )
    options.add(
        output,
        "--float-state",
        action="store_true",
        help="step form: states outside are float32 (default: integer codes)",
    )
    options.add(
        output,
        "--verify",
        type=int,
        metavar="N",
        help="sequences compared bit for bit with the reference implementation, an unrolled graph "
        "for a minute at most (default 256)",
    )
    options.add_how(parser)
    options.add_search(parser)
    tuning = parser.add_argument_group(
        "fine-tuning of the scheme", f"Needs torch ({options.INSTALL.format(extra='torch')})."
    )
    options.add(tuning, "--finetune", metavar="DATA", help="training data, as for --calibration")
    options.add(
        tuning,
        "--finetune-candidates",
        action="store_true",
        help="judge every candidate of --search fine-tuned (default: only the chosen member is)",
    )
    options.add_tuning(tuning)
    parser.add_argument("--config", type=Path, metavar="FILE", help=options.CONFIG)


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file with float GRUs")
    what = parser.add_argument_group("what to measure")
    options.add(
        what, "--widths", metavar="2-7", help="widths to measure, also as 2,4 (default 2-7)"
    )
    options.add(
        what,
        "--jobs",
        type=int,
        metavar="N",
        help="operators measured at a time (default: one per core)",
    )
    options.add_data(parser, "calibration", "validation")
    output = parser.add_argument_group("output")
    options.add(output, "-o", "--output", help=options.OUTPUT.format(default="<model>-onnxgru"))
    options.add(output, "--force", action="store_true", help="replace an earlier measurement")
    options.add_how(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help=options.CONFIG)


def _add_again(parser: argparse.ArgumentParser, default: str) -> None:
    """Flags of commands that go on from an output folder."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help=options.OUTPUT.format(default=default)
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace results that are there; with -o FOLDER, those of the folder itself",
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="the float model, where it has moved"
    )
    for role in ("validation", "holdout"):
        parser.add_argument(
            f"--{role}", metavar="DATA", help=f"the {role} data, where they have moved"
        )


def _add_pick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the output folder of a search")
    choice = parser.add_argument_group("which member", "One of these.")
    choice.add_argument("--index", type=int, metavar="N", help="its number in front.csv")
    choice.add_argument(
        "--max-bytes",
        type=_size,
        metavar="SIZE",
        help="the most accurate member of at most SIZE flash bytes: 6,013, 20k, 20 kB, 20KiB",
    )
    choice.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="the smallest member at most X below the best figure on validation",
    )
    parser.add_argument(
        "--widen",
        action="store_true",
        help="use the bytes left over from --max-bytes to widen operators",
    )
    _add_again(parser, "member-NN in the folder, by its number")


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="an output folder")
    parser.add_argument(
        "--train", required=True, metavar="DATA", help=options.DATA.format(what="training data")
    )
    parser.add_argument(
        "--index",
        type=int,
        metavar="N",
        help="a member of its front (default: the scheme whose files are in the folder)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FOLDER",
        help="start from the weights of an earlier fine-tuning (default: those of the model)",
    )
    _add_again(parser, "finetuned, or member-NN-finetuned, in the folder")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted fine-tuning")
    how = parser.add_argument_group(
        "how", f"Needs torch ({options.INSTALL.format(extra='torch')})."
    )
    options.add_tuning(how)
    options.add(how, "--seed", type=int, metavar="N", help=options.SEED)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file, also one that onnxgru wrote")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="model", help="ONNX files with the same inputs"
    )
    parser.add_argument(
        "--data", required=True, help=options.DATA.format(what="recordings to run them on")
    )
    parser.add_argument(
        "--metric",
        default="auto",
        help="as for quantize; what needs a reference takes the first model's outputs "
        "(default auto)",
    )
    parser.add_argument("--output-name", metavar="NAME", help=options.OUTPUT_NAME)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "factory", help="package.module:name of a torch module, or of what returns one"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="ONNX file to write"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a state dict to load into the module (default: the module as it is)",
    )
    parser.add_argument(
        "--input-shape",
        type=_shape,
        metavar="1,28,28",
        help="shape of an example input, batch included (default: the module's example_inputs)",
    )
    parser.add_argument(
        "--dynamic-time",
        action="store_true",
        help="let the graph take any number of steps (default: that of the example)",
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        help="digits-row, mnist-row, mnist-pixel, speech-4, speech-10, or a folder of .wav files "
        "with labels in their names",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="folder for the model and its data (default: the current one)",
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the data (default: the recipe's)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help=options.SEED)
    parser.add_argument(
        "--limit", type=int, metavar="N", help="examples of each part, to try it (default: all)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="continue an interrupted training")
    how.add_argument("--data-only", action="store_true", help="only prepare the data, do not train")


_Add = Callable[[argparse.ArgumentParser], None]

COMMANDS: dict[str, tuple[str, _Add, tuple[str, ...]]] = {
    "quantize": (
        "quantise the GRUs of a model",
        _add_quantize,
        (
            "quantize model.onnx --calibration recordings.npz --bits 8",
            "quantize model.onnx --search --max-drop 0.5",
            "quantize model.onnx --search --finetune train.npz -o small",
            "quantize model.onnx --recurrence step",
        ),
    ),
    "pick": (
        "write the files of another member of a front",
        _add_pick,
        (
            "pick model-onnxgru --max-bytes 20k",
            "pick model-onnxgru --index 7 -o small",
            "pick model-onnxgru --max-bytes 20KiB --widen",
        ),
    ),
    "finetune": (
        "fine-tune what an output folder holds",
        _add_finetune,
        (
            "finetune model-onnxgru --train train.npz",
            "finetune model-onnxgru --train train.npz --index 3 --epochs 20 --averaging 0.998",
        ),
    ),
    "sensitivity": (
        "measure what each operator alone costs at each width",
        _add_sensitivity,
        ("sensitivity model.onnx", "sensitivity model.onnx --widths 2,4 --validation val.npz"),
    ),
    "inspect": (
        "list the GRUs of a model, and what cannot be quantised",
        _add_inspect,
        ("inspect model.onnx", "inspect model-onnxgru/integer.onnx --format json"),
    ),
    "evaluate": (
        "compare models on the same data",
        _add_evaluate,
        ("evaluate model.onnx model-onnxgru/integer.onnx --data holdout.npz",),
    ),
    "export": (
        "write a torch module as ONNX",
        _add_export,
        ("export network:make --weights weights.pt -o model.onnx --input-shape 1,49,20",),
    ),
    "train": (
        "make a model to try things on, with its data",
        _add_train,
        ("train mnist-row -o models --data-only", "train recordings -o mine"),
    ),
}
"""Commands by name: what they do, what adds their flags, and examples."""
