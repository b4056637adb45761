"""What a recipe states: its data, its network's sizes, and how it is trained.

Each recipe is one file with one :class:`Task`; what they have in common is in `network`, `fit` and
`make`. :data:`onnxgru.models.zoo.TASKS` lists them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from onnxgru.core import install
from onnxgru.core.errors import DataError, UsageError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; recipes with augmentation add its settings.

    Parameters
    ----------
    cell : {"gru", "lstm", "ligru", "sru"}
        The recurrent layer.
    bidirectional : bool
        Whether it runs in both directions.
    hidden_size : int
        Units of the layer, per direction.
    epochs : int
        Passes over the training examples.
    batch_size : int
        Examples per step.
    learning_rate : float
        AdamW's at the start; it follows half a cosine to 0.
    weight_decay : float
        AdamW's, decoupled from the gradient.
    label_smoothing : float
        Share of the target spread over all classes, 0 to 1.
    averaging : float
        Decay, per step, of the running average of the weights that is kept.
    gradient_norm : float
        Gradients are clipped to this norm.
    dropout : float
        Share of the last state that is silenced in training, 0 to 1.
    memory : int
        Steps that the state should last at first: recurrent matrices begin orthogonal, and the
        biases of the gates that keep the state (update gates, an LSTM's and SRU's forget gates) so
        that z / (1 - z) is spread from 1 to this (after Tallec and Ollivier 2018, arXiv
        1804.11188). 0 leaves torch's own initial weights.
    seed : int
        Of the split, the initial weights, the order of the examples and the augmentation.
    """

    cell: str = "gru"
    bidirectional: bool = False
    hidden_size: int = 128
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    averaging: float = 0.995
    gradient_norm: float = 1.0
    dropout: float = 0.0
    memory: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Examples:
    """Sequences with their classes.

    Parameters
    ----------
    inputs : array (B, T, I), float32
        As the network reads them.
    labels : array (B,), int64
        Classes from 0.
    """

    inputs: Floats
    labels: Integers

    def part(self, indices: Integers) -> "Examples":
        """Return the examples at `indices`."""
        return Examples(self.inputs[indices], self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """The data in disjoint parts; calibration is a part of train."""

    train: Examples
    calibration: Examples
    validation: Examples
    holdout: Examples


@dataclass(frozen=True)
class Material:
    """What a model is trained on and measured with.

    Parameters
    ----------
    parts : Splits
        Without augmentation.
    batch : callable
        ``batch(indices, epoch, generator)`` gives the inputs of these training examples,
        float32 (B, T, I), augmented with random numbers of `generator` only; `epoch` counts
        from 0.
    notes : mapping
        What a user must know of the inputs, for the record: the standardisation, say.
    """

    parts: Splits
    batch: Callable[[Integers, int, np.random.Generator], Floats]
    notes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class FitEpoch:
    """An epoch has ended: its number from 1, the mean loss, and percent right on validation."""

    number: int
    epochs: int
    loss: float
    validation: float
    seconds: float


@dataclass(frozen=True)
class Download:
    """`done` of `total` bytes of a file have been fetched."""

    name: str
    done: int
    total: int


Listener = Callable[[FitEpoch | Download], None]
R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Task(Generic[R]):
    """A model that can be made.

    Parameters
    ----------
    name : str
        As on the command line; files are named by it with "_" for "-".
    input_name : str
        Of the graph's input.
    steps, features : int
        Shape of an example.
    classes : tuple of str
        Their names, in the order of the outputs.
    recipe : Recipe
        How the model in this folder was trained.
    load : callable
        ``load(recipe, limit, listener)`` reads the data, at most `limit` examples of each part,
        None for all, and gives :class:`Material`.
    libraries : tuple of str
        Distributions that the data or their features depend on, for the record.
    """

    name: str
    input_name: str
    steps: int
    features: int
    classes: tuple[str, ...]
    recipe: R
    load: Callable[[R, int | None, Listener], Material]
    libraries: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return self.name.replace("-", "_")


def divide(labels: Integers, indices: Integers, size: int, seed: int) -> tuple[Integers, Integers]:
    """Divide examples at random into a rest and `size` of them, each class in its share.

    Parameters
    ----------
    labels : array (N,), int64
        Classes of all examples.
    indices : array, int64
        The examples that are divided.
    size : int
        Examples that are taken.
    seed : int
        Of the choice.

    Returns
    -------
    rest, taken : array, int64
        Disjoint; together `indices`.

    Raises
    ------
    UsageError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise missing("scikit-learn") from error
    rest, taken = train_test_split(
        indices, test_size=size, random_state=seed, stratify=labels[indices]
    )
    return rest, taken


def missing(library: str) -> UsageError:
    """Return what to raise where a library of the ``zoo`` extra is not installed."""
    return UsageError(f"training needs {library}, which is not installed; {install.hint('zoo')}")


def damaged(path: object, found: object) -> DataError:
    """Return what to raise where a file of recordings is not what was published."""
    return DataError(
        f"{path}: must be the file as published, but {found}; remove it, and download it again"
    )
