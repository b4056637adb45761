"""What the methods of rounding weights and of choosing ranges are worth, each alone and together.

A model (the shipped one by default, or any with its data beside it) at narrow weights with 8-bit
outputs, at narrow outputs with 8-bit weights, at mixed widths drawn at random, and searched. The
figures are those of hold-out data: the metric, and the signal to quantisation noise of the model's
output and of the last layer's state.

    python -m benchmarks.rounding [MODEL] [--quick] [--json FILE]
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import onnxgru
from benchmarks.measure import arguments, show
from onnxgru.core.network import LinearOperator
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.data.metrics import METRICS
from onnxgru.runtime.observation import compare
from onnxgru.session.session import Session

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits_row.onnx"
TRACED = 512
"""Sequences on which the state is compared."""

NEAREST = onnxgru.Config(rounding="nearest", ranges="plain")
GPTQ, CORRECTED = {"rounding": "gptq"}, {"bias_correction": True}
SATURATING, ALIGNED = {"ranges": "saturating"}, {"ranges": "aligned"}
ROUNDINGS = {
    "nearest": NEAREST,
    "nearest, bias correction": replace(NEAREST, **CORRECTED),
    "gptq": replace(NEAREST, **GPTQ),
    "gptq, bias correction": replace(NEAREST, **GPTQ | CORRECTED),
}
RANGES = {
    "plain": NEAREST,
    "saturating": replace(NEAREST, **SATURATING),
    "aligned": replace(NEAREST, **ALIGNED),
}
TOGETHER = {
    "nearest, plain": NEAREST,
    "gptq, plain": ROUNDINGS["gptq"],
    "nearest, saturating": RANGES["saturating"],
    "gptq, saturating": replace(NEAREST, **GPTQ | SATURATING),
    "gptq, aligned": replace(NEAREST, **GPTQ | ALIGNED),
    "all": replace(NEAREST, **GPTQ | CORRECTED | ALIGNED),
}


def scheme(session: Session, weights: Sequence[int], outputs: Sequence[int], seed: int) -> Scheme:
    """Widths drawn from the given ones; the directions of a layer share that of the state."""
    generator = np.random.default_rng(seed)
    operators: dict[str, OutputScheme] = {}
    for layer in session.model.layers:
        state = int(generator.choice(outputs))
        for operator in layer.operators:
            bits, weight_bits = int(generator.choice(outputs)), int(generator.choice(weights))
            bits = state if operator.name in layer.grids else bits
            operators[operator.name] = (
                LinearScheme(bits, weight_bits=weight_bits)
                if isinstance(operator, LinearOperator)
                else OutputScheme(bits)
            )
    return Scheme({layer.name: OutputScheme(8) for layer in session.model.layers}, operators)


def measured(session: Session, chosen: Scheme) -> tuple[float, float, float]:
    """The metric on hold-out data, and the SQNR of output and last state, dB."""
    program = session.quantizer(chosen)
    outputs = session.yardstick.judge("holdout").outputs(program)
    exact = session.yardstick.reference("holdout")[session.yardstick.output]
    some = session.data["holdout"].take(min(TRACED, session.data["holdout"].size))
    states = compare(session.model.observation, session.model.host, program, some).sqnr
    return (
        session.yardstick.judge("holdout").figure(outputs),
        METRICS["sqnr"](outputs[session.yardstick.output], exact),
        min(
            states[name]
            for name in session.model.layers[-1].writers[session.model.layers[-1].output]
        ),
    )


def rows(figures: dict[str, float | str], unit: str, label: str, found: np.ndarray) -> None:
    """One line a figure."""
    for name, value in zip((f"hold-out, {unit}", "output, dB", "state, dB"), found, strict=True):
        figures[f"{name} ({label})"] = float(value)


def searched(model: Path, config: onnxgru.Config, seeds: range) -> Iterator[tuple[float, float]]:
    """Flash bytes and hold-out figure of the member that a default search chooses."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            chosen = replace(config, search=True, seed=seed, output=Path(folder) / "out")
            front = onnxgru.quantize(model, chosen).front
        assert front is not None
        member = front["members"][front["chosen"]]
        yield member["flash_bytes"], member["holdout"]


def main() -> None:
    """Measure and print."""
    parsed = arguments(__doc__, MODEL)
    quick = parsed.quick
    known: dict[onnxgru.Config, Session] = {}

    def session(config: onnxgru.Config) -> Session:
        if config not in known:
            known[config] = Session.open(parsed.model, config, fused=True)
        return known[config]

    plain = session(NEAREST)
    unit = plain.yardstick.metric.unit
    figures: dict[str, float | str] = {
        "model": parsed.model.name,
        f"hold-out, {unit} (float)": plain.yardstick.float_quality("holdout"),
    }
    for bits in (2, 3) if quick else (2, 3, 4):
        for name, config in ROUNDINGS.items():
            chosen = scheme(plain, (bits,), (8,), 0)
            label = f"weights {bits}, {name}"
            rows(figures, unit, label, np.array(measured(session(config), chosen)))
    for bits in (3,) if quick else (3, 4, 5):
        for name, config in RANGES.items():
            chosen = scheme(plain, (8,), (bits,), 0)
            label = f"outputs {bits}, {name}"
            rows(figures, unit, label, np.array(measured(session(config), chosen)))
    seeds = range(3 if quick else 20)
    for name, config in TOGETHER.items():
        schemes = [scheme(plain, (2, 3, 4), (4, 5, 6, 7, 8), seed) for seed in seeds]
        found = np.array([measured(session(config), chosen) for chosen in schemes])
        rows(figures, unit, f"mixed, mean, {name}", found.mean(axis=0))
    for name, config in {} if quick else TOGETHER.items():
        flash, quality = zip(*searched(parsed.model, config, range(5)), strict=True)
        figures[f"flash, bytes (searched, median, {name})"] = statistics.median(flash)
        figures[f"hold-out, {unit} (searched, mean, {name})"] = statistics.mean(quality)
    show(figures, parsed)


if __name__ == "__main__":
    main()
