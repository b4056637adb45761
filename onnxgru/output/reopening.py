"""Opening an output folder again: its documents, its scheme, and the session that wrote it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from onnxgru.calibration.moments import MOMENTS
from onnxgru.core import entrypoint, files
from onnxgru.core.errors import DataError, ModelError, OutputError, UsageError
from onnxgru.core.folder import CALIBRATION as CALIBRATION_FILE
from onnxgru.core.folder import (
    FINETUNED_CALIBRATION,
    FINETUNED_MODEL,
    FINETUNED_WEIGHTS,
    REPORT,
    SCHEME,
    SOURCE,
)
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.data import metrics
from onnxgru.data.dataset import Dataset
from onnxgru.data.sources import ROLES
from onnxgru.documents import report as reports
from onnxgru.documents.front import FORMAT, NAME, Front
from onnxgru.documents.report import Report
from onnxgru.events import Listener, Notice, silent
from onnxgru.passes.graph.source import origin
from onnxgru.session.model import Model, read
from onnxgru.session.quantizer import Quantizer
from onnxgru.session.recordings import CALIBRATION, SYNTHETIC, VALIDATION
from onnxgru.session.session import Session
from onnxgru.session.statistics import Statistics
from onnxgru.settings.config import Config


def front_of(place: Path) -> Front:
    """The front that a search left in a folder.

    Raises
    ------
    OutputError
        If the folder holds no finished search.
    SchemeError
        If its ``front.json`` is none.
    """
    for name in (NAME, REPORT):
        if not (place / name).is_file():
            raise OutputError(
                f"{place}: must be the folder of a finished search, it has no {name}; "
                "run onnxgru quantize --search, or --resume an interrupted one"
            )
    return Front.parse(files.parse(place / NAME, FORMAT), str(place / NAME))


def report_of(place: Path) -> Report:
    """The report of an output folder.

    Raises
    ------
    OutputError
        If it has none.
    SchemeError
        If its ``report.json`` is none.
    """
    if not (place / REPORT).is_file():
        raise OutputError(
            f"{place}: must be an output folder, it has no {REPORT}; run onnxgru quantize"
        )
    return Report.parse(files.parse(place / REPORT, reports.FORMAT), str(place / REPORT))


def scheme_of(place: Path, layers: Iterable[Layer]) -> Scheme:
    """The scheme of an output folder.

    Raises
    ------
    SchemeError
        If its ``scheme.json`` cannot be read, or does not fit the layers.
    """
    scheme = Scheme.load(place / SCHEME)
    scheme.validate(layers, str(place / SCHEME))
    return scheme


def session_of(
    place: Path,
    before: Report,
    model: object,
    changed: Mapping[str, Any],
    listener: Listener,
    *,
    force: bool,
) -> Session:
    """Open the session that wrote a folder, with some settings changed.

    Parameters
    ----------
    place : Path
        The output folder.
    before : Report
        Its report.
    model : path or model, optional
        The float model, where it has moved.
    changed : mapping of str to object
        Settings of `Config` that take precedence over those of the report.
    listener : callable
        Receives the events of `onnxgru.events`.
    force : bool
        Whether results may be replaced.

    Raises
    ------
    OutputError
        If the folder lacks a file that its weights were made from.
    ModelError
        If the float model is not there any more.
    UsageError
        If the float model is another one, or a setting does not fit it.
    DataError
        If the validation data cannot be read again.
    """
    settings = _settings_of(before)
    settings |= {"force": force, "resume": False, "calibration_file": place / CALIBRATION_FILE}
    settings["output"] = None
    given = settings.get("weights_file") is not None
    settings |= {"training_data": None, "weights_file": None} | dict(changed)
    _find_data(place, before, settings, listener)
    _check_metric(place, settings)
    config = Config(**settings)
    if before.outdated is not None:
        listener(Notice(f"{place} {before.outdated}"))
    if not given:
        _check_moments(place, config)
    session = Session.open(_model_of(place, before, model), config, listener)
    if session.model.digest != before.model.sha256:
        raise UsageError(
            f"{session.model.path}: must be the model that was quantised (SHA-256 "
            f"{before.model.sha256[:16]}...), it has changed; quantise again, or give the "
            "former one with --model"
        )
    for role, description in session.data.describe().items():
        known = before.data.get(role)
        if known is not None and known.sha256 != description.sha256:
            listener(
                Notice(
                    f"{description.source} are not the {role} data that {place} was made with: "
                    "figures of its front are of those, all others of these"
                )
            )
    return session


def program_of(place: Path, model: object = None) -> tuple[Model, IntegerProgram]:
    """The float model and the integer program of a folder; no data are read.

    Parameters
    ----------
    place : Path
        The output folder.
    model : path or model, optional
        The float model, where it has moved.

    Raises
    ------
    OutputError
        If the folder holds no result, or a file of it is missing.
    ModelError
        If the float model is not there any more.
    """
    before = report_of(place)
    settings = _settings_of(before)
    tuned = (place / FINETUNED_MODEL).is_file()
    settings |= {name: None for name in (*ROLES, "training_data", "output")}
    settings |= dict.fromkeys(("search", "resume", "finetune_candidates"), False)
    settings |= {
        "scheme": place / SCHEME,
        "bits": None,
        "metric": "auto",
        "calibration_file": place / (FINETUNED_CALIBRATION if tuned else CALIBRATION_FILE),
        "weights_file": place / FINETUNED_WEIGHTS if tuned else settings.get("weights_file"),
    }
    config = Config(**settings)
    _check_moments(place, config)
    given = place / FINETUNED_MODEL if tuned else _model_of(place, before, model)
    found = read(given, config)
    scheme = scheme_of(place, found.layers)

    def collect() -> Iterator[Dataset]:
        raise OutputError(f"{place}: must have {config.calibration_file}, which is not there")

    statistics = Statistics.collect(found, collect, config, silent)
    return found, Quantizer.of(found, statistics, config)(scheme)


def _settings_of(before: Report) -> dict[str, Any]:
    """Settings that a folder was written with, by name.

    A folder of an early version does not name rounding and ranges, which had other defaults then.
    """
    names = {field.name for field in fields(Config)} & before.config.keys()
    written = {name: before.config[name] for name in names}
    return {"rounding": "nearest", "ranges": "plain"} | written


def _check_moments(place: Path, config: Config) -> None:
    """Refuse a folder whose weights cannot be rounded again.

    Raises
    ------
    OutputError
        If its file of moments is missing and the rounding depends on it.
    """
    if config.needs_moments and not (place / MOMENTS).is_file():
        raise OutputError(
            f"{place}: must have {MOMENTS}, from which its weights were rounded, but it is not "
            "there; restore it, or quantise again"
        )


def _model_of(place: Path, before: Report, model: object) -> Any:
    """The model that was quantised: as given, at its former path, or in the folder.

    Raises
    ------
    ModelError
        If there is none.
    """
    if model is not None:
        return Path(model) if isinstance(model, str) else origin(model)
    recorded = files.recorded(before.model.path)
    for path in (recorded, place / SOURCE, place.parent / SOURCE):
        if path.is_file():
            return path
    raise ModelError(
        f"{recorded}: the model that was quantised is not there any more; say where it is with "
        "--model FILE"
    )


def _find_data(place: Path, before: Report, settings: dict[str, Any], listener: Listener) -> None:
    """Fill in the sources of the data of each role.

    Raises
    ------
    DataError
        If the validation data cannot be read again.
    """
    for role in ROLES:
        entry = before.data.get(role)
        source = settings.get(role)
        if source is None and entry is not None and entry.source != SYNTHETIC:
            source = entry.source
        if isinstance(source, str) and not _is_there(source):
            gone = (
                f"{place}: its {role} data, {source}, are not there any more, or were held by a "
                f"Python program; give them again with --{role}, or {role}= in Python"
            )
            if role == VALIDATION:
                raise DataError(gone)
            if role != CALIBRATION:
                listener(Notice(gone))
            source = None
        if isinstance(source, str) and not entrypoint.is_entrypoint(source):
            source = files.recorded(source)
        settings[role] = source
    if settings[CALIBRATION] is None:  # ranges and moments are in the folder
        settings[CALIBRATION] = settings[VALIDATION]


def _is_there(source: str) -> bool:
    return files.recorded(source).exists() or entrypoint.is_entrypoint(source)


def _check_metric(place: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a metric that was a Python function and cannot be imported by its name."""
    metric = settings["metric"]
    if not isinstance(metric, str) or metric == "auto" or metric in metrics.METRICS:
        return
    if not entrypoint.is_entrypoint(metric) or metric.startswith("__main__:"):
        raise UsageError(
            f"{place}: its metric, {metric}, was a function of a Python program; call it from "
            "Python with metric=, the function"
        )
