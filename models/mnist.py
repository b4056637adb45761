"""MNIST, by Y. LeCun, C. Cortes and C. Burges: 60,000 and 10,000 digits of 28 x 28 grey levels.

The 10,000 test images are held out; 5,000 of the others are for validation. Files in the IDX form,
https://yann.lecun.org/exdb/mnist, compressed with gzip.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onnxgru.models import sources
from onnxgru.models.images import Bytes
from onnxgru.models.task import (
    Examples,
    Floats,
    Integers,
    Listener,
    Material,
    Recipe,
    Splits,
    damaged,
    divide,
)

SIDE = 28
CLASSES = tuple("0123456789")
VALIDATION_SIZE = 5000
CALIBRATION_SIZE = 512
HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"

# A download is compared with the SHA-256 of the published file; the content, wherever the file
# comes from, with that of the published file's content, because others compress it differently.
_PUBLISHED = {
    "train-images-idx3-ubyte": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


def load(
    recipe: Recipe,
    limit: int | None,
    listener: Listener,
    form: Callable[[Bytes], Floats],
    batch: Callable[[Bytes, int, np.random.Generator], Floats],
) -> Material:
    """Split the images, each digit in its share.

    Parameters
    ----------
    recipe : Recipe
        Seed of the split.
    limit : int, optional
        At most this many images of each part; all are 55,000 for training, 512 of these for
        calibration, 5,000 for validation and 10,000 held out.
    listener : callable
        Hears of downloads.
    form : callable
        Images, uint8 (B, 28, 28), as the network reads them.
    batch : callable
        The same with augmentation; also takes the epoch, and a generator of random numbers.

    Returns
    -------
    Material
        Of the whole numbers 0 to 255.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    UsageError
        If scikit-learn is not installed, or pooch is needed and is not.
    """
    images, labels = _images("train", listener), _labels("train", listener)
    rest, validation = divide(labels, np.arange(len(labels)), VALIDATION_SIZE, recipe.seed)
    _, calibration = divide(labels, rest, CALIBRATION_SIZE, recipe.seed)

    def part(indices: Integers) -> Examples:
        return Examples(form(images[indices]), labels[indices])

    train = images[rest[:limit]]
    holdout = Examples(form(_images("t10k", listener)[:limit]), _labels("t10k", listener)[:limit])
    parts = Splits(part(rest[:limit]), part(calibration[:limit]), part(validation[:limit]), holdout)
    return Material(parts, lambda indices, epoch, random: batch(train[indices], epoch, random))


def _images(which: str, listener: Listener) -> Bytes:
    pixels = np.frombuffer(_content(f"{which}-images-idx3-ubyte", listener), np.uint8, offset=16)
    return pixels.reshape(-1, SIDE, SIDE)


def _labels(which: str, listener: Listener) -> Integers:
    content = _content(f"{which}-labels-idx1-ubyte", listener)
    return np.frombuffer(content, np.uint8, offset=8).astype(np.int64)


def _content(name: str, listener: Listener) -> bytes:
    """Content of a file, whose header needs no reading: it is known bit by bit."""
    compressed, plain = _PUBLISHED[name]
    source = sources.Source("mnist", f"{name}.gz", f"{HOME}{name}.gz", compressed)
    path: Path = sources.find(source, listener)
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"it cannot be unpacked ({type(error).__name__})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != plain:
        raise damaged(path, f"its content has the SHA-256 {found}, not {plain}")
    return content
