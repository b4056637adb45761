"""Flash beside the packed weights, and what narrow multipliers and biases cost, on the zoo.

Each model is calibrated on random halves of its recordings, once for each draw, at uniform widths
of 2 and 4 bits, and with outputs of 8 bits. *Before* is a program with biases of four bytes and
multipliers of two. The SQNR is that of the model's output on hold-out data, and the mean over all
values of some of them.

    python -m benchmarks.flash --models FOLDER [--tasks NAME ...] [--widths 2/2 ...] [--draws 4]
        [--quick] [--json FILE]
"""

import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import rounding
from benchmarks.measure import parser_of, show
from onnxgru.core import fixedpoint
from onnxgru.core.program import IntegerProgram
from onnxgru.cost.account import account
from onnxgru.custom_ops.kinds import biases, linear
from onnxgru.data.metrics import sqnr
from onnxgru.models.zoo import TASKS
from onnxgru.runtime.observation import compare
from onnxgru.session.session import Session
from onnxgru.settings.config import Config

MODELS = ("digits-row", "mnist-row", "mnist-pixel", "speech-4", "speech-10")
WIDTHS = ((2, 2), (2, 8), (4, 4), (4, 8))
"""Of weights and of outputs."""
Widths = tuple[int, int]
TRACED = 100
"""Sequences whose values are all compared."""


@contextmanager
def exact() -> Iterator[None]:
    """Multipliers of two bytes and biases that lose nothing, whatever narrow ones would cost."""
    with (
        mock.patch.object(biases, "LOSS", 0.0),
        mock.patch.object(biases, "SLIGHT_LOSS", 0.0),
        mock.patch.object(fixedpoint, "LEAST_LOSS", -1.0),
        mock.patch.object(linear, "TOLERANCE", math.inf),
    ):
        yield


def sizes(program: IntegerProgram) -> tuple[float, float]:
    """Flash beside the packed weights, as a multiple of them: now, and before."""
    flash = account(program).flash
    parts = [p for o in program.operators if isinstance(o, linear.Linear) for p in o.parts]
    whole = sum(flash.values())
    four = sum(4 * part.bias.size for part in parts)
    small = sum(part.bias.size for part in parts if part.output.requantization.small)
    exponents = sum(len(operator.exponents) for operator in program.operators)
    before = whole - flash["bias"] + four + small - exponents
    return whole / flash["weight"], before / flash["weight"]


def qualities(session: Session, widths: Widths) -> tuple[float, float, IntegerProgram]:
    """SQNR of the output and the mean of that of all values, dB."""
    program = session.quantizer(rounding.scheme(session, widths[:1], widths[1:], 0))
    output, some = session.yardstick.output, session.data["holdout"]
    found = session.yardstick.judge("holdout").outputs(program)[output]
    some = some.take(min(TRACED, some.size))
    values = compare(session.model.observation, session.model.host, program, some).sqnr
    exact = session.yardstick.reference("holdout")[output]
    return sqnr(exact, found), statistics.fmean(map(float, values.values())), program


def measured(model: Path, draws: int, chosen: Sequence[Widths]) -> dict[str, float | str]:
    """Figures of one model."""
    figures: dict[str, float | str] = {}
    lost: dict[Widths, list[tuple[float, float]]] = {widths: [] for widths in chosen}
    with np.load(model.with_suffix(".calibration.npz")) as file:
        arrays = dict(file)
    count = len(next(iter(arrays.values())))
    for draw in range(draws):
        kept = np.sort(np.random.default_rng(draw).permutation(count)[: count // 2])
        with tempfile.TemporaryDirectory() as folder:
            half = Path(folder) / "half.npz"
            np.savez(half, **{name: array[kept] for name, array in arrays.items()})
            config = Config(calibration=half)
            with exact():
                session = Session.open(model, config, fused=True)
                known = {widths: qualities(session, widths) for widths in chosen}
            session = Session.open(model, config, fused=True)
            for widths in chosen:
                output, values, program = qualities(session, widths)
                lost[widths].append((output - known[widths][0], values - known[widths][1]))
                label = f"{model.stem}, weights {widths[0]}, outputs {widths[1]}"
                if not draw:
                    now, before = sizes(program)
                    figures[f"{label}, flash / weights"] = now
                    figures[f"{label}, flash / weights before"] = before
    for widths, rows in lost.items():
        label = f"{model.stem}, weights {widths[0]}, outputs {widths[1]}"
        outputs, values_ = zip(*rows, strict=True)
        figures[f"{label}, SQNR of the output, change in dB"] = statistics.fmean(outputs)
        if draws > 1:
            error = statistics.stdev(outputs) / math.sqrt(draws)
            figures[f"{label}, standard error of that"] = error
        figures[f"{label}, SQNR of all values, change in dB"] = statistics.fmean(values_)
    return figures


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the data")
    parser.add_argument("--tasks", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--draws", type=int, default=4)
    names = {f"{weights}/{outputs}": (weights, outputs) for weights, outputs in WIDTHS}
    parser.add_argument(
        "--widths", nargs="+", choices=names, default=list(names), help="of weights / outputs"
    )
    parsed = parser.parse_args()
    widths = [names[name] for name in parsed.widths]
    figures: dict[str, float | str] = {}
    for name in MODELS[:1] if parsed.quick else parsed.tasks:
        path = parsed.models / f"{TASKS[name].stem}.onnx"
        figures |= measured(
            path, 1 if parsed.quick else parsed.draws, WIDTHS[:1] if parsed.quick else widths
        )
    show(figures, parsed)


if __name__ == "__main__":
    main()
