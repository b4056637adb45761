"""The published tasks: homogeneous widths, the published search, and ours with fine-tuning.

For a model of the zoo with its data beside it (``onnxgru train <task> -o FOLDER --data-only``, with
the model there), several seeds:

- *uniform N*: weights and outputs at N bits, 3 to 8, after training only;
- *uniform 8, fine-tuned*: with the same data, epochs and learning rate as ours, every seed;
- *published*: Miccini et al. 2024: one gene an operator, 40 x 20, random start, plain NSGA-II over
  error and weight bits; the smallest member within half a point of uniform 8 bits on validation;
- *ours*: the default search with GPTQ and saturating ranges; of its members of at most 2.24 bits a
  weight and 40 % of the flash of uniform 8 bits, or the narrowest where there is none, and within a
  point of the best of them on validation, the one nearest to the float model's outputs, fine-tuned.

Members and epochs are chosen on validation data; figures are on hold-out data. The difference of
ours from *uniform 8, fine-tuned* is given with the 95 % interval of Student's t over the seeds.

    python -m benchmarks.published --models FOLDER --task mnist-row [--seeds 5] [--epochs 15]
        [--sequences 10000] [--quick] [--json FILE] [--study benchmarks/results/mnist-row.json]
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

from benchmarks.measure import show
from onnxgru.config import Config
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
PUBLISHED_DROP = 0.5
NEAR = 1.0  # points of accuracy: few sequences cannot tell schemes apart that are so close
POPULATION, GENERATIONS = 40, 20
SHOWN_GENERATIONS = (0, 4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Plan:
    """How much to spend.

    Parameters
    ----------
    model : Path
        The float model, its data beside it.
    train : Path
        Training data for fine-tuning.
    validation : Path
        What is chosen by.
    seeds, epochs, batch_size, population, generations : int
        Of searches and of fine-tuning.
    learning_rate : float
        Of fine-tuning.
    """

    model: Path
    train: Path
    validation: Path
    seeds: int
    epochs: int
    batch_size: int
    learning_rate: float
    population: int
    generations: int

    def config(self, seed: int, **others: Any) -> Config:
        """Settings of one seed."""
        return Config(
            search=True,
            finetune=self.train,
            validation=self.validation,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=seed,
            population=self.population,
            generations=self.generations,
            **others,
        )


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


def published(plan: Plan, seed: int) -> dict[str, Any]:
    """The published search, its member, and the front as it grew."""
    session = Session(
        plan.model,
        plan.config(seed, genome="coupled", strategy="plain", objectives="error,weights"),
    )
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
    return {**row(session, study.encoding.scheme(chosen.genome)), "growth": growth}


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


def study(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as what the JSON holds."""
    session = Session(plan.model, plan.config(0))
    document: dict[str, Any] = {
        "float": {role: session.float_quality(role) for role in ("validation", "holdout")},
        "uniform": {b: row(session, Scheme.uniform(session.layers, b)) for b in WIDTHS[1:]},
        "seeds": [],
    }
    for seed in range(plan.seeds):
        session = Session(plan.model, plan.config(seed), fused=True)
        entry = {"published": published(plan, seed)}
        entry["uniform_8_tuned"] = tuned(session, Scheme.uniform(session.layers, 8))
        entry["ours"] = ours(plan, seed)
        document["seeds"].append(entry)
        say(
            f"seed {seed}: "
            + ", ".join(
                f"{k} {v['holdout']:.2f} % at {v['mean_bits']:.2f}" for k, v in entry.items()
            )
        )
    return document


def summary(document: dict[str, Any]) -> dict[str, float | str]:
    """Figures from what was measured."""
    seeds, eight = document["seeds"], document["uniform"][8]
    ours_, tuned_, published_ = (
        [entry[name] for entry in seeds] for name in ("ours", "uniform_8_tuned", "published")
    )
    figures: dict[str, float | str] = {
        "seeds": len(seeds),
        "float, hold-out": document["float"]["holdout"],
    }
    for bits, found in document["uniform"].items():
        figures[f"uniform {bits}, hold-out"] = found["holdout"]
    for name, rows in (("published", published_), ("uniform 8 tuned", tuned_), ("ours", ours_)):
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
    parser.add_argument("--sequences", type=int, default=10000, help="of the training data")
    parser.add_argument(
        "--validation", type=int, metavar="N", help="sequences of it, all if left out"
    )
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--study", type=Path, metavar="FILE", help="write all that was measured")
    parsed = parser.parse_args()
    quick = parsed.quick
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.npz"
        count = training_data(parsed.task, train, parsed.sequences)
        validation = _validation(parsed.models, parsed.task, Path(folder), parsed.validation)
        plan = Plan(
            parsed.models / f"{TASKS[parsed.task].stem}.onnx",
            train,
            validation,
            1 if quick else parsed.seeds,
            2 if quick else parsed.epochs,
            parsed.batch_size,
            parsed.learning_rate,
            8 if quick else POPULATION,
            3 if quick else GENERATIONS,
        )
        document = study(plan, lambda line: print(line, flush=True) if not quick else None)
    document["command"] = {
        "task": parsed.task, "sequences": count, "epochs": plan.epochs, "seeds": plan.seeds,
        "batch_size": plan.batch_size, "learning_rate": plan.learning_rate,
        "population": plan.population, "generations": plan.generations,
        "validation": parsed.validation,
    }  # fmt: skip
    document["machine"] = platform.processor() or platform.machine()
    document["seconds"] = round(time.perf_counter() - started)
    show(summary(document), parsed)
    if parsed.study is not None:
        parsed.study.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def training_data(name: str, target: Path, count: int) -> int:
    """Write so many of a task's training sequences, drawn at random; how many there were."""
    task = TASKS[name]
    train = task.load(task.recipe, None, lambda _event: None).parts.train
    chosen = np.sort(np.random.default_rng(0).permutation(len(train.labels))[:count])
    arrays = {task.input_name: train.inputs[chosen], "labels": train.labels[chosen]}
    np.savez(target, **arrays)
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
