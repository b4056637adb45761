"""The same model through onnxgru, at several sizes."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxgru
from onnxgru.core.scheme import LinearScheme

MOST_BITS = 2.24
"""A weight, of the member of the front that is fine-tuned."""


@dataclass(frozen=True)
class Made:
    """An integer graph.

    Parameters
    ----------
    name : str
        Of its row.
    path : Path
        Of the graph.
    sizes : mapping
        Those of its report: flash bytes and bits a weight among them.
    seconds : float
        That it took.
    """

    name: str
    path: Path
    sizes: Mapping[str, Any]
    seconds: float


def rows(model: Path, work: Path, train: Path | None, *, quick: bool) -> Iterator[Made]:
    """Quantise a model at several sizes.

    Parameters
    ----------
    model : Path
        The float model, its data beside it.
    work : Path
        Folder for what is made.
    train : Path or None
        Training data; the fine-tuned member is left out without them.
    quick : bool
        A short search.
    """
    spent = {"population": 8, "generations": 2} if quick else {}
    jobs: dict[str, dict[str, Any]] = {
        "uniform 8 bits": {"bits": 8},
        "weights 4, outputs 8 bits": {"scheme": work / "4x8.json"},
        "uniform 4 bits": {"bits": 4},
        "searched": {"search": True, **spent},
    }
    for name, settings in jobs.items():
        started = time.perf_counter()
        result = onnxgru.quantize(model, onnxgru.Config(output=work / name, **settings))
        yield _made(f"onnxgru, {name}", result, started)
        if name == "uniform 8 bits":
            (work / "4x8.json").write_bytes(_narrowed(result.scheme, 4).dumps())
    if train is not None:
        started = time.perf_counter()
        place = work / "searched"
        members = json.loads((place / "front.json").read_text("utf-8"))["members"]
        few = [m for m in members if m["mean_bits"] <= MOST_BITS]
        few = few or [min(members, key=lambda member: float(member["mean_bits"]))]
        best = max(few, key=lambda member: float(member["validation"]))
        settings = {"epochs": 15, "batch_size": 32}
        result = onnxgru.finetune(
            place, train, index=best["index"], settings=settings, output=work / "fine-tuned"
        )
        yield _made("onnxgru, fine-tuned", result, started)


def _narrowed(scheme: onnxgru.Scheme, bits: int) -> onnxgru.Scheme:
    """A scheme with weights of so many bits."""
    operators = {
        name: replace(entry, weight_bits=bits) if isinstance(entry, LinearScheme) else entry
        for name, entry in scheme.operators.items()
    }
    return replace(scheme, operators=operators)


def _made(name: str, result: onnxgru.Result, started: float) -> Made:
    seconds = time.perf_counter() - started
    return Made(name, result.integer, result.report["sizes"], seconds)
