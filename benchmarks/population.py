"""Cost of a candidate on a torch device, whole populations at a time, against the fused evaluator.

The device is a GPU where torch finds one, and otherwise one core of the processor, where the torch
engine serves tests and not speed. The fused evaluator runs on one core. H=128 and 64, I=28, T=28,
1,000 sequences (40 with --quick); lowering and preparation are included.

    python -m benchmarks.population [--quick] [--json FILE]
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy and torch are loaded

from itertools import count

import torch

from benchmarks.measure import arguments, bench, medians, show
from onnxgru.core.choices import WIDTHS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEvaluator

HIDDEN, INPUTS, STEPS = (128, 64), 28, 28


def compared(
    hidden: int, sequences: int, candidates: int, rounds: int, device: torch.device
) -> dict[str, float | str]:
    """Figures of one width of layer."""
    made = bench(hidden, INPUTS, STEPS)
    data = made.data(sequences, STEPS)
    for bits in WIDTHS:
        made.lowering(Scheme.uniform(made.layers, bits))
    fused = Evaluator(made.host, data, FusedEngine)
    population = PopulationEvaluator(made.host, data, device)
    seeds = count()  # new candidates every time: nothing is remembered from those before

    def fresh() -> list[IntegerProgram]:
        return [made.lowering(made.scheme(next(seeds))) for _ in range(candidates)]

    programs = fresh()
    pairs = zip(programs, population.outputs_of(programs), strict=True)
    same = all((fused.outputs(program)["Y_h"] == found["Y_h"]).all() for program, found in pairs)
    one, many = medians(
        lambda: [fused.outputs(program) for program in fresh()],
        lambda: list(population.outputs_of(fresh())),
        rounds=rounds,
    )
    return {
        f"equal to the fused evaluator (H={hidden})": str(same),
        f"fused, ms a candidate (H={hidden})": 1000 * one / candidates,
        f"device, ms a candidate (H={hidden})": 1000 * many / candidates,
        f"ratio to the fused evaluator (H={hidden})": many / one,
    }


def main() -> None:
    """Measure and print."""
    parsed = arguments(__doc__)
    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    sequences, rounds = (40, 2) if parsed.quick else (1000, 7)
    candidates = 40 if gpu else 4
    figures: dict[str, float | str] = {
        "device": torch.cuda.get_device_name(device) if gpu else "one core, by torch",
        "sequences": sequences,
        "candidates together": candidates,
    }
    for hidden in HIDDEN:
        figures |= compared(hidden, sequences, candidates, rounds, device)
    show(figures, parsed)


if __name__ == "__main__":
    main()
