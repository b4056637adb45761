"""Flash of today of the schemes that the published study chose, and what their outputs lose.

The accuracies in `docs/results.md` are those of fine-tuned programs of earlier versions, which
stored four bytes per bias and two per multiplier. A scheme does not say how these are stored. So
every stored scheme of ours is lowered twice, after training only: with the biases and multipliers
of today, and with exact ones. Of both the flash, the accuracy on hold-out data and the SQNR of the
outputs are written beside what was measured, as ``today``.

    python -m benchmarks.again --models FOLDER [--tasks NAME ...] [--json FILE]
"""

import json
import statistics
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnxgru
from benchmarks.flash import exact
from benchmarks.measure import parser_of, show
from benchmarks.published import TASKS
from benchmarks.results import EIGHT, STORED, TITLES
from onnxgru.core import files
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.data.metrics import sqnr
from onnxgru.session.session import Session
from onnxgru.settings.config import Config

KEYS = ("flash_bytes", "holdout", "sqnr")


def measured(session: Session, scheme: Scheme) -> dict[str, float]:
    """Flash in bytes, accuracy and SQNR in dB of a scheme, without fine-tuning."""
    program, yardstick = session.quantizer(scheme), session.yardstick
    judge = yardstick.judge("holdout")
    outputs = judge.outputs(program)
    return {
        "flash_bytes": account(program).flash_bytes,
        "holdout": judge.figure(outputs),
        "sqnr": sqnr(yardstick.reference("holdout")[yardstick.output], outputs[yardstick.output]),
    }


def again(model: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Both programs of every scheme of a task, and of uniform 8 bits."""
    stored = {seed: entry["ours"]["scheme"] for seed, entry in document["seeds"].items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in (*sorted(stored), EIGHT)}
    for name, rules in (("exact", exact()), ("now", nullcontext())):
        known: dict[bytes, dict[str, float]] = {}
        with rules:
            session = Session.open(model, Config(rounding="gptq", ranges="aligned"), fused=True)
            for key, rows in found.items():
                scheme = Scheme.uniform(session.model.layers, 8)
                if key != EIGHT:
                    scheme = Scheme.parse(stored[key], str(STORED))
                if (content := scheme.dumps()) not in known:
                    known[content] = measured(session, scheme)
                rows[name] = known[content]
    return {"onnxgru": onnxgru.__version__, "schemes": found}


def main() -> None:
    """Measure, write and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the data")
    parser.add_argument("--tasks", nargs="+", choices=TITLES, default=["digits-row"])
    parsed = parser.parse_args()
    figures: dict[str, float | str] = {}
    for task in parsed.tasks[:1] if parsed.quick else parsed.tasks:
        model, path = parsed.models / f"{TASKS[task].stem}.onnx", STORED / f"{task}.json"
        document = json.loads(path.read_text("utf-8"))
        if files.digest(model.read_bytes()) != document["command"]["model"]:
            parser.error(f"{model}: must be the model of {path.name}, is another one; fetch that")
        document["today"] = again(model, document)
        if not parsed.quick:
            path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        rows = document["today"]["schemes"]
        for key in KEYS:
            for name in ("exact", "now"):
                found = [row[name][key] for scheme, row in rows.items() if scheme != EIGHT]
                figures[f"{task}, {key}, {name}"] = statistics.fmean(found)
    show(figures, parsed)


if __name__ == "__main__":
    main()
