"""The verbs that write an output folder from a model: quantize, and measure_sensitivity."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxgru import events
from onnxgru.core import files
from onnxgru.core.errors import UsageError
from onnxgru.core.folder import (
    HEAT_MAP,
    JOURNAL,
    MEASURED,
    MEMBER,
    PAGE,
    REPORT,
    SENSITIVITY,
    SOURCE,
    TEACHER,
    Folder,
)
from onnxgru.core.scheme import Scheme
from onnxgru.cost import objectives
from onnxgru.data import metrics
from onnxgru.events import Event, Listener, warned
from onnxgru.output import reopening
from onnxgru.output import writing as output
from onnxgru.output.interrupts import Interrupts
from onnxgru.output.members import study_of
from onnxgru.output.result import Result
from onnxgru.passes.graph.source import Origin, origin
from onnxgru.runtime import devices
from onnxgru.search.batches import Batches
from onnxgru.search.nsga import Workers
from onnxgru.session import delta
from onnxgru.session.finetuning import Checkpoints, training_data
from onnxgru.session.session import Session
from onnxgru.settings.config import TASKS, Config
from onnxgru.settings.quantization import BITS
from onnxgru.settings.search import PROCESSOR
from onnxgru.study import cluster
from onnxgru.study import sensitivity as sensitivities
from onnxgru.study.sensitivity import Sensitivity
from onnxgru.study.study import Outcome


def quantize(
    model: object, config: Config | None = None, *, listener: Listener = warned, **settings: Any
) -> Result:
    """Quantise the GRUs of a model and write the output folder.

    Parameters
    ----------
    model : path, bytes, ModelProto or onnx_ir.Model
        An ONNX file with float recurrent layers, or its content. Content that is no file is written
        to ``source.onnx`` in the output folder.
    config : Config, optional
        Settings; uniform 8 bits where left out.
    listener : callable, optional
        Receives the events of `onnxgru.events`; where left out, warnings go to `warnings.warn`.
    **settings
        Settings of `Config`, such as ``quantize(model, bits=4)``; they take precedence over those
        of `config`.

    Returns
    -------
    Result
        The figures and the files of the output folder.

    Raises
    ------
    UsageError
        If a setting is wrong or does not fit the model.
    ModelError
        If the model cannot be read, or has nothing that can be quantised.
    DataError
        If data do not fit the model.
    SchemeError
        If a scheme or calibration file does not fit the model.
    OutputError
        If the output folder cannot be written, or holds results.
    OverflowProofError
        If an accumulator could overflow.
    VerificationError
        If a graph computes other codes than the reference implementation.
    ClusterError
        If the Dask cluster of the setting ``scheduler`` cannot be used.
    """
    events.check(listener)
    config = _config(config, settings)
    file = origin(model)
    folder = Folder(_output(file.path, config))
    file = file.at(folder.path / SOURCE)
    left = [JOURNAL if config.search else MEMBER, *([TEACHER] if config.teacher_epochs else [])]
    folder.check(force=config.force, resume=left if config.resume else None)
    if config.search:
        objectives.sizes(config.objectives)  # a wrong cost table is refused before any work
    with folder.locked():
        if config.search:
            return _searched(file, config, folder, listener)
        return _quantized(file, config, folder, listener)


def _config(config: object, settings: Mapping[str, Any]) -> Config:
    """Join a configuration with settings by name, which take precedence.

    Raises
    ------
    UsageError
        If the configuration is no `Config`, or a setting is unknown or wrong.
    """
    if config is None:
        return Config(**settings)
    if not isinstance(config, Config):
        raise UsageError(
            f"config must be a Config, it is of type {type(config).__name__}; give settings by "
            "their names, such as quantize(model, bits=4), or onnxgru.Config(bits=4)"
        )
    return replace(config, **settings)


def _quantized(file: Origin, config: Config, folder: Folder, listener: Listener) -> Result:
    """Quantise by one scheme."""
    session = Session.open(file, config, listener)
    training = training_data(session.model, session.yardstick, config)
    session.examine(training)
    if config.scheme is None:
        scheme = session.uniform(config.bits or BITS)
    else:
        scheme = Scheme.load(Path(config.scheme))
        scheme.validate(session.model.layers, str(config.scheme))
    delta.check(session.model.layers, session.data, config, scheme)
    checkpoints = Checkpoints(folder.path)
    if training is not None and config.force:  # else what is resumed would meet earlier results
        folder.clear()
    return output.finish(session, folder, scheme, training, checkpoints=checkpoints)


def _searched(file: Origin, config: Config, folder: Folder, listener: Listener) -> Result:
    """Search, and write the front with its chosen member."""
    checkpoints = Checkpoints(folder.path)
    with Interrupts() as interrupts, _workers(config, listener) as workers:

        def heard(event: Event) -> None:
            listener(event)
            interrupts.check()

        session = Session.open(file, config, heard)
        delta.check(session.model.layers, session.data, config)
        training = training_data(session.model, session.yardstick, config)
        session.examine(training)
        if training is not None and config.force:
            folder.clear()  # before a teacher leaves its checkpoint there
        study, lesson = study_of(session, training, checkpoints)
        study.prepare()  # nothing is written before this has succeeded, but a teacher's checkpoint
        folder.open(force=config.force and training is None)
        try:
            outcome = study.run(folder.path / JOURNAL, resume=config.resume, workers=workers)
        except KeyboardInterrupt:
            interrupts.heed()
            if study.seen:
                folder.write(_front(study.outcome(study.seen)))
            raise
    return output.finish(
        session, folder, outcome.scheme, training, outcome, lesson=lesson, checkpoints=checkpoints
    )


def _front(outcome: Outcome) -> dict[str, bytes]:
    return output.front_files(outcome.front, outcome.cloud)


def _workers(config: Config, listener: Listener) -> AbstractContextManager[Workers]:
    """Threads, a device or a Dask cluster; a missing one is refused before any work."""
    if config.scheduler is not None:
        return cluster.connect(config.scheduler, metrics.title(config.metric), listener)
    if config.device != PROCESSOR:
        devices.resolve(config.device)
        return nullcontext(Batches())
    return ThreadPoolExecutor(config.jobs or os.cpu_count())


def _output(path: Path, config: Config) -> Path:
    return Path(config.output) if config.output is not None else Path(f"{path.stem}-onnxgru")


@dataclass(frozen=True, eq=False)
class SensitivityResult:
    """The result of a measurement of sensitivity.

    Parameters
    ----------
    folder : Path
        The output folder.
    sensitivity : Sensitivity
        The figures.
    """

    folder: Path
    sensitivity: Sensitivity


def measure_sensitivity(
    model: object, config: Config | None = None, *, listener: Listener = warned, **settings: Any
) -> SensitivityResult:
    """Measure each operator alone at each width, everything else at 8 bits.

    ``sensitivity.json`` and ``sensitivity.png`` are written into the output folder, beside the
    files of `quantize` if there are any.

    Parameters
    ----------
    model : path, bytes, ModelProto or onnx_ir.Model
        An ONNX file with float recurrent layers, or its content.
    config : Config, optional
        Data, metric, observer, granularity and widths; every width is compared with 8 bits.
    listener : callable, optional
        Receives the events of `onnxgru.events`; where left out, warnings go to `warnings.warn`.
    **settings
        Settings of `Config`; they take precedence over those of `config`.

    Returns
    -------
    SensitivityResult
        The figures, and the output folder.

    Raises
    ------
    UsageError
        If a setting is wrong, or belongs to `quantize` alone.
    ModelError, DataError, OutputError, OverflowProofError
        As for `quantize`.
    """
    events.check(listener)
    config = _config(config, settings)
    for name in (*TASKS, "resume", "training_data"):
        if getattr(config, name) not in (None, False):
            raise UsageError(
                f"sensitivity measures every width by itself and takes no {name}; leave it out"
            )
    sensitivities.narrow_widths(config.widths)
    file = origin(model)
    folder = Folder(_output(file.path, config))
    folder.check_beside(MEASURED, force=config.force)
    session = Session.open(file.at(folder.path / SOURCE), config, listener, fused=True)
    session.examine()
    found = sensitivities.measure(*session.parts, listener)
    document = found.document
    contents = {HEAT_MAP: sensitivities.picture(document), SENSITIVITY: files.dump(document)}
    if (folder.path / REPORT).is_file():
        report = reopening.report_of(folder.path)
        if report.model.sha256 == session.model.digest:
            front = None if report.search is None else reopening.front_of(folder.path)
            contents[PAGE] = output.report_page(
                session.yardstick.metric, folder, report, front, document, listener
            )
    folder.write(contents)
    return SensitivityResult(folder.path, found)
