"""The state of a fine-tuning: its epochs, what may still come of them, and where it stands."""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from onnxgru.training.descent import Descent
from onnxgru.training.quantizers import Tensor


@dataclass(frozen=True)
class Epoch:
    """A pass over the data.

    Parameters
    ----------
    number, total : int
        From 0, before any step.
    loss : float
        Mean over its steps; NaN at 0.
    error : float
        Of the integers on validation.
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
        What moves its tensors.
    seed : int
        Of the order of the data.
    """

    def __init__(self, descent: Descent, seed: int) -> None:
        self.descent = descent
        self.generator = np.random.default_rng(seed)
        self.epochs: list[Epoch] = []
        """Those done, with the one before any step."""
        self.candidates: dict[int, list[Tensor]] = {}
        """Averages after the epochs whose error no later one has reached: one will be kept."""

    def add(self, epoch: Epoch) -> None:
        """Take note of an epoch that is done."""
        self.epochs.append(epoch)
        self.candidates = {
            number: tensors
            for number, tensors in self.candidates.items()
            if self.epochs[number].error < epoch.error
        }
        self.candidates[epoch.number] = [tensor.clone() for tensor in self.descent.average]

    def state(self) -> dict[str, Any]:
        """It all, as a checkpoint can hold it."""
        return {
            "descent": self.descent.state(),
            "generator": json.dumps(self.generator.bit_generator.state),
            "epochs": [astuple(epoch) for epoch in self.epochs],
            "candidates": self.candidates,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.descent.restore(state["descent"])
        self.generator.bit_generator.state = json.loads(state["generator"])
        self.epochs = [Epoch(*row) for row in state["epochs"]]
        self.candidates = state["candidates"]
