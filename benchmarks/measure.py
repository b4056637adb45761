"""What the benchmarks share: a model of a given size, medians, and the form of the output."""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxgru.core.network import Layer, LinearOperator
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.data.dataset import Dataset
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize
from onnxgru.runtime.host import Host
from onnxgru.runtime.observation import Observation, calibrate


@dataclass(frozen=True)
class Bench:
    """A calibrated random GRU and sequences for it.

    Parameters
    ----------
    message : onnx.ModelProto
        One GRU node, X (T, B, I) to Y_h, as classifiers have it.
    model : onnx_ir.Model
        The same, normalised.
    layers : tuple of Layer
        Its layer.
    host : Host
        Its float parts: none.
    lowering : Lowering
        Calibrated on 64 sequences.
    """

    message: onnx.ModelProto
    model: ir.Model
    layers: tuple[Layer, ...]
    host: Host
    lowering: Lowering

    def data(self, sequences: int, steps: int) -> Dataset:
        """Seeded random sequences."""
        size = self.layers[0].input_size
        x = np.random.default_rng(1).standard_normal((steps, sequences, size)).astype(np.float32)
        return Dataset({"X": x}, None, "random", {"X": 1})

    def scheme(self, seed: int) -> Scheme:
        """Every width drawn at random."""
        generator = np.random.default_rng(seed)
        operators: dict[str, OutputScheme] = {}
        for operator in self.layers[0].operators:
            bits, weight_bits = (int(n) for n in generator.integers(2, 9, 2))
            operators[operator.name] = (
                LinearScheme(bits, "mse", weight_bits, "channel", operator.weight.shape)
                if isinstance(operator, LinearOperator)
                else OutputScheme(bits)
            )
        return Scheme({self.layers[0].name: OutputScheme(8)}, operators)


def bench(hidden: int, inputs: int, steps: int) -> Bench:
    """A random GRU of a given size, seeded."""
    generator = np.random.default_rng(0)
    shapes = {"W": (1, 3 * hidden, inputs), "R": (1, 3 * hidden, hidden), "B": (1, 6 * hidden)}
    arrays = {n: (0.1 * generator.standard_normal(s)).astype("f4") for n, s in shapes.items()}
    node = helper.make_node(
        "GRU", ["X", *arrays], ["", "Y_h"], "gru", hidden_size=hidden, linear_before_reset=1
    )
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "gru",
        [helper.make_tensor_value_info("X", kind, ["T", "B", inputs])],
        [
            helper.make_tensor_value_info("Y_h", kind, [1, "B", hidden]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = ir.from_proto(message)
    Normalize()(model)
    layers = recognize(model).layers
    host = Host(model, layers)
    x = generator.standard_normal((steps, 64, inputs)).astype(np.float32)
    calibration = calibrate(
        Observation(model, layers), layers, [Dataset({"X": x}, None, "", {"X": 1})], "0" * 64
    )
    return Bench(message, model, layers, host, Lowering(model.graph, layers, calibration))


Clock = Callable[[], float]


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Time of one call."""
    started = clock()
    work()
    return clock() - started


def medians(
    *works: Callable[[], object], rounds: int, clock: Clock = time.perf_counter
) -> list[float]:
    """Median seconds of each, run in turn so that a change of the machine's speed meets all."""
    for work in works:
        work()
    times = [[seconds(work, clock) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Takes ``--quick`` and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser


def arguments(description: str | None, model: Path | None = None) -> argparse.Namespace:
    """``--quick`` and ``--json FILE``, and a model to measure on if there is one by default."""
    parser = parser_of(description)
    if model is not None:
        parser.add_argument("model", nargs="?", type=Path, default=model, help="with its data")
    return parser.parse_args()


def show(figures: dict[str, float | str], parsed: argparse.Namespace) -> None:
    """Print ``name: value`` lines."""
    whole = {"machine": platform.processor() or platform.machine(), **figures}
    for name, value in whole.items():
        sys.stdout.write(
            f"{name}: {value:.4g}\n" if isinstance(value, float) else f"{name}: {value}\n"
        )
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
