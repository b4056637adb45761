"""The digits model quantised and searched once, for tests of the command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from onnxgru.cli import main
from tests import grus

MODELS = Path(__file__).resolve().parent.parent / "models"
PLAIN = {
    "integer.onnx", "annotated.onnx", "scheme.json", "calibration.json", "moments.npz",
    "report.json", "report.md", "report.html", "test_data_set_0/input_0.pb",
    "test_data_set_0/output_0.pb",
}  # fmt: skip
SEARCHED = PLAIN | {"front.json", "front.csv", "front.png", "journal.jsonl"}
SHORT = ("--search", "--population", "8", "--generations", "4")


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those with paths in them."""
    return {
        name: (folder / name).read_bytes()
        for name in names(folder) - {"report.json", "report.md", "report.html", "journal.jsonl"}
    }


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def tensor(path: Path) -> np.ndarray:
    message = onnx.TensorProto()
    message.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(message)


def unfolded(text: str) -> str:
    """What the command line said, each sentence in one line."""
    return text.replace("\n  ", " ")


def run(model: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    return grus.run(onnx.load(model), inputs)


def environment(**settings: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, **settings}


def process(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "onnxgru", *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def copy_digits(folder: Path, sequences: int | None = None) -> Path:
    """The shipped model with its data, or the first sequences of them."""
    for path in MODELS.glob("digits_row.*"):
        if path.suffix == ".npz" and sequences is not None:
            with np.load(path) as arrays:
                np.savez(folder / path.name, **{n: a[:sequences] for n, a in arrays.items()})
        else:
            shutil.copy(path, folder)
    return folder / "digits_row.onnx"


def training() -> dict[str, np.ndarray]:
    """Training data of the shipped model, from scikit-learn: rows (N, 8, 8) and labels (N,)."""
    from onnxgru.models import digits

    train = digits.load(digits.DigitsRecipe(), None, lambda _event: None).parts.train
    return {"rows": train.inputs, "labels": train.labels}


def quantize(place: Path, output: str, *arguments: str, model: str = "digits_row.onnx") -> Path:
    shutil.rmtree(place / output, ignore_errors=True)
    assert main(["quantize", model, "--quiet", "-o", output, *arguments]) == 0
    return place / output


def prepared(place: Path) -> Iterator[Path]:
    """Work in a folder with the digits model, fewer data, and the results ``plain``, ``short``."""
    copy_digits(place, 100)
    before = Path.cwd()
    os.chdir(place)
    try:
        quantize(place, "plain")
        quantize(place, "short", *SHORT)
        yield place
    finally:
        os.chdir(before)
