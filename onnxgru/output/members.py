"""The verbs that start from an output folder: pick another member of a front, and fine-tune."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnxgru import events
from onnxgru.core import size
from onnxgru.core.errors import DataError, ModelError, OutputError, UsageError
from onnxgru.core.folder import MEMBER, PAGE, REPORT, TEACHER, Folder, path_of
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.data.dataset import Dataset
from onnxgru.data.reading import Source
from onnxgru.documents.front import NAME, ROUNDING, Front, Member
from onnxgru.documents.remarks import figure
from onnxgru.documents.report import Report
from onnxgru.events import Listener, Notice, Stage, Widened, warned
from onnxgru.output import writing as output
from onnxgru.output.reopening import front_of, report_of, scheme_of, session_of
from onnxgru.output.result import Result
from onnxgru.session.finetuning import (
    Candidates,
    Checkpoints,
    Lesson,
    load_tuned,
    prepare,
    training_data,
)
from onnxgru.session.model import Model
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.settings.declare import check_names, defaults, dependent
from onnxgru.settings.finetuning import Finetuning
from onnxgru.study.study import Study


def study_of(
    session: Session, training: Dataset | None, checkpoints: Checkpoints | None = None
) -> tuple[Study, Lesson | None]:
    """The search of a session, and the lesson of its candidates where these are fine-tuned."""
    if training is None or not session.config.finetune_candidates:
        return Study(*session.parts, session.listener), None
    candidates = Candidates(*session.parts, training, session.listener, checkpoints)
    study = Study(*session.parts, session.listener, candidates, training.digest())
    return study, candidates.lesson


def pick(
    folder: str | Path,
    *,
    index: int | None = None,
    max_bytes: int | str | None = None,
    max_drop: float | None = None,
    widen: bool = False,
    output: str | Path | None = None,
    force: bool = False,
    model: object = None,
    validation: Source = None,
    holdout: Source = None,
    metric: str | Callable[..., float] | None = None,
    profile: str | None = None,
    listener: Listener = warned,
) -> Result:
    """Write the files of another member of a front, into a folder of its own.

    Parameters
    ----------
    folder : path
        The output folder of a search.
    index : int, optional
        The member's number in ``front.csv``.
    max_bytes : int or str, optional
        The best member of at most so many flash bytes, such as 20480, "20k" or "20KiB".
    max_drop : float, optional
        The smallest member at most so far below the best figure on validation, in points or dB.
    widen : bool
        Spend the bytes that the member leaves of ``max_bytes`` on wider operators, first where that
        silences the most quantisation noise per byte. The result is added to the front.
    output : path, optional
        Folder for the results; where left out, ``member-07`` in the folder, by the member's number.
    force : bool
        Replace what is there; with `folder` itself as `output`, replace its results.
    model : path or model, optional
        The source model, where it has moved.
    validation, holdout : path or object, optional
        The data, where they have moved or came from Python.
    metric : str or callable, optional
        The metric, where it was a Python function.
    profile : str, optional
        Consumer that the graphs are for, as for `quantize`; where left out, that of the search.
    listener : callable, optional
        Receives the events of `onnxgru.events`; where left out, warnings go to `warnings.warn`.

    Returns
    -------
    Result
        The figures and the files of the member.

    Raises
    ------
    OutputError
        If the folder holds no finished search, or something would be replaced.
    UsageError
        If not exactly one of ``index``, ``max_bytes`` and ``max_drop`` is given, no member fits it,
        or ``widen`` is given without ``max_bytes``.
    ModelError
        If the source model is not there any more.
    DataError
        If the validation data are not there any more, or training data have changed.
    """
    events.check(listener)
    place = path_of(folder)
    limit = None if max_bytes is None else size.parse(max_bytes)
    _check_choice(index, limit, max_drop, widen)
    front, before = front_of(place), report_of(place)
    member = front.pick(index, limit, max_drop)
    name = f"member-{member.index:02d}" + ("-widened" if widen else "")
    target = _target(place, name, output, force, resumable=False)
    tuned = None if before.search is None else before.search.finetuning  # as every candidate
    changed = dict(tuned.settings) if tuned else {}
    changed |= _again(validation=validation, holdout=holdout, metric=metric)
    if profile is not None:  # its own form, batch and weights too
        changed |= {"profile": profile, "recurrence": None, "batch": None, "weights": None}
    clears = force and not _same(target.path, place)
    session = session_of(place, before, model, changed, listener, force=clears)
    training = training_data(session.model, session.yardstick, session.config)
    if tuned and training is not None and training.digest() != tuned.sha256:
        raise DataError(
            f"{training.source}: must be the data that the search fine-tuned with (SHA-256 "
            f"{tuned.sha256[:16]}...), they have changed; restore them, or search again"
        )
    with target.locked():
        result = _picked(
            session, place, target, front, before, member, training,
            max_bytes=limit if widen else None,
        )  # fmt: skip
    if limit is not None and (told := _exceeded(result.flash_bytes, limit)):
        session.listener(Notice(told))
    return result


def _exceeded(found: int, limit: int) -> str:
    """A sentence where a fine-tuned member is larger than the limit; empty elsewhere."""
    if found <= limit:
        return ""
    return (
        f"--max-bytes {limit:,}: the member takes {found:,} flash bytes once it is fine-tuned, "
        f"{found - limit:,} too many: scales have moved and fewer multipliers fit one byte; "
        f"give --max-bytes {2 * limit - found}"
    )


def _check_choice(index: object, max_bytes: int | None, max_drop: object, widen: bool) -> None:
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
    _check_index(index)
    if max_drop is not None and type(max_drop) not in (int, float):
        raise UsageError(f"--max-drop must be a number, got {max_drop!r}")


def _check_index(index: object) -> None:
    if index is not None and type(index) is not int:
        raise UsageError(f"--index must be a whole number, got {index!r}")


def finetune(
    folder: str | Path,
    data: Source,
    *,
    index: int | None = None,
    settings: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
    model: object = None,
    validation: Source = None,
    holdout: Source = None,
    metric: str | Callable[..., float] | None = None,
    resume: bool = False,
    listener: Listener = warned,
    **how: Any,
) -> Result:
    """Fine-tune what an output folder holds, or another member of its front.

    Parameters
    ----------
    folder : path
        An output folder.
    data : str, path or object
        Training data.
    index : int, optional
        The member's number in ``front.csv``; the scheme that is in the folder where left out.
    settings : mapping, optional
        Settings of fine-tuning by name: ``epochs``, ``learning_rate`` and the like, also as
        keywords. Settings that are left out have the defaults of `Config`.
    start : path, optional
        The folder of an earlier fine-tuning of the same model, whose weights to start from.
    output : path, optional
        Folder for the results; where left out, ``finetuned`` in the folder, or
        ``member-07-finetuned`` for a member.
    force : bool
        Replace what is there; with `folder` itself as `output`, replace its results.
    model : path or model, optional
        The source model, where it has moved.
    validation, holdout : path or object, optional
        The data, where they have moved or came from Python.
    metric : str or callable, optional
        The metric, where it was a Python function.
    resume : bool
        Go on from the checkpoint of a fine-tuning that was interrupted.
    listener : callable, optional
        Receives the events of `onnxgru.events`; where left out, warnings go to `warnings.warn`.
    **how
        As `settings`.

    Returns
    -------
    Result
        The figures and the files after fine-tuning.

    Raises
    ------
    OutputError
        If a folder does not hold what is needed, something would be replaced, or the checkpoint is
        missing or of another fine-tuning.
    UsageError
        If torch is not installed, a setting is wrong, gradients cannot pass the model, or the
        training diverges.
    ModelError
        If the source model is not there any more, or `start` is of another model.
    DataError
        If the data do not fit the model, or are too few or of one class.
    """
    events.check(listener)
    place = path_of(folder)
    before = report_of(place)
    if data is None:
        raise UsageError("finetune needs training data, got None; name a file, folder or callable")
    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(f"settings must be a dict, it is of type {type(settings).__name__}")
    asked = {**(settings or {}), **how}
    check_names(Config, asked, "finetune: ")
    target = _tuning_target(place, index, output, force=force, resume=resume)
    changed = {**defaults(Config, dependent(Finetuning)), "training_data": data, **asked}
    changed |= _again(validation=validation, holdout=holdout, metric=metric)
    clears = force and not _same(target.path, place)
    session = session_of(place, before, model, changed, listener, force=clears)
    training = training_data(session.model, session.yardstick, session.config)
    assert training is not None
    session.examine(training)
    begun = None if start is None else _begun(session.model, session.config, Path(start))
    front = None if index is None else front_of(place)
    scheme = scheme_of(place, session.model.layers) if front is None else None
    with target.locked():
        if clears:
            target.clear()
        elif force:
            Checkpoints(place).discard()
        checkpoints = Checkpoints(target.path)
        lesson = prepare(
            *session.parts, training, start=begun, listener=session.listener,
            checkpoints=checkpoints,
        )  # fmt: skip
        if front is not None:
            return _picked(
                session, place, target, front, before, front.pick(index), training, lesson,
                checkpoints=checkpoints,
            )  # fmt: skip
        assert scheme is not None
        return _tuned(session, place, target, before, scheme, training, lesson, checkpoints)


def _tuning_target(
    place: Path, index: int | None, where: str | Path | None, *, force: bool, resume: bool
) -> Folder:
    """The folder that a fine-tuning writes, checked to be free."""
    if resume and force:
        raise UsageError("resume and force exclude each other; give one of them")
    _check_index(index)
    name = "finetuned" if index is None else f"member-{index:02d}-finetuned"
    return _target(place, name, where, force, [MEMBER, TEACHER] if resume else None)


def _tuned(
    session: Session,
    place: Path,
    target: Folder,
    before: Report,
    scheme: Scheme,
    training: Dataset,
    lesson: Lesson,
    checkpoints: Checkpoints,
) -> Result:
    """Fine-tune the scheme of a folder, and write the results."""
    summary = front = others = None
    if before.search is not None:
        front = front_of(place)
        summary = before.search.rewritten(front.chosen)
        if not _same(target.path, place):
            others = _copied(place)
    return output.finish(
        session, target, scheme, training, summary=summary, front=front, lesson=lesson,
        checkpoints=checkpoints, home=Folder(place), others=others,
    )  # fmt: skip


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _target(
    place: Path,
    name: str,
    where: str | Path | None,
    force: bool,
    resume: list[str] | None = None,
    *,
    resumable: bool = True,
) -> Folder:
    """The folder that results go to, found free or allowed to be replaced.

    Raises
    ------
    OutputError
        If it holds something, and that may not be replaced.
    """
    target = Folder(place / name if where is None else path_of(where, "output"))
    target.check(force=force, resume=resume, resumable=resumable)
    return target


def _again(**given: object) -> dict[str, Any]:
    """Arguments that are given; they take precedence over those in a report."""
    return {name: value for name, value in given.items() if value is not None}


def _begun(model: Model, config: Config, place: Path) -> Tuned:
    """Weights that an earlier fine-tuning of the same model left in a folder.

    Raises
    ------
    OutputError
        If the folder has none.
    ModelError
        If it is of another model.
    """
    before = report_of(place)
    if before.model.sha256 != model.digest:
        raise ModelError(
            f"{place}: must be the folder of a fine-tuned {model.path.name}, but is of "
            f"another model, {before.model.path}; give a folder of the same model"
        )
    return load_tuned(model, config, place)


def _copied(place: Path) -> dict[str, bytes]:
    """Files of a front, to be written into another folder too."""
    names = ("front.json", "front.csv", "front.png")
    return {name: (place / name).read_bytes() for name in names if (place / name).is_file()}


def _picked(
    session: Session,
    place: Path,
    target: Folder,
    front: Front,
    before: Report,
    member: Member,
    training: Dataset | None = None,
    lesson: Lesson | None = None,
    max_bytes: int | None = None,
    *,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Write the files of a member of a front, widened up to some bytes where these are given."""
    search = before.search
    if search is None:
        raise OutputError(
            f"{place}: must be the folder of a finished search, its {REPORT} has none; run "
            "onnxgru quantize --search"
        )
    others = {} if _same(target.path, place) else _copied(place)
    if max_bytes is not None:
        study, lesson = study_of(session, training)
        front, member = _widened(study, front, member, max_bytes, session.listener)
        seen = output.history(session.yardstick.metric, Folder(place), front, search.max_drop)
        others = output.front_files(front, [(e.size, e.quality) for e in seen])
    scheme = member.parsed(str(place / NAME))
    summary = search.rewritten(front.chosen, member)
    result = output.finish(
        session, target, scheme, training, summary=summary, front=front, lesson=lesson,
        others=others, checkpoints=checkpoints, home=Folder(place),
    )  # fmt: skip
    if max_bytes is not None and not _same(target.path, place):  # the front has grown
        metric, tell = session.yardstick.metric, session.listener
        page = output.report_page(metric, Folder(place), before, front, None, tell)
        Folder(place).write({**others, PAGE: page})
    return result


def _widened(
    study: Study, front: Front, member: Member, max_bytes: int, tell: Listener
) -> tuple[Front, Member]:
    """The front with the widened member, and this member."""
    number = member.index
    tell(Stage(f"widening number {number} to at most {max_bytes:,} flash bytes"))
    genome = study.widened(
        member.genome,
        lambda sizes: sizes.flash_bytes <= max_bytes,
        lambda size: tell(Widened(size, max_bytes)),
    )
    known = {one.genome: one for one in front.members}
    if genome == member.genome:
        tell(Notice(f"--widen: nothing wider than number {number} fits {max_bytes:,} bytes"))
    if genome not in known:
        tell(Stage("judging the widened scheme"))
        known[genome] = study.entry(len(known), genome, widened_from=number)
        front = front.grown(known[genome])
    found = known[genome]
    if front.drop(member, found) > study.max_drop + ROUNDING:
        after, before = (figure(m.validation, front.metric.unit) for m in (found, member))
        tell(
            Notice(
                f"number {found.index} has {after} on validation, but number {number}, "
                f"which it was widened from, {before}: fine-tune it, or pick that with --index"
            )
        )
    return front, found
