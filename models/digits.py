"""The shipped model: handwritten digits, read row by row by a GRU.

::

    rows (batch, 8 steps, 8 pixels) -> GRU, 64 units -> last state -> Linear, 10 -> Softmax

Data: scikit-learn's copy of Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak,
1998, doi 10.24432/C50P49, CC BY 4.0; see LICENSE-DATA.md), 1,797 images. The same seed gives the
same weights on the same machine and versions::

    python -m onnxgru.models.digits --output models

The recipe suits quantisation: augmentation and decoupled weight decay keep weights and
pre-activations small, and averaging the weights over the last epochs takes outliers away.
"""

import argparse
import copy
import io
import json
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from onnxgru.core import files
from onnxgru.core.errors import OnnxgruError, OutputError, UsageError
from onnxgru.core.metrics import accuracy
from onnxgru.training.export import export_module
from onnxgru.training.trace import import_torch

NAME = "digits_row"
INPUT, OUTPUT = "rows", "probabilities"
STEPS, PIXELS, CLASSES = 8, 8, 10
VALIDATION_SIZE = HOLDOUT_SIZE = 450
CALIBRATION_SIZE = 256

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How the model is trained.

    Parameters
    ----------
    hidden_size : int
        Units of the GRU.
    epochs : int
        Passes over the training images.
    batch_size : int
        Images a step.
    learning_rate : float
        AdamW's at the start; it follows half a cosine to 0.
    weight_decay : float
        AdamW's, decoupled from the gradient.
    label_smoothing : float
        Share of the target spread over all classes, 0 to 1.
    shift : int
        Largest random shift of an image in pixels, in both directions.
    noise : float
        Standard deviation of the noise added to pixels, which lie in 0..1.
    averaging : float
        Decay, per step, of the running average of the weights that is kept.
    gradient_norm : float
        Gradients are clipped to this norm.
    seed : int
        Of the split, the initial weights, the order of the images and the augmentation.
    """

    hidden_size: int = 64
    epochs: int = 120
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    shift: int = 1
    noise: float = 0.05
    averaging: float = 0.995
    gradient_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Images:
    """Digits.

    Parameters
    ----------
    rows : array (B, 8, 8), float32
        Images from top to bottom, k / 16 for k in 0..16.
    labels : array (B,), int64
        Digits, 0 to 9.
    """

    rows: Floats
    labels: Integers

    def part(self, indices: Integers) -> "Images":
        """Return the images at `indices`."""
        return Images(self.rows[indices], self.labels[indices])


@dataclass(frozen=True)
class Split:
    """The data in disjoint parts; calibration is a part of train.

    Parameters
    ----------
    train, calibration, validation, holdout : Images
        897, 256, 450 and 450 images, each with the digits in nearly equal shares.
    """

    train: Images
    calibration: Images
    validation: Images
    holdout: Images


def split(seed: int = 0) -> Split:
    """Split the 1,797 images, stratified by digit.

    Parameters
    ----------
    seed : int
        Of the shuffling.

    Returns
    -------
    Split
        The same for the same seed.

    Raises
    ------
    UsageError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise UsageError(
            "the digits come with scikit-learn, which is not installed; pip install onnxgru[train]"
        ) from error
    digits = load_digits()
    images = Images(
        (digits.images / 16.0).astype(np.float32), np.asarray(digits.target, dtype=np.int64)
    )

    def divide(indices: Integers, size: int) -> tuple[Integers, Integers]:
        rest, taken = train_test_split(
            indices, test_size=size, random_state=seed, stratify=images.labels[indices]
        )
        return rest, taken

    rest, holdout = divide(np.arange(len(images.labels)), HOLDOUT_SIZE)
    train_indices, validation = divide(rest, VALIDATION_SIZE)
    _, calibration = divide(train_indices, CALIBRATION_SIZE)
    return Split(*map(images.part, (train_indices, calibration, validation, holdout)))


def network(hidden_size: int = Recipe.hidden_size) -> Any:
    """Make the untrained network, its output logits or, in evaluation mode, probabilities.

    Parameters
    ----------
    hidden_size : int
        Units of the GRU.

    Returns
    -------
    torch.nn.Module
        Takes rows, float32 (B, 8, 8); gives (B, 10). Holds `example_inputs`, so that
        ``onnxgru export onnxgru.models.digits:network --weights ...`` works.

    Raises
    ------
    UsageError
        If torch is not installed.
    """
    torch = import_torch("training")

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        """GRU over rows, its last state classified."""

        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(PIXELS, hidden_size, batch_first=True)
            self.head = torch.nn.Linear(hidden_size, CLASSES)
            self.example_inputs = (torch.zeros(1, STEPS, PIXELS),)

        def forward(self, rows: Any) -> Any:
            """Logits in training, probabilities in evaluation; (B, 10)."""
            _, state = self.gru(rows)
            logits = self.head(state[0])
            return logits if self.training else torch.softmax(logits, dim=-1)

    return Network()


def train(images: Images, recipe: Recipe, progress: Progress | None = None) -> Any:
    """Train the network.

    Parameters
    ----------
    images : Images
        The training part.
    recipe : Recipe
        How.
    progress : rich.progress.Progress, optional
        Shows the epochs.

    Returns
    -------
    torch.nn.Module
        In evaluation mode; the average of the weights over the last steps.

    Raises
    ------
    UsageError
        If torch is not installed.
    """
    torch = import_torch("training")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums do not depend on the number of cores, and small ones are faster
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random state is left alone
            torch.manual_seed(recipe.seed)
            return _train(torch, images, recipe, progress)
    finally:
        torch.set_num_threads(threads)


def _train(torch: Any, images: Images, recipe: Recipe, progress: Progress | None) -> Any:
    generator = np.random.default_rng(recipe.seed)
    module = network(recipe.hidden_size).train()
    average = copy.deepcopy(module)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    count = len(images.labels)
    total = recipe.epochs * math.ceil(count / recipe.batch_size)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    task = progress.add_task("training", total=recipe.epochs) if progress else None
    step = 0
    for _ in range(recipe.epochs):
        order = generator.permutation(count)
        for start in range(0, count, recipe.batch_size):
            batch = images.part(order[start : start + recipe.batch_size])
            rows = torch.from_numpy(_augmented(batch.rows, recipe, generator))
            loss = criterion(module(rows), torch.from_numpy(batch.labels))
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.gradient_norm)
            optimizer.step()
            step += 1
            decay = min(recipe.averaging, step / (step + 9))  # forgets the start in short runs
            with torch.no_grad():
                pairs = zip(average.parameters(), module.parameters(), strict=True)
                for kept, current in pairs:
                    kept.lerp_(current, 1 - decay)
        if progress and task is not None:
            progress.advance(task)
    return average.eval()


def _augmented(rows: Floats, recipe: Recipe, generator: np.random.Generator) -> Floats:
    """Images (B, 8, 8) shifted by up to `shift` pixels, with noise, within 0..1."""
    reach = recipe.shift
    padded = np.pad(rows, ((0, 0), (reach, reach), (reach, reach)))
    down, right = generator.integers(0, 2 * reach + 1, (2, len(rows), 1, 1))
    image = np.arange(len(rows))[:, None, None]
    row = down + np.arange(STEPS)[None, :, None]
    column = right + np.arange(PIXELS)[None, None, :]
    shifted = padded[image, row, column]
    noise = generator.normal(0.0, recipe.noise, shifted.shape)
    augmented: Floats = np.clip(shifted + noise, 0.0, 1.0).astype(np.float32)
    return augmented


def make(
    output: Path,
    recipe: Recipe | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, export and write model, data and a record of both.

    Parameters
    ----------
    output : pathlib.Path
        Folder; made if it is not there. Gets ``digits_row.onnx``,
        ``digits_row.calibration.npz``, ``.validation.npz``, ``.holdout.npz`` and
        ``digits_row.json``; existing ones are replaced.
    recipe : Recipe, optional
        The shipped one if left out.
    limit : int, optional
        Train on this many images only, for a quick try.
    progress : rich.progress.Progress, optional
        Shows the epochs.

    Returns
    -------
    dict
        What ``digits_row.json`` holds: recipe, sizes, versions, accuracies (percent) by part.

    Raises
    ------
    UsageError
        If torch or scikit-learn is not installed.
    OutputError
        If a file cannot be written.
    """
    recipe = recipe or Recipe()
    parts = split(recipe.seed)
    training = parts.train if limit is None else parts.train.part(np.arange(limit))
    module = train(training, recipe, progress)
    stored = {
        "calibration": parts.calibration,
        "validation": parts.validation,
        "holdout": parts.holdout,
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        exported = export_module(
            module,
            module.example_inputs,
            output / f"{NAME}.onnx",
            output_names=[OUTPUT],
        )
        for role, images in stored.items():
            _write_images(output / f"{NAME}.{role}.npz", images)
        record = {
            "model": f"{NAME}.onnx",
            "recipe": asdict(recipe),
            "images": {"train": len(training.labels)}
            | {role: len(images.labels) for role, images in stored.items()},
            "accuracy": {
                role: round(_accuracy(exported.path, images), 4)
                for role, images in ({"train": training} | stored).items()
            },
            "versions": _versions(),
        }
        files.write(output / f"{NAME}.json", (json.dumps(record, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{output}: must be writable, writing failed: {error}") from error
    return record


def _write_images(path: Path, images: Images) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, rows=images.rows, labels=images.labels)
    files.write(path, stream.getvalue())


def _accuracy(model: Path, images: Images) -> float:
    """Percent of right digits, in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return accuracy(session.run([OUTPUT], {INPUT: images.rows})[0], images.labels)


def _versions() -> dict[str, str]:
    import onnx
    import sklearn

    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": import_torch("training").__version__,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the model from the command line: ``python -m onnxgru.models.digits --help``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The process's own if left out.

    Returns
    -------
    int
        Exit status; accuracies go to standard output, progress to standard error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m onnxgru.models.digits", description="Train and export the digits model."
    )
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--limit", type=int, help="train on this many images only")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    for name in ("epochs", "limit"):
        value = getattr(given, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    errors = Console(stderr=True)
    try:
        with Progress(console=errors) as progress:
            recipe = Recipe(epochs=given.epochs, seed=given.seed)
            record = make(given.output, recipe, given.limit, progress)
    except OnnxgruError as error:
        errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    sys.stdout.write(json.dumps(record["accuracy"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
