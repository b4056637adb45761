"""Quantise generated models in all forms, and compare them with their float twins.

    python -m benchmarks.sweep [--models 400] [--seed 0] [--forms scan,step,unrolled]

Every model of `tests.generator` is quantised at 8 bits through the Python interface, which compares
its integer graph with the oracle bit for bit. Then the graph runs in onnxruntime on the same
recordings, and its outputs are compared with those of the float twin: names, types and shapes must
be the same, real numbers at least 25 dB apart from noise, classes the same in 9 of 10 recordings. A
form that a model does not have is refused in one sentence, and counted. A line per failure, and a
summary.
"""

import argparse
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import onnxgru
from onnxgru.data.metrics import sqnr
from tests.generator import Sample, T, draw

FORMS = ("scan", "step", "unrolled")
LEAST = 25.0
"""Decibels at 8 bits, below which a model is a failure."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What came of one model in one form.

    Parameters
    ----------
    kind : {"right", "refused", "quiet", "wrong", "traceback"}
        "quiet" is less than 25 dB.
    text : str
        The sentence, or what is wrong.
    figure : float
        Worst output, dB; NaN where none was compared.
    """

    kind: str
    text: str = ""
    figure: float = float("nan")


def judge(sample: Sample, form: str, folder: Path) -> Outcome:
    """Quantise a model in one form and compare it."""
    path = folder / "m.onnx"
    onnx.save(sample.model, path)
    settings: dict[str, Any] = {"recurrence": form, "steps": T if form == "unrolled" else None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxgru.quantize(
                path, bits=8, calibration=dict(sample.inputs), output=folder / form, **settings
            )
    except onnxgru.OnnxgruError as error:
        defect = "report" in str(error) or "onnxruntime" in str(error).lower()
        return Outcome("wrong" if defect else "refused", str(error))
    except Exception as error:  # whatever it is, it is what we look for
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome("traceback", f"{type(error).__name__}: {str(error)[:300]} ({where})")
    integer = onnx.load(folder / form / "integer.onnx")
    problem = interface(sample, integer, form)
    if problem:
        return Outcome("wrong", problem)
    if form == "step":
        return Outcome("right")  # verification handed the states on
    try:
        found = run(integer, sample, float32=False)
    except Exception as error:
        return Outcome("wrong", f"integer.onnx does not run: {str(error)[:200]}")
    return compare(run(sample.twin, sample, float32=True), found)


def interface(sample: Sample, integer: onnx.ModelProto, form: str) -> str:
    """What is wrong with the inputs and outputs of an integer graph."""
    stored = {tensor.name for tensor in sample.model.graph.initializer}
    for before, after in (
        ([v for v in sample.model.graph.input if v.name not in stored], integer.graph.input),
        (sample.model.graph.output, integer.graph.output),
    ):
        wanted, found = [ends(v, form) for v in before], [ends(v, form) for v in after]
        if wanted != (found[: len(wanted)] if form == "step" else found):
            return f"the interface {wanted} became {found}"
    if any(node.op_type == "GRU" for node in integer.graph.node):
        return "a GRU is left in float"
    return ""


def ends(value: onnx.ValueInfoProto, form: str) -> tuple[Any, ...]:
    """Name, type and axes of a graph input or output; the rank alone where the form fixes one."""
    dims = value.type.tensor_type.shape.dim
    sizes = [d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in dims]
    kept = tuple(sizes) if form == "scan" else len(sizes)
    return value.name, value.type.tensor_type.elem_type, kept


def run(model: onnx.ModelProto, sample: Sample, *, float32: bool) -> dict[str, np.ndarray]:
    """Outputs of a model on all recordings."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    parts = []
    for chunk in sample.chunks():
        given = {
            name: array.astype(np.float32) if float32 and array.dtype.kind == "f" else array
            for name, array in chunk.items()
        }
        parts.append(dict(zip(names, session.run(None, given), strict=True)))
    return {
        name: np.concatenate([part[name] for part in parts], sample.batch_axes[name])
        for name in names
    }


def compare(expected: Arrays, found: Arrays) -> Outcome:
    """Outputs of the twin and of the integer graph."""
    worst = float("inf")
    for name, array in expected.items():
        if array.shape != found[name].shape:
            return Outcome("wrong", f"{name}: shape {array.shape} became {found[name].shape}")
        if array.dtype.kind == "f":
            worst = min(worst, sqnr(array, found[name].astype(np.float32)))
    kind = "right" if worst >= LEAST else "quiet"
    return Outcome(kind, "" if kind == "right" else f"{worst:.1f} dB", worst)


def main() -> None:
    """Sweep, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    parser.add_argument("--forms", default=",".join(FORMS))
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    figures = []
    started = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + arguments.models):
        sample = draw(seed)
        for form in arguments.forms.split(","):
            with tempfile.TemporaryDirectory() as folder:
                outcome = judge(sample, form, Path(folder))
            counts[f"{form} {outcome.kind}"] += 1
            if np.isfinite(outcome.figure):
                figures.append(outcome.figure)
            if outcome.kind == "refused":
                refusals[f"{form}: {outcome.text.partition(': ')[2]}"] += 1
            elif outcome.kind != "right":
                print(f"{outcome.kind} ({form}) {sample.plan}\n    {outcome.text}", flush=True)
    for text, count in refusals.most_common():
        print(f"refused {count} times, {text}")
    for kind in sorted(counts):
        print(f"{kind}: {counts[kind]}")
    low, middle = np.percentile(figures, [0, 50])
    print(f"least {low:.1f} dB, median {middle:.1f} dB, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
