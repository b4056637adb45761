"""The same float model through what a user would use instead, and through onnxgru.

Each peer (`environments.PEERS`) quantises the model as it comes, with the same calibration data, in
an environment of its own that is made on first use; onnxgru does at several sizes (`ours.rows`). Of
every file: bytes on disk, accuracy on hold-out data in onnxruntime, what steps through time, how
the weights of that are stored, and how many bytes are still float. A peer that cannot be installed
or run has one sentence instead.

    python -m benchmarks.peers [--models FOLDER] [--task mnist-row] [--sequences 10000]
        [--environments FOLDER] [--quick] [--json benchmarks/results/peers-mnist-row.json]
        [--again FILE]                      # the peers' rows as they are there
    python -m benchmarks.peers --page       # tables and picture anew from what is in results/

onnxgru's *flash* is what a device keeps of the recurrence: the file adds the graph itself, which
takes 9 to 10 kB however small the weights are, and the float layers around the recurrence.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxgru
from benchmarks.measure import show
from benchmarks.peers import environments, graph, ours, page
from benchmarks.peers.environments import PEERS, Peer, Unavailable
from benchmarks.published import write_training_data
from onnxgru.models.zoo import TASKS

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Row:
    """One file, or why there is none.

    Parameters
    ----------
    name, version : str
        Of the tool.
    found : graph.Found or None
        What is in the file.
    accuracy : float or None
        Percent on hold-out data.
    flash_bytes : int or None
        What a device keeps of the recurrence; onnxgru says it, the others do not.
    mean_bits : float or None
        Bits a weight of the recurrence, as stored; likewise.
    seconds : float or None
        That the tool took.
    reason : str or None
        Why there is no file.
    """

    name: str
    version: str
    found: graph.Found | None = None
    accuracy: float | None = None
    flash_bytes: int | None = None
    mean_bits: float | None = None
    seconds: float | None = None
    reason: str | None = None


def measured(
    model: Path, place: Path | None, train: Path | None, work: Path, known: list[Row] | None = None
) -> Iterator[Row]:
    """All rows, the float model first.

    Parameters
    ----------
    model : Path
        The float model, its data beside it.
    place : Path or None
        Folder of environments; only what runs in this one where left out, and quickly.
    train : Path or None
        Training data for fine-tuning.
    work : Path
        Folder for what is made.
    known : list of Row, optional
        Of the peers, which are not run then.
    """
    holdout = model.with_suffix(".holdout.npz")
    yield Row("float", "", graph.look(model), graph.accuracy(model, holdout))
    yield from known or []
    for number, peer in enumerate(PEERS if known is None else ()):
        if place is not None or peer.requirements is environments.ONNXRUNTIME:
            folder = work / f"peer-{number}"
            folder.mkdir()
            yield _peer(peer, model, holdout, place, folder)
    for made in ours.rows(model, work, train, quick=train is None):
        yield Row(
            made.name,
            onnxgru.__version__,
            graph.look(made.path),
            graph.accuracy(made.path, holdout),
            made.sizes["flash_bytes"],
            made.sizes["mean_bits"],
            round(made.seconds, 1),
        )


def _peer(peer: Peer, model: Path, holdout: Path, place: Path | None, folder: Path) -> Row:
    output = folder / "model.onnx"
    used = peer.version if place is not None else version(peer.requirements[0].split("==")[0])
    try:
        python = Path(sys.executable) if place is None else environments.prepare(peer, place)
        started = time.perf_counter()
        environments.run(peer, python, model, model.with_suffix(".calibration.npz"), output)
        seconds = round(time.perf_counter() - started, 1)
        found, percent = graph.look(output), graph.accuracy(output, holdout)
    except Unavailable as error:
        return Row(peer.name, used, reason=str(error))
    except Exception as error:  # of onnxruntime, which has no kind of its own for a bad graph
        reason = f"its file does not run in onnxruntime: {str(error).splitlines()[0]}"
        return Row(peer.name, used, reason=reason)
    return Row(peer.name, used, found, percent, seconds=seconds)


def peers_of(path: Path) -> list[Row]:
    """The peers' rows of a file that was written before."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    return [
        Row(**row | {"found": row["found"] and graph.Found(**row["found"])})
        for row in rows
        if row["name"] != "float" and not row["name"].startswith("onnxgru")
    ]


def figures(rows: list[Row]) -> dict[str, float | str]:
    """Rows as ``name: value``."""
    lines: dict[str, float | str] = {}
    for row in rows:
        name = f"{row.name} {row.version}".strip()
        if row.found is None or row.accuracy is None:
            lines[f"{name}: not measured"] = row.reason or ""
            continue
        lines[f"{name}: bytes on disk"] = row.found.bytes
        if row.flash_bytes is not None:
            lines[f"{name}: flash bytes"] = row.flash_bytes
        lines[f"{name}: accuracy, %"] = row.accuracy
        lines[f"{name}: recurrence"] = f"{row.found.recurrence}, weights {row.found.weights}"
        lines[f"{name}: float bytes"] = row.found.float_bytes
        lines[f"{name}: Q and DQ nodes"] = f"{row.found.quantize} and {row.found.dequantize}"
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="with their data")
    parser.add_argument("--task", choices=tuple(TASKS), default="digits-row")
    parser.add_argument("--sequences", type=int, default=10000, help="of the training data")
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="of the peers")
    parser.add_argument("--again", type=Path, metavar="FILE", help="onnxgru's rows alone anew")
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--page", action="store_true", help="write what was measured, no more")
    parsed = parser.parse_args()
    if parsed.page:
        page.write(page.stored())
        return
    for name in THREADS:
        os.environ.setdefault(name, "1")
    started = time.perf_counter()
    model = parsed.models / f"{TASKS[parsed.task].stem}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        work, place, train, count = Path(folder), None, None, 0
        if not parsed.quick:
            place = parsed.environments or environments.folder()
            train = work / "train.npz"
            count = write_training_data(parsed.task, train, parsed.sequences)
        known = peers_of(parsed.again) if parsed.again is not None else None
        rows = list(measured(model, place, train, work, known))
    document: dict[str, Any] = {
        "task": parsed.task,
        "sequences": count,
        "rows": [asdict(row) for row in rows],
        "seconds": round(time.perf_counter() - started),
    }
    path, parsed.json = parsed.json, None
    show(figures(rows), parsed)
    if path is not None:
        document |= {
            "machine": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "onnxruntime": version("onnxruntime"),
            "figures": figures(rows),
        }
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
