"""What an 8-bit teacher first (``--teacher-epochs``) does for narrow weights, in the same epochs.

For a model of the zoo with its data beside it: weights at 2 bits by GPTQ, outputs at 8, fine-tuned
for so many epochs, all of them towards the float model, or the first of them for the teacher; and
uniform 8 bits fine-tuned for as many. Accuracy on hold-out data, and the cross-entropy there, which
tells apart what few sequences do not; every seed, and the mean.

    python -m benchmarks.teacher [--models FOLDER] [--task digits-row] [--epochs 10]
        [--teacher-epochs 4] [--seeds 3] [--copies 10] [--averaging 0.998] [--quick] [--json FILE]
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rounding
from benchmarks.measure import show
from benchmarks.published import DEFAULT_SEQUENCES, write_training_data
from onnxgru.models.zoo import TASKS
from onnxgru.session.finetuning import training_data, tune
from onnxgru.session.session import Session
from onnxgru.settings.config import Config

ROLE = "holdout"
LEAST = 1e-6  # of a probability: integers may leave none


def arm(model: Path, bits: int, settings: dict[str, Any]) -> tuple[float, float]:
    """Accuracy and cross-entropy of weights at some width after fine-tuning, outputs at 8 bits."""
    session = Session.open(model, Config(batch_size=32, **settings), fused=True)
    data = training_data(session.model, session.yardstick, session.config)
    assert data is not None
    made = tune(*session.parts, rounding.scheme(session, [bits], [8], 0), data)
    judge = made.yardstick.judge(ROLE)
    found = judge.outputs(made.program)
    outputs = np.asarray(found[session.yardstick.output], np.float64)
    labels = session.yardstick.targets(ROLE)[session.yardstick.output]
    given = outputs[np.arange(len(labels)), labels] / outputs.sum(axis=-1)
    return judge.figure(found), float(-np.log(given.clip(min=LEAST)).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the data")
    parser.add_argument("--task", choices=tuple(TASKS), default="digits-row")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--averaging", type=float, default=0.998)
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parsed = parser.parse_args()
    if parsed.quick:
        parsed.seeds, parsed.epochs, parsed.teacher_epochs, parsed.copies = 1, 2, 1, 1
    epochs, first = parsed.epochs, parsed.teacher_epochs
    arms = {
        f"2 bits, {epochs} epochs": (2, 0),
        f"2 bits, {epochs} epochs, {first} for a teacher": (2, first),
        f"8 bits, {epochs} epochs": (8, 0),
    }
    figures: dict[str, float | str] = {"task": parsed.task, "seeds": parsed.seeds}
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.npz"
        write_training_data(parsed.task, train, DEFAULT_SEQUENCES, parsed.copies)
        for name, (bits, teacher) in arms.items():
            settings = {"training_data": train, "epochs": epochs, "teacher_epochs": teacher}
            settings |= {"averaging": parsed.averaging}
            model = parsed.models / f"{TASKS[parsed.task].stem}.onnx"
            found = [arm(model, bits, settings | {"seed": seed}) for seed in range(parsed.seeds)]
            for seed, (accuracy, entropy) in enumerate(found):
                figures[f"accuracy, % ({name}, seed {seed})"] = accuracy
                figures[f"cross-entropy ({name}, seed {seed})"] = entropy
            accuracies, entropies = zip(*found, strict=True)
            figures[f"accuracy, % ({name}, mean)"] = statistics.fmean(accuracies)
            figures[f"cross-entropy ({name}, mean)"] = statistics.fmean(entropies)
    show(figures, parsed)


if __name__ == "__main__":
    main()
