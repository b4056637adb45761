"""Fine-tuning of a quantised model: weights and scales follow the gradient through the rounding.

The loss is the cross-entropy with labels, and the distillation from the float model (Hinton et al.
2015, arXiv 1503.02531)::

    L = (1 - a) CE(labels) + a t^2 KL(softmax(teacher / t) || softmax(student / t))

a = 1 where there are no labels. Labels that are real numbers, or else the outputs of a float model
that does not end in a distribution, are met by the squared distance, as a share of their power.
After every epoch the result is judged as what it will be: integers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxgru.core.errors import DataError, DivergedError, UsageError
from onnxgru.core.integers import TINY, Floats
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.data.dataset import Dataset
from onnxgru.training.cell import QuantizedLayer
from onnxgru.training.checkpoint import Checkpoint
from onnxgru.training.descent import Descent, one_thread
from onnxgru.training.host import HostGraph
from onnxgru.training.quantizers import Tensor
from onnxgru.training.state import Epoch, TrainingState
from onnxgru.training.trace import import_torch

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FinetuningSettings:
    """How to fine-tune.

    Parameters
    ----------
    epochs : int
        Passes over the data.
    learning_rate : float
        Adam's at its peak; it rises over the first steps and falls along half a cosine.
    batch_size : int
        Sequences a step.
    distillation : float
        a, 0 to 1: the float model's share of the loss.
    temperature : float
        t.
    scales : {"weights", "all", "none"}
        Which scales are learned: those of weights, those of calibrated values too, or none.
    averaging : float
        Decay of the running average of weights and scales, smaller in the first steps; the average
        is what is kept. 0: no average.
    seed : int
        Of the order of the sequences.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 64
    distillation: float = 0.5
    temperature: float = 2.0
    scales: str = "weights"
    averaging: float = 0.0
    seed: int = 0


class Finetuning:
    """Fine-tunes one program.

    Parameters
    ----------
    model : onnx.ModelProto
        Normalised, with its recurrent nodes.
    layers : sequence of Layer
        Its layers.
    program : IntegerProgram
        Scales and zero points to start with.
    scheme : Scheme
        What it was lowered from.
    output : str
        The output that is judged.
    batch_axis : int
        Of that output.
    settings : FinetuningSettings
        How.
    fixed : int, optional
        Sequences that the model takes at a time, if it does not take any number.

    Raises
    ------
    UsageError
        If torch is not installed, or the model has an operator without a known gradient.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Sequence[Layer],
        program: IntegerProgram,
        scheme: Scheme,
        output: str,
        batch_axis: int,
        settings: FinetuningSettings,
        fixed: int | None = None,
    ) -> None:
        import_torch("fine-tuning")
        self._settings, self._batch_axis, self._fixed = settings, batch_axis, fixed
        self._layers = [
            QuantizedLayer(
                layer,
                integers,
                program.values,
                scheme,
                learn_weights=settings.scales != "none",
                learn_values=settings.scales == "all",
            )
            for layer, integers in zip(layers, program.layers, strict=True)
        ]
        self._graph = HostGraph(
            model, {made.layer.node: made.among for made in self._layers}, output
        )

    def run(
        self,
        data: Dataset,
        teacher: Array,
        judge: Callable[[Tuned], float],
        report: Callable[[Epoch], None],
        uncertainty: Callable[[float], float] = lambda _error: 0.0,
        checkpoint: Checkpoint | None = None,
        identity: str = "",
    ) -> tuple[int, Tuned]:
        """Fine-tune.

        Parameters
        ----------
        data : Dataset
            Training sequences, as `check` lets through.
        teacher : ndarray of float32, batch first
            What the float model computes for them: the output, a distribution if it is one.
        judge : callable
            Error of a result on validation, smaller is better.
        report : callable
            Receives every epoch, those before an interruption again.
        uncertainty : callable
            How much a larger error may be chance.
        checkpoint : Checkpoint, optional
            Where it stands after every epoch, and goes on from: it then ends as if it had not been
            interrupted.
        identity : str
            Digest of what everything here depends on.

        Returns
        -------
        epoch : int
            The last whose error cannot be told from the smallest; 0 is what was there before.
            Late epochs have small steps, and the smallest of many errors on little data owes
            most to chance (the one-standard-error rule, Breiman et al. 1984).
        tuned : Tuned
            What it left.

        Raises
        ------
        DivergedError
            If weights or the loss grow beyond all bounds.
        OutputError
            If the checkpoint cannot be written, is damaged, or is of another training.
        """
        settings = self._settings
        with one_thread():
            training = TrainingState(self._descent(data), settings.seed)
            saved = checkpoint.load(identity) if checkpoint else None
            if saved is None:
                training.add(Epoch(0, settings.epochs, math.nan, judge(self.result())))
            else:
                training.restore(saved)
            for epoch in training.epochs:
                report(epoch)
            for number in range(len(training.epochs), settings.epochs + 1):
                losses = self._pass(data, teacher, training)
                with training.descent.averaged():
                    result = self.result()
                if not (math.isfinite(losses[-1]) and _is_sound(result)):
                    raise DivergedError(
                        f"fine-tuning diverged in epoch {number}; give a lower learning rate than "
                        f"{settings.learning_rate:g}"
                    )
                epoch = Epoch(number, settings.epochs, float(np.mean(losses)), judge(result))
                training.add(epoch)
                if checkpoint:
                    checkpoint.save(identity, training.state())
                report(epoch)
            least = min(epoch.error for epoch in training.epochs)
            limit = least + (uncertainty(least) if math.isfinite(least) else 0.0)
            kept = max(epoch.number for epoch in training.epochs if epoch.error <= limit)
            with training.descent.replaced(training.candidates[kept]):
                return kept, self.result()

    def _descent(self, data: Dataset) -> Descent:
        settings = self._settings
        scales = [scale for made in self._layers for scale in made.scales]
        weights = [weight for made in self._layers for weight in made.weights]
        return Descent(
            [*weights, *self._graph.trained.values(), *scales],
            settings.learning_rate,
            settings.epochs * (data.size // settings.batch_size),
            settings.averaging,
        )

    def _pass(self, data: Dataset, teacher: Array, training: TrainingState) -> list[float]:
        """Go through the data once, in an order drawn anew; the losses of the steps."""
        order, size = training.generator.permutation(data.size), self._settings.batch_size
        losses = []
        for start in range(0, data.size - size + 1, size):
            chosen = np.sort(order[start : start + size])
            losses.append(training.descent.follow(self._loss(data.pick(chosen), teacher[chosen])))
        return losses

    def outputs(self, data: Dataset) -> Floats:
        """What the model as trained computes in torch: outputs or their logits, batch first."""
        import torch

        with torch.no_grad():
            return np.asarray(self._computed(data).numpy())

    def _computed(self, data: Dataset) -> Tensor:
        import torch

        parts = [
            self._graph(call.inputs).movedim(self._batch_axis, 0)[:count]
            for call, count in data.calls(self._fixed, data.size)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _loss(self, data: Dataset, teacher: Array) -> Tensor:
        import torch
        from torch.nn import functional

        settings, labels = self._settings, data.labels
        found = self._computed(data)
        distribution = self._graph.distribution
        classes = labels is not None and is_classes(labels)
        if not classes and (labels is not None or not distribution):
            target = torch.from_numpy(np.array(teacher if labels is None else labels, np.float32))
            if distribution:
                found = functional.log_softmax(found, dim=-1)
                found = found.exp() if distribution == "Softmax" else found
            return (found - target).square().mean() / target.square().mean().clamp(min=1e-12)
        # Frames with negative labels are padding.
        counted = np.ones(found.shape[:-1], bool) if labels is None else labels >= 0
        places = torch.from_numpy(counted.reshape(-1).nonzero()[0])
        found = found.reshape(-1, found.shape[-1])[places]
        total = max(1, len(places))
        loss = found.new_zeros(())
        share = settings.distillation if classes else 1.0
        if share:
            logits = torch.from_numpy(np.array(teacher)).reshape(-1, found.shape[-1])[places]
            if distribution == "Softmax":
                logits = torch.log(logits.clamp(min=1e-30))
            t = settings.temperature
            divergence = functional.kl_div(
                functional.log_softmax(found / t, dim=-1),
                functional.log_softmax(logits / t, dim=-1),
                reduction="sum",
                log_target=True,
            )
            loss = loss + share * t * t * divergence / total
        if labels is not None and share < 1:
            wanted = torch.from_numpy(labels[counted].astype(np.int64))
            entropy = functional.cross_entropy(found, wanted, reduction="sum")
            loss = loss + (1 - share) * entropy / total
        return loss

    def result(self) -> Tuned:
        """The model as trained so far."""
        linears = {name: cell for made in self._layers for name, cell in made.linears.items()}
        return Tuned(
            {name: cell.rounded() for name, cell in linears.items()},
            {
                name: tuple(tensor.detach().numpy().copy() for tensor in tensors)
                for made in self._layers
                for name, tensors in made.numbers.items()
            },
            {
                name: quantizer.range
                for made in self._layers
                for name, quantizer in made.quantizers.items()
                if quantizer.parameters
            },
            {name: tensor.detach().numpy().copy() for name, tensor in self._graph.trained.items()},
        )


def check(
    data: Dataset, outputs: Array, settings: FinetuningSettings, fixed: int | None = None
) -> None:
    """Check that a model can be fine-tuned on some data.

    Parameters
    ----------
    data : Dataset
        Training sequences.
    outputs : ndarray of float32, batch first
        The float model's for the first of them.
    settings : FinetuningSettings
        How it will be done.
    fixed : int, optional
        Sequences that the model takes at a time.

    Raises
    ------
    DataError
        If there is less than a batch, or labels do not fit the output or are all of one class.
    UsageError
        If the model does not take batches of that size.
    """
    size = settings.batch_size
    if fixed is not None and size % fixed:
        raise UsageError(
            f"batch_size must be a multiple of {fixed}, because the model takes as many sequences "
            f"at a time, got {size}"
        )
    if fixed is not None and data.size % fixed:
        raise DataError(
            f"{data.source}: the model takes {fixed} sequences at a time, so their number must be "
            f"a multiple of it, got {data.size}; add or leave out some"
        )
    if data.size < size:
        raise DataError(
            f"{data.source}: fine-tuning needs at least one batch of {size} sequences, got "
            f"{data.size}; give more, or a smaller batch size"
        )
    labels = data.labels
    if labels is None:
        return
    wanted = outputs.shape[1:-1] if is_classes(labels) else outputs.shape[1:]
    if labels.shape[1:] != wanted:
        kind = "a class for every output" if is_classes(labels) else "a number for every output"
        raise DataError(
            f"{data.source}: labels must be {kind}, of shape {(data.size, *wanted)}, they are "
            f"{labels.shape}; correct or leave them out"
        )
    if not is_classes(labels):
        return
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise DataError(
            f"{data.source}: fine-tuning needs labels of two classes or more, all are "
            f"{', '.join(map(str, classes)) or 'negative'}; give data of every class"
        )
    if classes[-1] >= outputs.shape[-1]:
        raise DataError(
            f"{data.source}: labels must be below {outputs.shape[-1]}, the number of the model's "
            f"classes, one is {classes[-1]}; correct them"
        )


def is_classes(labels: Array) -> bool:
    """Whether labels are classes and not real numbers."""
    return bool(np.issubdtype(labels.dtype, np.integer))


def _is_sound(result: Tuned) -> bool:
    """Whether all its numbers are finite, and its scales' reciprocals too."""
    rounded = result.rounded.values()
    arrays = [
        *result.initializers.values(),
        *(array for pair in result.weights.values() for array in pair),
        *(np.asarray(ends) for ends in result.ranges.values()),
        *(array for value in rounded for array in (value.scales, value.bias)),
    ]
    sound = all(bool(np.isfinite(array).all()) for array in arrays)
    return sound and all(float(value.scales.min()) >= TINY for value in rounded)
