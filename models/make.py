"""Making a model of the zoo: train, export, and write it with its data and a record of both."""

import io
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from onnxgru.core import files
from onnxgru.core.errors import OutputError, UsageError
from onnxgru.data.metrics import accuracy
from onnxgru.models.fit import fit
from onnxgru.models.network import OUTPUT
from onnxgru.models.task import Examples, Listener, Recipe, Splits, Task
from onnxgru.training.checkpoint import Checkpoint
from onnxgru.training.export import export_module
from onnxgru.training.trace import import_torch

LARGEST_SEED = 2**32 - 1
"""Largest seed that scikit-learn accepts."""

CHUNK = 500
"""Examples per call of onnxruntime."""


def make(
    task: Task[Any],
    output: Path,
    listener: Listener,
    *,
    recipe: Recipe | None = None,
    limit: int | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, export and write a model, its data and a record.

    Parameters
    ----------
    task : Task
        What to make.
    output : pathlib.Path
        Folder; made if it is not there. Gets ``<stem>.onnx``, ``<stem>.json``, and an ``.npz``
        for each of ``.train``, ``.calibration``, ``.validation`` and ``.holdout``; existing ones
        are replaced. While the training lasts, it holds ``<stem>.checkpoint.pt``.
    listener : callable
        Hears of downloads and epochs.
    recipe : Recipe, optional
        The task's own if left out.
    limit : int, optional
        Use at most this many examples of each part, for a quick try.
    resume : bool
        Go on from the checkpoint of an interrupted training.

    Returns
    -------
    dict
        What ``<stem>.json`` holds: recipe, sizes, versions, accuracies (percent, measured in
        onnxruntime) by part.

    Raises
    ------
    UsageError
        If a library is not installed, or a number is out of range.
    DataError
        If data cannot be found, fetched or read.
    OutputError
        If a file cannot be written, or the checkpoint is in the way, missing or of another
        training.
    """
    recipe = recipe or task.recipe
    _check(recipe, limit)
    import_torch("training")
    _make_folder(output)
    checkpoint = Checkpoint(output / f"{task.stem}.checkpoint.pt")
    checkpoint.check(resume=resume)
    material = task.load(recipe, limit, listener)
    module = fit(task, recipe, material, listener, checkpoint)
    path = output / f"{task.stem}.onnx"
    export_module(module, module.example_inputs, path, output_names=[OUTPUT])
    _write(output, task, material.parts)
    record = {
        "model": path.name,
        "recipe": asdict(recipe),
        "classes": list(task.classes),
        **_figures(path, task, material.parts),
        **material.notes,
        "versions": {"python": platform.python_version()}
        | {library: version(library) for library in ("numpy", "onnx", *task.libraries, "torch")},
    }
    files.write(path.with_suffix(".json"), files.dump(record))
    checkpoint.remove()
    return record


def make_data(
    task: Task[Any],
    output: Path,
    listener: Listener,
    *,
    recipe: Recipe | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Write the data of a model that is there already, and measure it on them.

    Parameters
    ----------
    task, output, listener, recipe, limit
        As for :func:`make`; `output` holds ``<stem>.onnx``.

    Returns
    -------
    dict
        `model`, `examples` and `accuracy` as in the model's record.

    Raises
    ------
    UsageError
        As for :func:`make`, and if the model is not there.
    DataError, OutputError
        As for :func:`make`.
    """
    recipe = recipe or task.recipe
    _check(recipe, limit)
    path = output / f"{task.stem}.onnx"
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file to write data for; name the folder that holds the model with "
            "-o, or train it"
        )
    parts = task.load(recipe, limit, listener).parts
    _write(output, task, parts)
    return {"model": path.name, **_figures(path, task, parts)}


def _check(recipe: Recipe, limit: int | None) -> None:
    for name, value in (("epochs", recipe.epochs), ("limit", limit)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: must be at least 1, got {value}")
    if not 0 <= recipe.seed <= LARGEST_SEED:
        raise UsageError(f"seed: must be 0 to {LARGEST_SEED}, got {recipe.seed}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: must be a folder that can be written to ({error.strerror}); choose "
            "another place with -o"
        ) from error


def _figures(path: Path, task: Task[Any], parts: Splits) -> dict[str, dict[str, float]]:
    return {
        "examples": {role: len(examples.labels) for role, examples in vars(parts).items()},
        "accuracy": {
            role: round(measure(path, task, examples), 4) for role, examples in vars(parts).items()
        },
    }


def _write(output: Path, task: Task[Any], parts: Splits) -> None:
    for role, examples in vars(parts).items():
        stream = io.BytesIO()
        arrays: dict[str, Any] = {task.input_name: examples.inputs, "labels": examples.labels}
        np.savez_compressed(stream, **arrays)
        files.write(output / f"{task.stem}.{role}.npz", stream.getvalue())


def measure(model: Path, task: Task[Any], examples: Examples) -> float:
    """Percent of right classes, in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = [
        session.run([OUTPUT], {task.input_name: examples.inputs[start : start + CHUNK]})[0]
        for start in range(0, len(examples.labels), CHUNK)
    ]
    return accuracy(np.concatenate(outputs), examples.labels)
