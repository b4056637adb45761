"""The commands: what each takes, in which words, and examples."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnxgru.cli import options
from onnxgru.core import size
from onnxgru.core.errors import UsageError
from onnxgru.settings.config import Config
from onnxgru.settings.data import Data
from onnxgru.settings.declare import declared, dependent
from onnxgru.settings.finetuning import Finetuning
from onnxgru.settings.quantization import Quantization

_SETTINGS = declared(Config)
_DATA = "an .npz, .npy or .wav file, a folder of them, or package.module:name"


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


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="read settings from a TOML file; command-line flags take precedence",
    )


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file with GRU, LSTM or other layers")
    options.add_themes(parser, Config)
    _add_config(parser)


SENSITIVITY = (
    "widths",
    "jobs",
    *(name for name in declared(Quantization) if name not in ("bits", "scheme", "weights_file")),
    *(name for name in declared(Data) if name != "holdout"),
    "output",
    "force",
)
"""Settings that a measurement of sensitivity takes as flags."""


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file with GRU, LSTM or other layers")
    options.add_themes(
        parser,
        Config,
        SENSITIVITY,
        {
            "widths": "widths to measure, such as 2-7 or 2,4 (default: 2-7)",
            "jobs": "operators measured at a time (default: one per core)",
            "force": "replace an earlier measurement",
        },
    )
    _add_config(parser)


def _add_again(parser: argparse.ArgumentParser, default: str) -> None:
    """Flags of commands that go on from an output folder."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"folder for the results (default: {default})",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace results that are there; with -o FOLDER, those of the folder itself",
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="the float model, if it has moved"
    )
    for role in ("validation", "holdout"):
        parser.add_argument(
            f"--{role}", metavar="DATA", help=f"the {role} data, if they have moved"
        )


def _add_pick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the output folder of a search")
    choice = parser.add_argument_group("which member", "Give one of these.")
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
        help="the smallest member that is at most X below the best on validation data",
    )
    parser.add_argument(
        "--widen",
        action="store_true",
        help="widen operators with the bytes that --max-bytes leaves over",
    )
    options.add(parser, _SETTINGS["profile"])
    _add_again(parser, "member-NN in the folder, by its number")


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="an output folder")
    parser.add_argument(
        "--training-data", required=True, metavar="DATA", help=f"training data: {_DATA}"
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
    options.add_themes(parser, Finetuning, dependent(Finetuning))
    options.add(parser, _SETTINGS["seed"])


def _add_c(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="an output folder")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the sources (default: c in the folder)",
    )
    parser.add_argument("--force", action="store_true", help="replace sources that are there")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="the float model, if it has moved"
    )
    parser.add_argument(
        "--validation", metavar="DATA", help="the validation data, if they have moved"
    )


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file, also one that onnxgru wrote")
    options.add(parser, _SETTINGS["head"], "count the dense layers around the recurrent ones too")
    parser.set_defaults(head=False)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="model", help="ONNX files with the same inputs"
    )
    parser.add_argument(
        "--data", required=True, metavar="DATA", help=f"recordings to run them on: {_DATA}"
    )
    parser.add_argument(
        "--metric",
        default="auto",
        metavar="NAME",
        help="as for quantize; what needs a reference takes the first model's outputs "
        "(default: auto)",
    )
    options.add(parser, _SETTINGS["output_name"])
    parser.set_defaults(output_name=None)


def _place(text: str) -> tuple[str, str]:
    runtime, sign, path = text.partition("=")
    if not (runtime and sign and path):
        raise argparse.ArgumentTypeError(f"must be RUNTIME=PATH, got {text!r}")
    return runtime, path


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="an output folder, or an integer graph that onnxgru wrote"
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help=f"recordings to run: {_DATA} (default: the test data sets in the folder)",
    )
    parser.add_argument(
        "--runtime",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="runtimes to run it in, such as onnxruntime OpenVINO TVM, or c for the C code of a "
        "folder (default: all)",
    )
    parser.add_argument(
        "--at",
        action="extend",
        nargs="+",
        type=_place,
        default=[],
        metavar="RUNTIME=PATH",
        help="where a runtime is: the Python interpreter that has it, its program, or for "
        "onnxruntime-web the folder with node_modules (default: this Python and the PATH)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="time limit of each runtime (default: 120)",
    )


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


def _add_zoo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        help="digits-row, mnist-row, mnist-pixel, speech-4, speech-10, speech-10-lstm, "
        "speech-10-ligru, speech-10-sru, or a folder of .wav files with labels in their names",
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
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of everything that is random (default: 0)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="examples of each part, to try it (default: all)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="continue an interrupted training")
    how.add_argument("--data-only", action="store_true", help="only prepare the data, do not train")
    how.add_argument("--force", action="store_true", help="replace a model that is there")


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """A command.

    Parameters
    ----------
    about : str
        What it does.
    usage : str
        What stands behind its name.
    add : callable
        Adds its arguments to a parser.
    examples : tuple of str
        Lines that start with its name.
    basic : tuple of str, optional
        What its short help shows; everything where left out.
    """

    about: str
    usage: str
    add: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]
    basic: tuple[str, ...] = ()


_GENERAL = ("help", "help_all", "quiet")
_BASIC = (
    *(name for name, one in _SETTINGS.items() if one.basic),
    "config",
    *_GENERAL,
)

COMMANDS: dict[str, Command] = {
    "quantize": Command(
        "quantise the recurrent nodes (GRU, LSTM, ...) of a model",
        "model [options]",
        _add_quantize,
        (
            "quantize model.onnx --calibration recordings.npz --bits 8",
            "quantize model.onnx --search --max-drop 0.5",
            "quantize model.onnx --search --training-data train.npz -o small",
            "quantize model.onnx --recurrence step",
        ),
        _BASIC,
    ),
    "pick": Command(
        "write the files of another member of a front",
        "folder (--index | --max-bytes | --max-drop) X [options]",
        _add_pick,
        (
            "pick model-onnxgru --max-bytes 20k",
            "pick model-onnxgru --index 7 -o small",
            "pick model-onnxgru --max-bytes 20KiB --widen",
        ),
        ("index", "max_bytes", "max_drop", "widen", "profile", "output", "force", *_GENERAL),
    ),
    "finetune": Command(
        "fine-tune what an output folder holds",
        "folder --training-data DATA [options]",
        _add_finetune,
        (
            "finetune model-onnxgru --training-data train.npz",
            "finetune model-onnxgru --training-data train.npz --index 3 --epochs 20",
        ),
        ("training_data", "index", "epochs", "output", "force", "resume", *_GENERAL),
    ),
    "c": Command(
        "write the layers of an output folder as C99 for microcontrollers",
        "folder [options]",
        _add_c,
        ("c model-onnxgru", "c model-onnxgru -o firmware/network"),
    ),
    "sensitivity": Command(
        "measure what each operator alone costs at each width",
        "model [options]",
        _add_sensitivity,
        ("sensitivity model.onnx", "sensitivity model.onnx --widths 2,4 --validation val.npz"),
        ("widths", "jobs", *_BASIC),
    ),
    "inspect": Command(
        "list what can be quantised in a model, and what cannot",
        "model [options]",
        _add_inspect,
        ("inspect model.onnx", "inspect model-onnxgru/integer.onnx --format json"),
    ),
    "evaluate": Command(
        "compare models on the same data",
        "model [model ...] --data DATA [options]",
        _add_evaluate,
        ("evaluate model.onnx model-onnxgru/integer.onnx --data holdout.npz",),
    ),
    "verify": Command(
        "run an integer graph in every runtime that is installed, and compare all codes",
        "path [options]",
        _add_verify,
        (
            "verify model-onnxgru",
            "verify model-onnxgru --data holdout.npz --runtime onnxruntime OpenVINO",
            "verify integer.onnx --at TVM=venvs/tvm/bin/python --format json",
        ),
    ),
    "export": Command(
        "write a torch module as ONNX",
        "factory -o FILE [options]",
        _add_export,
        ("export network:make --weights w.pt -o model.onnx --input-shape 1,49,20",),
    ),
    "zoo": Command(
        "make a model to try things on, with its data",
        "task [options]",
        _add_zoo,
        ("zoo mnist-row -o models --data-only", "zoo recordings -o mine"),
    ),
    "config": Command(
        "print all settings as a TOML file with comments",
        "[options]",
        _add_nothing,
        ("config > settings.toml", "quantize model.onnx --config settings.toml"),
    ),
}
"""Commands by name."""
