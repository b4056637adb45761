"""What a member of a front gains by starting from another member's fine-tuned weights.

Of the front of a search (plain NSGA-II) on the shipped model, members of at most 4 bits a weight:
the middle one is the beacon (Rezk et al. 2021, arXiv 2108.01192), fine-tuned for three epochs.
Every other one is fine-tuned for one epoch from the float weights, for one from the beacon, and for
four from the float weights; means over members and seeds, on hold-out data.

    python -m benchmarks.beacons [--quick] [--json FILE]
"""

import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import arguments, seconds, show
from benchmarks.published import write_training_data
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.cost.account import account
from onnxgru.data.metrics import sqnr
from onnxgru.search.front import front
from onnxgru.search.nsga import SearchSettings, search
from onnxgru.session.finetuning import Tuning, prepare, training_data, tune
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.study import Study

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits_row.onnx"
COPIES = 4
WIDEST = 4.0
ARMS = {
    "float, 1 epoch": (1, False),
    "beacon, 1 epoch": (1, True),
    "float, 4 epochs": (4, False),
}


def schemes(config: Config) -> list[Scheme]:
    """Narrow members of a front, the narrowest first."""
    session = Session.open(MODEL, config, fused=True)
    study = Study(*session.parts)
    study.prepare()
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        found = search(
            study.encoding.space,
            study.evaluate,
            SearchSettings(config.population, config.generations, config.seed, "plain"),
            seeds=study.starts,
            workers=workers,
        )
    made = [study.encoding.scheme(member.genome) for member in front(found)]
    bits = {id(scheme): account(session.quantizer(scheme)).mean_bits for scheme in made}
    return sorted((s for s in made if bits[id(s)] <= WIDEST), key=lambda s: bits[id(s)])


def measured(scheme: Scheme, config: Config, start: Tuned | None) -> tuple[float, float, float]:
    """Accuracy on hold-out data, SQNR of the output to the float model's in dB, and seconds."""
    session = Session.open(MODEL, config, fused=True)
    session.yardstick.quality(session.quantizer(scheme), "validation")
    data = training_data(session.model, session.yardstick, config)
    assert data is not None
    found: list[Tuning] = []

    def work() -> None:
        lesson = prepare(*session.parts, data, start=start)
        found.append(tune(*session.parts, scheme, data, lesson=lesson))

    spent = seconds(work)
    judge = found[0].yardstick.judge("holdout")
    outputs = judge.outputs(found[0].program)
    exact = session.yardstick.reference("holdout")[session.yardstick.output]
    return judge.figure(outputs), sqnr(exact, outputs[session.yardstick.output]), spent


def main() -> None:
    """Measure and print."""
    parsed = arguments(__doc__)
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.npz"
        count, copies = (256, 1) if parsed.quick else (897, COPIES)
        write_training_data("digits-row", train, count, copies)
        for seed in range(1 if parsed.quick else 3):
            spent = {"population": 10, "generations": 2} if parsed.quick else {}
            config = Config(search=True, training_data=train, batch_size=32, seed=seed, **spent)
            found = schemes(config)
            middle = found[len(found) // 2]
            session = Session.open(MODEL, replace(config, epochs=3), fused=True)
            data = training_data(session.model, session.yardstick, config)
            assert data is not None
            beacon = tune(*session.parts, middle, data).tuned
            for scheme in found[:2] if parsed.quick else found:
                if scheme is middle:
                    continue
                for name, (epochs, from_beacon) in ARMS.items():
                    start = beacon if from_beacon else None
                    made = measured(scheme, replace(config, epochs=epochs), start)
                    rows[name].append(made)
    figures: dict[str, float | str] = {"members": len(rows["float, 1 epoch"])}
    for name, results in rows.items():
        accuracies, decibels, times = zip(*results, strict=True)
        figures[f"hold-out, % ({name})"] = statistics.fmean(accuracies)
        figures[f"output, dB ({name})"] = statistics.fmean(decibels)
        figures[f"seconds ({name})"] = statistics.median(times)
    show(figures, parsed)


if __name__ == "__main__":
    main()
