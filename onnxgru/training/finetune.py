"""Fine-tuning of a quantised model: weights and scales follow the gradient through the rounding.

The loss is the cross-entropy with labels, and the distillation from the float model (Hinton et al.
2015, arXiv 1503.02531)::

    L = (1 - a) CE(labels) + a t^2 KL(softmax(teacher / t) || softmax(student / t))

Without classes it is the squared distance from the targets, or from the float model's outputs, as a
share of their power. After every epoch the result is judged as what it will be: integers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxgru.core.data import Dataset
from onnxgru.core.errors import DataError, UsageError
from onnxgru.core.integers import Floats
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerProgram
from onnxgru.core.weights import Tuned
from onnxgru.training.cell import QuantizedLayer
from onnxgru.training.host import HostGraph
from onnxgru.training.quantizers import Tensor

Array = npt.NDArray[Any]

SCALES = ("weights", "all", "none")
GRADIENT_NORM = 1.0
WARM_UP = 0.05  # of the steps
IGNORED = -100  # torch's own number for labels that do not count


@dataclass(frozen=True)
class Settings:
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
    seed : int
        Of the order of the sequences.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 64
    distillation: float = 0.5
    temperature: float = 2.0
    scales: str = "weights"
    seed: int = 0


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


class Finetuning:
    """Fine-tunes one program.

    Parameters
    ----------
    model : onnx.ModelProto
        Normalised, with its recurrent nodes.
    layers : sequence of Layer
        Its layers.
    program : IntegerProgram
        Widths, scales and zero points to start with.
    output : str
        The output that is judged.
    batch_axis : int
        Of that output.
    settings : Settings
        How.

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
        output: str,
        batch_axis: int,
        settings: Settings,
    ) -> None:
        self._settings, self._batch_axis = settings, batch_axis
        self._layers = [
            QuantizedLayer(
                layer,
                integers,
                program.values,
                learn_weights=settings.scales != "none",
                learn_values=settings.scales == "all",
            )
            for layer, integers in zip(layers, program.layers, strict=True)
        ]
        self._graph = HostGraph(model, {made.layer.node: made for made in self._layers}, output)

    def run(
        self,
        data: Dataset,
        teacher: Array,
        judge: Callable[[Tuned], float],
        report: Callable[[Epoch], None],
    ) -> Tuned:
        """Fine-tune.

        Parameters
        ----------
        data : Dataset
            Training sequences.
        teacher : ndarray of float32, batch first
            What the float model computes for them: the output, a distribution if it is one.
        judge : callable
            Error of a result on validation, smaller is better.
        report : callable
            Receives every epoch.

        Returns
        -------
        Tuned
            The best of all epochs by `judge`; what was there before is one of them.

        Raises
        ------
        DataError
            If there is less than a batch, or only one class.
        UsageError
            If the loss grows beyond all bounds.
        """
        import torch

        settings = self._settings
        self._check(data)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums do not depend on the number of cores
        try:
            best = self.result()
            least = judge(best)
            report(Epoch(0, settings.epochs, math.nan, least))
            generator = np.random.default_rng(settings.seed)
            step, steps = 0, settings.epochs * (data.size // settings.batch_size)
            weights = [w for made in self._layers for w in made.weights]
            trained = [*weights, *self._graph.trained.values(), *self._scales()]
            optimizer = torch.optim.Adam(trained, lr=settings.learning_rate)
            for epoch in range(1, settings.epochs + 1):
                order = generator.permutation(data.size)
                losses = []
                for start in range(0, data.size - settings.batch_size + 1, settings.batch_size):
                    chosen = np.sort(order[start : start + settings.batch_size])
                    for group in optimizer.param_groups:
                        group["lr"] = settings.learning_rate * _pace(step, steps)
                    loss = self._loss(_rows(data, chosen), teacher[chosen])
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)
                    optimizer.step()
                    losses.append(loss.item())
                    step += 1
                if not math.isfinite(losses[-1]):
                    raise UsageError(
                        f"fine-tuning diverged in epoch {epoch}; give a lower learning rate than "
                        f"{settings.learning_rate:g}"
                    )
                result = self.result()
                error = judge(result)
                if error < least:
                    best, least = result, error
                report(Epoch(epoch, settings.epochs, float(np.mean(losses)), error))
        finally:
            torch.set_num_threads(threads)
        return best

    def _check(self, data: Dataset) -> None:
        if data.size < self._settings.batch_size:
            raise DataError(
                f"{data.source}: fine-tuning needs at least one batch of "
                f"{self._settings.batch_size} sequences, got {data.size}; give more, or a smaller "
                "batch size"
            )
        labels = data.labels
        if labels is None or not np.issubdtype(labels.dtype, np.integer):
            return
        classes = np.unique(labels[labels >= 0])
        if len(classes) < 2:
            raise DataError(
                f"{data.source}: fine-tuning needs labels of two classes or more, all are "
                f"{', '.join(map(str, classes)) or 'negative'}; give data of every class"
            )

    def _scales(self) -> list[Tensor]:
        return [scale for made in self._layers for scale in made.scales]

    def outputs(self, inputs: Mapping[str, Array]) -> Floats:
        """What the model as trained computes in torch: outputs or their logits, batch first."""
        import torch

        with torch.no_grad():
            return np.asarray(self._computed(inputs).numpy())

    def _computed(self, inputs: Mapping[str, Array]) -> Tensor:
        return self._graph(inputs).movedim(self._batch_axis, 0)

    def _loss(self, data: Dataset, teacher: Array) -> Tensor:
        import torch
        from torch.nn import functional

        settings = self._settings
        found = self._computed(data.inputs)
        labels = data.labels
        classes = labels is not None and np.issubdtype(labels.dtype, np.integer)
        if not self._graph.is_distribution and not classes:
            target = torch.from_numpy(np.array(teacher if labels is None else labels))
            return (found - target).square().mean() / target.square().mean().clamp(min=1e-12)
        loss: Tensor = 0.0
        share = settings.distillation if classes else 1.0
        if share:
            logits = torch.from_numpy(np.array(teacher))
            if self._graph.is_distribution:
                logits = torch.log(logits.clamp(min=1e-30))
            t = settings.temperature
            divergence = functional.kl_div(
                functional.log_softmax(found / t, dim=-1),
                functional.log_softmax(logits / t, dim=-1),
                reduction="none",
                log_target=True,
            )
            loss = loss + share * t * t * divergence.sum(dim=-1).mean()
        if labels is not None and classes and share < 1:
            wanted = torch.from_numpy(np.where(labels < 0, IGNORED, labels).astype(np.int64))
            scores = found.reshape(-1, found.shape[-1])
            loss = loss + (1 - share) * functional.cross_entropy(
                scores, wanted.reshape(-1), ignore_index=IGNORED
            )
        return loss

    def result(self) -> Tuned:
        """The model as trained so far."""
        linears = {name: cell for made in self._layers for name, cell in made.linears.items()}
        return Tuned(
            {name: cell.rounded() for name, cell in linears.items()},
            {
                name: (cell.weight.detach().numpy().copy(), cell.bias.detach().numpy().copy())
                for name, cell in linears.items()
            },
            {
                name: quantizer.range
                for made in self._layers
                for name, quantizer in made.quantizers.items()
                if quantizer.parameters
            },
            {name: tensor.detach().numpy().copy() for name, tensor in self._graph.trained.items()},
        )


def _rows(data: Dataset, chosen: npt.NDArray[np.integer]) -> Dataset:
    """Some of the sequences."""
    inputs = {
        name: np.take(array, chosen, axis=data.batch_axes.get(name, 0))
        for name, array in data.inputs.items()
    }
    labels = None if data.labels is None else data.labels[chosen]
    return Dataset(inputs, labels, data.source, data.batch_axes)


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate at a step."""
    risen = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return risen * 0.5 * (1 + math.cos(math.pi * step / steps))
