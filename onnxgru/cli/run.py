"""The command line: ``onnxgru quantize``, ``pick``, ``finetune``, ``zoo`` and others.

Results go to stdout, progress and warnings to stderr. Exit code 0: done; 1: it failed; 2: it was
called wrongly; 130: interrupted with Ctrl-C. Nothing but argparse is imported before the arguments
are understood.
"""

import argparse
import codecs
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxgru.cli import flags, options
from onnxgru.core.errors import OnnxgruError, OutputError, UsageError
from onnxgru.settings import toml
from onnxgru.settings.config import TASKS, Config
from onnxgru.settings.declare import declared, dependent
from onnxgru.settings.finetuning import Finetuning
from onnxgru.settings.search import Search

if TYPE_CHECKING:
    from onnxgru.output.result import Result


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of the configuration file, if any, and of the flags, which take precedence."""
    given = options.given(arguments, Config)
    settings = toml.load(arguments.config) if arguments.config is not None else {}
    if given.keys() & set(TASKS):  # what to do is one choice, whoever makes it
        others = TASKS if "search" in given else (*TASKS, "scheduler")
        settings = {name: v for name, v in settings.items() if name not in others}
    return settings | given


def _quantize(arguments: argparse.Namespace) -> None:
    from onnxgru import api
    from onnxgru.cli import live

    settings = _settings(arguments)
    wanted = Config(**settings)
    for theme in (Search, Finetuning):
        switch = theme.about.switch
        given = [name for name in dependent(theme) if hasattr(arguments, name)]
        if given and not settings.get(switch):
            flag, needed = (declared(theme)[name].flag for name in (given[0], switch))
            raise UsageError(
                f"{flag} belongs to the {theme.about.title}; give {needed} too, or leave out {flag}"
            )
    with live.Progress(quiet=arguments.quiet) as progress:
        result = api.quantize(arguments.model, wanted, listener=progress)
    _print_result(result, arguments)


def _sensitivity(arguments: argparse.Namespace) -> None:
    from onnxgru import api
    from onnxgru.cli import live, terminal

    # A file of settings may be written for quantize, which takes more.
    others = (*TASKS, "resume", "device", "scheduler", "training_data", "weights_file")
    settings = {n: value for n, value in _settings(arguments).items() if n not in others}
    with live.Progress(quiet=arguments.quiet) as progress:
        done = api.measure_sensitivity(arguments.model, Config(**settings), listener=progress)
    _show(
        arguments,
        lambda: done.sensitivity.document | {"folder": str(done.folder)},
        lambda: terminal.show_sensitivity(done),
    )


def _config(arguments: argparse.Namespace) -> None:
    _show(
        arguments,
        lambda: {name: one.default for name, one in declared(Config).items()},
        lambda: sys.stdout.write(toml.template()),
    )


def _pick(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import live
    from onnxgru.output import members

    with live.Progress(quiet=arguments.quiet) as progress:
        result = members.pick(
            arguments.folder,
            index=arguments.index,
            max_bytes=arguments.max_bytes,
            max_drop=arguments.max_drop,
            widen=arguments.widen,
            profile=options.given(arguments, Config).get("profile"),
            output=arguments.output,
            force=arguments.force,
            model=arguments.model,
            validation=arguments.validation,
            holdout=arguments.holdout,
            listener=progress,
        )
    _print_result(result, arguments)


def _finetune(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import live
    from onnxgru.output import members

    given = options.given(arguments, Config)
    settings = {n: v for n, v in given.items() if n in (*dependent(Finetuning), "seed")}
    with live.Progress(quiet=arguments.quiet) as progress:
        result = members.finetune(
            arguments.folder,
            arguments.training_data,
            index=arguments.index,
            settings=settings,
            start=arguments.start,
            output=arguments.output,
            force=arguments.force,
            model=arguments.model,
            validation=arguments.validation,
            holdout=arguments.holdout,
            resume=arguments.resume,
            listener=progress,
        )
    _print_result(result, arguments)


def _c(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import live, terminal
    from onnxgru.firmware.writing import write_c

    with live.Progress(quiet=arguments.quiet) as progress:
        written = write_c(
            arguments.folder,
            output=arguments.output,
            force=arguments.force,
            model=arguments.model,
            validation=arguments.validation,
            listener=progress,
        )
    _show(arguments, lambda: asdict(written), lambda: terminal.show_c(written))


def _print_result(result: "Result", arguments: argparse.Namespace) -> None:
    from onnxgru.cli import terminal

    _show(
        arguments,
        lambda: result.report | {"folder": str(result.folder)},
        lambda: terminal.show_result(result),
    )


def _show(
    arguments: argparse.Namespace, document: Callable[[], object], text: Callable[[], object]
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
    from onnxgru.cli import terminal
    from onnxgru.session.inspection import inspect

    found = inspect(arguments.model, head=arguments.head)
    _show(arguments, lambda: asdict(found), lambda: terminal.show_inspection(found))


def _evaluate(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import terminal
    from onnxgru.session.comparison import evaluate

    found = evaluate(arguments.models, arguments.data, arguments.metric, arguments.output_name)
    _show(arguments, lambda: asdict(found), lambda: terminal.show_comparison(found))


def _verify(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import live, terminal
    from onnxgru.firmware.verifying import verify
    from onnxgru.session import toolchains

    with live.Progress(quiet=arguments.quiet) as progress:
        found = verify(
            arguments.path,
            arguments.data,
            arguments.runtime,
            where=dict(arguments.at),
            seconds=arguments.seconds,
            listener=progress,
        )
    _show(arguments, lambda: toolchains.document(found), lambda: terminal.show_verdicts(found))
    found.require_same()


def _export(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import terminal
    from onnxgru.training.export import export

    done = export(
        arguments.factory,
        arguments.output,
        weights=arguments.weights,
        shape=arguments.input_shape,
        dynamic_time=arguments.dynamic_time,
    )
    _show(arguments, lambda: asdict(done), lambda: terminal.show_export(done))


def _zoo(arguments: argparse.Namespace) -> None:
    from onnxgru.cli import live, terminal
    from onnxgru.models import folder as folders
    from onnxgru.models.make import make, make_data
    from onnxgru.models.zoo import TASKS

    task = TASKS.get(arguments.task)
    if task is None and Path(arguments.task).is_dir():
        task = folders.make_task(Path(arguments.task))
    if task is None:
        raise UsageError(
            f"task {arguments.task!r}: must be one of {', '.join(TASKS)}, or a folder of .wav files"
        )
    given = {name: getattr(arguments, name) for name in ("epochs", "seed")}
    recipe = replace(task.recipe, **{name: v for name, v in given.items() if v is not None})
    folder, limit = arguments.output, arguments.limit
    there = folder / f"{task.stem}.onnx"
    if there.is_file() and not (arguments.data_only or arguments.resume or arguments.force):
        raise OutputError(
            f"{there}: exists already; train again with --force, only prepare its data with "
            "--data-only, or give another folder with -o"
        )
    with live.Progress(quiet=arguments.quiet) as progress:
        if arguments.data_only:
            record = make_data(task, folder, progress, recipe=recipe, limit=limit)
        else:
            record = make(
                task, folder, progress, recipe=recipe, limit=limit, resume=arguments.resume
            )
    _show(arguments, lambda: record, lambda: terminal.show_training(record, folder))


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_RESUMABLE = ("quantize", "finetune", "zoo")
"""Commands with ``--resume``."""

_COMMANDS = {
    "quantize": _quantize,
    "pick": _pick,
    "finetune": _finetune,
    "c": _c,
    "sensitivity": _sensitivity,
    "inspect": _inspect,
    "evaluate": _evaluate,
    "verify": _verify,
    "export": _export,
    "zoo": _zoo,
    "config": _config,
}


def _widen(stream: object) -> None:
    """Let a stream take any text: UTF-8 in the C locale, as Python itself has it where it may."""
    if not isinstance(stream, io.TextIOWrapper):
        return
    if codecs.lookup(stream.encoding).name == "ascii":
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    elif stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The process's own where left out.

    Returns
    -------
    int
        Exit code: 0 done, 1 it failed, 2 it was called wrongly, 130 it was interrupted.
    """
    verbose = resumable = False
    for stream in (sys.stdout, sys.stderr):
        _widen(stream)
    logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)  # tracebacks of what is handled here
    if not (sys.argv[1:] if arguments is None else arguments):
        sys.stderr.write(flags.usage())
        return 2
    try:
        parsed = flags.parse(arguments)
        verbose, resumable = parsed.verbose, parsed.command in _RESUMABLE
        _COMMANDS[parsed.command](parsed)
    except OnnxgruError as error:
        if verbose:
            raise
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        more = "; a search or a training continues with --resume" if resumable else ""
        _complain(f"interrupted{more}")
        return INTERRUPTED
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
        _complain(
            f"a defect of onnxgru: {type(error).__name__}: {text}; "
            "please report it with what --verbose prints"
        )
        return 1
    return 0


def _complain(text: str) -> None:
    """Say what went wrong."""
    from onnxgru.cli.console import complain

    complain(text)
