"""The state of a fine-tuning: its epochs, the averages that may be kept, and random numbers."""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from onnxgru.training.descent import Descent
from onnxgru.training.quantizers import Tensor


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data.

    Parameters
    ----------
    number, total : int
        Number of the epoch, 0 before any step, and the last number.
    loss : float
        Mean of the loss over the steps; NaN for number 0.
    error : float
        Error of the integer program on validation data, smaller is better.
    """

    number: int
    total: int
    loss: float
    error: float


class TrainingState:
    """Everything that changes while a model is fine-tuned.

    Parameters
    ----------
    descent : Descent
        Moves the tensors.
    seed : int
        Seed of the order of the data.
    """

    def __init__(self, descent: Descent, seed: int) -> None:
        self.descent = descent
        self.generator = np.random.default_rng(seed)
        self.epochs: list[Epoch] = []
        """All epochs that are done, number 0 first."""
        self.candidates: dict[int, list[Tensor]] = {}
        """Averages by epoch, of epochs with a smaller error than all later ones: one is kept."""

    def add(self, epoch: Epoch) -> None:
        """Add an epoch that is done, and its average."""
        self.epochs.append(epoch)
        self.candidates = {
            number: tensors
            for number, tensors in self.candidates.items()
            if self.epochs[number].error < epoch.error
        }
        self.candidates[epoch.number] = [tensor.clone() for tensor in self.descent.average]

    def state(self) -> dict[str, Any]:
        """The complete training state in a form that can be saved."""
        return {
            "descent": self.descent.state(),
            "generator": json.dumps(self.generator.bit_generator.state),
            "epochs": [astuple(epoch) for epoch in self.epochs],
            "candidates": self.candidates,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned."""
        self.descent.restore(state["descent"])
        self.generator.bit_generator.state = json.loads(state["generator"])
        self.epochs = [Epoch(*row) for row in state["epochs"]]
        self.candidates = state["candidates"]
