"""The verbs that write an output folder: quantize, pick, finetune, measure_sensitivity."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onnxgru import cluster, output
from onnxgru import front as fronts
from onnxgru import report as reports
from onnxgru import sensitivity as sensitivities
from onnxgru.calibration.moments import MOMENTS
from onnxgru.config import BITS, PROCESSOR, TASKS, Config
from onnxgru.core import files, metrics, objectives
from onnxgru.core.data import Dataset
from onnxgru.core.errors import DataError, ModelError, OutputError, UsageError
from onnxgru.core.reading import Source
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.events import Event, Listener, Notice, Stage, Widened, silent
from onnxgru.folder import (
    HEAT_MAP,
    JOURNAL,
    MEASURED,
    MEMBER,
    PAGE,
    REPORT,
    SENSITIVITY,
    TEACHER,
    Folder,
)
from onnxgru.interrupts import Interrupts
from onnxgru.output import Result
from onnxgru.runtime import devices
from onnxgru.search.batches import Batches
from onnxgru.search.nsga import Workers
from onnxgru.sensitivity import Sensitivity
from onnxgru.session import Session
from onnxgru.study import Outcome, Study
from onnxgru.tuning import Candidates, Checkpoints, Lesson, load_tuned, prepare, training_data


def quantize(
    model: str | Path, config: Config | None = None, *, listener: Listener = silent
) -> Result:
    """Quantise the GRUs of a model and write the output folder.

    Parameters
    ----------
    model : path
        An ONNX file with float GRUs.
    config : Config, optional
        Uniform 8 bits where left out.
    listener : callable, optional
        Receives the events of `onnxgru.events` while it works.

    Returns
    -------
    Result

    Raises
    ------
    OnnxgruError
        One of its kinds, with one sentence that says where, what is wrong, and what to do.
    """
    config = config or Config()
    path = Path(model)
    folder = Folder(_output(path, config))
    left = [JOURNAL if config.search else MEMBER, *([TEACHER] if config.teacher_epochs else [])]
    folder.check(force=config.force, resume=left if config.resume else None)
    if config.search:
        objectives.sizes(config.objectives)  # a wrong cost table is refused before any work
        return _searched(path, config, folder, listener)
    session = Session(path, config, listener)
    training = training_data(session)
    if config.scheme is None:
        scheme = Scheme.uniform(
            session.layers,
            config.bits or BITS,
            granularity=config.granularity,
            observer=config.observer,
            input_bits=config.input_bits,
        )
    else:
        scheme = Scheme.load(Path(config.scheme))
        scheme.validate(session.layers, str(config.scheme))
    checkpoints = Checkpoints(folder.path)
    if training is not None and config.force:  # else what is resumed would meet earlier results
        folder.clear()
    return output.finish(session, folder, scheme, training, checkpoints=checkpoints)


def _searched(path: Path, config: Config, folder: Folder, listener: Listener) -> Result:
    """Search, and write the front with its chosen member."""
    checkpoints = Checkpoints(folder.path)
    with Interrupts() as interrupts, _workers(config, listener) as workers:

        def heard(event: Event) -> None:
            listener(event)
            interrupts.check()

        session = Session(path, config, heard)
        training = training_data(session)
        if training is not None and config.force:
            folder.clear()  # before a teacher leaves its checkpoint there
        study, lesson = _study(session, training, checkpoints)
        study.prepare()  # but for that, nothing is written before all of this has succeeded
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
    return output.front_files(outcome.document, outcome.cloud)


def _study(
    session: Session, training: Dataset | None, checkpoints: Checkpoints | None = None
) -> tuple[Study, Lesson | None]:
    """The search of a session, and what its candidates are fine-tuned by, if they are."""
    if training is None or not session.config.finetune_candidates:
        return Study(session), None
    candidates = Candidates(session, training, checkpoints)
    return Study(session, candidates, training.digest()), candidates.lesson


def _workers(config: Config, listener: Listener) -> AbstractContextManager[Workers]:
    """Threads, a device or a Dask cluster; one that is missing is refused before any work."""
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
    """What a measurement of sensitivity left behind.

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
    model: str | Path, config: Config | None = None, *, listener: Listener = silent
) -> SensitivityResult:
    """Measure each operator alone at each width, everything else at 8 bits.

    Writes ``sensitivity.json`` and ``sensitivity.png`` into the output folder, beside what
    `quantize` wrote there or will write.

    Parameters
    ----------
    model : path
        An ONNX file with float GRUs.
    config : Config, optional
        Data, metric, observer, granularity and widths; 8 is always what the others are compared
        with.
    listener : callable, optional
        Receives the events of `onnxgru.events` while it works.

    Raises
    ------
    OnnxgruError
        One of its kinds, with one sentence that says where, what is wrong, and what to do.
    """
    config = config or Config()
    for name in (*TASKS, "resume", "finetune"):
        if getattr(config, name) not in (None, False):
            raise UsageError(
                f"sensitivity measures every width by itself and takes no {name}; leave it out"
            )
    sensitivities.narrow_widths(config.widths)
    path = Path(model)
    folder = Folder(_output(path, config))
    folder.check_beside(MEASURED, force=config.force)
    session = Session(path, config, listener, fused=True)
    found = sensitivities.measure(session)
    document = found.document
    contents = {HEAT_MAP: sensitivities.picture(document), SENSITIVITY: files.dump(document)}
    if (folder.path / REPORT).is_file():
        report = files.parse(folder.path / REPORT, reports.FORMAT)
        if report["model"]["sha256"] == session.digest:
            front = None
            if "search" in report:
                front = files.parse(folder.path / "front.json", fronts.FORMAT)
            contents[PAGE] = output.report_page(session, folder, report, front, document)
    folder.write(contents)
    return SensitivityResult(folder.path, found)


def pick(
    folder: str | Path,
    *,
    index: int | None = None,
    max_bytes: int | None = None,
    max_drop: float | None = None,
    widen: bool = False,
    model: str | Path | None = None,
    listener: Listener = silent,
) -> Result:
    """Write the files of another member of a front.

    Parameters
    ----------
    folder : path
        The output folder of a search.
    index : int, optional
        The member's number in ``front.csv``.
    max_bytes : int, optional
        The best member of at most so many flash bytes.
    max_drop : float, optional
        The smallest member at most so far below the best figure on validation, in points or dB.
    widen : bool
        What the member of ``max_bytes`` leaves of them goes to wider operators, where that silences
        the most quantisation noise a byte. The result is added to the front.
    model : path, optional
        The source model, where it has moved.

    Raises
    ------
    OutputError
        If the folder holds no finished search.
    UsageError
        If not exactly one choice is made, no member fits it, or ``widen`` goes without
        ``max_bytes``.
    """
    place = Path(folder)
    made = sum(choice is not None for choice in (index, max_bytes, max_drop))
    if made != 1:
        raise UsageError(
            f"pick takes exactly one of --index, --max-bytes and --max-drop, got {made}"
        )
    if widen and max_bytes is None:
        raise UsageError(
            "--widen spends what a member leaves of --max-bytes SIZE; give that instead of "
            "--index or --max-drop"
        )
    document, before = _front_of(place), _report_of(place)
    member = fronts.member(document, index, max_bytes, max_drop)
    tuned = before["search"].get("finetuning")  # as every candidate was
    session = _session_of(place, before, model, tuned["settings"] if tuned else {}, listener)
    training = training_data(session)
    if tuned and training is not None and training.digest() != tuned["sha256"]:
        raise DataError(
            f"{training.source}: must be the data that the search fine-tuned with (SHA-256 "
            f"{tuned['sha256'][:16]}...), they have changed; restore them, or search again"
        )
    limit = max_bytes if widen else None
    return _picked(session, place, document, before, member, training, max_bytes=limit)


def finetune(
    folder: str | Path,
    data: Source,
    *,
    index: int | None = None,
    settings: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    model: str | Path | None = None,
    resume: bool = False,
    listener: Listener = silent,
) -> Result:
    """Fine-tune what an output folder holds, or another member of its front.

    Parameters
    ----------
    folder : path
        An output folder.
    data : str, path or callable
        Training data.
    index : int, optional
        The member's number in ``front.csv``; the scheme that is in the folder where left out.
    settings : mapping, optional
        Settings of `Config` that say how: ``epochs``, ``learning_rate`` and the like.
    start : path, optional
        The folder of an earlier fine-tuning of the same model, whose weights to start from.
    model : path, optional
        The source model, where it has moved.
    resume : bool
        Go on from the checkpoint of a fine-tuning that was interrupted.

    Raises
    ------
    OutputError
        If a folder does not hold what is needed, or the checkpoint is in the way, missing or of
        another fine-tuning.
    UsageError
        If torch is not installed, a setting is wrong, or gradients cannot pass the model.
    DataError
        If the data do not fit the model, or are too few or of one class.
    """
    place = Path(folder)
    before = _report_of(place)
    checkpoints = Checkpoints(place)
    checkpoints.check(resume=resume)
    session = _session_of(place, before, model, {"finetune": data, **(settings or {})}, listener)
    training = training_data(session)
    if training is None:
        raise UsageError("finetune needs training data, got None; name a file, folder or callable")
    begun = None if start is None else _begun(session, Path(start))
    if index is not None:
        document = _front_of(place)
        member = fronts.member(document, index)
        lesson = prepare(session, training, start=begun, checkpoints=checkpoints)
        return _picked(
            session, place, document, before, member, training, lesson, checkpoints=checkpoints
        )
    scheme = Scheme.load(place / "scheme.json")
    scheme.validate(session.layers, str(place / "scheme.json"))
    summary = front = None
    if "search" in before:
        front = _front_of(place)
        summary = before["search"] | {"first_choice": front["chosen"]}
    lesson = prepare(session, training, start=begun, checkpoints=checkpoints)
    return output.finish(
        session, Folder(place), scheme, training, summary=summary, front=front, lesson=lesson,
        checkpoints=checkpoints,
    )  # fmt: skip


def _begun(session: Session, place: Path) -> Tuned:
    """What an earlier fine-tuning of the same model left in a folder.

    Raises
    ------
    OutputError
        If the folder has none.
    ModelError
        If it is of another model.
    """
    before = _report_of(place)
    if before["model"]["sha256"] != session.digest:
        raise ModelError(
            f"{place}: must be the folder of a fine-tuned {session.path.name}, but is of another "
            f"model, {before['model']['path']}; give a folder of the same model"
        )
    return load_tuned(session, place)


def _front_of(place: Path) -> dict[str, Any]:
    """What a search left in a folder."""
    for name in ("front.json", REPORT):
        if not (place / name).is_file():
            raise OutputError(
                f"{place}: must be the folder of a finished search, it has no {name}; "
                "run onnxgru quantize --search, or --resume an interrupted one"
            )
    return files.parse(place / "front.json", fronts.FORMAT)


def _report_of(place: Path) -> dict[str, Any]:
    if not (place / REPORT).is_file():
        raise OutputError(
            f"{place}: must be an output folder, it has no {REPORT}; run onnxgru quantize"
        )
    return files.parse(place / REPORT, reports.FORMAT)


def _session_of(
    place: Path,
    before: Mapping[str, Any],
    model: str | Path | None,
    changed: Mapping[str, Any],
    listener: Listener,
) -> Session:
    """The session that wrote a folder, with some settings changed."""
    settings: dict[str, Any] = {"rounding": "nearest", "ranges": "plain"}  # once the defaults
    for key in {field.name for field in fields(Config)} & before["config"].keys():
        value = before["config"][key]
        settings[key] = tuple(value) if isinstance(value, list) else value
    settings |= {"force": False, "resume": False, "calibration_file": place / "calibration.json"}
    for role, entry in before["data"].items():
        if settings.get(role) is None and Path(entry["source"]).exists():
            settings[role] = entry["source"]
    given = settings.get("weights_file") is not None
    settings |= {"finetune": None, "weights_file": None} | dict(changed)
    config = Config(**settings)
    if (outdated := reports.outdated(before)) is not None:
        listener(Notice(f"{place} {outdated}"))
    if config.needs_moments and not given and not (place / MOMENTS).is_file():
        raise OutputError(
            f"{place}: must have {MOMENTS}, from which its weights were rounded, but it is not "
            "there; restore it, or quantise again"
        )
    session = Session(Path(model or before["model"]["path"]), config, listener)
    if session.digest != before["model"]["sha256"]:
        raise UsageError(
            f"{session.path}: must be the model that was quantised (SHA-256 "
            f"{before['model']['sha256'][:16]}...), it has changed; quantise again, or give the "
            "former one with --model"
        )
    return session


def _picked(
    session: Session,
    place: Path,
    document: Mapping[str, Any],
    before: Mapping[str, Any],
    member: Mapping[str, Any],
    training: Dataset | None = None,
    lesson: Lesson | None = None,
    max_bytes: int | None = None,
    *,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Write the files of a member of a front, or of what it is widened to within some bytes."""
    folder, others = Folder(place), None
    if max_bytes is not None:
        study, lesson = _study(session, training)
        document, member = _widened(session, study, document, member, max_bytes)
        seen = output.history(session, folder, document, before["search"]["max_drop"])
        others = output.front_files(document, [(e.size, e.quality) for e in seen])
    scheme = Scheme.parse(member["scheme"], f"{place / 'front.json'}")
    summary = dict(before["search"]) | {"first_choice": document["chosen"]}
    summary["chosen"] = {k: v for k, v in member.items() if k not in ("genome", "scheme")}
    return output.finish(
        session,
        folder,
        scheme,
        training,
        summary=summary,
        front=document,
        lesson=lesson,
        others=others,
        checkpoints=checkpoints,
    )


def _widened(
    session: Session,
    study: Study,
    document: Mapping[str, Any],
    member: Mapping[str, Any],
    max_bytes: int,
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A front with what a member is widened to, and that."""
    session.listener(
        Stage(f"widening number {member['index']} to at most {max_bytes:,} flash bytes")
    )
    genome = study.widened(
        tuple(member["genome"]),
        lambda sizes: sizes.flash_bytes <= max_bytes,
        lambda size: session.listener(Widened(size, max_bytes)),
    )
    known = {tuple(m["genome"]): m for m in document["members"]}
    if genome == tuple(member["genome"]):
        session.listener(
            Notice(f"--widen: nothing wider than number {member['index']} fits {max_bytes:,} bytes")
        )
    if genome not in known:
        session.listener(Stage("judging the widened scheme"))
        entry = study.entry(len(known), genome) | {"widened_from": member["index"]}
        document = {**document, "members": [*document["members"], entry]}
        known[genome] = entry
    found = known[genome]
    if fronts.drop(document, member, found) > study.max_drop + fronts.ROUNDING:
        unit = document["metric"]["unit"]
        after, before = (reports.figure(m["validation"], unit) for m in (found, member))
        session.listener(
            Notice(
                f"number {found['index']} has {after} on validation, but number {member['index']}, "
                f"which it was widened from, {before}: fine-tune it, or pick that with --index"
            )
        )
    return document, found
