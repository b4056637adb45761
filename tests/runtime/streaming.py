"""Small models that are called once per frame, and their frames in onnxruntime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxgru.data.dataset import Dataset
from onnxgru.data.sources import load
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.host import Host
from onnxgru.runtime.observation import Observation, calibrate
from onnxgru.runtime.sessions import onnxruntime_session
from tests.pipeline import Pipeline

Array = npt.NDArray[Any]


class Graph:
    """Collects nodes and constants."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, Array] = {}
        self._generator = np.random.default_rng(seed)

    def add(self, kind: str, inputs: str, outputs: str, **attributes: Any) -> None:
        names = [name.strip() for name in inputs.split(",")]
        made = [name.strip() for name in outputs.split(",")]
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, made, name=name, **attributes))

    def ints(self, name: str, *values: int) -> str:
        self.arrays[name] = np.asarray(values, np.int64)
        return name

    def floats(self, name: str, *shape: int, gain: float = 0.5) -> str:
        drawn = gain * self._generator.standard_normal(shape)
        self.arrays[name] = drawn.astype(np.float32)
        return name

    def gru(
        self, x: str, initial: str, y: str, y_h: str, size: int, hidden: int, **settings: Any
    ) -> None:
        directions = 2 if settings.get("direction") == "bidirectional" else 1
        prefix = f"g{len(self.nodes)}"
        self.floats(f"{prefix}w", directions, 3 * hidden, size)
        self.floats(f"{prefix}r", directions, 3 * hidden, hidden)
        names = (
            f"{x}, {prefix}w, {prefix}r, , , {initial}" if initial else f"{x}, {prefix}w, {prefix}r"
        )
        self.add("GRU", names, f"{y}, {y_h}", hidden_size=hidden, linear_before_reset=1, **settings)

    def model(
        self, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]
    ) -> onnx.ModelProto:
        def typed(values: Mapping[str, Sequence[Any]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
                for name, shape in values.items()
            ]

        tensors = [numpy_helper.from_array(a, n) for n, a in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "test", typed(inputs), typed(outputs), tensors)
        opset = helper.make_opsetid("", 18)
        return helper.make_model(graph, opset_imports=[opset], ir_version=9)


I, H, CACHE = 4, 5, 3  # noqa: E741 - the letter of the specification


def stacked(split: str = "slice", join: str = "concat", between: str = "") -> onnx.ModelProto:
    """A convolution over the last frames, and two GRUs whose states are stacked in one tensor.

    ``split`` and ``join`` say how the states are taken apart and put together; ``between`` what
    is done to the second one's first: "" nothing, "mask" a product, "dense" a matrix.
    """
    g = Graph()
    g.add("Transpose", "x", "xt", perm=[0, 2, 1])
    g.add("Concat", "cache, xt", "window", axis=2)
    g.add(
        "Slice",
        f"window, {g.ints('one', 1)}, {g.ints('end', 99)}, {g.ints('two', 2)}",
        "cache_next",
    )
    g.add("Conv", f"window, {g.floats('k', I, I, CACHE + 1)}", "conv")
    g.add("Transpose", "conv", "seq", perm=[2, 0, 1])
    g.ints("zero", 0)
    if split == "slice":
        g.add("Slice", "h, zero, one, zero", "h0")
        g.add("Slice", "h, one, two, zero", "h1")
    elif split == "split":
        g.add("Split", f"h, {g.ints('halves', 1, 1)}", "h0, h1", axis=0)
    else:
        for index, name in enumerate(("first", "second")):
            g.arrays[name] = np.asarray(index, np.int64)
            g.add("Gather", f"h, {name}", f"flat{index}", axis=0)
            g.add("Unsqueeze", f"flat{index}, zero", f"h{index}")
    second = "h1"
    if between == "mask":
        g.arrays["mask"] = np.asarray(0.75, np.float32)
        g.add("Mul", "h1, mask", "masked")
        second = "masked"
    elif between == "dense":
        g.add("MatMul", f"h1, {g.floats('dense', H, H)}", "mixed")
        second = "mixed"
    g.gru("seq", "h0", "y0", "last0", I, H)
    g.add("Squeeze", "y0, one", "seq1")
    g.add("Relu", "seq1", "relu1")
    g.gru("relu1", second, "y1", "last1", H, H)
    if join == "concat":
        g.add("Concat", "last0, last1", "hn", axis=0)
    else:
        g.arrays["row0"] = np.asarray([[0]], np.int64)
        g.arrays["row1"] = np.asarray([[1]], np.int64)
        g.add("ScatterND", "h, row0, last0", "written")
        g.add("ScatterND", "written, row1, last1", "hn")
    g.add("Squeeze", "y1, one", "seq2")
    g.add("MatMul", f"seq2, {g.floats('out', H, I)}", "logits")
    g.add("Transpose", "logits", "moved", perm=[1, 0, 2])
    g.add("Add", "moved, x", "y")
    return g.model(
        {"x": (1, 1, I), "h": (2, 1, H), "cache": (1, I, CACHE)},
        {"y": (1, 1, I), "hn": (2, 1, H), "cache_next": (1, I, CACHE)},
    )


BANDS = 6


def dual() -> onnx.ModelProto:
    """A bidirectional GRU over the bands of a frame, and one over time in every band."""
    g = Graph(1)
    g.add("Transpose", "x", "bands", perm=[1, 0, 2])
    g.gru("bands", "", "around", "", 3, 2, direction="bidirectional")
    g.add("Transpose", "around", "beside", perm=[2, 0, 1, 3])
    g.add("Reshape", f"beside, {g.ints('flat', 1, BANDS, 4)}", "seq")
    g.gru("seq", "h", "y0", "hn", 4, 3)
    g.add("Squeeze", f"y0, {g.ints('one', 1)}", "y")
    return g.model(
        {"x": (1, BANDS, 3), "h": (1, BANDS, 3)}, {"y": (1, BANDS, 3), "hn": (1, BANDS, 3)}
    )


def delayed(rotated: bool = False) -> onnx.ModelProto:
    """Two frames per call; states of many kinds, batch first.

    The last three outputs of a GRU, the frames of the call before, a state that never changes,
    and, where `rotated`, one whose elements go round in a circle.
    """
    g = Graph(2)
    g.ints("zero", 0)
    g.ints("one", 1)
    g.add("Mul", "x, gain", "louder")
    g.add("Add", "louder, prev", "mixed")
    g.add("Transpose", "mixed", "seq", perm=[1, 0, 2])
    g.add("Transpose", "h", "h0", perm=[1, 0, 2])
    g.gru("seq", "h0", "y0", "last", I, H)
    g.add("Transpose", "last", "hn", perm=[1, 0, 2])
    g.add("Squeeze", "y0, one", "steps")
    g.add("Transpose", "steps", "beside", perm=[1, 0, 2])
    g.add("Concat", "past, beside", "window", axis=1)
    g.add("Slice", f"window, {g.ints('two', 2)}, {g.ints('end', 99)}, one", "past_next")
    g.add("ReduceMean", "window, one", "mean", keepdims=1)
    g.add("Concat", f"mean, {'mean' if not rotated else 'turning'}", "twice", axis=1)
    g.add("Transpose", "twice", "seq1", perm=[1, 0, 2])
    g.gru("seq1", "", "y1", "", H, 3)
    g.add("Squeeze", "y1, one", "y")
    g.add("Identity", "x", "prev_next")
    g.add("Identity", "gain", "gain_next")
    inputs = {"x": (1, 2, I), "h": (1, 1, H), "past": (1, 3, H), "prev": (1, 2, I)}
    inputs["gain"] = (1, 1, I)
    outputs = {"y": (2, 1, 3), "hn": (1, 1, H), "past_next": (1, 3, H), "prev_next": (1, 2, I)}
    outputs["gain_next"] = (1, 1, I)
    if rotated:
        g.add("Split", f"ring, {g.ints('sizes', 1, 2)}", "turning, others", axis=1)
        g.nodes.insert(0, g.nodes.pop())
        g.add("Concat", "others, turning", "ring_next", axis=1)
        inputs["ring"] = outputs["ring_next"] = (1, 3, H)
    return g.model(inputs, outputs)


def delayed_wishes(rotated: bool = False) -> Declared:
    names = ["past", "prev", "gain", *(["ring"] if rotated else [])]
    states = {name: f"{name}_next" for name in names} | {"h": "hn"}
    return Declared(dict.fromkeys(("x", *states), 0), states)


def single(batch: int = 1) -> onnx.ModelProto:
    """The state that is handed on is Y of the one step, not Y_h."""
    g = Graph(4)
    g.ints("axes", 0, 1)
    g.ints("front", 0)
    g.add("Unsqueeze", "h, front", "h0")
    g.add("Unsqueeze", "x, front", "seq")
    g.gru("seq", "h0", "y0", "", I, H)
    g.add("Squeeze", "y0, axes", "hn")
    g.add("Relu", "hn", "y")
    outputs = {"y": (batch, H), "hn": (batch, H)}
    return g.model({"x": (batch, I), "h": (batch, H)}, outputs)


def flat(shape: tuple[int, ...] = (H,)) -> onnx.ModelProto:
    """A state that has no axis for recordings."""
    g = Graph(6)
    g.ints("front", 0)
    g.ints("three", 1, 1, H)
    g.add("Unsqueeze", "x, front", "seq")
    g.add("Reshape", "h, three", "h0")
    g.gru("seq", "h0", "y0", "last", I, H)
    g.add("Reshape", f"last, {g.ints('own', *shape)}", "hn")
    g.add("Squeeze", f"y0, {g.ints('axes', 0, 1)}", "y")
    return g.model({"h": shape, "x": (1, I)}, {"y": (1, H), "hn": shape})


def both() -> onnx.ModelProto:
    """A bidirectional layer over two frames whose states go on in the next call."""
    g = Graph(5)
    g.add("Transpose", "x", "seq", perm=[1, 0, 2])
    g.gru("seq", "h", "y0", "hn", I, H, direction="bidirectional")
    g.add("Relu", "y0", "y")
    return g.model({"x": (1, 2, I), "h": (2, 1, H)}, {"y": (2, 2, 1, H), "hn": (2, 1, H)})


@dataclass(frozen=True)
class Streaming:
    """A calibrated model, and frames of several recordings."""

    made: Pipeline
    data: Dataset


def recordings(message: onnx.ModelProto, lengths: Sequence[int], seed: int = 3) -> list[Array]:
    """Random input x of every recording, (1, F, ...) with an axis of frames in front."""
    generator = np.random.default_rng(seed)
    x = next(value for value in message.graph.input if value.name == "x")
    shape = [d.dim_value for d in x.type.tensor_type.shape.dim]
    return [generator.standard_normal((1, n, *shape[1:])).astype(np.float32) for n in lengths]


def host_of(message: onnx.ModelProto, declared: Declared | None = None) -> tuple[ir.Model, Host]:
    model = ir.from_proto(message)
    Normalize()(model)
    return model, Host(model, require(recognize(model), "test"), declared)


def streaming(
    message: onnx.ModelProto, lengths: Sequence[int] = (5, 3, 5), declared: Declared | None = None
) -> Streaming:
    model, host = host_of(message, declared)
    beside = host.batch or 1
    given = [{"x": np.repeat(a, beside, axis=0)} for a in recordings(message, lengths)]
    for index, batch in enumerate(given):  # recordings of one call differ
        batch["x"] += np.arange(beside).reshape(-1, *[1] * (batch["x"].ndim - 1)) * 0.1 * index
    data = load(given, host.signature)
    assert isinstance(data, Dataset)
    assert data.streams == tuple(lengths)
    data = host.handed_on(data)
    layers = host.layers
    calibration = calibrate(Observation(model, layers, host.batch), layers, [data], "0" * 64)
    lower = Lowering(model.graph, layers, calibration)
    return Streaming(Pipeline(model, layers, host, calibration, lower), data)


def frame_by_frame(
    message: onnx.ModelProto, data: Dataset, states: Mapping[str, str], batch: int = 1
) -> list[dict[str, Array]]:
    """Outputs of every call of a model in onnxruntime, each recording from its first states."""
    run = onnxruntime_session(message, threads=1)
    results: list[dict[str, Array]] = []
    calls = [call.inputs for call, _ in data.calls(batch, 1)]
    start = 0
    for length in data.streams:
        following: dict[str, Array] = {}
        for inputs in calls[start : start + length]:
            results.append(run({**inputs, **following}))
            following = {name: results[-1][output] for name, output in states.items()}
        start += length
    return results
