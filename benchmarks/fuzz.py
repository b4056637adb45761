"""Damaged models and data through the command line: a clear error, or a right result.

::

    python -m benchmarks.fuzz --count 1000 --seed 0

Every case takes a valid model and valid data, damages one of them by a random change, and runs
``onnxgru quantize``. Changes of a model: nodes and values dropped, doubled, renamed or connected
otherwise; attributes, sizes, types, opsets and weights changed; bytes cut off or flipped. Changes
of data: types, shapes, names, NaN, labels, pickles; bytes cut off or flipped. The case passes if

- the exit code is 1 or 2, one sentence is said that is no traceback and names no defect, and
  nothing is left behind; or
- the exit code is 0, and ``integer.onnx`` passes onnx.checker and repeats the golden outputs that
  were written with it.

Each case runs in a process of its own with a time limit, because a damaged model may end the
process of the libraries that read it; that counts as a failure of the kind "crash". The same number
and seed give the same cases; ``--only N`` runs one of them and keeps its files.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import queue
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks import damage
from onnxgru.cli import main as onnxgru

SECONDS = 60
"""Time of a processor that a case may take; ten times as much on the clock."""


@dataclass(frozen=True)
class Case:
    """A number with what was changed, and how it ended.

    Parameters
    ----------
    number : int
        Of the case.
    change : str
        What was damaged.
    failure : str
        Empty where the case passes.
    ending : str
        "refused" or "done".
    """

    number: int
    change: str
    failure: str
    ending: str


def prepare(number: int, seed: int, place: Path) -> tuple[str, list[str]]:
    """Write the files of a case; what was changed, and the flags of its command."""
    generator = np.random.default_rng([seed, number])
    model, data = damage.valid_model(generator), damage.valid_data(generator)
    changes = []
    kind = int(generator.integers(10))
    for _ in range(int(generator.integers(1, 3))):
        if kind < 6:
            change = damage.pick(generator, damage.MODEL_CHANGES)
            changes.append(change.__name__)
            with contextlib.suppress(Exception):  # of what another one has damaged
                change(model, generator)
        elif kind < 8:
            other = damage.pick(generator, damage.DATA_CHANGES)
            changes.append(other.__name__)
            with contextlib.suppress(Exception):
                other(data, generator)
    content = model.SerializeToString()
    stream = io.BytesIO()
    np.savez(stream, **data)
    stored = stream.getvalue()
    if kind == 8:
        changes.append("bytes of the model")
        content = damage.damage_bytes(content, generator)
    elif kind == 9:
        changes.append("bytes of the data")
        stored = damage.damage_bytes(stored, generator)
    (place / "m.onnx").write_bytes(content)
    (place / "m.calibration.npz").write_bytes(stored)
    forms = ([], [], ["--recurrence", "step"], ["--recurrence", "unrolled", "--steps", "5"])
    flags = [*damage.pick(generator, forms), *damage.pick(generator, ([], [], ["--bits", "3"]))]
    return ", ".join(dict.fromkeys(changes)), flags


# --- what comes of it ----------------------------------------------------------------------------


def examine(place: Path, flags: list[str]) -> tuple[str, str]:
    """Run a command on the files of a folder; what is wrong, if anything, and how it ended."""
    said = io.StringIO()
    before = os.getcwd()
    os.chdir(place)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = onnxgru(["quantize", "m.onnx", "-q", "-o", "out", *flags])
    except BaseException:
        return "traceback: " + traceback.format_exc().strip().splitlines()[-1], "crash"
    finally:
        os.chdir(before)
    messages = [line for line in said.getvalue().splitlines() if line.startswith("onnxgru: ")]
    if code == 0:
        return _wrong_result(place / "out"), "done"
    if code not in (1, 2):
        return f"exit code {code}", "refused"
    if len(messages) != 1 or len(messages[0]) > 900:
        return f"not one sentence: {said.getvalue()[:300]!r}", "refused"
    if re.search(r"defect|Traceback|please report", said.getvalue()):
        return f"called a defect: {messages[0][:400]}", "refused"
    left = sorted(path.name for path in place.iterdir()) != ["m.calibration.npz", "m.onnx"]
    return "something is left behind" if left else "", "refused"


def _wrong_result(folder: Path) -> str:
    """What is wrong with a folder of results."""
    import onnxruntime

    model = onnx.load(folder / "integer.onnx")
    onnx.checker.check_model(model, full_check=True)
    json.loads((folder / "report.json").read_text("utf-8"))
    golden = folder / "test_data_set_0"

    def read(name: str) -> Any:
        return numpy_helper.to_array(onnx.TensorProto.FromString((golden / name).read_bytes()))

    feeds = {v.name: read(f"input_{i}.pb") for i, v in enumerate(model.graph.input)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for index, found in enumerate(session.run(None, feeds)):
        if not np.allclose(found, read(f"output_{index}.pb"), atol=1e-5, equal_nan=True):
            return f"output {model.graph.output[index].name} is not the golden one"
    return ""


def run(number: int, seed: int, place: Path) -> Case:
    """Run one case in this process, in an empty folder."""
    change, flags = prepare(number, seed, place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            failure, ending = examine(place, flags)
        except Exception as error:
            failure, ending = f"a wrong result: {type(error).__name__}: {error}"[:400], "done"
    return Case(number, change, failure, ending)


def _child(number: int, seed: int, place: Path, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    answer.put(run(number, seed, place))


def isolated(number: int, seed: int, place: Path) -> Case:
    """Run one case in a process of its own, with a time limit."""
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=_child, args=(number, seed, place, answer))
    process.start()
    try:
        case = _awaited(process, answer)
    finally:
        process.kill()
        process.join()
    if case is None:
        change, _ = prepare(number, seed, place)
        ended = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        what = f"no end within {SECONDS} s" if ended else f"crash: exit code {process.exitcode}"
        case = Case(number, change, what, "crash")
    return case


def _awaited(process: Any, answer: Any) -> Case | None:
    """The answer of a process, None if it ends without one or takes too long."""
    for _ in range(10 * SECONDS):
        with contextlib.suppress(queue.Empty):
            case: Case = answer.get(timeout=1)
            return case
        if not process.is_alive() and answer.empty():
            return None
    return None


def main() -> int:
    """Run the cases, and say what failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="cases (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default 0)")
    parser.add_argument("--only", type=int, help="run this case alone, and keep its files")
    arguments = parser.parse_args()
    if arguments.only is not None:
        place = Path(tempfile.mkdtemp(prefix="fuzz-"))
        sys.stdout.write(f"{isolated(arguments.only, arguments.seed, place)}\n{place}\n")
        return 0
    cases = []
    for number in range(arguments.count):
        place = Path(tempfile.mkdtemp(prefix="fuzz-"))
        case = isolated(number, arguments.seed, place)
        shutil.rmtree(place)
        cases.append(case)
        if case.failure:
            sys.stdout.write(f"{case.number} ({case.change}): {case.failure}\n")
            sys.stdout.flush()
    counts = Counter(case.ending for case in cases)
    failed = sum(bool(case.failure) for case in cases)
    listed = ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items()))
    sys.stdout.write(f"{len(cases)} cases: {listed}; {failed} failed\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
