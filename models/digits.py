"""The shipped model: handwritten digits, read row by row.

Data: scikit-learn's copy of Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak,
1998, doi 10.24432/C50P49, CC BY 4.0; see LICENSE-DATA.md), 1,797 images of 8 x 8 pixels. The same
seed gives the same weights on the same machine and versions::

    onnxgru zoo digits-row -o models --force
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxgru.models import images
from onnxgru.models.network import make_network
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
    missing,
)

VALIDATION_SIZE = HOLDOUT_SIZE = 450
CALIBRATION_SIZE = 256


@dataclass(frozen=True)
class DigitsRecipe(Recipe):
    """How the model is trained.

    Parameters
    ----------
    shift : int
        Largest random shift of an image in pixels, in both directions.
    noise : float
        Standard deviation of the noise added to pixels, which lie in 0..1.
    """

    hidden_size: int = 64
    epochs: int = 120
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    shift: int = 1
    noise: float = 0.05


def load(recipe: DigitsRecipe, limit: int | None, _listener: Listener) -> Material:
    """Split the 1,797 images, k / 16 for k in 0..16, stratified by digit.

    Parameters
    ----------
    recipe : DigitsRecipe
        Augmentation and seed.
    limit : int, optional
        At most this many images of each part; all are 897 for training, 256 of these for
        calibration, 450 for validation and 450 held out.

    Returns
    -------
    Material
        Rows from top to bottom, (B, 8, 8).

    Raises
    ------
    UsageError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing("scikit-learn") from error
    digits = load_digits()
    rows = (digits.images / 16.0).astype(np.float32)
    labels = np.asarray(digits.target, dtype=np.int64)
    rest, holdout = divide(labels, np.arange(len(labels)), HOLDOUT_SIZE, recipe.seed)
    train, validation = divide(labels, rest, VALIDATION_SIZE, recipe.seed)
    _, calibration = divide(labels, train, CALIBRATION_SIZE, recipe.seed)
    everything = Examples(rows, labels)
    parts = Splits(*(everything.part(i[:limit]) for i in (train, calibration, validation, holdout)))

    def batch(indices: Integers, _epoch: int, generator: np.random.Generator) -> Floats:
        moved = images.shifted(parts.train.inputs[indices], recipe.shift, generator)
        return images.noisy(moved, recipe.noise, generator)

    return Material(parts, batch)


TASK = Task(
    name="digits-row",
    input_name="rows",
    steps=8,
    features=8,
    classes=tuple("0123456789"),
    recipe=DigitsRecipe(),
    load=load,
    libraries=("scikit-learn",),
)


def network() -> Any:
    """Make the untrained network, for ``onnxgru export onnxgru.models.digits:network``."""
    return make_network(TASK, TASK.recipe)
