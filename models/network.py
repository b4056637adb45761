"""The network of every recipe: a GRU whose last state is classified.

::

    inputs (batch, T, I) -> GRU, H units -> last state -> Linear, C -> Softmax

The GRU is that of Cho et al. 2014, arXiv 1406.1078.
"""

from typing import Any

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
        Units, dropout and initial weights.

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

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]  # loaded late
        """GRU over the steps, its last state classified."""

        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(task.features, recipe.hidden_size, batch_first=True)
            self.head = torch.nn.Linear(recipe.hidden_size, len(task.classes))
            self.example_inputs = (torch.zeros(1, task.steps, task.features),)
            self.input_names = [task.input_name]

        def forward(self, inputs: Any) -> Any:
            """Logits in training, probabilities in evaluation; (B, C)."""
            _, state = self.gru(inputs)
            last = state[0]
            if self.training and recipe.dropout:
                last = torch.nn.functional.dropout(last, recipe.dropout)
            logits = self.head(last)
            return logits if self.training else torch.softmax(logits, dim=-1)

    network = Network()
    if recipe.memory:
        _initialise(torch, network.gru, recipe)
    return network


def _initialise(torch: Any, gru: Any, recipe: Recipe) -> None:
    """Orthogonal recurrent matrices, and update gates that keep the state."""
    size = recipe.hidden_size
    with torch.no_grad():
        for gate in gru.weight_hh_l0.split(size):
            torch.nn.init.orthogonal_(gate)
        gru.bias_ih_l0.zero_()
        gru.bias_hh_l0.zero_()
        # torch's order of the gates is reset, update, new; z = sigmoid(log m) = m / (m + 1)
        gru.bias_ih_l0[size : 2 * size].uniform_(1.0, recipe.memory).log_()
