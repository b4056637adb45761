"""The published tasks: homogeneous widths, the published search, and ours with fine-tuning.

For a model of the zoo with its data beside it (``onnxgru train <task> -o FOLDER --data-only``, with
the model there), several seeds:

- *uniform N*: weights and outputs at N bits, 2 to 8, after training only; 3 to 7 fine-tuned with
  seed 0, and 8 with every seed, with the same data, epochs and learning rate as ours;
- *weights at 2 and 3 bits*, outputs at 8: rounded to nearest, by GPTQ, and to nearest and
  fine-tuned;
- *weights at 2 bits, outputs at 5*: by GPTQ with saturating ranges, fine-tuned with all scales;
- *published*: Miccini et al. 2024: one gene an operator, 40 x 20, random start, plain NSGA-II over
  error and weight bits; the smallest member within half a point of uniform 8 bits on validation,
  after training only, and fine-tuned as they do: 10 % of the training data, learning rate 1e-5;
- *ours*: the default search with GPTQ and saturating ranges; of its members of at most 2.24 bits a
  weight and 40 % of the flash of uniform 8 bits, or the narrowest where there is none, and within a
  point of the best of them on validation, the one nearest to the float model's outputs, fine-tuned.

Members and epochs are chosen on validation data; figures are on hold-out data. The difference of
ours from *uniform 8, fine-tuned* is given with the 95 % interval of Student's t over the seeds.
What ``--study`` has already is not measured again, so that an interrupted study goes on.

    python -m benchmarks.published --models FOLDER --task mnist-row [--seeds 5] [--epochs 15]
        [--batch-size 32] [--learning-rate 0.001] [--averaging 0] [--sequences 10000] [--copies 1]
        [--validation N] [--quick] [--json FILE] [--study FILE]
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import rounding
from benchmarks.measure import show
from onnxgru.config import Config
from onnxgru.core import files
from onnxgru.core.account import account
from onnxgru.core.integers import WIDTHS
from onnxgru.core.metrics import sqnr
from onnxgru.core.scheme import Scheme
from onnxgru.models.zoo import TASKS
from onnxgru.search.front import Member, front
from onnxgru.search.nsga import Progress, Settings, search
from onnxgru.session import Session
from onnxgru.study import Study
from onnxgru.tuning import tune

MOST_BITS, MOST_FLASH = 2.24, 0.4
NARROW = (2, 3)
TUNED = (3, 4, 5, 6, 7)
PUBLISHED_SHARE, PUBLISHED_RATE = 0.1, 1e-5
PUBLISHED_DROP = 0.5
NEAR = 1.0  # points of accuracy: few sequences cannot tell schemes apart that are so close
POPULATION, GENERATIONS = 40, 20
DEFAULT_SEQUENCES = 10_000
SHOWN_GENERATIONS = (0, 4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Plan:
    """How much to spend.

    Parameters
    ----------
    model : Path
        The float model, its data beside it.
    train, tenth : Path
        Training data for fine-tuning, ours and the published way.
    validation : Path
        What is chosen by.
    narrow, tuned : tuple of int
        Widths of weights with outputs at 8 bits, and uniform ones that are fine-tuned.
    seeds, epochs, batch_size, population, generations : int
        Of searches and of fine-tuning.
    learning_rate, averaging : float
        Of fine-tuning.
    """

    model: Path
    train: Path
    tenth: Path
    validation: Path
    narrow: tuple[int, ...]
    tuned: tuple[int, ...]
    seeds: int
    epochs: int
    batch_size: int
    learning_rate: float
    averaging: float
    population: int
    generations: int

    def config(self, seed: int, **others: Any) -> Config:
        """Settings of one seed."""
        settings: dict[str, Any] = {
            "search": True,
            "finetune": self.train,
            "validation": self.validation,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "averaging": self.averaging,
            "seed": seed,
            "rounding": "nearest",
            "ranges": "plain",
            "population": self.population,
            "generations": self.generations,
        }
        return Config(**settings | others)


def row(session: Session, scheme: Scheme) -> dict[str, float]:
    """Sizes and accuracy of a scheme of a session."""
    program = session.lowering(scheme)
    sizes = account(program)
    return {
        "mean_bits": sizes.mean_bits,
        "weight_bits": sizes.weight_bits,
        "flash_bytes": sizes.flash_bytes,
        "validation": session.quality(program, "validation"),
        "holdout": session.quality(program, "holdout"),
    }


def tuned(session: Session, scheme: Scheme) -> dict[str, Any]:
    """The same after fine-tuning."""
    started = time.perf_counter()
    made = tune(session, scheme)
    return {
        **row(made.session, scheme),
        "before": row(session, scheme)["holdout"],
        "epoch": made.summary["chosen_epoch"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def narrow(plan: Plan, bits: int) -> dict[str, Any]:
    """What weights of some width are worth, outputs at 8 bits: rounded, by GPTQ, fine-tuned."""
    plain = Session(plan.model, plan.config(0), fused=True)
    gptq = Session(plan.model, plan.config(0, rounding="gptq"), fused=True)
    scheme = rounding.scheme(plain, [bits], [8], 0)
    return {
        "nearest": row(plain, scheme),
        "gptq": row(gptq, scheme),
        "tuned": tuned(plain, scheme),
    }


def five(plan: Plan) -> dict[str, Any]:
    """Weights of 2 bits and outputs of 5, fine-tuned with the scales of both."""
    config = plan.config(0, rounding="gptq", ranges="saturating", learned_scales="all")
    session = Session(plan.model, config, fused=True)
    return tuned(session, rounding.scheme(session, [2], [5], 0))


def published(plan: Plan, seed: int) -> dict[str, Any]:
    """The published search, its member before and after fine-tuning, and the front as it grew."""
    config = plan.config(
        seed, genome="coupled", strategy="plain", objectives="error,weights",
        finetune=plan.tenth, learning_rate=PUBLISHED_RATE, distillation=0.0, learned_scales="none",
        averaging=0.0,
    )  # fmt: skip
    session = Session(plan.model, config, fused=True)
    study = Study(session)
    seen: list[tuple[int, Member]] = []

    def report(progress: Progress) -> None:
        seen.append((progress.generation, progress.member))

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        members = search(
            study.encoding.space,
            study.evaluate,
            Settings(plan.population, plan.generations, seed),
            report=report,
            workers=workers,
        )
    uniform = session.quality(session.lowering(Scheme.uniform(session.layers, 8)), "validation")
    floor = session.metric.error(uniform) + PUBLISHED_DROP
    found = front(members)
    fitting = [m for m in found if m.objectives[0] <= floor] or [min(found, key=_error)]
    chosen = min(fitting, key=lambda member: member.objectives[1])
    growth = {
        str(generation): [
            m.objectives for m in front([m for number, m in seen if number <= max(1, generation)])
        ]
        for generation in SHOWN_GENERATIONS
        if generation <= plan.generations
    }
    scheme = study.encoding.scheme(chosen.genome)
    made = tuned(session, scheme)
    return {**row(session, scheme), "tuned": made, "growth": growth}


def ours(plan: Plan, seed: int) -> dict[str, Any]:
    """The default search, and its member after fine-tuning."""
    session = Session(plan.model, plan.config(seed, rounding="gptq", ranges="saturating"))
    study = Study(session)
    study.prepare()
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        members = search(
            study.encoding.space,
            study.evaluate,
            Settings(plan.population, plan.generations, seed, "explore-exploit", study.baseline),
            seeds=study.starts(),
            workers=workers,
        )
    limit = MOST_FLASH * _flash(session, Scheme.uniform(session.layers, 8))
    candidates = [(m, study.encoding.scheme(m.genome)) for m in members if m.feasible]
    sizes = {m.genome: account(session.lowering(scheme)) for m, scheme in candidates}
    fitting = [
        (m, scheme)
        for m, scheme in candidates
        if sizes[m.genome].mean_bits <= MOST_BITS and sizes[m.genome].flash_bytes <= limit
    ] or [min(candidates, key=lambda pair: sizes[pair[0].genome].mean_bits)]
    least = min(_error(member) for member, _ in fitting)
    near = [scheme for member, scheme in fitting if _error(member) <= least + NEAR]
    scheme = max(near, key=lambda scheme: _nearness(session, scheme))
    return tuned(session, scheme) | {"scheme": json.loads(scheme.dumps())}


def _nearness(session: Session, scheme: Scheme) -> float:
    """SQNR of a scheme's outputs to the float model's on validation: finer than accuracy."""
    outputs = session.judge("validation").outputs(session.lowering(scheme))
    return sqnr(session.reference("validation")[session.output], outputs)


def _error(member: Member) -> float:
    return member.objectives[0]


def _flash(session: Session, scheme: Scheme) -> int:
    return account(session.lowering(scheme)).flash_bytes


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval (Student's t); no interval for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, float("nan")
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


class Record:
    """What has been measured, in a file that is written after every piece.

    Parameters
    ----------
    path : Path, optional
        The file; it is gone on with if it is of the same command.
    command : dict
        What was asked.
    """

    def __init__(self, path: Path | None, command: dict[str, Any]) -> None:
        self._path = path
        self.document: dict[str, Any] = {"command": command, "seconds": 0}
        self.document |= {"narrow": {}, "tuned": {}}
        if path is not None and path.is_file():
            found = json.loads(path.read_text("utf-8"))
            if found.get("command") != command:
                raise SystemExit(f"{path}: holds another study; give another file, or remove it")
            self.document = found

    def piece(self, *keys: str, make: Callable[[], Any]) -> Any:
        """A piece under its keys, measured unless it is there."""
        place = self.document
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        if keys[-1] not in place:
            started = time.perf_counter()
            place[keys[-1]] = json.loads(json.dumps(make()))
            self.document["seconds"] += round(time.perf_counter() - started)
            if self._path is not None:
                files.write(self._path, (json.dumps(self.document, indent=1) + "\n").encode())
        return place[keys[-1]]


def study(plan: Plan, record: Record, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as what the JSON holds."""
    session = Session(plan.model, plan.config(0), fused=True)

    def uniform(bits: int) -> Scheme:
        return Scheme.uniform(session.layers, bits)

    for role in ("validation", "holdout"):
        record.piece("float", role, make=lambda role=role: session.float_quality(role))
    for bits in WIDTHS:
        record.piece("uniform", str(bits), make=lambda bits=bits: row(session, uniform(bits)))
    for seed in range(plan.seeds):
        key = ("seeds", str(seed))

        def eight(seed: int = seed) -> dict[str, Any]:
            return tuned(Session(plan.model, plan.config(seed), fused=True), uniform(8))

        found = {
            "published": record.piece(*key, "published", make=lambda s=seed: published(plan, s)),
            "uniform_8_tuned": record.piece(*key, "uniform_8_tuned", make=eight),
            "ours": record.piece(*key, "ours", make=lambda s=seed: ours(plan, s)),
        }
        line = [f"{k} {v['holdout']:.2f} % at {v['mean_bits']:.2f}" for k, v in found.items()]
        say(f"seed {seed}: " + ", ".join(line))
    for bits in plan.narrow:
        record.piece("narrow", str(bits), make=lambda bits=bits: narrow(plan, bits))
    record.piece("five", make=lambda: five(plan))
    for bits in plan.tuned:
        made = record.piece("tuned", str(bits), make=lambda b=bits: tuned(session, uniform(b)))
        say(f"uniform {bits}, fine-tuned: {made['holdout']:.2f} %")
    return record.document


def summary(document: dict[str, Any]) -> dict[str, float | str]:
    """Figures from what was measured."""
    seeds, eight = list(document["seeds"].values()), document["uniform"]["8"]
    ours_, tuned_, published_ = (
        [entry[name] for entry in seeds] for name in ("ours", "uniform_8_tuned", "published")
    )
    figures: dict[str, float | str] = {
        "seeds": len(seeds),
        "float, hold-out": document["float"]["holdout"],
    }
    for bits, found in document["uniform"].items():
        figures[f"uniform {bits}, hold-out"] = found["holdout"]
    for bits, arms in document["narrow"].items():
        for name, found in arms.items():
            figures[f"weights at {bits} bits, {name}, hold-out"] = found["holdout"]
    for bits, found in document["tuned"].items():
        figures[f"uniform {bits} tuned, hold-out"] = found["holdout"]
    figures["weights at 2 bits, outputs at 5, tuned, hold-out"] = document["five"]["holdout"]
    arms = {"published": published_, "published, tuned": [r["tuned"] for r in published_]}
    for name, rows in {**arms, "uniform 8 tuned": tuned_, "ours": ours_}.items():
        figures[f"{name}, hold-out, mean"] = statistics.fmean(r["holdout"] for r in rows)
        figures[f"{name}, bits a weight, mean"] = statistics.fmean(r["mean_bits"] for r in rows)
        figures[f"{name}, smaller than uniform 8 in weight bits, %"] = statistics.fmean(
            100 * (1 - r["weight_bits"] / eight["weight_bits"]) for r in rows
        )
        figures[f"{name}, smaller than uniform 8 in flash, %"] = statistics.fmean(
            100 * (1 - r["flash_bytes"] / eight["flash_bytes"]) for r in rows
        )
    mean, half = interval([a["holdout"] - b["holdout"] for a, b in zip(ours_, tuned_, strict=True)])
    figures["ours less uniform 8 tuned, points"] = mean
    figures["ours less uniform 8 tuned, 95 % interval, +-"] = half
    figures["ours before fine-tuning, hold-out, mean"] = statistics.fmean(
        r["before"] for r in ours_
    )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the data")
    parser.add_argument("--task", choices=tuple(TASKS), default="digits-row")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--averaging", type=float, default=0.0)
    parser.add_argument(
        "--sequences", type=int, default=DEFAULT_SEQUENCES, help="of the training data"
    )
    parser.add_argument(
        "--validation", type=int, metavar="N", help="sequences of it, all if left out"
    )
    parser.add_argument("--copies", type=int, default=1, help="of it, all but one augmented")
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--study", type=Path, metavar="FILE", help="write all that was measured")
    parsed = parser.parse_args()
    quick = parsed.quick
    with tempfile.TemporaryDirectory() as folder:
        train, tenth = Path(folder) / "train.npz", Path(folder) / "tenth.npz"
        count = training_data(parsed.task, train, parsed.sequences, parsed.copies)
        training_data(parsed.task, tenth, round(count * PUBLISHED_SHARE))
        plan = Plan(
            parsed.models / f"{TASKS[parsed.task].stem}.onnx",
            train,
            tenth,
            _validation(parsed.models, parsed.task, Path(folder), parsed.validation),
            NARROW[:1] if quick else NARROW,
            () if quick else TUNED,
            1 if quick else parsed.seeds,
            2 if quick else parsed.epochs,
            parsed.batch_size,
            parsed.learning_rate,
            parsed.averaging,
            8 if quick else POPULATION,
            3 if quick else GENERATIONS,
        )
        command = {
            "task": parsed.task, "model": files.digest(plan.model.read_bytes()),
            "sequences": count, "copies": parsed.copies,
            "epochs": plan.epochs, "seeds": plan.seeds, "batch_size": plan.batch_size,
            "learning_rate": plan.learning_rate, "averaging": plan.averaging,
            "population": plan.population, "generations": plan.generations,
            "validation": parsed.validation,
            "machine": platform.processor() or platform.machine(),
        }  # fmt: skip
        record = Record(parsed.study, command)
        document = study(plan, record, lambda line: None if quick else print(line, flush=True))
    show(summary(document), parsed)


def training_data(name: str, target: Path, count: int, copies: int = 1) -> int:
    """Write so many of a task's training sequences, drawn at random; how many there were.

    The first copy of each is as it is, further ones are augmented as the recipe does.
    """
    task = TASKS[name]
    material = task.load(task.recipe, None, lambda _event: None)
    train = material.parts.train
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.permutation(len(train.labels))[:count])
    parts = [train.inputs[chosen]]
    for copy in range(copies - 1):
        for indices in np.array_split(chosen, max(1, len(chosen) // task.recipe.batch_size)):
            parts.append(material.batch(indices, copy, generator))
    labels = np.tile(train.labels[chosen], copies)
    np.savez(target, **{task.input_name: np.concatenate(parts), "labels": labels})
    return len(chosen)


def _validation(folder: Path, name: str, work: Path, count: int | None) -> Path:
    """The validation data, or the first so many of them."""
    path = folder / f"{TASKS[name].stem}.validation.npz"
    if count is None:
        return path
    with np.load(path) as file:
        np.savez(work / "validation.npz", **{key: file[key][:count] for key in file})
    return work / "validation.npz"


if __name__ == "__main__":
    main()
