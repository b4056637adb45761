"""Cost of evaluating one candidate, as ratios within one run.

Against (a) one float inference of onnxruntime's GRU over the same data, and (b) the plain way:
write the candidate's ONNX, open a session, run it. H=128, I=28, T=28, 1,000 sequences; on one core,
and a population on all cores against the float GRU on all cores. A candidate's cost includes
lowering its scheme and preparing its parameters. Before, kernels are compiled, and ranges and
weights are rounded for every operator at every width, as the first candidates of a search do once
and for all. "pairs" is the product for processors without VNNI instructions.

    python -m benchmarks.evaluator [--quick] [--json FILE]

``--model FILE`` measures a candidate of a search on a model of your own instead, with the data
beside it or ``--calibration`` and ``--validation``: against the float model's own run in
onnxruntime over the same calls, states handed on where calls hand them on, on one core.

    python -m benchmarks.evaluator --model FILE [--calibration DATA] [--validation DATA]
"""

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy and torch are loaded

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import onnx

from benchmarks.measure import Bench, bench, medians, parser_of, show
from onnxgru.core.choices import WIDTHS
from onnxgru.core.scheme import Scheme
from onnxgru.data.dataset import Dataset
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.graph import source
from onnxgru.runtime import dots
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.host import MOST
from onnxgru.runtime.sessions import onnxruntime_session
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.problem import encoding

HIDDEN, INPUTS, STEPS, SEQUENCES = 128, 28, 28, 1000
POPULATION = 8


def plain_way(made: Bench, data: Dataset, seed: int) -> np.ndarray:
    """Write the ONNX of a candidate, open a session, run it."""
    program = made.lowering(made.scheme(seed))
    model = made.model.clone()
    Emit(program)(model)
    Pack()(model)
    return onnxruntime_session(source.proto(model), threads=1)(data.inputs)["Y_h"]


def own_model(parsed: argparse.Namespace) -> dict[str, float | str]:
    """Figures of a user's model."""
    config = Config(
        search=True,
        calibration=parsed.calibration,
        validation=parsed.validation,
        rounding="nearest",
    )
    session = Session.open(parsed.model, config)
    data = session.data["validation"]
    space = encoding(session.model.layers, config).space
    judge, host = session.yardstick.judge("validation"), session.model.host
    schemes = encoding(session.model.layers, config)
    generator = np.random.default_rng(0)
    for bits in WIDTHS:
        session.quantizer(Scheme.uniform(session.model.layers, bits))
    calls = [call for part in data.parts for call, _ in part.calls(host.batch, MOST)]
    begins = {0} | {int(n) for part in data.parts for n in np.cumsum(part.streams)}
    fed_by = host.interface.states if any(part.streams for part in data.parts) else {}
    run = onnxruntime_session(onnx.load(parsed.model), threads=1)

    def floats() -> None:
        """The float model, states handed on."""
        following: dict[str, np.ndarray] = {}
        for index, call in enumerate(calls):
            if index in begins:
                following = {name: call.inputs[name] for name in fed_by}
            outputs = run({**call.inputs, **following})
            following = {name: outputs[output] for name, output in fed_by.items()}

    def candidate() -> None:
        judge.quality(session.quantizer(schemes.scheme(space.random(generator))))

    candidate()
    float_time, own_time = medians(floats, candidate, rounds=3 if parsed.quick else 9)
    return {
        "model": parsed.model.name,
        "recurrent layers": str(len(session.model.layers)),
        "calls": str(len(calls)),
        "float model, us per call": 1e6 * float_time / len(calls),
        "candidate, us per call": 1e6 * own_time / len(calls),
        "ratio to the float model": own_time / float_time,
    }


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, metavar="FILE", help="measure on this model")
    parser.add_argument("--calibration", metavar="DATA", help="for --model")
    parser.add_argument("--validation", metavar="DATA", help="for --model")
    parsed = parser.parse_args()
    if parsed.model is not None:
        show(own_model(parsed), parsed)
        return
    rounds = 5 if parsed.quick else 15
    made = bench(HIDDEN, INPUTS, STEPS)
    data = made.data(SEQUENCES, STEPS)
    for bits in WIDTHS:
        made.lowering(Scheme.uniform(made.layers, bits))
    floats = onnxruntime_session(made.message, threads=1)
    fused = Evaluator(made.host, data, FusedEngine)
    plain = Evaluator(made.host, data, LayerEvaluator)
    seeds = count()  # a new candidate every time: nothing is remembered from the one before

    def evaluate(evaluator: Evaluator) -> np.ndarray:
        return evaluator.outputs(made.lowering(made.scheme(next(seeds))))["Y_h"]

    expected = np.moveaxis(plain_way(made, data, 7), 1, 0)
    found = fused.outputs(made.lowering(made.scheme(7)))["Y_h"]
    figures: dict[str, float | str] = {
        "sequences": SEQUENCES,
        "steps": STEPS,
        "equal to onnxruntime": str(bool((found == expected).all())),
    }
    rows = SEQUENCES * STEPS
    for way in dict.fromkeys((dots.FASTEST, dots.PAIRS)):
        own = Evaluator(made.host, data, partial(FusedEngine, way=way))
        evaluate(own)  # compiled
        float_time, fused_time = medians(
            lambda: floats(data.inputs), lambda own=own: evaluate(own), rounds=rounds
        )
        name = "" if way is dots.FASTEST else f", {way.name}"
        figures[f"float GRU, us a sequence and step{name}"] = 1e6 * float_time / rows
        figures[f"candidate, us a sequence and step{name}"] = 1e6 * fused_time / rows
        figures[f"ratio to the float GRU{name}"] = fused_time / float_time
    everywhere = onnxruntime_session(made.message, threads=0)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        float_time, population_time = medians(
            lambda: everywhere(data.inputs),
            lambda: list(workers.map(lambda _: evaluate(fused), range(POPULATION))),
            rounds=rounds,
        )
    figures["cores"] = str(os.cpu_count())
    figures["ratio to the float GRU, all cores"] = population_time / POPULATION / float_time
    fused_time, way_time, numpy_time = medians(
        lambda: evaluate(fused),
        lambda: plain_way(made, data, next(seeds)),
        lambda: evaluate(plain),
        rounds=3 if parsed.quick else 7,
    )
    figures["ratio to the plain way"] = fused_time / way_time
    figures["ratio to the NumPy evaluator"] = fused_time / numpy_time
    show(figures, parsed)


if __name__ == "__main__":
    main()
