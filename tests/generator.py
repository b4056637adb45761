"""Seeded models over what the ONNX operator GRU, exporters and file versions allow.

`draw` makes a model, matching data, and a plain twin that onnxruntime runs: float32, layout 0,
everything else the same. Sizes are small, weights as of a fresh torch GRU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
OPSETS = range(7, 26)
IR_VERSIONS = range(3, 14)
NAMES = (
    ("gru", "gru_1", "gru_2"), ("", "", ""), ("gru", "/gru", "gru/"), ("gru", "gru", "gru"),
    ("/", "//", "/"), ("a b", "ü ñ", "循环"), ("gru/forward", "gru", "gru/forward/state"),
    ("onnxgru/length/0", "onnxgru/powers", "onnxgru/axes/0"), ("layer[0]", "layer[1]", "*"),
)  # fmt: skip
INNER = ("v", "/gru/forward/state", "onnxgru/length/", "12", "_v_", "gru", "é ")
"""What names of inner values begin with."""
ACTIVATIONS: tuple[tuple[tuple[str, str], tuple[float, ...], tuple[float, ...]], ...] = (
    (("Sigmoid", "Relu"), (), ()), (("HardSigmoid", "Tanh"), (0.25,), (0.4,)),
    (("Sigmoid", "Softsign"), (), ()), (("Sigmoid", "ScaledTanh"), (0.9,), (1.1,)),
    (("Sigmoid", "LeakyRelu"), (0.1,), ()), (("Sigmoid", "Elu"), (1.0,), ()),
    (("sigmoid", "TANH"), (), ()), (("HardSigmoid", "Affine"), (0.2, 0.5), (0.5, 0.0)),
)  # fmt: skip
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}
T, RECORDINGS, BATCH = 6, 8, 4


@dataclass
class Layer:
    """What is drawn for one GRU node."""

    inputs: int
    hidden: int
    direction: str
    reset_after: int
    layout: int
    bias: bool
    clip: float | None
    activations: int | None
    lengths: bool
    initial: str
    folded: bool

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1


@dataclass
class Plan:
    """What is drawn for one model."""

    seed: int
    opset: int
    ir: int
    layers: list[Layer]
    between: list[str]
    end: str
    batch_first: bool
    axes: str
    names: int
    inner: str
    dtype: str
    long_domain: str
    foreign: bool
    overridable: bool
    side: str
    dense: bool

    def __str__(self) -> str:
        layers = ", ".join(
            f"{x.direction} {x.inputs}->{x.hidden}" + " layout 1" * x.layout
            + (f" initial {x.initial}" if x.initial else "") + " lengths" * x.lengths
            + (f" clip {x.clip}" if x.clip else "")
            + (f" {ACTIVATIONS[x.activations][0]}" if x.activations is not None else "")
            for x in self.layers
        )  # fmt: skip
        return (
            f"seed {self.seed}: opset {self.opset}, IR {self.ir}, {self.dtype}, axes {self.axes}, "
            f"[{layers}], between {self.between}, end {self.end}, side {self.side or 'none'}, "
            f"names {NAMES[self.names]}, values {self.inner!r}"
        )


@dataclass(frozen=True)
class Sample:
    """A model and its data.

    Parameters
    ----------
    plan : Plan
        What was drawn.
    model, twin : ModelProto
        The file, and the same computation for onnxruntime.
    inputs : dict of str to ndarray
        Recordings by input name, in the model's types; side inputs once.
    batch_axes : dict of str to int
        Axis of the recordings, of inputs and outputs that have one.
    """

    plan: Plan
    model: onnx.ModelProto
    twin: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    batch_axes: dict[str, int]

    @property
    def batch(self) -> int | None:
        """The number of recordings that the file fixes, None if any will do."""
        return BATCH if self.plan.axes == "fixed" else None

    def chunks(self) -> list[dict[str, np.ndarray]]:
        """Inputs as the file takes them."""
        size = self.batch or RECORDINGS
        return [
            {
                name: np.take(array, range(start, start + size), self.batch_axes[name])
                if name in self.batch_axes
                else array
                for name, array in self.inputs.items()
            }
            for start in range(0, RECORDINGS, size)
        ]


def plan(seed: int) -> Plan:
    """Draw everything about a model but its numbers."""
    generator = np.random.default_rng([seed, 1])

    def pick(options: Sequence[Any], *weights: float) -> Any:
        chances = None if not weights else np.asarray(weights) / sum(weights)
        return options[int(generator.choice(len(options), p=chances))]

    opset = int(pick(OPSETS))
    overridable = bool(pick([0, 1], 3, 1))
    version = int(pick(IR_VERSIONS))
    count = int(pick([1, 2, 3], 5, 4, 1))
    size, layers, between = int(pick([1, 3, 4])), [], []
    layout = int(opset >= 14 and pick([0, 1], 4, 1))
    lengths = bool(pick([0, 1], 5, 1))
    for index in range(count):
        learned = ["learned"] if opset >= 8 else []
        hidden = int(pick([1, 4, 6], 1, 5, 5))
        layer = Layer(
            size, hidden, pick(["forward", "reverse", "bidirectional"], 5, 1, 2), pick([0, 1]),
            layout, pick([True, False], 4, 1), pick([None, 0.8], 8, 1),
            pick([None, *range(len(ACTIVATIONS))], 8, *[0.5] * len(ACTIVATIONS)), lengths,
            pick(["", "input", "constant", "zero", *learned], 4, *[1] * (3 + len(learned))),
            pick([False, True], 3, 1),
        )  # fmt: skip
        layers.append(layer)
        size = layer.hidden * layer.directions
        if index < count - 1:
            kinds = ["codes", "dense", "normalised", "residual", "concatenated"]
            between.append(pick(kinds, 4, 1, 1, 1, 1))
            size *= 2 if between[-1] == "concatenated" else 1
    return Plan(
        seed, opset, 3 if overridable and version < 4 else max(4, version), layers, between,
        pick(["states", "last", "both", "logits", "classes", "mean"]), pick([False, True]),
        pick(["named", "own", "open", "fixed"], 3, 1, 1, 3), int(pick(range(len(NAMES)))),
        pick(INNER), pick(["float", "float16", "double"], 8, 1, 1),
        pick(["", "ai.onnx", "both"], 4, 1, 1), pick([False, True], 3, 1), overridable,
        pick(["", "scalar", "table"], 4, 1, 1), pick([False, True], 2, 1),
    )  # fmt: skip


@dataclass
class Builder:
    """Writes the nodes of one file."""

    plan: Plan
    plain: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    made: int = 0

    def fresh(self) -> str:
        self.made += 1
        return f"{self.plan.inner}{self.made}"

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = self.fresh()
        label = f"{kind}_{self.made}" if name is None else name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=label, **attributes))
        return output

    def array(self, array: np.ndarray, stem: str = "c") -> str:
        name = f"{stem}{len(self.arrays)}"
        if array.dtype == np.float32 and not self.plain:
            array = array.astype(TYPES[self.plan.dtype])
        self.arrays[name] = array
        return name

    def ints(self, *numbers: int) -> str:
        return self.array(np.asarray(numbers, np.int64), "n")

    def axes(self, kind: str, x: str, *axes: int) -> str:
        """Squeeze and Unsqueeze have their axes as attributes before opset 13."""
        if self.plan.opset < 13:
            return self.op(kind, x, axes=list(axes))
        return self.op(kind, x, self.ints(*axes))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=list(order))

    def mean(self, x: str, axis: int) -> str:
        if self.plan.opset < 18:
            return self.op("ReduceMean", x, axes=[axis], keepdims=1)
        return self.op("ReduceMean", x, self.ints(axis), keepdims=1)

    def normalised(self, x: str, gain: np.ndarray, shift: np.ndarray) -> str:
        """LayerNormalization of the last of three axes, written out before opset 17."""
        scale, bias = self.array(gain), self.array(shift)
        if self.plan.opset >= 17:
            return self.op("LayerNormalization", x, scale, bias, axis=-1)
        centred = self.op("Sub", x, self.mean(x, 2))
        power = self.op("Mul", centred, centred)
        small = self.array(np.asarray(1e-3, np.float32))
        deviation = self.op("Sqrt", self.op("Add", self.mean(power, 2), small))
        return self.op("Add", self.op("Mul", self.op("Div", centred, deviation), scale), bias)

    def gru(self, layer: Layer, x: str, weights: dict[str, np.ndarray], name: str) -> list[str]:
        """One node around time first; Y (T, D, B, H) and Y_h (D, B, H)."""
        turned = layer.layout and not self.plain
        stored = {}
        if layer.initial == "constant" and self.plan.axes == "fixed":
            weights["h0"] = np.repeat(weights["h0"], BATCH, 1)
        for role, array in weights.items():
            if layer.folded and role != "h0":  # weights that pass through other operators
                half = self.array(array / 2)
                stored[role] = self.op("Add", half, half)
            else:
                stored[role] = self.array(array, role)
        initial = self.initial(layer, x, stored.get("h0", ""))
        if turned:
            x = self.transpose(x, 1, 0, 2)
            initial = self.transpose(initial, 1, 0, 2) if initial else ""
        attributes: dict[str, Any] = {
            "hidden_size": layer.hidden,
            "direction": layer.direction,
            "linear_before_reset": layer.reset_after,
        }
        if layer.clip:
            attributes["clip"] = layer.clip
        if layer.activations is not None:
            names, alphas, betas = ACTIVATIONS[layer.activations]
            attributes["activations"] = list(names) * layer.directions
            if alphas:
                attributes["activation_alpha"] = list(alphas) * layer.directions
            if betas:
                attributes["activation_beta"] = list(betas) * layer.directions
        if turned:
            attributes["layout"] = 1
        inputs = [x, stored["W"], stored["R"], stored.get("B", "")]
        inputs += ["lengths" if layer.lengths else "", initial]
        while not inputs[-1]:
            inputs.pop()
        outputs = [self.fresh(), self.fresh()]
        self.nodes.append(helper.make_node("GRU", inputs, outputs, name=name, **attributes))
        if turned:
            return [self.transpose(outputs[0], 1, 2, 0, 3), self.transpose(outputs[1], 1, 0, 2)]
        return outputs

    def initial(self, layer: Layer, x: str, stored: str) -> str:
        """The initial state (D, B, H): an input, or constant, or expanded to the batch."""
        if layer.initial in ("", "input"):
            return layer.initial and "state"
        if layer.initial == "constant" and self.plan.axes == "fixed":
            return stored
        if self.plan.opset < 8:
            return ""
        batch = self.op("Gather", self.op("Shape", x), self.ints(1), axis=0)
        ends = [self.ints(layer.directions), batch, self.ints(layer.hidden)]
        return self.op("Expand", stored, self.op("Concat", *ends, axis=0))


def weights_of(layer: Layer, generator: np.random.Generator) -> dict[str, np.ndarray]:
    bound = 1.2 / np.sqrt(layer.hidden)

    def uniform(*shape: int, by: float = bound) -> np.ndarray:
        return generator.uniform(-by, by, shape).astype(np.float32)

    directions, rows = layer.directions, 3 * layer.hidden
    found = {
        "W": uniform(directions, rows, layer.inputs),
        "R": uniform(directions, rows, layer.hidden),
    }
    if layer.bias:
        found["B"] = uniform(directions, 2 * rows, by=0.3)
    if layer.initial in ("constant", "learned", "zero"):
        h0 = uniform(directions, 1, layer.hidden, by=0.6)
        found["h0"] = np.zeros_like(h0) if layer.initial == "zero" else h0
    return found


class Writer(Builder):
    """Writes the file of a plan, or its twin; `axes` are batch axes of inputs and outputs."""

    def __init__(self, drawn: Plan, *, plain: bool) -> None:
        super().__init__(drawn, plain)
        self.generator = np.random.default_rng([drawn.seed, 2])
        dtype = TYPES["float" if plain else drawn.dtype]
        self.element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.batch: Any = {"named": "N", "own": "own_0", "open": None, "fixed": BATCH}[drawn.axes]
        self.time: Any = {"named": "T", "own": "own_1", "open": None, "fixed": T}[drawn.axes]
        self.inputs: list[tuple[str, int, list[Any]]] = []
        self.outputs: list[tuple[str, int, list[Any]]] = []
        self.axes_of: dict[str, int] = {}
        for later in [layer for layer in drawn.layers if layer.initial == "input"][1:]:
            later.initial = ""

    def draw(self, *shape: int) -> np.ndarray:
        return (self.generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    def accept(self, name: str, element: int, shape: list[Any], axis: int | None) -> None:
        self.inputs.append((name, element, shape))
        if axis is not None:
            self.axes_of[name] = axis

    def emit(self, name: str, value: str, element: int, shape: list[Any], axis: int) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"end {name}"))
        self.outputs.append((name, element, shape))
        self.axes_of[name] = axis

    def enter(self) -> str:
        """The first layer's sequence, time first."""
        drawn, first = self.plan, self.plan.layers[0]
        features = first.inputs + 2 * drawn.dense
        front = [self.batch, self.time] if drawn.batch_first else [self.time, self.batch]
        self.accept("X", self.element, [*front, features], 0 if drawn.batch_first else 1)
        x = "X"
        if drawn.side:
            shape = [] if drawn.side == "scalar" else [features]
            self.accept("side", self.element, shape, None)
            x = self.op("Mul", x, "side")
        if drawn.batch_first:
            x = self.transpose(x, 1, 0, 2)
        if drawn.dense:
            product = self.op("MatMul", x, self.array(self.draw(features, first.inputs)))
            x = self.op("Tanh", product)
        if first.lengths:
            self.accept("lengths", TensorProto.INT32, [self.batch], 0)
        given = next((layer for layer in drawn.layers if layer.initial == "input"), None)
        if given is not None:
            shape = [given.directions, self.batch, given.hidden]
            self.accept("state", self.element, shape, 1)
        return x

    def layer(self, index: int, x: str) -> tuple[str, str]:
        """A layer and what follows it: (T, B, D H) and Y_h."""
        drawn, layer = self.plan, self.plan.layers[index]
        name = f"gru{index}" if self.plain else NAMES[drawn.names][index]
        y, y_h = self.gru(layer, x, weights_of(layer, self.generator), name)
        width = layer.directions * layer.hidden
        if layer.directions == 1:
            x = self.axes("Squeeze", y, 1)
        else:
            x = self.op("Reshape", self.transpose(y, 0, 2, 1, 3), self.ints(0, 0, -1))
        match drawn.between[index] if index < len(drawn.between) else "":
            case "dense":
                weight = self.array(self.draw(width, width))
                x = self.op("Relu", self.op("MatMul", x, weight))
            case "normalised":
                x = self.normalised(x, 1 + 0.1 * self.draw(width), 0.1 * self.draw(width))
            case "residual":
                x = self.op("Add", x, self.op("Tanh", x))
            case "concatenated":
                x = self.op("Concat", x, self.op("Sigmoid", x), axis=2)
        return x, y_h

    def leave(self, x: str, y_h: str) -> None:
        """The graph's outputs."""
        end, batch, last = self.plan.end, self.batch, self.plan.layers[-1]
        width = last.directions * last.hidden
        if end in ("states", "both"):
            if self.plan.batch_first:
                turned = self.transpose(x, 1, 0, 2)
                self.emit("out", turned, self.element, [batch, self.time, width], 0)
            else:
                self.emit("out", x, self.element, [self.time, batch, width], 1)
        if end in ("last", "both"):
            self.emit("hn", y_h, self.element, [last.directions, batch, last.hidden], 1)
        if end in ("logits", "classes"):
            flat = self.op("Reshape", self.transpose(y_h, 1, 0, 2), self.ints(0, width))
            product = self.op("MatMul", flat, self.array(self.draw(width, 3)))
            logits = self.op("Add", product, self.array(self.draw(3)))
            self.emit("logits", logits, self.element, [batch, 3], 0)
            if end == "classes":
                chosen = self.op("ArgMax", logits, axis=1, keepdims=0)
                self.emit("classes", chosen, INT64, [batch], 0)
        if end == "mean":
            mean = self.axes("Squeeze", self.mean(x, 0), 0)
            self.emit("mean", mean, self.element, [batch, width], 0)

    def write(self) -> onnx.ModelProto:
        x, y_h = self.enter(), ""
        for index in range(len(self.plan.layers)):
            x, y_h = self.layer(index, x)
        self.leave(x, y_h)
        stored = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        value = helper.make_tensor_value_info
        inputs = [value(*end) for end in self.inputs]
        if self.plan.overridable or self.plan.ir < 4:
            inputs += [value(t.name, t.data_type, t.dims) for t in stored]
        outputs = [value(*end) for end in self.outputs]
        graph = helper.make_graph(self.nodes, "generated", inputs, outputs, stored)
        domains = {"": [""], "ai.onnx": ["ai.onnx"], "both": ["", "ai.onnx"]}[self.plan.long_domain]
        imports = [
            helper.make_opsetid(d, self.plan.opset) for d in ([""] if self.plain else domains)
        ]
        if self.plan.foreign and not self.plain:
            imports += [helper.make_opsetid(d, 1) for d in ("ai.onnx.ml", "com.example")]
        return helper.make_model(graph, opset_imports=imports, ir_version=self.plan.ir)


def draw(seed: int) -> Sample:
    """A model and its data."""
    drawn = plan(seed)
    writer = Writer(drawn, plain=False)
    model, axes = writer.write(), writer.axes_of
    twin = Writer(drawn, plain=True).write()
    generator = np.random.default_rng([seed, 3])
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        if value.name in stored:
            continue
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value if d.HasField("dim_value") else T for d in dims]
        if value.name in axes:
            shape[axes[value.name]] = RECORDINGS
        if value.name == "lengths":
            array = generator.integers(1, T + 1, RECORDINGS).astype(np.int32)
            array[0] = T
        else:
            dtype = TYPES[drawn.dtype]
            scale = 0.5 if value.name == "state" else 1.0
            array = np.asarray(scale * generator.standard_normal(shape), dtype)
        inputs[value.name] = array
    return Sample(drawn, model, twin, inputs, axes)
