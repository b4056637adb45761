"""The training loop of every recipe.

AdamW with clipped gradients and a learning rate that falls along half a cosine. The running average
of the weights is the result. Decoupled weight decay keeps weights and pre-activations small, and
the average removes outliers; both help quantisation. Training runs on one thread, so that sums, and
with them the weights, do not depend on the number of cores.
"""

import copy
import hashlib
import json
import math
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from onnxgru.data.metrics import accuracy
from onnxgru.models.network import make_network
from onnxgru.models.task import Examples, FitEpoch, Listener, Material, Recipe, Task
from onnxgru.training.checkpoint import Checkpoint
from onnxgru.training.descent import advance, blend, half_cosine, one_thread
from onnxgru.training.trace import import_torch

WATCHED = 1000
"""Validation examples whose accuracy is shown after every epoch; nothing else depends on it."""


def fit(
    task: Task[Any],
    recipe: Recipe,
    material: Material,
    listener: Listener,
    checkpoint: Checkpoint | None = None,
) -> Any:
    """Train the network of a task.

    Parameters
    ----------
    task : Task
        Its shapes.
    recipe : Recipe
        How.
    material : Material
        Training examples; those for validation are only watched.
    listener : callable
        Called after every epoch.
    checkpoint : Checkpoint, optional
        Where the training is saved after every epoch, and resumed from if the file exists. A
        resumed training ends with the weights of an uninterrupted one.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, with the average of the weights over the last steps.

    Raises
    ------
    UsageError
        If torch is not installed.
    OutputError
        If the checkpoint cannot be written or is not of this training.
    """
    torch = import_torch("training")
    # The caller's random state is left alone.
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return _fit(torch, task, recipe, material, listener, checkpoint)


def _fit(
    torch: Any,
    task: Task[Any],
    recipe: Recipe,
    material: Material,
    listener: Listener,
    checkpoint: Checkpoint | None,
) -> Any:
    training = _Training(torch, task, recipe, material)
    identity = _identity(torch, task, recipe, material)
    saved = checkpoint.load(identity) if checkpoint else None
    if saved is not None:
        training.restore(saved)
    validation = material.parts.validation
    watched = validation.part(np.arange(len(validation.labels))[:WATCHED])
    for epoch in range(training.epoch, recipe.epochs):
        started = time.monotonic()
        loss = training.run_epoch(epoch)
        if checkpoint:
            checkpoint.save(identity, training.state())
        right = training.measure(watched)
        seconds = time.monotonic() - started
        listener(FitEpoch(epoch + 1, recipe.epochs, loss, right, seconds))
    return training.average.eval()


def _identity(torch: Any, task: Task[Any], recipe: Recipe, material: Material) -> str:
    """SHA-256 over everything that the weights depend on."""
    train = material.parts.train
    digest = hashlib.sha256()
    versions = (torch.__version__, np.__version__)
    digest.update(json.dumps([task.name, asdict(recipe), versions]).encode())
    digest.update(np.ascontiguousarray(train.inputs).tobytes())
    digest.update(train.labels.tobytes())
    return digest.hexdigest()


class _Training:
    """Everything that changes while a network is trained."""

    def __init__(self, torch: Any, task: Task[Any], recipe: Recipe, material: Material) -> None:
        self._torch, self._recipe, self._material = torch, recipe, material
        self._labels = material.parts.train.labels
        self._generator = np.random.default_rng(recipe.seed)
        self._module = make_network(task, recipe).train()
        self.average = copy.deepcopy(self._module)
        self._optimizer = torch.optim.AdamW(
            self._module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._criterion = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.epoch = 0
        self._step = 0

    def run_epoch(self, epoch: int) -> float:
        """Go through the training examples once; their mean loss."""
        count, size = len(self._labels), self._recipe.batch_size
        order = self._generator.permutation(count)
        losses = [
            self._update(order[start : start + size], epoch) for start in range(0, count, size)
        ]
        self.epoch = epoch + 1
        return sum(losses) / len(losses)

    def _update(self, indices: Any, epoch: int) -> float:
        torch, recipe = self._torch, self._recipe
        inputs = torch.from_numpy(self._material.batch(indices, epoch, self._generator))
        loss = self._criterion(self._module(inputs), torch.from_numpy(self._labels[indices]))
        total = recipe.epochs * math.ceil(len(self._labels) / recipe.batch_size)
        rate = recipe.learning_rate * half_cosine(self._step, total)
        found = advance(self._optimizer, loss, rate, recipe.gradient_norm)
        blend(self.average.parameters(), self._module.parameters(), recipe.averaging, self._step)
        self._step += 1
        return found

    def measure(self, examples: Examples) -> float:
        """Percent of right classes of the averaged weights."""
        self.average.eval()
        with self._torch.no_grad():
            outputs = self.average(self._torch.from_numpy(examples.inputs)).numpy()
        return accuracy(outputs, examples.labels)

    def state(self) -> dict[str, Any]:
        """Return tensors, numbers and texts only, so that loading executes nothing."""
        return {
            "epoch": self.epoch,
            "step": self._step,
            "module": self._module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": json.dumps(self._generator.bit_generator.state),
            "torch": self._torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.epoch, self._step = state["epoch"], state["step"]
        self._module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.bit_generator.state = json.loads(state["generator"])
        self._torch.set_rng_state(state["torch"])
