"""MNIST row by row: 28 steps of 28 pixels."""

from dataclasses import dataclass

import numpy as np

from onnxgru.models import images, mnist
from onnxgru.models.images import Bytes
from onnxgru.models.task import Floats, Listener, Material, Recipe, Task


@dataclass(frozen=True)
class RowRecipe(Recipe):
    """How the model is trained.

    Parameters
    ----------
    shift : int
        Largest random shift of an image in pixels, in both directions.
    noise : float
        Standard deviation of the noise added to pixels, which lie in 0..1.
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    averaging: float = 0.998
    memory: int = mnist.SIDE
    shift: int = 2
    noise: float = 0.05


def load(recipe: RowRecipe, limit: int | None, listener: Listener) -> Material:
    """Images from top to bottom, (B, 28, 28) of k / 255; see :func:`onnxgru.models.mnist.load`."""

    def form(pixels: Bytes) -> Floats:
        return np.divide(pixels, 255, dtype=np.float32)

    def batch(pixels: Bytes, _epoch: int, generator: np.random.Generator) -> Floats:
        moved = images.shifted(pixels, recipe.shift, generator)
        return images.noisy(form(moved), recipe.noise, generator)

    return mnist.load(recipe, limit, listener, form, batch)


TASK = Task(
    name="mnist-row",
    input_name="rows",
    steps=mnist.SIDE,
    features=mnist.SIDE,
    classes=mnist.CLASSES,
    recipe=RowRecipe(),
    load=load,
    libraries=("scikit-learn",),
)
