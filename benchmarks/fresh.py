"""A task that nobody tuned to: nine speakers told by their vowels, through the published study.

::

    pip install --no-deps aeon==1.6.0
    python -m benchmarks.fresh --models FOLDER
    python -m benchmarks.published --task vowels --copies 10 --models FOLDER

The settings of fine-tuning were chosen on the keywords and on MNIST while hold-out accuracy was in
view, so those figures are slightly optimistic. This task came after every setting: the recipe of
the model and the settings of the study are those of the digits, the other small task, with epochs
for as many steps. They were written down before the first run of the study, which ran once.

Data: Japanese Vowels (M. Kudo, J. Toyama, M. Shimbo, 1999, Pattern Recognition Letters 20, pages
1103 to 1111; UCI Machine Learning Repository, doi 10.24432/C5NS47, CC BY 4.0), in the copy that the
aeon distribution holds: 270 utterances for training, 370 held out, 12 cepstral coefficients, 7 to
29 steps. A third of the training utterances is for validation.
"""

import argparse
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from onnxgru.core.errors import UsageError
from onnxgru.models.digits import DigitsRecipe
from onnxgru.models.make import make
from onnxgru.models.task import (
    Examples,
    Floats,
    Integers,
    Listener,
    Material,
    Recipe,
    Splits,
    Task,
    divide,
)

STEPS, FEATURES = 29, 12
VALIDATION_SIZE = 90
CALIBRATION_SIZE = 90
DIGITS = DigitsRecipe()


@dataclass(frozen=True)
class VowelsRecipe(Recipe):
    """The recipe of the digits without shifts, and with as many steps: it has fewer examples.

    Parameters
    ----------
    noise : float
        Standard deviation of the noise added to standardised coefficients.
    """

    hidden_size: int = DIGITS.hidden_size
    epochs: int = 600
    batch_size: int = DIGITS.batch_size
    learning_rate: float = DIGITS.learning_rate
    weight_decay: float = DIGITS.weight_decay
    noise: float = DIGITS.noise


def load(recipe: VowelsRecipe, limit: int | None, _listener: Listener) -> Material:
    """Read and split the utterances.

    Parameters
    ----------
    recipe : VowelsRecipe
        Augmentation and seed.
    limit : int, optional
        At most this many utterances of each part.

    Returns
    -------
    Material
        (B, 29, 12), standardised by the training part; zeros, which are the mean, stand before
        shorter utterances.

    Raises
    ------
    UsageError
        If aeon or scikit-learn is not installed.
    """
    folder = _folder()
    sounds, labels = _read(folder / "JapaneseVowels_TRAIN.ts")
    train, validation = divide(labels, np.arange(len(labels)), VALIDATION_SIZE, recipe.seed)
    _, calibration = divide(labels, train, CALIBRATION_SIZE, recipe.seed)
    whole = np.concatenate([sounds[index] for index in train])
    mean, deviation = whole.mean(0), whole.std(0)

    def read(values: list[Floats]) -> Floats:
        found = np.zeros((len(values), STEPS, FEATURES), np.float32)
        for row, value in zip(found, values, strict=True):
            row[STEPS - len(value) :] = (value - mean) / deviation
        return found

    given = Examples(read(sounds), labels)
    unheard, unheard_labels = _read(folder / "JapaneseVowels_TEST.ts")
    holdout = Examples(read(unheard), unheard_labels)
    parts = Splits(
        *(given.part(indices[:limit]) for indices in (train, calibration, validation)),
        holdout.part(np.arange(len(unheard_labels))[:limit]),
    )

    def batch(indices: Integers, _epoch: int, generator: np.random.Generator) -> Floats:
        inputs = parts.train.inputs[indices]
        noise = generator.standard_normal(inputs.shape, np.float32)
        return inputs + np.float32(recipe.noise) * noise

    return Material(parts, batch)


def _folder() -> Path:
    """Where the data stand; the package itself is not imported."""
    spec = find_spec("aeon")
    if spec is None or spec.origin is None:
        raise UsageError(
            "the data come with aeon, which is not installed; run: "
            "pip install --no-deps aeon==1.6.0"
        )
    return Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels"


def _read(path: Path) -> tuple[list[Floats], Integers]:
    """Utterances (T, 12) and speakers from 0."""
    lines = path.read_text("utf-8").splitlines()
    rows = [line.split(":") for line in lines[lines.index("@data") + 1 :] if line]
    sounds = [
        np.array([channel.split(",") for channel in channels], np.float32).T
        for *channels, _ in rows
    ]
    return sounds, np.array([int(row[-1]) - 1 for row in rows], np.int64)


TASK = Task(
    name="vowels",
    input_name="coefficients",
    steps=STEPS,
    features=FEATURES,
    classes=tuple(f"speaker {number}" for number in range(1, 10)),
    recipe=VowelsRecipe(),
    load=load,
    libraries=("aeon", "scikit-learn"),
)


def main() -> None:
    """Train the model, and write it with its data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder to write to")
    parsed = parser.parse_args()
    record = make(TASK, parsed.models, lambda _event: None)
    for role, accuracy in record["accuracy"].items():
        sys.stdout.write(f"float, {role}: {accuracy:.2f}\n")


if __name__ == "__main__":
    main()
