"""A step of fine-tuning against a step of float training, both on one core.

Forward and backward through a GRU of 128 units and 28 inputs, 64 sequences, at 8 bits: compiled
(`onnxgru.training.scan`), and ``torch.nn.GRU`` in float32; medians of several rounds in turn.

    python -m benchmarks.training [--quick] [--json FILE]
"""

from collections.abc import Callable

import numpy as np

from benchmarks.measure import Bench, arguments, bench, medians, show
from onnxgru.core.scheme import Scheme
from onnxgru.training.cell import QuantizedLayer

HIDDEN, INPUTS, SEQUENCES = 128, 28, 64


def quantized(made: Bench, steps: int) -> Callable[[], object]:
    """A step of fine-tuning."""
    import torch

    (layer,) = made.layers
    scheme = Scheme.uniform(made.layers, 8)
    program = made.lowering(scheme)
    twin = QuantizedLayer(layer, program.layers[0], program.values, scheme)
    x = torch.from_numpy(made.data(SEQUENCES, steps).inputs["X"])

    def step() -> None:
        for tensor in (*twin.weights, *twin.scales):
            tensor.grad = None
        _, last = twin(x)
        sum(value.square().sum() for value in last.values()).backward()

    return step


def exact(made: Bench, steps: int) -> Callable[[], object]:
    """A step of float training."""
    import torch

    gru = torch.nn.GRU(INPUTS, HIDDEN)
    x = torch.from_numpy(made.data(SEQUENCES, steps).inputs["X"])

    def step() -> None:
        gru.zero_grad()
        _, last = gru(x)
        last.square().sum().backward()

    return step


def main() -> None:
    """Measure and print."""
    import torch

    parsed = arguments(__doc__)
    torch.set_num_threads(1)
    figures: dict[str, float | str] = {}
    for steps in (28,) if parsed.quick else (28, 361):
        made = bench(HIDDEN, INPUTS, steps)
        ours, floats = medians(
            quantized(made, steps), exact(made, steps), rounds=3 if parsed.quick else 15
        )
        figures[f"fine-tuning, ms a step of {steps}"] = 1e3 * ours
        figures[f"float training, ms a step of {steps}"] = 1e3 * floats
        figures[f"ratio at {steps} steps"] = float(np.divide(ours, floats))
    show(figures, parsed)


if __name__ == "__main__":
    main()
