"""What a delta network eliminates, and what that costs.

A model (the shipped one by default, or any with its data beside it) at several widths, with one
threshold for all operands and with thresholds chosen on validation data. The figures are those of
hold-out data: the metric, and the share of all multiplications of matrix products that are
eliminated.

    python -m benchmarks.delta [MODEL] [--quick] [--json FILE]
"""

from pathlib import Path

import onnxgru
from benchmarks.measure import arguments, show
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.session import delta
from onnxgru.session.session import Session

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits_row.onnx"
WIDTHS = ((8, 8), (4, 8), (2, 8), (4, 4))
"""Bits of weights and of outputs."""

THRESHOLDS = ("none", "0", "1", "2", "4", "8", "16", "auto")
QUICK = ("none", "2", "auto")


def scheme(session: Session, weights: int, outputs: int) -> Scheme:
    """One width for all weights, and another for all outputs."""
    plain = session.uniform(outputs)
    return Scheme(
        plain.inputs,
        {
            name: LinearScheme(entry.bits, entry.observer, weights, entry.granularity, entry.shape)
            if isinstance(entry, LinearScheme)
            else entry
            for name, entry in plain.operators.items()
        },
    )


def main() -> None:
    """Measure and print."""
    parsed = arguments(__doc__, MODEL)
    session = Session.open(parsed.model, onnxgru.Config(delta="auto"), fused=True)
    judge = session.yardstick.judge("holdout")
    figures: dict[str, float | str] = {
        "float": session.yardstick.float_quality("holdout"),
        "delta drop": delta.drop(session.yardstick, session.config),
    }
    for weights, outputs in WIDTHS[: 1 if parsed.quick else None]:
        plain = scheme(session, weights, outputs)
        for name in QUICK if parsed.quick else THRESHOLDS:
            where = f"weights {weights}, outputs {outputs}, threshold {name}"
            if name == "none":
                program = session.quantizer(plain)
                figures[f"{session.yardstick.metric.name} ({where})"] = judge.quality(program)
                continue
            made = (
                delta.choose(*session.parts, plain)
                if name == "auto"
                else _with(session, plain, name)
            )
            if made is None:
                continue
            figure, found = judge.measured(session.quantizer(made))
            figures[f"{session.yardstick.metric.name} ({where})"] = figure
            figures[f"eliminated, % ({where})"] = 100 * found.share
            if name == "auto":
                chosen = ", ".join(f"{one.name} {one.threshold}" for one in found.operands)
                figures[f"thresholds ({where})"] = chosen
    show(figures, parsed)


def _with(session: Session, plain: Scheme, threshold: str) -> Scheme | None:
    """A scheme with one threshold; None where outputs have no such code."""
    value = int(threshold)
    if value >= 1 << min(entry.bits for entry in plain.operators.values()):
        return None
    return plain.with_thresholds(session.model.layers, lambda *_: value)


if __name__ == "__main__":
    main()
