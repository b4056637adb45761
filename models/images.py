"""Augmentation and resampling of images."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from onnxgru.models.task import Floats

Bytes = npt.NDArray[np.uint8]
Pixels = TypeVar("Pixels", Floats, Bytes)


def shifted(images: Pixels, reach: int, generator: np.random.Generator) -> Pixels:
    """Move each image by up to `reach` pixels in both directions; what comes in is 0.

    Parameters
    ----------
    images : array (B, rows, columns)
        Any type.
    reach : int
        Pixels.
    generator : numpy.random.Generator
        Draws two whole numbers an image.

    Returns
    -------
    array (B, rows, columns)
        A copy, of the same type.
    """
    count, rows, columns = images.shape
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach)))
    down, right = generator.integers(0, 2 * reach + 1, (2, count, 1, 1))
    image = np.arange(count)[:, None, None]
    row = down + np.arange(rows)[None, :, None]
    column = right + np.arange(columns)[None, None, :]
    moved: Pixels = padded[image, row, column]
    return moved


def noisy(images: Floats, deviation: float, generator: np.random.Generator) -> Floats:
    """Add normal noise of this standard deviation, within 0..1."""
    noise = generator.normal(0.0, deviation, images.shape)
    clipped: Floats = np.clip(images + noise, 0.0, 1.0).astype(np.float32)
    return clipped


def resampled(images: Bytes, side: int) -> Bytes:
    """Resample square images by area: each new pixel is the mean over the square it covers.

    Parameters
    ----------
    images : array (B, n, n), uint8
        Grey levels, n at most 255.
    side : int
        Pixels of a side of the new images, m, at most n.

    Returns
    -------
    array (B, m, m), uint8
        Exact means, rounded half up to whole grey levels.
    """
    old = images.shape[-1]
    weights = _overlaps(old, side)
    # whole numbers below 2^24, so that float32, which is fast, is exact in any order of summation
    sums = (weights @ images.astype(np.float32) @ weights.T).astype(np.int32)
    levels: Bytes = ((2 * sums + old * old) // (2 * old * old)).astype(np.uint8)
    return levels


def _overlaps(old: int, new: int) -> Floats:
    """Length that old pixel j covers of new pixel i, (new, old), in units in which `new` is one.

    A side is `old` times `new` units long, so that all lengths are whole, and a row's sum is `old`.
    """
    ends: Any = np.arange(1, new + 1)[:, None] * old
    others: Any = np.arange(1, old + 1)[None, :] * new
    covered = np.minimum(ends, others) - np.maximum(ends - old, others - new)
    lengths: Floats = np.maximum(covered, 0).astype(np.float32)
    return lengths
