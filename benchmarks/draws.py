"""Weights at 2 and 3 bits, to nearest and by GPTQ, over draws of the calibration recordings.

One set of recordings leaves the order of two roundings to chance, so a model of the zoo is
calibrated several times, on a random half of its recordings each time, and judged on all hold-out
data: accuracy, cross-entropy, and the signal to noise ratio of the outputs, with outputs at 8 bits
and *alone*, with everything but the weights in float.

    python -m benchmarks.draws --models FOLDER --task speech-4 [--draws 10] [--jobs 1] [--quick]
        [--json FILE] [--study FILE]
"""

import argparse
import platform
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import rounding
from benchmarks.measure import show
from benchmarks.record import Piece, Record
from onnxgru.core import files
from onnxgru.core.weights import Tuned
from onnxgru.data.metrics import sqnr
from onnxgru.models.zoo import TASKS
from onnxgru.session.session import Session
from onnxgru.settings.config import Config

BITS = (2, 3)
METHODS = ("nearest", "gptq")
LEAST = 1e-12
"""A probability below it counts as this: its logarithm is finite."""

Array = npt.NDArray[Any]


def measured(model: Path, bits: int, method: str, draw: int) -> dict[str, Any]:
    """Figures of one rounding after calibration on one draw."""
    with tempfile.TemporaryDirectory() as folder:
        recordings = Path(folder) / "half.npz"
        with np.load(model.with_suffix(".calibration.npz")) as file:
            arrays = dict(file)
        count = len(next(iter(arrays.values())))
        chosen = np.sort(np.random.default_rng(draw).permutation(count)[: count // 2])
        np.savez(recordings, **{name: array[chosen] for name, array in arrays.items()})
        config = Config(calibration=recordings, rounding=method, ranges="plain")
        session = Session.open(model, config, fused=True)
        integers = session.yardstick.judge("holdout").outputs(
            session.quantizer(rounding.scheme(session, [bits], [8], 0))
        )
        return figures(session, integers) | {"alone": figures(session, alone(session, bits))}


def alone(session: Session, bits: int) -> dict[str, Array]:
    """Outputs for hold-out data of the float model with rounded weights."""
    weights = {}
    for layer in session.model.layers:
        for recurrence in layer.recurrences:
            for operator in recurrence.operators:
                if operator.kind == "linear":
                    found = session.quantizer.rounding(recurrence, operator, "channel", bits)
                    weights[operator.name] = found.scales[:, None] * found.codes, found.bias
    other = session.model.retuned(Tuned({}, weights, {}, {}))
    return other.host.outputs_of(session.data["holdout"])


def figures(session: Session, outputs: Mapping[str, Array]) -> dict[str, float]:
    """Accuracy in %, cross-entropy in nats, and SQNR in dB, of hold-out outputs."""
    labels = session.data["holdout"].labels
    assert labels is not None
    likely = np.take_along_axis(
        outputs[session.yardstick.output].astype(np.float64), labels[:, None], axis=-1
    )
    return {
        "holdout": session.yardstick.judge("holdout").figure(outputs),
        "entropy": float(-np.log(likely.clip(min=LEAST)).mean()),
        "sqnr": sqnr(
            session.yardstick.reference("holdout")[session.yardstick.output],
            outputs[session.yardstick.output],
        ),
    }


def summary(document: dict[str, Any]) -> dict[str, float | str]:
    """Means over the draws."""
    found: dict[str, float | str] = {"draws": document["command"]["draws"]}
    for bits, methods in document["weights"].items():
        for method, draws in methods.items():
            for label, rows in (
                ("", list(draws.values())),
                (", alone", [row["alone"] for row in draws.values()]),
            ):
                for key, unit in (("holdout", "%"), ("entropy", "nats"), ("sqnr", "dB")):
                    mean = statistics.fmean(row[key] for row in rows)
                    found[f"{key}, {unit} (weights {bits}, {method}{label})"] = mean
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the data")
    parser.add_argument("--task", choices=tuple(TASKS), default="digits-row")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--jobs", type=int, choices=range(1, 65), default=1, metavar="N")
    parser.add_argument("--quick", action="store_true", help="under 20 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--study", type=Path, metavar="FILE", help="write all that was measured")
    parsed = parser.parse_args()
    draws = 2 if parsed.quick else parsed.draws
    model = parsed.models / f"{TASKS[parsed.task].stem}.onnx"
    command = {
        "task": parsed.task,
        "model": files.digest(model.read_bytes()),
        "draws": draws,
        "machine": platform.processor() or platform.machine(),
    }
    record = Record(parsed.study, command)
    pieces = [
        Piece(("weights", str(bits), method, str(draw)), measured, (model, bits, method, draw))
        for bits in BITS
        for method in METHODS
        for draw in range(draws)
    ]
    say = (lambda _line: None) if parsed.quick else (lambda line: print(line, flush=True))
    record.measure(pieces, parsed.jobs, say)
    show(summary(record.document), parsed)


if __name__ == "__main__":
    main()
