"""Gradient descent: steps of an optimizer, the running average of tensors, and Adam with both."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import current_thread, main_thread
from typing import Any

from onnxgru.training.quantizers import Tensor

GRADIENT_NORM = 1.0
"""Largest Euclidean norm of the gradients of all tensors together."""

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""


class Descent:
    """Adam with gradients clipped; its rate rises over the first steps, then falls to zero.

    Parameters
    ----------
    trained : sequence of tensor
        Tensors that are moved in place.
    rate : float
        Largest learning rate.
    steps : int
        Number of steps of the whole training.
    averaging : float
        Decay of the running average, 0 to below 1, smaller in the first steps; 0: no average.
    """

    def __init__(
        self, trained: Sequence[Tensor], rate: float, steps: int, averaging: float
    ) -> None:
        import torch

        self.trained = list(trained)
        self._rate, self._steps, self._averaging = rate, steps, averaging
        self._optimizer = torch.optim.Adam(self.trained, lr=rate)
        self.average = self.copied()
        """The running average; with no averaging, the tensors after the last step."""
        self._step = 0

    def copied(self) -> list[Tensor]:
        """Copies of the tensors."""
        return [tensor.detach().clone() for tensor in self.trained]

    def follow(self, loss: Tensor) -> float:
        """Move the tensors one step against the gradient of a loss; return the loss."""
        rate = self._rate * _pace(self._step, self._steps)
        found = advance(self._optimizer, loss, rate, GRADIENT_NORM)
        blend(self.average, self.trained, self._averaging, self._step)
        self._step += 1
        return found

    def averaged(self) -> AbstractContextManager[None]:
        """Put the running average into the tensors until the context ends."""
        return self.replaced(self.average)

    @contextmanager
    def replaced(self, others: Sequence[Tensor]) -> Iterator[None]:
        """Put other numbers into the tensors until the context ends."""
        before = self.copied()
        self._put(others)
        try:
            yield
        finally:
            self._put(before)

    def _put(self, others: Sequence[Tensor]) -> None:
        for tensor, other in zip(self.trained, others, strict=True):
            tensor.data.copy_(other)

    def state(self) -> dict[str, Any]:
        """The complete state in a form that can be saved."""
        return {
            "step": self._step,
            "trained": self.copied(),
            "average": list(self.average),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned."""
        self._step = state["step"]
        self._put(state["trained"])
        self.average = list(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])


def advance(optimizer: Any, loss: Tensor, rate: float, norm: float) -> float:
    """Take one step of an optimizer against the gradient of a loss.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Moves its tensors in place.
    loss : tensor of float32, shape ()
        What to reduce.
    rate : float
        The learning rate of this step.
    norm : float
        Gradients are scaled down where the Euclidean norm of all of them together is larger.

    Returns
    -------
    float
        The loss before the step.
    """
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    moved = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    torch.nn.utils.clip_grad_norm_(moved, norm)
    optimizer.step()
    return float(loss.item())


def blend(average: Iterable[Tensor], tensors: Iterable[Tensor], decay: float, step: int) -> None:
    """Move a running average towards tensors, in place.

    The decay is smaller in the first steps, so that a short training forgets its first weights too.

    Parameters
    ----------
    average, tensors : iterable of tensor
        In the same order, with the same shapes.
    decay : float
        Share of the average that stays after many steps.
    step : int
        Number of the step, from 0.
    """
    share = 1 - min(decay, (step + 1) / (step + 10))
    for kept, tensor in zip(average, tensors, strict=True):
        kept.detach().lerp_(tensor.detach(), share)


def _pace(step: int, steps: int) -> float:
    """Share of the largest learning rate at a step."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * half_cosine(step, steps)


def half_cosine(step: int, steps: int) -> float:
    """From 1 at step 0 to 0 after all steps."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread for torch's products, so that sums do not depend on the number of cores.

    The former number is restored in the main thread alone: it holds for the whole process, so a
    worker that restored it would change the products of other workers.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        if current_thread() is main_thread():
            torch.set_num_threads(before)
