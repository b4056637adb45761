"""A layer with random weights and correlated inputs, for tests of roundings."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxgru.core.network import Layer, LinearOperator, Recurrence
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from tests import grus


@dataclass(frozen=True)
class Network:
    """A layer, and samples (rows, N) of what its linear operators read, by operand."""

    layer: Layer
    samples: dict[str, np.ndarray]

    @property
    def recurrence(self) -> Recurrence:
        return self.layer.recurrences[0]

    @property
    def linear(self) -> list[LinearOperator]:
        return list(self.recurrence.linears)

    @property
    def seconds(self) -> dict[str, np.ndarray]:
        return {name: rows.T @ rows / len(rows) for name, rows in self.samples.items()}

    @property
    def means(self) -> dict[str, np.ndarray]:
        return {name: rows.mean(axis=0) for name, rows in self.samples.items()}


def network(seed: int, inputs: int = 24, hidden: int = 40) -> Network:
    """Samples lie near a plane of few dimensions, and their mean is not zero."""
    generator = np.random.default_rng(seed)
    model = ir.from_proto(grus.model(grus.Case(I=inputs, H=hidden, seed=seed)))
    Normalize()(model)
    (layer,) = require(recognize(model), "test")
    samples = {}
    for name, size in (
        (f"{layer.name}/forward/{n}", s) for n, s in (("input", inputs), ("state", hidden))
    ):
        plane = generator.standard_normal((6, size))
        rows = generator.standard_normal((2000, 6)) @ plane + 0.5
        samples[name] = rows + 0.2 * generator.standard_normal(rows.shape)
    return Network(layer, samples)
