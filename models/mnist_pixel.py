"""MNIST pixel by pixel: images of 19 x 19, one grey level per step, 361 steps.

A network that starts on 361 steps learns slowly. So training starts on coarser images with shorter
sequences, in which the pixels of a stroke are closer in time.
"""

from dataclasses import dataclass

import numpy as np

from onnxgru.models import images, mnist
from onnxgru.models.images import Bytes
from onnxgru.models.task import Floats, Listener, Material, Recipe, Task

SIDE = 19


@dataclass(frozen=True)
class PixelRecipe(Recipe):
    """How the model is trained.

    Parameters
    ----------
    coarse : tuple of (int, int)
        Side of coarser images in pixels, and the percentage of the epochs at which they end. After
        the last of them, images have 19 x 19 pixels.
    shift : int
        Largest random shift of an image in pixels of 28 x 28, in both directions.
    """

    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    averaging: float = 0.998
    memory: int = 100
    coarse: tuple[tuple[int, int], ...] = ((7, 17), (10, 42), (14, 67))
    shift: int = 1


def load(recipe: PixelRecipe, limit: int | None, listener: Listener) -> Material:
    """Images line by line, (B, 361, 1) of k / 255; see :func:`onnxgru.models.mnist.load`."""

    def form(pixels: Bytes, side: int = SIDE) -> Floats:
        sequences = images.resampled(pixels, side).reshape(len(pixels), -1, 1)
        return np.divide(sequences, 255, dtype=np.float32)

    def batch(pixels: Bytes, epoch: int, generator: np.random.Generator) -> Floats:
        done = 100 * (epoch + 1)
        sides = (side for side, end in recipe.coarse if done <= end * recipe.epochs)
        return form(images.shifted(pixels, recipe.shift, generator), next(sides, SIDE))

    return mnist.load(recipe, limit, listener, form, batch)


TASK = Task(
    name="mnist-pixel",
    input_name="pixels",
    steps=SIDE * SIDE,
    features=1,
    classes=mnist.CLASSES,
    recipe=PixelRecipe(),
    load=load,
    libraries=("scikit-learn",),
)
