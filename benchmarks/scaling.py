"""Time and peak memory of evaluation against sequences, steps and candidates.

Every point runs in a process of its own, so that its peak memory is its own. One core, H=64, I=28.
Time is that of the candidates alone; memory is of the whole process, and once without any
candidates, to see what Python and its libraries take. Then the peak memory of whole searches,
``onnxgru quantize --search`` from model to report.

    python -m benchmarks.scaling [--quick] [--json FILE]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

HIDDEN, INPUTS = 64, 28
POINT = "--point"


def point(sequences: int, steps: int, candidates: int) -> dict[str, float]:
    """Seconds and peak MB of evaluating some candidates."""
    from benchmarks.measure import bench, seconds
    from onnxgru.core.choices import WIDTHS
    from onnxgru.core.scheme import Scheme
    from onnxgru.runtime.evaluator import Evaluator
    from onnxgru.runtime.fused import FusedEngine

    made = bench(HIDDEN, INPUTS, 28)
    evaluator = Evaluator(made.host, made.data(sequences, steps), FusedEngine)
    small = Evaluator(made.host, made.data(8, 4), FusedEngine)
    for bits in WIDTHS:
        small.outputs(made.lowering(Scheme.uniform(made.layers, bits)))

    def work() -> None:
        for seed in range(candidates):
            evaluator.outputs(made.lowering(made.scheme(seed)))

    used = seconds(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": used, "megabytes": peak}


def search(folder: Path, sequences: int, population: int) -> float:
    """Peak MB of a search by the command line, T=28, three generations of some schemes."""
    import numpy as np
    import onnx

    from benchmarks.measure import bench

    made = bench(HIDDEN, INPUTS, 28)
    model = folder / "model.onnx"
    onnx.save(made.message, model)
    for role, count in (("calibration", 256), ("validation", sequences)):
        np.savez(folder / f"model.{role}.npz", **made.data(count, 28).inputs)
    output = str(folder / str(sequences))
    command = ["quantize", str(model), "--search", "--generations", "3", "--quiet", "-o", output]
    command += ["--population", str(population)]
    peak = (
        "import resource, sys; from onnxgru.cli import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", peak, *command],
        env=_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    """That of this process, but memory is handed out as usual."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}


def run(sequences: int, steps: int, candidates: int) -> dict[str, float]:
    """`point` in a process of its own."""
    environment = _environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.scaling", POINT]
    done = subprocess.run(
        [*command, str(sequences), str(steps), str(candidates)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1 and sys.argv[1] == POINT:
        sys.stdout.write(json.dumps(point(*map(int, sys.argv[2:]))))
        return
    from benchmarks.measure import arguments, show

    parsed = arguments(__doc__)
    count, times = (300, (1, 10)) if parsed.quick else (1000, (1, 3, 10))
    series = {
        "sequences": [(count * n, 28, 10) for n in times],
        "steps": [(count, 28 * n, 10) for n in times],
        "candidates": [(count, 28, 10 * n) for n in times],
    }
    empty = run(count, 28, 0)
    figures: dict[str, float | str] = {"megabytes without candidates": empty["megabytes"]}
    for name, points in series.items():
        first: dict[str, float] | None = None
        for values in points:
            found = run(*values)
            first = first or found
            label = f"{values[0]} sequences, {values[1]} steps, {values[2]} candidates"
            figures[f"seconds ({label})"] = found["seconds"]
            figures[f"megabytes ({label})"] = found["megabytes"]
        axis = ("sequences", "steps", "candidates").index(name)
        grown = points[-1][axis] / points[0][axis]
        assert first is not None
        figures[f"time for {grown:g} times the {name}"] = found["seconds"] / first["seconds"]
        figures[f"memory for {grown:g} times the {name}"] = found["megabytes"] / first["megabytes"]
    with tempfile.TemporaryDirectory() as folder:
        population = 6 if parsed.quick else 40
        small, large = (search(Path(folder), each, population) for each in (1000, 10000))
    figures["megabytes of a search (1000 sequences)"] = small
    figures["megabytes of a search (10000 sequences)"] = large
    figures["memory of a search for 10 times the sequences"] = large / small
    show(figures, parsed)


if __name__ == "__main__":
    main()
