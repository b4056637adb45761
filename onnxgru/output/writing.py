"""From a scheme to an output folder: graphs, their verification, the report and its page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxgru.core import files
from onnxgru.core.errors import ModelError, SchemeError, VerificationError
from onnxgru.core.folder import (
    ANNOTATED,
    CALIBRATION,
    INTEGER,
    JOURNAL,
    PAGE,
    REPORT,
    SCHEME,
    SENSITIVITY,
    SOURCE,
    Folder,
)
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.data.dataset import Dataset
from onnxgru.data.metrics import Metric
from onnxgru.documents.front import Front
from onnxgru.documents.remarks import RANDOM, remarks
from onnxgru.documents.report import Report
from onnxgru.events import Listener, Notice, Stage, Verified, silent
from onnxgru.output.interrupts import attended
from onnxgru.output.result import Result
from onnxgru.report import charts, page, text
from onnxgru.report import front as fronts
from onnxgru.report import record as reports
from onnxgru.report.record import QuantizedModel
from onnxgru.runtime import golden
from onnxgru.runtime.verify import Verification, verify
from onnxgru.session import delta
from onnxgru.session.finetuning import Checkpoints, Lesson, tune
from onnxgru.session.model import Model
from onnxgru.session.session import Session
from onnxgru.study import sensitivity as sensitivities
from onnxgru.study.study import Outcome

VERIFYING = 60.0
"""Seconds that the verification of an unrolled graph may take once the graph is loaded."""


def finish(
    session: Session,
    folder: Folder,
    scheme: Scheme,
    training: Dataset | None = None,
    outcome: Outcome | None = None,
    *,
    summary: Mapping[str, Any] | None = None,
    front: Front | None = None,
    lesson: Lesson | None = None,
    others: Mapping[str, bytes] | None = None,
    checkpoints: Checkpoints | None = None,
    home: Folder | None = None,
) -> Result:
    """Fine-tune a scheme, if there are data for it, make its graphs, and write everything.

    Parameters
    ----------
    session : Session
        The model and its data.
    folder : Folder
        The folder that is written.
    scheme : Scheme
        Widths.
    training : Dataset, optional
        Training data; where left out, nothing is fine-tuned.
    outcome : Outcome, optional
        Outcome of the search that has just ended with this scheme.
    summary, front : mapping and Front, optional
        Those of an earlier search that the scheme comes from.
    lesson : Lesson, optional
        The start of the fine-tuning; made here where left out.
    others : mapping of str to bytes, optional
        Contents of further files by name.
    checkpoints : Checkpoints, optional
        Checkpoints of the fine-tuning, removed when everything is written.
    home : Folder, optional
        Folder of the search that the member belongs to; `folder` where left out.
    """
    home, others = home or folder, dict(others or {})
    if outcome is not None:  # whatever may happen below, a search is not lost
        others |= front_files(outcome.front, outcome.cloud)
        folder.write(others)
    if training is None:
        scheme = delta.applied(*session.parts, scheme, session.listener)
        written, contents = _make(session, scheme, _kept(folder, outcome))
        contents |= others
        return _write(session, folder, written, contents, outcome, summary, front, home=home)
    # Thresholds come after training, which knows nothing of them.
    plain = scheme.with_thresholds(session.model.layers, lambda *_: None)
    tuning = tune(
        *session.parts, plain, training, lesson=lesson, listener=session.listener,
        checkpoints=checkpoints,
    )  # fmt: skip
    sizes = (account(program).flash_bytes for program in (session.quantizer(plain), tuning.program))
    if told := growth(*sizes):
        session.listener(Stage(told))
    tuned = session.on(tuning.quantizer, tuning.yardstick)
    scheme = delta.applied(*tuned.parts, scheme, session.listener)
    written, contents = _make(tuned, scheme, _kept(folder, outcome, tuned=True))
    contents[CALIBRATION] = session.quantizer.statistics.calibration_bytes
    contents |= tuning.contents() | others
    result = _write(
        tuned, folder, written, contents, outcome, summary, front, tuning.summary, home=home
    )
    if checkpoints:
        checkpoints.discard()
    return result


def growth(before: int, after: int) -> str:
    """A sentence where fine-tuning made a program larger; empty elsewhere.

    Parameters
    ----------
    before, after : int
        Flash bytes.
    """
    if after <= before:
        return ""
    return (
        "fine-tuning moved scales, so that fewer multipliers and biases fit one byte: "
        f"{after:,} flash bytes instead of {before:,}"
    )


def front_files(front: Front, cloud: Sequence[tuple[float, float]]) -> dict[str, bytes]:
    """Files of a front."""
    return {
        "front.json": files.dump(front.document()),
        "front.csv": fronts.table(front),
        "front.png": fronts.picture(front, cloud),
    }


def _kept(folder: Folder, outcome: Outcome | None, *, tuned: bool = False) -> str:
    """End of the sentence that says why no model was written: what is in the folder already."""
    kept = []
    if outcome is not None:
        kept.append(f"the search is in {folder.path}: front.csv, front.json and {JOURNAL}")
    if tuned:
        kept.append(f"the fine-tuning is in {folder.path}: its checkpoint")
    return f"; {' and '.join(kept)}; --resume goes on from there" if kept else ""


def _make(session: Session, scheme: Scheme, kept: str) -> tuple[QuantizedModel, dict[str, bytes]]:
    """Lower, emit, annotate and verify; nothing is written yet."""
    program = session.quantizer(scheme)
    session.listener(Stage("writing graphs"))
    integer = session.emission.integer(program, scheme)
    annotated = session.emission.annotated(program, scheme)
    session.listener(Stage("verifying integer.onnx against the reference implementation"))
    data = session.data["validation"]
    count = session.config.verify

    def check(proceed: Callable[[], None]) -> tuple[Verification, dict[str, bytes]]:
        def report(done: int, total: int) -> None:
            proceed()
            session.listener(Verified(done, total))

        checked = verify(
            integer, session.model.host, program, data.take(count),
            time_axes=session.emission.time_axes, states=session.handed_on, report=report,
            seconds=VERIFYING if session.emission.form.name == "unrolled" else None,
            batch=session.emission.batch,
        )  # fmt: skip
        proceed()
        vectors = golden.write(
            integer, data, count=session.config.golden, batch=session.emission.batch,
            time_axes=session.emission.time_axes, states=session.handed_on,
        )  # fmt: skip
        return checked, vectors

    try:
        checked, vectors = attended(check)
    except (VerificationError, ModelError) as error:
        raise type(error)(f"{error}{kept}") from error
    asked = min(count, data.size)
    if checked.sequences < asked:
        session.tell(
            f"verification of the unrolled graph ended after {VERIFYING:g} seconds: "
            f"{checked.sequences:,} of {asked:,} sequences are compared bit for bit; a smaller "
            "--verify asks for as many, and --recurrence scan computes the same codes faster"
        )
    shown = annotated
    if session.config.annotation == "qonnx":
        shown = session.emission.quants(annotated)
    contents = {
        INTEGER: integer.SerializeToString(deterministic=True),
        ANNOTATED: shown.SerializeToString(deterministic=True),
        SCHEME: scheme.dumps(),
        CALIBRATION: session.quantizer.statistics.calibration_bytes,
        **session.quantizer.statistics.moments_files,
        **({SOURCE: session.model.origin.content} if session.model.origin.held else {}),
        **vectors,
    }
    return QuantizedModel(scheme, program, integer, annotated, checked), contents


def _write(
    session: Session,
    folder: Folder,
    written: QuantizedModel,
    contents: dict[str, bytes],
    outcome: Outcome | None = None,
    summary: Mapping[str, Any] | None = None,
    front: Front | None = None,
    tuning: Mapping[str, Any] | None = None,
    *,
    home: Folder,
) -> Result:
    """Write the folder's files, the report last."""
    if outcome is not None:
        summary, front = outcome.summary, outcome.front
    sizes = {name: len(content) for name, content in contents.items() if name.endswith(".onnx")}
    session.listener(Stage("measuring every operator"))
    document = reports.build(session, written, sizes, summary, tuning)
    report = Report.parse(document)
    for sentence in remarks(report):
        if sentence != RANDOM:  # told before the work
            session.tell(sentence)
    contents["report.md"] = files.encoded(text.markdown(report))
    sensitivity = _sensitivity(session.model, home, session.listener)
    contents[PAGE] = report_page(
        session.yardstick.metric, home, report, front, sensitivity, session.listener
    )
    contents[REPORT] = files.dump(document)
    folder.write(contents, force=session.config.force and outcome is None)
    return Result(
        folder.path,
        document,
        written.scheme,
        outcome.front.document() if outcome is not None else None,
        home.path,
    )


def report_page(
    metric: Metric,
    folder: Folder,
    report: Report,
    front: Front | None,
    sensitivity: Mapping[str, Any] | None,
    listener: Listener = silent,
) -> bytes:
    """The page of a report, with the other documents in its folder."""
    evaluations: tuple[charts.Evaluation, ...] = ()
    if front is not None and report.search is not None:
        drop = report.search.max_drop
        evaluations = history(metric, folder, front, drop, listener)
    return page.build(
        report,
        folder=files.shown(folder.path),
        front=front,
        evaluations=evaluations,
        sensitivity=sensitivity,
        drop_title=sensitivities.drop_title(report.metric),
    )


def history(
    metric: Metric,
    folder: Folder,
    front: Front,
    max_drop: float,
    listener: Listener = silent,
) -> tuple[charts.Evaluation, ...]:
    """Evaluations of a folder's search; empty where its journal is missing or cannot be read."""
    journal = folder.path / JOURNAL
    if not journal.is_file():
        return ()
    try:
        return charts.history(journal.read_bytes(), front, metric, max_drop)
    except (OSError, ValueError, KeyError) as error:
        listener(Notice(f"{journal} cannot be read ({error}): {PAGE} is without its generations"))
        return ()


def _sensitivity(model: Model, folder: Folder, listener: Listener) -> dict[str, Any] | None:
    """The folder's measurement of sensitivity; None where there is none of this model."""
    path = folder.path / SENSITIVITY
    if not path.is_file():
        return None
    try:
        found = files.parse(path, sensitivities.FORMAT)
    except SchemeError as error:
        listener(Notice(f"{error}; {PAGE} is without it"))
        return None
    return found if found["model"]["sha256"] == model.digest else None
