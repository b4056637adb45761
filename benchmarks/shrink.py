"""The study "Shrink and Eliminate" (Rezk et al. 2022) on ten keywords: cells, widths and deltas.

LSTM, GRU, LiGRU and SRU of 128 units, and of 64 units in each of two directions. Each is measured
on hold-out data with its dense layer (``--head``), after training only, but for rows that say so:

- every operator at 8 or 4 bits, and with the candidate's product with the state skipped (16 bits
  for its weights and the state), in all directions or in the first one;
- as published: weights of 8 or 4 bits, rounded to nearest with one scale a matrix; what products
  read at the same width; everything else at 16 bits;
- mixed schemes: widths of the weights of input products, recurrent products and dense layer, the
  skipped product at 16 bits, everything that products read at 8 or 4 bits, the rest at 16 bits;
- delta networks at threshold 0 and with thresholds chosen on validation data;
- 4 bits, and the narrowest mixed scheme without a skip, fine-tuned.

Models of the zoo are taken as they are, those of two directions are trained first. Everything that
has been measured is kept, one file per model, and a command that was stopped goes on from there.

    python -m benchmarks.shrink WORK [--models NAME ...] [--epochs N] [--quick] [--json FILE]
    python -m benchmarks.shrink --page
"""

import argparse
import datetime
import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnxgru
from benchmarks.measure import parser_of, show
from onnxgru.core import files, skip
from onnxgru.core.choices import WIDE_BITS
from onnxgru.core.network import Layer, LinearOperator
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.cost.account import account
from onnxgru.models.make import make, make_data
from onnxgru.models.task import Task
from onnxgru.models.zoo import TASKS
from onnxgru.session import delta
from onnxgru.session.finetuning import training_data, tune
from onnxgru.session.session import Session

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "shrink"
PAGE = ROOT / "docs" / "shrink.md"
ZOO = {
    "LSTM": "speech-10-lstm",
    "GRU": "speech-10",
    "LiGRU": "speech-10-ligru",
    "SRU": "speech-10-sru",
}
BOTH = ", two directions"
MODELS = (*ZOO, *(f"{name}{BOTH}" for name in ZOO))
UNITS = 64
"""Units of each of two directions: as many features as one direction has."""

SKIPPED = "new.hidden"
PART = "/*/forward/new.hidden"
ROLE = "holdout"

MIXED = {
    "M1": (8, 2, 8, 8),
    "M2": (4, 2, 8, 8),
    "M3": (4, 2, 4, 8),
    "M4": (2, 2, 8, 8),
    "M5": (8, 4, 8, 8),
    "M6": (4, 4, 8, 8),
    "M7": (8, 2, 8, 4),
    "M8": (4, 2, 4, 4),
}
"""Bits of the weights of input products, recurrent products and dense layer; of what they read."""

COMPARED = "## What agrees, and what does not"
"""Heading of the part of the page that is written by hand, and kept."""

PUBLISHED = {"granularity": "tensor", "rounding": "nearest", "ranges": "plain"}


@dataclass(frozen=True)
class Subject:
    """A model with its data.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    work : Path
        Folder for models and data.
    """

    name: str
    work: Path

    @cached_property
    def task(self) -> Task[Any]:
        """What made it."""
        task = TASKS[ZOO[self.name.removesuffix(BOTH)]]
        if not self.name.endswith(BOTH):
            return task
        return replace(task, name=f"speech-10-{task.recipe.cell}-bidirectional")

    @property
    def path(self) -> Path:
        """The float model."""
        return self.work / f"{self.task.stem}.onnx"

    def prepare(self) -> None:
        """Have the model and its data in the folder."""
        if (self.work / f"{self.task.stem}.train.npz").is_file() and self.path.is_file():
            return
        self.work.mkdir(parents=True, exist_ok=True)
        if not self.name.endswith(BOTH):
            shutil.copy(ROOT / "models" / self.path.name, self.path)
            make_data(self.task, self.work, lambda _: None)
            return
        recipe = replace(self.task.recipe, bidirectional=True, hidden_size=UNITS)
        going = (self.work / f"{self.task.stem}.checkpoint.pt").is_file()
        make(self.task, self.work, lambda _: None, recipe=recipe, resume=going)

    def session(self, **settings: Any) -> Session:
        """The model with settings, without output."""
        return Session.open(self.path, onnxgru.Config(head=True, **settings), fused=True)


def operands16(session: Session, weights: tuple[int, int, int], read: int) -> Scheme:
    """Everything at 16 bits but for weights and what narrow products read.

    Parameters
    ----------
    session : Session
        The model.
    weights : tuple of int
        Bits of the weights of products with the input, with the state, and of dense layers.
    read : int
        Bits of what they read.
    """
    base = session.uniform(8)
    inputs, operators = {}, {}
    for layer in session.model.layers:
        inputs[layer.name] = replace(base.inputs[layer.name], bits=read)
        operands = _operands(layer)
        for operator in layer.operators:
            entry = replace(base.operators[operator.name], bits=WIDE_BITS)
            if operator.name in operands:
                entry = replace(entry, copy=read)
            if isinstance(operator, LinearOperator) and isinstance(entry, LinearScheme):
                group = 2 if not layer.recurrent else int(operator.matrix == "R")
                entry = replace(entry, weight_bits=weights[group])
            operators[operator.name] = entry
    return Scheme(inputs, operators)


def _operands(layer: Layer) -> set[str]:
    """Operators whose results are read by products, here or in a layer that reads these codes."""
    found = {layer.recurrences[0].emits}
    for recurrence in layer.recurrences:
        writers = {carry.name: carry.written_by for carry in recurrence.carries}
        found |= {recurrence.emits}
        for operator in recurrence.linears:
            name = writers.get(operator.inputs[0], operator.inputs[0])
            if name != recurrence.input:
                found |= set(layer.writers.get(layer.grids.get(name, ""), (name,)))
    return found


class Study:
    """Measures one model, row by row.

    Parameters
    ----------
    subject : Subject
        The model.
    epochs : int
        Of fine-tuning; none with 0.
    """

    def __init__(self, subject: Subject, epochs: int) -> None:
        self._subject, self._epochs = subject, epochs

    @cached_property
    def _ours(self) -> Session:
        return self._subject.session(delta="auto")

    @cached_property
    def _theirs(self) -> Session:
        return self._subject.session(**PUBLISHED)

    def _skipped(self, scheme: Scheme, pattern: str = SKIPPED) -> Scheme | None:
        """A scheme with a product skipped; None where the cell has none."""
        layers = self._ours.model.layers
        if not any(o.row == SKIPPED for layer in layers for o in layer.linears):
            return None
        return skip.applied(scheme, layers, skip.named(layers, (pattern,)))

    def rows(self, *, quick: bool = False) -> Iterator[tuple[str, Any]]:
        """Names of rows with functions that measure them."""
        two = self._subject.name.endswith(BOTH)
        yield "float", self._float
        for bits in (8, 4):
            yield f"{bits} bits", lambda b=bits: self._row(self._ours, self._ours.uniform(b))
            yield (
                f"{bits} bits, skip",
                lambda b=bits: self._row(self._ours, self._skipped(self._ours.uniform(b))),
            )
            if quick:
                return
            yield f"{bits} bits, wide states", lambda b=bits: self._wide(b)
            if two:
                yield (
                    f"{bits} bits, skip part",
                    lambda b=bits: self._row(
                        self._ours, self._skipped(self._ours.uniform(b), PART)
                    ),
                )
        for bits in (8, 4):
            yield f"published {bits} bits", lambda b=bits: self._published(b)
            yield f"published {bits} bits, skip", lambda b=bits: self._published(b, SKIPPED)
            if two:
                yield f"published {bits} bits, skip part", lambda b=bits: self._published(b, PART)
        for name, widths in MIXED.items():
            yield f"mixed {name}", lambda w=widths: self._row(self._ours, self._mixed(w))
        for name in ("M1", "M3"):
            widths = MIXED[name]
            yield (
                f"mixed {name}, no skip",
                lambda w=widths: self._row(self._ours, operands16(self._ours, w[:3], w[3])),
            )
        for bits in (8, 4):
            yield f"delta {bits} bits, 0", lambda b=bits: self._delta(b, chosen=False)
            yield f"delta {bits} bits, chosen", lambda b=bits: self._delta(b, chosen=True)
            narrow = f"published {bits} bits, delta"
            yield f"{narrow} 0", lambda b=bits: self._delta(b, chosen=False, published=True)
            yield f"{narrow} chosen", lambda b=bits: self._delta(b, chosen=True, published=True)
        if self._epochs:
            more = f"fine-tuned, {self._epochs} epochs"
            yield f"4 bits, {more}", lambda: self._tuned(self._ours.uniform(4))
            narrowest = operands16(self._ours, MIXED["M3"][:3], MIXED["M3"][3])
            yield f"mixed M3, no skip, {more}", lambda: self._tuned(narrowest)

    def _float(self) -> dict[str, Any]:
        session = self._ours
        judge = session.yardstick.judge(ROLE)
        estimate = judge.estimate(session.yardstick.reference(ROLE))
        linears = [o for layer in session.model.layers for o in layer.linears]
        size = sum(4 * (o.weight.size + o.bias.size) for o in linears)
        return {"quality": estimate.figure, "interval": estimate.interval, "bytes": size}

    def _mixed(self, widths: tuple[int, int, int, int]) -> Scheme:
        plain = operands16(self._ours, widths[:3], widths[3])
        return self._skipped(plain) or plain

    def _published(self, bits: int, pattern: str | None = None) -> dict[str, Any]:
        plain = operands16(self._theirs, (bits, bits, bits), bits)
        return self._row(self._theirs, plain if pattern is None else self._skipped(plain, pattern))

    def _wide(self, bits: int) -> dict[str, Any]:
        layers = self._ours.model.layers
        if not any(layer.summed_states for layer in layers):
            return {}
        return self._row(self._ours, skip.with_wide_states(self._ours.uniform(bits), layers))

    def _row(self, session: Session, scheme: Scheme | None) -> dict[str, Any]:
        return {} if scheme is None else _measured(session, session.quantizer(scheme))

    def _delta(self, bits: int, *, chosen: bool, published: bool = False) -> dict[str, Any]:
        session = self._theirs if published else self._ours
        plain = (
            operands16(session, (bits, bits, bits), bits) if published else session.uniform(bits)
        )
        made = (
            delta.choose(*session.parts, plain)
            if chosen
            else plain.with_thresholds(session.model.layers, lambda *_: 0)
        )
        program = session.quantizer(made)
        _, found = session.yardstick.judge(ROLE).measured(program)
        thresholds = {
            name: entry.threshold
            for section in (made.inputs, made.operators)
            for name, entry in section.items()
            if isinstance(entry, OutputScheme) and entry.threshold is not None
        }
        row = _measured(session, program)
        return row | {"eliminated": round(100 * found.share, 2), "thresholds": thresholds}

    def _tuned(self, scheme: Scheme) -> dict[str, Any]:
        train = self._subject.work / f"{self._subject.task.stem}.train.npz"
        session = self._subject.session(
            training_data=train, epochs=self._epochs, averaging=0.998, seed=0
        )
        data = training_data(session.model, session.yardstick, session.config)
        assert data is not None
        tuning = tune(*session.parts, scheme, data)
        return _measured(session.on(tuning.quantizer, tuning.yardstick), tuning.program)


def _measured(session: Session, program: IntegerProgram) -> dict[str, Any]:
    """Figure, interval and sizes of a program."""
    judge = session.yardstick.judge(ROLE)
    estimate, sizes = judge.estimate(judge.outputs(program)), account(program)
    return {
        "quality": estimate.figure,
        "interval": estimate.interval,
        "bytes": sizes.flash_bytes,
        "mean_bits": round(sizes.mean_bits, 3),
    }


def study(subject: Subject, epochs: int, *, quick: bool = False) -> dict[str, Any]:
    """Measure what is not in the model's file yet; all of it."""
    path = RESULTS / f"{subject.task.stem}.json"
    document: dict[str, Any] = {"model": subject.name, "rows": {}}
    if path.is_file() and not quick:
        document = json.loads(path.read_text("utf-8"))
    subject.prepare()
    for name, make_row in Study(subject, epochs).rows(quick=quick):
        if name in document["rows"]:
            continue
        started = time.monotonic()
        row = make_row()
        seconds = round(time.monotonic() - started, 1)
        document["rows"][name] = row | {"seconds": seconds} if row else {}
        document |= {
            "version": onnxgru.__version__,
            "python": platform.python_version(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        if not quick:
            RESULTS.mkdir(parents=True, exist_ok=True)
            files.write(path, files.dump(document))
    return document


def main() -> None:
    """Measure and print, or write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("work", type=Path, nargs="?", help="folder for models and data")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning (default none)")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} from the results")
    parsed = parser.parse_args()
    if parsed.page:
        from benchmarks.shrinkpage import page

        kept = PAGE.read_text("utf-8") if PAGE.is_file() else ""
        compared = kept[kept.index(COMPARED) :] if COMPARED in kept else f"{COMPARED}\n"
        every = Study(Subject(MODELS[-1], Path()), 0).rows()
        PAGE.write_text(page(_documents([name for name, _ in every]), MIXED, compared), "utf-8")
        return
    if parsed.work is None:
        parser.error("give a folder for models and data")
    show(dict(_figures(parsed)), parsed)


def _figures(parsed: argparse.Namespace) -> Iterator[tuple[str, float | str]]:
    for name in parsed.models[:1] if parsed.quick else parsed.models:
        found = study(Subject(name, parsed.work), parsed.epochs, quick=parsed.quick)
        for row, figures in found["rows"].items():
            if figures:
                yield f"{name}, {row}, %", round(figures["quality"], 2)


def _documents(order: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """Results by name of the model, their rows in an order; others behind them."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        rows = document["rows"]
        names = [*(n for n in order if n in rows), *(n for n in rows if n not in order)]
        found[document["model"]] = document | {"rows": {name: rows[name] for name in names}}
    return {name: found[name] for name in MODELS if name in found}


if __name__ == "__main__":
    main()
