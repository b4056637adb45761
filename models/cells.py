"""Recurrent layers that torch lacks: LiGRU and SRU, as modules that are exported as ``Scan``.

LiGRU (Ravanelli et al. 2018), without batch normalisation, whose place the standardised inputs and
the weight decay of the recipes take::

    z = sigmoid(W_z x + R_z h + b_z)    n = relu(W_n x + R_n h + b_n)    h' = z h + (1 - z) n

SRU (Lei et al. 2018), with a fourth product in the place of x, so that sizes may differ::

    f = sigmoid(W_f x + v_f c + b_f)    r = sigmoid(W_r x + v_r c + b_r)
    c' = f c + (1 - f) W x              h = r tanh(c') + (1 - r) W_p x
"""

from abc import ABC, abstractmethod
from functools import cache
from typing import Any

from onnxgru.training.trace import import_torch

Tensor = Any


@cache
def classes() -> dict[str, Any]:
    """The modules by name; torch is not loaded before.

    They are made with ``(features, hidden_size, bidirectional=False)`` and take float32 (B, T, I);
    they give what is emitted (B, T, D H) and the last of it (D, B, H).
    """
    torch = import_torch("training")

    class Recurrence(ABC, torch.nn.Module):  # type: ignore[misc, name-defined]  # loaded late
        """What both have in common: products of the input, and a step that is scanned."""

        batch_first = True

        def __init__(self, features: int, hidden_size: int, *, bidirectional: bool = False) -> None:
            super().__init__()
            self.hidden_size, self.bidirectional = hidden_size, bidirectional
            self.directions = torch.nn.ModuleList(
                self.made(features) for _ in range(1 + bidirectional)
            )

        @abstractmethod
        def made(self, features: int) -> Any:
            """Parameters of a direction."""

        @abstractmethod
        def step(self, direction: Any, carry: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            """The next carry (B, H) and what is emitted (B, H), of an input (B, I)."""

        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            """What is emitted (B, T, D H), and the last of it (D, B, H)."""
            found = [
                self._run(direction, inputs, reverse=bool(place))
                for place, direction in enumerate(self.directions)
            ]
            ends = [y[:, 0 if place else -1] for place, y in enumerate(found)]
            return torch.cat(found, dim=-1), torch.stack(ends)

        def _run(self, direction: Any, inputs: Tensor, *, reverse: bool) -> Tensor:
            sequence = inputs.transpose(0, 1)
            if reverse:
                sequence = sequence.flip(0)
            carry = inputs.new_zeros(inputs.shape[0], self.hidden_size)

            def step(before: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
                after, emitted = self.step(direction, before, x)
                return after, emitted.clone()

            if torch.compiler.is_exporting():
                from torch._higher_order_ops.scan import scan

                _, emitted = scan(step, carry, sequence, dim=0)
            else:
                steps = []
                for x in sequence:
                    carry, y = step(carry, x)
                    steps.append(y)
                emitted = torch.stack(steps)
            if reverse:
                emitted = emitted.flip(0)
            return emitted.transpose(0, 1)

    class LiGRU(Recurrence):
        """See the module."""

        def made(self, features: int) -> Any:
            size = self.hidden_size
            return torch.nn.ModuleDict(
                {
                    "input": torch.nn.Linear(features, 2 * size),
                    "hidden": torch.nn.Linear(size, 2 * size, bias=False),
                }
            )

        def step(self, direction: Any, carry: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            total = direction["input"](x) + direction["hidden"](carry)
            update, new = total.chunk(2, dim=-1)
            update = torch.sigmoid(update)
            state = update * carry + (1 - update) * torch.relu(new)
            return state, state

        def remember(self, steps: int) -> None:
            """Start with update gates that keep the state for up to so many steps."""
            for direction in self.directions:
                for gate in direction["hidden"].weight.split(self.hidden_size):
                    torch.nn.init.orthogonal_(gate)
                direction["input"].bias.zero_()
                direction["input"].bias[: self.hidden_size].uniform_(1.0, steps).log_()

    class SRU(Recurrence):
        """See the module."""

        def made(self, features: int) -> Any:
            size = self.hidden_size
            direction = torch.nn.Module()
            direction.input = torch.nn.Linear(features, 4 * size)
            direction.forget = torch.nn.Parameter(torch.empty(size).uniform_(-1.0, 1.0))
            direction.reset = torch.nn.Parameter(torch.empty(size).uniform_(-1.0, 1.0))
            return direction

        def step(self, direction: Any, carry: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            new, forget, reset, passed = direction.input(x).chunk(4, dim=-1)
            forget = torch.sigmoid(forget + direction.forget * carry)
            reset = torch.sigmoid(reset + direction.reset * carry)
            after = forget * carry + (1 - forget) * new
            return after, reset * torch.tanh(after) + (1 - reset) * passed

        def remember(self, steps: int) -> None:
            """Start with forget gates that keep the cell state for up to so many steps."""
            size = self.hidden_size
            for direction in self.directions:
                direction.input.bias.zero_()
                direction.input.bias[size : 2 * size].uniform_(1.0, steps).log_()

    return {"ligru": LiGRU, "sru": SRU}
