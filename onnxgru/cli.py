"""The command line: ``onnxgru quantize``, ``pick``, ``finetune``, ``train`` and others.

Results go to stdout, progress and warnings to stderr. Exit code 0: done; 1: it failed; 2: it was
called wrongly. Nothing but argparse is imported before the arguments are understood.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from onnxgru import __version__
from onnxgru.core.errors import OnnxgruError, OutputError, UsageError

_METRIC = "auto (default), accuracy, macro_f1, agreement, sqnr, si_sdr or module:fn"
_OUTPUT = "model output that is judged, or several: score,mask (default: see the report)"
_UNITS = {"": 1, "k": 1000, "ki": 1024, "m": 1_000_000, "mi": 2**20}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def _size(text: str) -> int:
    """``20k`` as 20000, ``20Ki`` as 20480."""
    number = text.lower().removesuffix("b")
    digits = number.rstrip("kmi")
    try:
        return int(float(digits) * _UNITS[number[len(digits) :]])
    except (ValueError, KeyError) as error:
        raise argparse.ArgumentTypeError(
            f"a size must be a number of bytes such as 20480, 20k or 20Ki, got {text!r}"
        ) from error


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"a shape must be sizes such as 1,28,28, got {text!r}"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="onnxgru",
        description="Shrink trained GRUs to verified integer ONNX graphs, each operator at its "
        "own bit-width.",
    )
    parser.add_argument("--version", action="version", version=f"onnxgru {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    common = _Parser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true", help="no progress, only results")
    common.add_argument("-v", "--verbose", action="store_true", help="a traceback on errors")
    common.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the results on stdout"
    )
    _add_quantize(commands.add_parser("quantize", parents=[common], help="quantise a model"))
    _add_pick(commands.add_parser("pick", parents=[common], help="write another member of a front"))
    _add_finetune(
        commands.add_parser("finetune", parents=[common], help="fine-tune what a folder holds")
    )
    _add_sensitivity(
        commands.add_parser("sensitivity", parents=[common], help="what each operator alone costs")
    )
    inspect = commands.add_parser("inspect", parents=[common], help="look at a model")
    inspect.add_argument("model", type=Path)
    evaluate = commands.add_parser("evaluate", parents=[common], help="compare models on data")
    evaluate.add_argument("models", type=Path, nargs="+", metavar="model")
    evaluate.add_argument("--data", required=True, help=".npz, .npy, folder or package.module:fn")
    evaluate.add_argument("--metric", default="auto", help=_METRIC)
    evaluate.add_argument("--output-name", metavar="NAME", help=_OUTPUT)
    _add_export(
        commands.add_parser("export", parents=[common], help="write a torch module as ONNX")
    )
    _add_train(commands.add_parser("train", parents=[common], help="make a model of the zoo"))
    return parser


def _add_setting(group: argparse._ArgumentGroup, *names: str, **settings: object) -> None:
    """Add an option that is left out of the namespace unless given."""
    # argparse's keywords have types of their own, which a mapping cannot tell apart.
    group.add_argument(*names, default=argparse.SUPPRESS, **settings)  # type: ignore[arg-type]


def _add_data(parser: argparse.ArgumentParser, *roles: str) -> None:
    add = _add_setting
    data = parser.add_argument_group("data (<model>.<role>.npz beside the model by default)")
    for role in roles:
        add(data, f"--{role}", metavar="DATA", help=".npz, .npy, folder or package.module:fn")
    add(data, "--calibration-file", metavar="JSON", help="use this instead of calibrating")
    add(data, "--metric", help=_METRIC)
    add(data, "--output-name", metavar="NAME", help=_OUTPUT)


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = _add_setting
    how = parser.add_argument_group("quantisation")
    add(how, "--granularity", help="weight scales: channel (default), gate or tensor")
    add(how, "--observer", help="ranges: mse (default), minmax, percentile or entropy")
    add(
        how, "--ranges", help="saturating (default): know where functions saturate (with mse); "
        "aligned: and put what is added up to a state on its grid; plain: neither",
    )  # fmt: skip
    add(how, "--rounding", help="of weights: gptq (default) or nearest")
    add(how, "--bias-correction", action="store_true", help="of the mean error of rounded weights")
    add(how, "--input-bits", type=int, metavar="N", help="width of what a layer reads (8)")
    add(how, "--accumulator-bits", type=int, metavar="N", help="refuse wider accumulators (32)")
    add(how, "--include", action="append", metavar="NODE", help="only these GRU nodes (pattern)")
    add(how, "--exclude", action="append", metavar="NODE", help="not these GRU nodes (pattern)")


def _add_tuning(group: argparse._ArgumentGroup) -> None:
    add = _add_setting
    add(group, "--epochs", type=int, metavar="N", help="10")
    add(group, "--teacher-epochs", type=int, metavar="N", help="of them, for an 8-bit teacher (0)")
    add(group, "--batch-size", type=int, metavar="N", help="64")
    add(group, "--learning-rate", type=float, metavar="X", help="0.001")
    add(group, "--distillation", type=float, metavar="X", help="the teacher's share (0.5)")
    add(group, "--learned-scales", help="weights (default), all or none")
    add(group, "--averaging", type=float, metavar="X", help="running average of weights (0: none)")


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="an output folder")
    parser.add_argument("--train", required=True, metavar="DATA", help="training data")
    parser.add_argument("--index", type=int, metavar="N", help="another member of its front")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="start from its weights")
    parser.add_argument("--model", type=Path, help="the source model, where it has moved")
    parser.add_argument("--resume", action="store_true", help="go on where it was killed")
    how = parser.add_argument_group("how (needs onnxgru[torch])")
    _add_tuning(how)
    _add_setting(how, "--seed", type=int, metavar="N", help="of the order of the data (0)")


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file with float GRUs")
    add = _add_setting
    what = parser.add_argument_group("what to measure")
    add(what, "--widths", metavar="2-7", help="widths to measure, also as 2,4 (2-7)")
    add(what, "--jobs", type=int, metavar="N", help="operators at a time (one a core)")
    _add_data(parser, "calibration", "validation")
    output = parser.add_argument_group("output")
    add(output, "-o", "--output", help="folder, <model>-onnxgru by default")
    add(output, "--force", action="store_true", help="replace an earlier measurement")
    _add_how(parser)
    parser.add_argument("--config", type=Path, metavar="TOML", help="settings; flags go before it")


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    """Flags are left out of the namespace unless given, so that they go before ``--config``."""
    parser.set_defaults(settings=True)
    parser.add_argument("model", type=Path, help="an ONNX file with float GRUs")

    add = _add_setting
    what = parser.add_argument_group("what to do (uniform 8 bits by default)")
    add(what, "--bits", type=int, metavar="N", help="all weights and outputs at N bits, 2 to 8")
    add(what, "--scheme", help="widths from a scheme.json")
    add(what, "--search", action="store_true", help="search for widths with NSGA-II")
    add(what, "--weights-file", metavar="NPZ", help="fine-tuned integers of the scheme's weights")
    _add_data(parser, "calibration", "validation", "holdout")
    output = parser.add_argument_group("output")
    add(output, "-o", "--output", help="folder, <model>-onnxgru by default")
    add(output, "--force", action="store_true", help="replace the results in an existing folder")
    add(
        output,
        "--resume",
        action="store_true",
        help="continue an interrupted search or fine-tuning",
    )
    add(output, "--recurrence", help="scan (default), step or unrolled")
    add(output, "--steps", type=int, metavar="T", help="length of the unrolled form")
    add(output, "--float-state", action="store_true", help="step form: float32 states outside")
    add(output, "--verify", type=int, metavar="N", help="sequences compared with the oracle (256)")
    _add_how(parser)
    search = parser.add_argument_group("search")
    add(search, "--population", type=int, metavar="N", help="40")
    add(search, "--generations", type=int, metavar="N", help="20")
    add(search, "--seed", type=int, metavar="N", help="0")
    add(search, "--jobs", type=int, metavar="N", help="candidates at a time (one a core)")
    add(search, "--device", help="evaluate candidates on cpu (default), cuda or cuda:N")
    add(search, "--scheduler", metavar="ADDRESS", help="workers of Dask, tcp://host:port")
    add(search, "--genome", help="split (default): weights and outputs apart; coupled: tied")
    add(search, "--search-inputs", action="store_true", help="input widths get genes too")
    add(search, "--widths", metavar="2-8", help="widths that genes may take, also as 2,4,8")
    add(search, "--genes", help="bits (default), and observer and granularity: bits,observer")
    add(search, "--share", help="genes in common: none (default), layer, kind or gate")
    add(search, "--objectives", help="error,flash (default); also weights, bitops, cost:TABLE.toml")
    add(search, "--strategy", help="explore-exploit (default) or plain NSGA-II")
    add(
        search, "--max-drop", type=float, metavar="X", help="how far the chosen member may fall "
        "below the best: 0.5 points, 3 dB against the float model, 0.5 dB against targets",
    )  # fmt: skip
    tuning = parser.add_argument_group("fine-tuning of the scheme (needs onnxgru[torch])")
    add(tuning, "--finetune", metavar="DATA", help="training data")
    add(
        tuning,
        "--finetune-candidates",
        action="store_true",
        help="judge every candidate of --search fine-tuned, not only the member chosen",
    )
    _add_tuning(tuning)
    parser.add_argument("--config", type=Path, metavar="TOML", help="settings; flags go before it")


def _add_pick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the output folder of a search")
    choice = parser.add_argument_group("which member (one of)")
    choice.add_argument("--index", type=int, metavar="N", help="its number in front.csv")
    choice.add_argument("--max-bytes", type=_size, metavar="SIZE", help="the best of at most, 20k")
    choice.add_argument("--max-drop", type=float, metavar="X", help="the smallest of at most")
    parser.add_argument(
        "--widen", action="store_true", help="spend what is left of --max-bytes on wider operators"
    )
    parser.add_argument("--model", type=Path, help="the source model, where it has moved")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("factory", help="package.module:factory of a torch module")
    parser.add_argument("-o", "--output", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--weights", type=Path, help="state dict, read with weights_only")
    parser.add_argument("--input-shape", type=_shape, metavar="1,28,28")
    parser.add_argument("--dynamic-time", action="store_true", help="any number of steps")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", help="digits-row, mnist-row, mnist-pixel, speech-4 or speech-10")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), help="folder, the current one by default"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="the recipe's by default")
    parser.add_argument("--seed", type=int, metavar="N", help="0")
    parser.add_argument("--limit", type=int, metavar="N", help="examples of each part, to try it")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on where a training was killed")
    how.add_argument("--data-only", action="store_true", help="for a model that is there already")


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Settings of the configuration file, if any, and of the flags, which go before it."""
    from onnxgru import config

    names = {field for field in config.Config.__dataclass_fields__ if hasattr(arguments, field)}
    settings = config.load(arguments.config) if arguments.config is not None else {}
    if names.intersection(config.TASKS):  # what to do is one choice, whoever makes it
        others = config.TASKS if "search" in names else (*config.TASKS, "scheduler")
        settings = {name: v for name, v in settings.items() if name not in others}
    return settings | {
        name: tuple(value) if isinstance(value := getattr(arguments, name), list) else value
        for name in names
    }


def _quantize(arguments: argparse.Namespace) -> None:
    from onnxgru import api, config, terminal

    settings: dict[str, Any] = _settings(arguments)
    wanted = config.Config(**settings)
    for task, others in (("search", config.OF_SEARCH), ("finetune", config.OF_FINETUNING)):
        given = [name for name in others if hasattr(arguments, name)]
        if given and not settings.get(task):
            flag = "--" + given[0].replace("_", "-")
            raise UsageError(f"{flag} says how to {task}; give --{task} too, or leave out {flag}")
    with terminal.Progress(quiet=arguments.quiet) as progress:
        result = api.quantize(arguments.model, wanted, listener=progress)
    _print_result(result, arguments)


def _sensitivity(arguments: argparse.Namespace) -> None:
    from onnxgru import api, config, terminal

    # A file may be for quantize as well.
    others = (*config.TASKS, "resume", "device", "scheduler", "finetune", "weights_file")
    settings: dict[str, Any] = {
        name: value for name, value in _settings(arguments).items() if name not in others
    }
    with terminal.Progress(quiet=arguments.quiet) as progress:
        done = api.measure_sensitivity(
            arguments.model, config.Config(**settings), listener=progress
        )
    _show(
        arguments,
        lambda: done.sensitivity.document | {"folder": str(done.folder)},
        lambda: terminal.show_sensitivity(done),
    )


def _pick(arguments: argparse.Namespace) -> None:
    from onnxgru import api, terminal

    with terminal.Progress(quiet=arguments.quiet) as progress:
        result = api.pick(
            arguments.folder,
            index=arguments.index,
            max_bytes=arguments.max_bytes,
            max_drop=arguments.max_drop,
            widen=arguments.widen,
            model=arguments.model,
            listener=progress,
        )
    _print_result(result, arguments)


def _finetune(arguments: argparse.Namespace) -> None:
    from onnxgru import api, config, terminal

    settings: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (*config.OF_FINETUNING, "seed")
        if hasattr(arguments, name)
    }
    with terminal.Progress(quiet=arguments.quiet) as progress:
        result = api.finetune(
            arguments.folder,
            arguments.train,
            index=arguments.index,
            settings=settings,
            start=arguments.start,
            model=arguments.model,
            resume=arguments.resume,
            listener=progress,
        )
    _print_result(result, arguments)


def _print_result(result: "object", arguments: argparse.Namespace) -> None:
    from onnxgru import terminal
    from onnxgru.output import Result

    assert isinstance(result, Result)
    _show(
        arguments,
        lambda: result.report | {"folder": str(result.folder)},
        lambda: terminal.show_result(result),
    )


def _show(
    arguments: argparse.Namespace, document: Callable[[], object], text: Callable[[], None]
) -> None:
    """Print results in the form asked for."""
    try:
        if arguments.format == "json":
            sys.stdout.write(json.dumps(document(), indent=2, default=str) + "\n")
        else:
            text()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise OutputError(
            f"standard output: cannot be written to ({error.strerror}), although the command "
            "itself succeeded; send its results elsewhere"
        ) from error


def _discard_output() -> None:
    """Let go of a standard output that takes no more, or Python tries again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _inspect(arguments: argparse.Namespace) -> None:
    from onnxgru import terminal
    from onnxgru.inspection import inspect

    found = inspect(arguments.model)
    _show(arguments, lambda: asdict(found), lambda: terminal.show_inspection(found))


def _evaluate(arguments: argparse.Namespace) -> None:
    from onnxgru import terminal
    from onnxgru.comparison import evaluate

    found = evaluate(arguments.models, arguments.data, arguments.metric, arguments.output_name)
    _show(arguments, lambda: asdict(found), lambda: terminal.show_comparison(found))


def _export(arguments: argparse.Namespace) -> None:
    from onnxgru import terminal
    from onnxgru.training.export import export

    done = export(
        arguments.factory,
        arguments.output,
        weights=arguments.weights,
        shape=arguments.input_shape,
        dynamic_time=arguments.dynamic_time,
    )
    _show(arguments, lambda: asdict(done), lambda: terminal.show_export(done))


def _train(arguments: argparse.Namespace) -> None:
    from onnxgru import terminal
    from onnxgru.models.make import make, make_data
    from onnxgru.models.zoo import TASKS

    task = TASKS.get(arguments.task)
    if task is None:
        raise UsageError(f"task {arguments.task!r}: must be one of {', '.join(TASKS)}")
    given = {name: getattr(arguments, name) for name in ("epochs", "seed")}
    recipe = replace(task.recipe, **{name: v for name, v in given.items() if v is not None})
    folder, limit = arguments.output, arguments.limit
    with terminal.Progress(quiet=arguments.quiet) as progress:
        if arguments.data_only:
            record = make_data(task, folder, progress, recipe=recipe, limit=limit)
        else:
            record = make(
                task, folder, progress, recipe=recipe, limit=limit, resume=arguments.resume
            )
    _show(arguments, lambda: record, lambda: terminal.show_training(record, folder))


_COMMANDS = {
    "quantize": _quantize,
    "pick": _pick,
    "finetune": _finetune,
    "sensitivity": _sensitivity,
    "inspect": _inspect,
    "evaluate": _evaluate,
    "export": _export,
    "train": _train,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The process's own where left out.

    Returns
    -------
    int
        Exit code: 0 done, 1 it failed, 2 it was called wrongly.
    """
    verbose = False
    try:
        parsed = _parser().parse_args(arguments)
        verbose = parsed.verbose
        _COMMANDS[parsed.command](parsed)
    except OnnxgruError as error:
        if verbose:
            raise
        sys.stderr.write(f"onnxgru: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("onnxgru: interrupted; a search or a training continues with --resume\n")
        return 1
    except BrokenPipeError:  # the reader of a pipe has gone
        _discard_output()
        return 1
    except MemoryError:
        sys.stderr.write("onnxgru: out of memory; give fewer sequences, or shorter ones\n")
        return 1
    except Exception as error:
        if verbose:
            raise
        text = " ".join(str(error).split())[:300]
        sys.stderr.write(
            f"onnxgru: a defect of onnxgru: {type(error).__name__}: {text}; "
            "please report it with what --verbose prints\n"
        )
        return 1
    return 0
