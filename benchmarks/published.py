"""The published tasks: homogeneous widths, the published search, and ours with fine-tuning.

For a model of the zoo with its data beside it (``onnxgru zoo <task> -o FOLDER --data-only``, with
the model there), several seeds:

- *uniform N*: weights and outputs at N bits, 2 to 8, after training only; 3 to 7 fine-tuned with
  seed 0, and 8 with every seed, with the same data, epochs and learning rate as ours;
- *weights at 2 and 3 bits*, outputs at 8: rounded to nearest, by GPTQ, and to nearest and
  fine-tuned with every seed, or the first ``--narrow-seeds`` of them; of the first two also the
  SQNR of the model's outputs to the float model's, which tells apart what few sequences do not;
- *ranges*: weights of 8 and 2 bits by GPTQ, outputs at 8, with every way of choosing ranges; and
  uniform 8 bits with those of ours, fine-tuned with as many seeds as the narrow weights;
- *weights at 2 bits, outputs at 5*: by GPTQ with aligned ranges, fine-tuned with all scales;
- *published*: Miccini et al. 2024: one gene an operator, 40 x 20, random start, plain NSGA-II over
  error and weight bits; the smallest member within half a point of uniform 8 bits on validation,
  after training only, and fine-tuned as they do: 10 % of the training data (a batch at least),
  learning rate 1e-5;
- *ours*: the default search with GPTQ and aligned ranges; of its members of at most 2.24 bits a
  weight and 40 % of the flash of uniform 8 bits, or the narrowest where there is none, and within a
  point of the best of them on validation, the one nearest to the float model's outputs; what that
  leaves of the limits goes to wider operators, as with ``onnxgru pick --widen``; then fine-tuned,
  with ``--teacher-epochs`` of the same epochs spent on the 8-bit teacher that it starts from.

Where nothing else is said, weights are rounded to nearest and ranges plain, as is usual. Members
and epochs are chosen on validation data; figures are on hold-out data. The difference of ours from
*uniform 8, fine-tuned* is given with the 95 % interval of Student's t over the seeds.
What ``--study`` has already is not measured again, so that an interrupted study goes on. With
``--jobs`` so many processes measure at once, each a piece at a time on threads of its own.

    python -m benchmarks.published --models FOLDER --task mnist-row [--seeds 5] [--epochs 15]
        [--batch-size 32] [--learning-rate 0.001] [--averaging 0] [--distillation 0.5]
        [--teacher-epochs 0] [--learned-scales weights] [--sequences 10000] [--copies 1]
        [--validation N] [--narrow-seeds N] [--jobs 1] [--quick] [--json FILE] [--study FILE]
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import fresh, rounding
from benchmarks.measure import show
from benchmarks.record import Piece, Record
from onnxgru.core import files
from onnxgru.core.choices import WIDTHS
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import Account, account
from onnxgru.data.metrics import sqnr
from onnxgru.models.zoo import TASKS as ZOO
from onnxgru.passes import RANGES
from onnxgru.search.front import Member, front
from onnxgru.search.nsga import Progress, SearchSettings, search
from onnxgru.session.finetuning import training_data, tune
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.study import Study
from onnxgru.training import LEARNED_SCALES

TASKS = ZOO | {fresh.TASK.name: fresh.TASK}
MOST_BITS, MOST_FLASH = 2.24, 0.4
NARROW = (2, 3)
RANGED = (8, 2)
TUNED = (3, 4, 5, 6, 7)
PUBLISHED_SHARE, PUBLISHED_RATE = 0.1, 1e-5
PUBLISHED_DROP = 0.5
NEAR = 1.0  # points of accuracy: few sequences cannot tell schemes apart that are so close
POPULATION, GENERATIONS = 40, 20
DEFAULT_SEQUENCES = 10_000
USUAL = Config()
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
    seeds, narrow_seeds, epochs, batch_size, population, generations : int
        Of searches and of fine-tuning.
    workers : int
        Threads of a search.
    learning_rate, averaging, distillation : float
        Of fine-tuning.
    teacher_epochs : int
        How many of the epochs ours gives to a teacher of 8 bits.
    learned_scales : str
        Which scales it learns.
    """

    model: Path
    train: Path
    tenth: Path
    validation: Path
    narrow: tuple[int, ...]
    tuned: tuple[int, ...]
    seeds: int
    narrow_seeds: int
    epochs: int
    batch_size: int
    learning_rate: float
    averaging: float
    distillation: float
    teacher_epochs: int
    learned_scales: str
    population: int
    generations: int
    workers: int

    def config(self, seed: int, **others: Any) -> Config:
        """Settings of one seed."""
        settings: dict[str, Any] = {
            "search": True,
            "training_data": self.train,
            "validation": self.validation,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "averaging": self.averaging,
            "distillation": self.distillation,
            "learned_scales": self.learned_scales,
            "seed": seed,
            "rounding": "nearest",
            "ranges": "plain",
            "population": self.population,
            "generations": self.generations,
        }
        return Config(**settings | others)


def row(session: Session, scheme: Scheme) -> dict[str, float]:
    """Sizes and accuracy of a scheme of a session."""
    program = session.quantizer(scheme)
    sizes = account(program)
    return {
        "mean_bits": sizes.mean_bits,
        "weight_bits": sizes.weight_bits,
        "flash_bytes": sizes.flash_bytes,
        "validation": session.yardstick.quality(program, "validation"),
        "holdout": session.yardstick.quality(program, "holdout"),
    }


def tuned(session: Session, scheme: Scheme) -> dict[str, Any]:
    """The same after fine-tuning."""
    started = time.perf_counter()
    data = training_data(session.model, session.yardstick, session.config)
    assert data is not None
    made = tune(*session.parts, scheme, data)
    return {
        **row(session.on(made.quantizer, made.yardstick), scheme),
        "before": row(session, scheme)["holdout"],
        "epoch": made.summary["chosen_epoch"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def float_model(plan: Plan) -> dict[str, float]:
    """Accuracy of the float model."""
    session = Session.open(plan.model, plan.config(0), fused=True)
    return {role: session.yardstick.float_quality(role) for role in ("validation", "holdout")}


def uniform(plan: Plan, bits: int) -> dict[str, float]:
    """Weights and outputs of one width, after training only."""
    session = Session.open(plan.model, plan.config(0), fused=True)
    return row(session, Scheme.uniform(session.model.layers, bits))


def uniform_tuned(plan: Plan, bits: int, seed: int, ranges: str = "plain") -> dict[str, Any]:
    """The same, fine-tuned."""
    session = Session.open(plan.model, plan.config(seed, ranges=ranges), fused=True)
    return tuned(session, Scheme.uniform(session.model.layers, bits))


def narrow(plan: Plan, bits: int, method: str, ranges: str = "plain") -> dict[str, Any]:
    """Weights of some width rounded by a method, outputs at 8 bits."""
    session = Session.open(plan.model, plan.config(0, rounding=method, ranges=ranges), fused=True)
    scheme = rounding.scheme(session, [bits], [8], 0)
    return {**row(session, scheme), "sqnr": _nearness(session, scheme, "holdout")}


def narrow_tuned(plan: Plan, bits: int, seed: int) -> dict[str, Any]:
    """Weights of some width rounded to nearest and fine-tuned, outputs at 8 bits."""
    session = Session.open(plan.model, plan.config(seed), fused=True)
    return tuned(session, rounding.scheme(session, [bits], [8], 0))


def five(plan: Plan) -> dict[str, Any]:
    """Weights of 2 bits and outputs of 5, fine-tuned with the scales of both."""
    config = plan.config(0, rounding="gptq", ranges="aligned", learned_scales="all")
    session = Session.open(plan.model, config, fused=True)
    return tuned(session, rounding.scheme(session, [2], [5], 0))


def published(plan: Plan, seed: int) -> dict[str, Any]:
    """The published search, its member before and after fine-tuning, and the front as it grew."""
    config = plan.config(
        seed, genome="coupled", strategy="plain", objectives="error,weights",
        training_data=plan.tenth, learning_rate=PUBLISHED_RATE, distillation=0.0,
        learned_scales="none", averaging=0.0,
    )  # fmt: skip
    session = Session.open(plan.model, config, fused=True)
    study = Study(*session.parts)
    seen: list[tuple[int, Member]] = []

    def report(progress: Progress) -> None:
        seen.append((progress.generation, progress.member))

    with ThreadPoolExecutor(plan.workers) as workers:
        members = search(
            study.encoding.space,
            study.evaluate,
            SearchSettings(plan.population, plan.generations, seed, "plain"),
            report=report,
            workers=workers,
        )
    eight = session.yardstick.quality(
        session.quantizer(Scheme.uniform(session.model.layers, 8)), "validation"
    )
    floor = session.yardstick.metric.error(eight) + PUBLISHED_DROP
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
    config = plan.config(
        seed, rounding="gptq", ranges="aligned", teacher_epochs=plan.teacher_epochs
    )
    session = Session.open(plan.model, config)
    study = Study(*session.parts)
    study.prepare()
    with ThreadPoolExecutor(plan.workers) as workers:
        members = search(
            study.encoding.space,
            study.evaluate,
            SearchSettings(
                plan.population, plan.generations, seed, "explore-exploit", study.baseline
            ),
            seeds=study.starts,
            workers=workers,
        )
    limit = MOST_FLASH * _flash(session, Scheme.uniform(session.model.layers, 8))

    def sizes(member: Member) -> Account:
        return account(session.quantizer(study.encoding.scheme(member.genome)))

    def fits(found: Account) -> bool:
        return found.mean_bits <= MOST_BITS and found.flash_bytes <= limit

    candidates = [member for member in members if member.feasible]
    fitting = [member for member in candidates if fits(sizes(member))] or [
        min(candidates, key=lambda member: sizes(member).mean_bits)
    ]
    least = min(map(_error, fitting))
    near = [member for member in fitting if _error(member) <= least + NEAR]
    chosen = max(near, key=lambda member: _nearness(session, study.encoding.scheme(member.genome)))
    scheme = study.encoding.scheme(study.widened(chosen.genome, fits))
    return tuned(session, scheme) | {"scheme": json.loads(scheme.dumps())}


def _nearness(session: Session, scheme: Scheme, role: str = "validation") -> float:
    """SQNR of a scheme's outputs to the float model's: it tells apart what accuracy does not."""
    outputs = session.yardstick.judge(role).outputs(session.quantizer(scheme))
    return sqnr(
        session.yardstick.reference(role)[session.yardstick.output],
        outputs[session.yardstick.output],
    )


def _error(member: Member) -> float:
    return member.objectives[0]


def _flash(session: Session, scheme: Scheme) -> int:
    return account(session.quantizer(scheme)).flash_bytes


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval (Student's t); no interval for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, float("nan")
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


def pieces(plan: Plan) -> list[Piece]:
    """Everything that is measured, the longest first."""
    seeds = [str(seed) for seed in range(plan.seeds)]
    found = [
        Piece(("seeds", seed, name), make, (plan, int(seed)))
        for seed in seeds
        for name, make in (("ours", ours), ("published", published))
    ]
    found += [
        Piece(("seeds", seed, "uniform_8_tuned"), uniform_tuned, (plan, 8, int(seed)))
        for seed in seeds
    ]
    found += [
        Piece(("aligned", seed), uniform_tuned, (plan, 8, int(seed), "aligned"))
        for seed in seeds[: plan.narrow_seeds]
    ]
    found += [
        Piece(("ranges", str(bits), ranges), narrow, (plan, bits, "gptq", ranges))
        for bits in RANGED
        for ranges in RANGES
    ]
    for bits in plan.narrow:
        place = ("narrow", str(bits))
        found += [
            Piece((*place, "tuned", seed), narrow_tuned, (plan, bits, int(seed)))
            for seed in seeds[: plan.narrow_seeds]
        ]
        found += [
            Piece((*place, method), narrow, (plan, bits, method)) for method in ("nearest", "gptq")
        ]
    found.append(Piece(("five",), five, (plan,)))
    found += [Piece(("tuned", str(bits)), uniform_tuned, (plan, bits, 0)) for bits in plan.tuned]
    found += [Piece(("uniform", str(bits)), uniform, (plan, bits)) for bits in WIDTHS]
    return [*found, Piece(("float",), float_model, (plan,))]


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
        rows = {name: [arms[name]] for name in ("nearest", "gptq")}
        for name, found in (rows | {"tuned": list(arms["tuned"].values())}).items():
            figures[f"weights at {bits} bits, {name}, hold-out"] = statistics.fmean(
                entry["holdout"] for entry in found
            )
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
    parser.add_argument("--averaging", type=float, default=USUAL.averaging)
    parser.add_argument("--distillation", type=float, default=USUAL.distillation)
    parser.add_argument("--teacher-epochs", type=int, default=USUAL.teacher_epochs)
    parser.add_argument("--learned-scales", choices=LEARNED_SCALES, default=USUAL.learned_scales)
    parser.add_argument(
        "--sequences", type=int, default=DEFAULT_SEQUENCES, help="of the training data"
    )
    parser.add_argument(
        "--validation", type=int, metavar="N", help="sequences of it, all if left out"
    )
    parser.add_argument("--copies", type=int, default=1, help="of it, all but one augmented")
    parser.add_argument("--narrow-seeds", type=int, metavar="N")
    parser.add_argument("--jobs", type=int, choices=range(1, 65), default=1, metavar="N")
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--study", type=Path, metavar="FILE", help="write all that was measured")
    parsed = parser.parse_args()
    quick = parsed.quick
    with tempfile.TemporaryDirectory() as folder:
        train, tenth = Path(folder) / "train.npz", Path(folder) / "tenth.npz"
        count = write_training_data(parsed.task, train, parsed.sequences, parsed.copies)
        least = max(round(count * PUBLISHED_SHARE), parsed.batch_size)
        write_training_data(parsed.task, tenth, least)
        plan = Plan(
            parsed.models / f"{TASKS[parsed.task].stem}.onnx",
            train,
            tenth,
            _validation(parsed.models, parsed.task, Path(folder), parsed.validation),
            NARROW[:1] if quick else NARROW,
            () if quick else TUNED,
            1 if quick else parsed.seeds,
            1 if quick else parsed.narrow_seeds or parsed.seeds,
            2 if quick else parsed.epochs,
            parsed.batch_size,
            parsed.learning_rate,
            parsed.averaging,
            parsed.distillation,
            parsed.teacher_epochs,
            parsed.learned_scales,
            8 if quick else POPULATION,
            3 if quick else GENERATIONS,
            max(1, (os.cpu_count() or 1) // parsed.jobs),
        )
        command = {
            "task": parsed.task, "model": files.digest(plan.model.read_bytes()),
            "sequences": count, "copies": parsed.copies,
            "epochs": plan.epochs, "seeds": plan.seeds, "narrow_seeds": plan.narrow_seeds,
            "batch_size": plan.batch_size,
            "learning_rate": plan.learning_rate, "averaging": plan.averaging,
            "distillation": plan.distillation, "teacher_epochs": plan.teacher_epochs,
            "learned_scales": plan.learned_scales,
            "population": plan.population, "generations": plan.generations,
            "validation": parsed.validation,
            "machine": platform.processor() or platform.machine(),
        }  # fmt: skip
        record = Record(parsed.study, command)
        say = (lambda _line: None) if quick else (lambda line: print(line, flush=True))
        record.measure(pieces(plan), parsed.jobs, say)
    show(summary(record.document), parsed)


def write_training_data(name: str, target: Path, count: int, copies: int = 1) -> int:
    """Write so many of a task's training sequences, drawn at random; how many there were.

    The first copy of each is as it is, further ones are augmented as the recipe does at its end.
    """
    task = TASKS[name]
    material = task.load(task.recipe, None, lambda _event: None)
    train = material.parts.train
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.permutation(len(train.labels))[:count])
    parts = [train.inputs[chosen]]
    for _ in range(copies - 1):
        for indices in np.array_split(chosen, max(1, len(chosen) // task.recipe.batch_size)):
            parts.append(material.batch(indices, task.recipe.epochs, generator))
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
