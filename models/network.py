"""The network of every recipe: a recurrent layer whose last state is classified.

::

    inputs (batch, T, I) -> layer, H units -> last state -> Linear, C -> Softmax

Of two directions, both last states are. The GRU is that of Cho et al. 2014 (arXiv 1406.1078), the
LSTM that of Gers et al. 2000; LiGRU and SRU are in `onnxgru.models.cells`.
"""

from typing import Any

from onnxgru.models import cells
from onnxgru.models.task import Recipe, Task
from onnxgru.training.trace import import_torch

OUTPUT = "probabilities"


def make_network(task: Task[Any], recipe: Recipe) -> Any:
    """Make the untrained network of a task.

    Parameters
    ----------
    task : Task
        Shape of its inputs, number of classes.
    recipe : Recipe
        Cell, units, dropout and initial weights.

    Returns
    -------
    torch.nn.Module
        Takes float32 (B, T, I); gives logits (B, C) in training, probabilities in evaluation.
        Holds `example_inputs` and `input_names`, for the export.

    Raises
    ------
    UsageError
        If torch is not installed.
    """
    torch = import_torch("training")
    own = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]  # loaded late
        """A layer over the steps, its last state classified."""

        def __init__(self) -> None:
            super().__init__()
            sizes, both = (task.features, recipe.hidden_size), recipe.bidirectional
            if recipe.cell in own:
                layer = own[recipe.cell](*sizes, batch_first=True, bidirectional=both)
            else:
                layer = cells.classes()[recipe.cell](*sizes, bidirectional=both)
            setattr(self, recipe.cell, layer)
            self.head = torch.nn.Linear(recipe.hidden_size * (1 + both), len(task.classes))
            self.example_inputs = (torch.zeros(1, task.steps, task.features),)
            self.input_names = [task.input_name]

        def forward(self, inputs: Any) -> Any:
            """Logits in training, probabilities in evaluation; (B, C)."""
            _, state = getattr(self, recipe.cell)(inputs)
            if recipe.cell == "lstm":
                state, _ = state
            last = torch.cat(list(state), dim=-1) if recipe.bidirectional else state[0]
            if self.training and recipe.dropout:
                last = torch.nn.functional.dropout(last, recipe.dropout)
            logits = self.head(last)
            return logits if self.training else torch.softmax(logits, dim=-1)

    network = Network()
    if recipe.memory:
        layer = getattr(network, recipe.cell)
        with torch.no_grad():
            if recipe.cell in own:
                _initialise(torch, layer, recipe)
            else:
                layer.remember(recipe.memory)
    return network


KEEPING = {"gru": (1, None), "lstm": (1, 0)}
"""Places of the gates that keep the state, and of those that are to do the opposite, in torch."""


def _initialise(torch: Any, layer: Any, recipe: Recipe) -> None:
    """Orthogonal recurrent matrices, and gates that keep the state."""
    size = recipe.hidden_size
    keeping, opposite = KEEPING[recipe.cell]
    for suffix in ("", "_reverse")[: 1 + recipe.bidirectional]:
        for gate in getattr(layer, f"weight_hh_l0{suffix}").split(size):
            torch.nn.init.orthogonal_(gate)
        bias = getattr(layer, f"bias_ih_l0{suffix}").zero_()
        getattr(layer, f"bias_hh_l0{suffix}").zero_()
        # z = sigmoid(log m) = m / (m + 1)
        kept = bias[size * keeping : size * (keeping + 1)].uniform_(1.0, recipe.memory).log_()
        if opposite is not None:
            bias[size * opposite : size * (opposite + 1)] = -kept
