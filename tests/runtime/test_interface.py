"""What the inputs and outputs of a model are to its recordings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxgru.core.errors import ModelError, UsageError
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.interface import Interface
from tests import grus
from tests.runtime import streaming
from tests.runtime.streaming import Graph, host_of

I, H = 4, 5  # noqa: E741 - the letter of the specification


def interface(message: onnx.ModelProto, declared: Declared | None = None) -> Interface:
    return host_of(message, declared)[1].interface


def axes(found: Interface) -> dict[str, int | None]:
    return {spec.name: spec.batch_axis for spec in found.inputs}


def kinds(message: onnx.ModelProto, types: Mapping[str, int]) -> onnx.ModelProto:
    """The model with other types of some inputs."""
    for value in message.graph.input:
        if value.name in types:
            value.type.tensor_type.elem_type = types[value.name]
    return message


def core(g: Graph, x: str, y: str = "y", y_h: str = "", size: int = I) -> None:
    """A GRU (T, B, I) whose Y (T, B, H) is ``y``."""
    g.gru(x, "", "raw", y_h, size, H)
    if y:
        g.add("Squeeze", f"raw, {g.ints('d', 1)}", y)


def plain(x: Sequence[Any] = ("T", "B", I), y: Sequence[Any] = ("T", "B", H)) -> onnx.ModelProto:
    g = Graph()
    core(g, "x")
    return g.model({"x": x}, {"y": y})


def batch_first(x: Sequence[Any] = ("B", "T", I)) -> onnx.ModelProto:
    """With outputs that have the recordings in front, at another place, and nowhere."""
    g = Graph()
    g.add("Transpose", "x", "seq", perm=[1, 0, 2])
    core(g, "seq", "time_first")
    g.add("Transpose", "time_first", "y", perm=[1, 0, 2])
    g.add("Transpose", "time_first", "last", perm=[2, 0, 1])
    g.add("ReduceMax", f"time_first, {g.ints('two', 2)}", "class_", keepdims=0)
    g.add("Abs", g.floats("fixed", 3), "constant")
    free = (None, None, None)
    outputs = dict.fromkeys(("y", "time_first", "last"), free) | {"class_": (None, None)}
    return g.model({"x": x}, outputs | {"constant": (3,)})


def test_followed_and_outputs_measured() -> None:
    found = interface(plain())
    assert axes(found) == {"x": 1}
    assert found.outputs == {"y": 1}
    assert found.batch is None
    found = interface(batch_first())
    assert axes(found) == {"x": 0}
    assert found.outputs == {"y": 0, "time_first": 1, "last": 2, "class_": 1, "constant": None}


@pytest.mark.parametrize("size", [1, 3, 6])
def test_fixed_batches(size: int) -> None:
    """The same axes, also where there are as many steps as recordings."""
    found = interface(batch_first((size, 6, I)))
    assert axes(found) == {"x": 0}
    assert found.batch == size
    assert {name: found.outputs[name] for name in ("y", "time_first", "last", "class_")} == {
        "y": 0, "time_first": 1, "last": 2, "class_": 1,
    }  # fmt: skip
    assert axes(interface(plain((6, size, I), (6, size, H)))) == {"x": 1}


def branch(x: Sequence[Any], flag: bool = True) -> onnx.ModelProto:
    """What a GRU reads comes out of a subgraph: it cannot be followed."""
    g = Graph()

    def body(kind: str) -> onnx.GraphProto:
        node = helper.make_node(kind, ["x"], [kind])
        return helper.make_graph([node], kind, [], [helper.make_tensor_value_info(kind, 1, None)])

    g.nodes.append(
        helper.make_node(
            "If", ["flag"], ["inner"], name="if",
            then_branch=body("Neg"), else_branch=body("Identity"),
        )
    )  # fmt: skip
    g.add("Identity", "inner", "seq")
    core(g, "seq")
    message = g.model({"x": x, "flag": ()}, {"y": (None, None, H)})
    for value in message.graph.value_info:
        message.graph.value_info.remove(value)
    return kinds(message, {"flag": TensorProto.BOOL})


@pytest.mark.parametrize("x", [("T", "B", I), ("B", "T", I), (None, None, I)])
def test_measured_where_it_cannot_be_followed(x: Sequence[Any]) -> None:
    """The axis of time of a forward GRU does not keep recordings apart."""
    found = interface(branch(x))
    assert axes(found) == {"x": 1, "flag": None}
    assert found.outputs == {"y": 1}


@pytest.mark.parametrize("size", [1, 3])
def test_measured_at_a_fixed_batch(size: int) -> None:
    found = interface(branch((7, size, I)), Declared({"x": 1}))
    assert (axes(found)["x"], found.batch) == (1, size)
    if size == 1:
        assert axes(interface(branch((7, 1, I)))) == {"x": 1, "flag": None}


def test_told() -> None:
    found = interface(branch(("T", "B", I)), Declared({"x": 1, "flag": None}))
    assert axes(found) == {"x": 1, "flag": None}
    assert found.outputs == {"y": 1}


@pytest.mark.parametrize(("sizes", "batch"), [(("B", 4, 8), None), ((1, 4, 8), 1)])
def test_bands_in_the_batch_of_a_layer(sizes: Sequence[Any], batch: int | None) -> None:
    """A layer whose batch is recordings times bands."""
    g = Graph()
    g.add("Reshape", f"x, {g.ints('fold', -1, 8, 1)}", "rows")
    g.add("Transpose", "rows", "seq", perm=[1, 0, 2])
    g.gru("seq", "", "", "last", 1, H)
    g.add("Reshape", f"last, {g.ints('unfold', -1, 4, H)}", "y")
    found = interface(g.model({"x": sizes}, {"y": (sizes[0], 4, H)}))
    assert axes(found) == {"x": 0}
    assert found.batch == batch
    assert found.outputs == {"y": 0}


def test_an_axis_of_one_is_not_always_the_batch() -> None:
    """One channel behind three recordings, one step before them."""
    g = Graph()
    g.add("Squeeze", f"x, {g.ints('d1', 1)}", "rows")
    g.add("Transpose", "rows", "seq", perm=[1, 0, 2])
    core(g, "seq", "", "last")
    found = interface(g.model({"x": (3, 1, 6, I)}, {"last": (1, 3, H)}))
    assert (axes(found), found.batch) == ({"x": 0}, 3)
    found = interface(plain((1, 3, I), (1, 3, H)))
    assert (axes(found), found.batch) == ({"x": 1}, 3)


def test_outputs_that_say_nothing_of_the_batch() -> None:
    """An output that is the same whatever the model is given leaves the axis that was followed."""
    g = Graph()
    g.add("Mul", "x, side", "scaled")
    g.add("Transpose", "scaled", "seq", perm=[1, 0, 2])
    g.gru("seq", "", "", "last", 1, H)
    g.add("Clip", f"last, {g.floats('low', gain=0.0)}, {g.floats('high', gain=0.0)}", "dead")
    found = interface(g.model({"x": (4, 6, 1), "side": (1,)}, {"dead": (1, 4, H)}))
    assert (axes(found), found.batch) == ({"x": 0, "side": None}, 4)


def test_inputs_beside_the_recordings() -> None:
    """A rate, a window, a table, and a vector per recording that no layer reads."""
    g = Graph()
    g.add("Mul", "x, window", "windowed")
    g.add("Mul", "windowed, rate", "scaled")
    core(g, "scaled", "steps")
    g.add("Gather", "table, kind", "extra")
    g.add("Add", "steps, extra", "more")
    g.add("Add", "more, bias", "y")
    inputs = {
        "x": ("T", "N", I), "rate": (), "window": (I,), "table": (7, H), "kind": ("N",),
        "bias": (1, H),
    }  # fmt: skip
    message = kinds(g.model(inputs, {"y": ("T", "N", H)}), {"kind": TensorProto.INT64})
    found = interface(message)
    assert axes(found) == {
        "x": 1, "rate": None, "window": None, "table": None, "kind": 0, "bias": None,
    }  # fmt: skip
    assert found.outputs == {"y": 1}


def test_a_vector_per_recording_is_measured() -> None:
    """Its axis has another name than the batch's."""
    g = Graph()
    core(g, "x", "steps")
    g.add("Add", "steps, v", "y")
    found = interface(g.model({"x": ("T", "B", I), "v": ("other", H)}, {"y": ("T", "B", H)}))
    assert axes(found) == {"x": 1, "v": 0}


def test_lengths_and_tokens() -> None:
    case = grus.Case(lengths=(1, 2, 3), initial=True)
    found = interface(grus.model(case))
    assert axes(found) == {"X": 1, "lengths": 0, "initial_h": 1}
    assert [spec.state for spec in found.inputs] == [False, False, True]
    assert found.states == {"initial_h": "Y_h"}
    g = Graph()
    g.add("Gather", f"{g.floats('embedding', 9, I)}, tokens", "rows")
    g.add("Transpose", "rows", "seq", perm=[1, 0, 2])
    core(g, "seq", "", "last")
    message = kinds(g.model({"tokens": ("B", "T")}, {"last": (1, "B", H)}), {"tokens": 7})
    found = interface(message)
    assert (axes(found), found.outputs) == ({"tokens": 0}, {"last": 1})


def test_sizes_that_the_file_leaves_open_are_the_layers() -> None:
    found = interface(plain((None, None, None)))
    assert found.inputs[0].shape == (None, None, I)


def test_frames() -> None:
    """Axes along which data may hold frames for several calls."""
    assert interface(plain((1, 1, I))).inputs[0].frames == (0,)
    assert interface(plain((2, 1, I))).inputs[0].frames == (0,)
    assert interface(batch_first((1, 1, I))).inputs[0].frames == (1,)


# --- states ---------------------------------------------------------------------------------------


def denoiser(
    state: str = "h", following: str = "hn", y: Sequence[Any] = (1, 1, I), shape: Any = (1, 1, H)
) -> onnx.ModelProto:
    """One frame per call: x becomes y of the same shape."""
    g = Graph()
    g.gru("x", state, "raw", following, I, H)
    g.add("Squeeze", f"raw, {g.ints('d', 1)}", "steps")
    g.add("MatMul", f"steps, {g.floats('out', H, I)}", "z")
    g.add("Add", "z, x", "y")
    return g.model({"x": (1, 1, I), state: shape}, {"y": y, following: shape})


@pytest.mark.parametrize(
    ("state", "following"),
    [("h", "hn"), ("h0", "hn"), ("state_in", "state_out"), ("a", "b"), ("cache", "new_cache")],
)
def test_states_are_found(state: str, following: str) -> None:
    """Where a layer begins and what it ends with; x and y of one shape are no state."""
    found = interface(denoiser(state, following))
    assert found.states == {state: following}
    assert [spec.state for spec in found.inputs] == [False, True]


@pytest.mark.parametrize("free", [False, True])
def test_states_without_an_axis_of_recordings(free: bool) -> None:
    """Data hold one per frame; the model takes one recording per call."""
    message = streaming.flat()
    if free:
        for value in (message.graph.input[1], message.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_param = "B"
    found = interface(message)
    state, x = found.inputs
    assert (state.shape, state.batch_axis, state.bare) == ((1, H), 0, True)
    assert (x.batch_axis, x.bare, found.batch) == (0, False, 1)
    assert found.outputs == {"y": 0, "hn": None}
    row = interface(streaming.flat((1, H))).inputs[0]
    assert (row.shape, row.batch_axis, row.bare) == ((1, H), 0, False)
    alone = interface(message, Declared(states={})).inputs[0]  # given once
    assert (alone.shape, alone.batch_axis, alone.bare) == ((H,), None, False)


def test_states_are_told() -> None:
    assert interface(denoiser(), Declared(states={})).states == {}
    assert interface(denoiser(), Declared(states={"h": "hn"})).states == {"h": "hn"}
    assert interface(denoiser(), Declared(states={"x": "y"})).states == {"x": "y"}


def buffers(names: Mapping[str, str], kept: bool = True) -> Interface:
    """Buffers (1, 3, I) of frames that no layer begins with, beside x; output by input."""
    g = Graph()
    g.ints("one", 1)
    total = "x"
    for index, (given, following) in enumerate(names.items()):
        g.add("Concat", f"{given}, {total}", f"window{index}", axis=1)
        g.add("Slice", f"window{index}, one, {g.ints('end', 99)}, one", following)
        g.add("ReduceMean", f"window{index}, one", f"mean{index}", keepdims=1)
        total = f"mean{index}"
    core(g, total)
    shapes = dict.fromkeys(names, (1, 3, I))
    outputs = dict.fromkeys(names.values(), (1, 3, I)) if kept else {}
    return interface(g.model({"x": (1, 1, I)} | shapes, {"y": (1, 1, H)} | outputs))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"cache": "cache_next"}, {"cache": "cache_next"}),
        ({"buf0": "buf0_out"}, {}),  # "buf0" is no word for a state
        ({"conv_cache": "convCacheOut"}, {"conv_cache": "convCacheOut"}),
        (
            {"state1": "state1_out", "state2": "state2_out"},
            {"state1": "state1_out", "state2": "state2_out"},
        ),
        ({"first": "second"}, {}),
        ({"cache": "memory"}, {}),
    ],
)
def test_states_that_only_names_tell(names: Mapping[str, str], expected: dict[str, str]) -> None:
    assert buffers(names).states == expected


def test_states_in_doubt() -> None:
    """Two outputs of one layer's shape; an output of another shape; nothing else to record."""
    g = Graph()
    g.gru("x", "a", "raw", "b", I, H)
    g.add("Identity", "b", "c")
    message = g.model({"x": (1, 1, I), "a": (1, 1, H)}, dict.fromkeys("bc", (1, 1, H)))
    assert interface(message).states == {}
    g = Graph()
    g.gru("x", "h", "raw", "last", I, H)
    g.add("Squeeze", f"last, {g.ints('d', 0)}", "hn")
    message = g.model({"x": (1, 1, I), "h": (1, 1, H)}, {"hn": (1, H)})
    assert interface(message).states == {}
    assert interface(message).inputs[1].state  # still zero where data lack it
    g = Graph()
    g.gru(g.floats("x", 1, 1, I), "h", "raw", "hn", I, H)
    message = g.model({"h": (1, 1, H)}, {"hn": (1, 1, H)})
    assert interface(message).states == {}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (
            Declared({"z": 0}),
            r"^--batch-axis z: the model has no input of that name; it has x, h$",
        ),
        (Declared({"x": 3}), r"^--batch-axis x=3: the input has 3 axes, counted from 0$"),
        (
            Declared(states={"g": "hn"}),
            r"^--state hn=g: the model has no input 'g'; it has x, h$",
        ),
        (
            Declared(states={"h": "z"}),
            r"^--state z=h: the model has no output 'z'; it has y, hn$",
        ),
        (
            Declared(states={"h": "y"}),
            r"^--state y=h: the output must have the shape of the input h float32 \(1, 1, 5\), "
            r"it has \[1, 4\]$",
        ),
    ],
)
def test_declarations_that_cannot_be(declared: Declared, words: str) -> None:
    message = denoiser()
    message.graph.node[-1].input[1] = "row"
    message.graph.node.insert(0, helper.make_node("Squeeze", ["x", "axis"], ["row"], name="row"))
    message.graph.node[-1].input[0] = "flat"
    message.graph.node.insert(3, helper.make_node("Squeeze", ["z", "axis"], ["flat"], name="fl"))
    message.graph.node.append(message.graph.node.pop(3))
    message.graph.initializer.append(
        onnx.numpy_helper.from_array(np.asarray([0], np.int64), "axis")
    )
    del message.graph.output[0].type.tensor_type.shape.dim[0]
    with pytest.raises(UsageError, match=words):
        interface(message, declared)


def test_inputs_of_two_batches() -> None:
    g = Graph()
    core(g, "x", "steps")
    g.add("ReduceSum", "v", "sum", keepdims=0)
    g.add("Add", "steps, sum", "y")
    message = g.model({"x": (6, 2, I), "v": (3, 3)}, {"y": (6, 2, H)})
    with pytest.raises(
        ModelError,
        match=r"^the inputs must take one number of recordings per call, they take: x 2, v 3; say "
        r"which axis holds them, such as --batch-axis x=0, or --batch-axis x=none for an input "
        r"that is given once$",
    ):
        interface(message, Declared({"x": 1, "v": 0}))


def test_models_that_mix_recordings() -> None:
    g = Graph()
    g.add("ReduceMean", "x", "mean", keepdims=1)
    g.add("Sub", "x, mean", "centred")
    g.add("Reshape", f"centred, {g.ints('odd', 6, -1, I)}", "seq")
    core(g, "seq", "", "last")
    g.add("ReduceSum", "last", "y", keepdims=0)
    message = g.model({"x": ("A", "B", I)}, {"y": ()})
    with pytest.raises(
        ModelError,
        match=r"^input x float32 \(A, B, 4\): which axis holds the recordings is not known: it "
        r"cannot be followed to a recurrent layer, and running the model on 3 recordings does not "
        r"tell; say it with --batch-axis x=0, or --batch-axis x=none for an input that is given "
        r"once$",
    ):
        interface(message)
    assert axes(interface(message, Declared({"x": 1}))) == {"x": 1}


def test_inputs_that_are_no_tensors() -> None:
    message = plain()
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    message.graph.input.append(sequence)
    with pytest.raises(
        ModelError,
        match=r"^input 's' must be a tensor, it is sequence_type; export the model with tensor "
        r"inputs$",
    ):
        interface(message)


def test_parse() -> None:
    assert Declared.parse([], []) == Declared()
    assert Declared.parse(["x=1", "a=b=0", "v=none"], ["hn=h", "c_out=c"]) == Declared(
        {"x": 1, "a=b": 0, "v": None}, {"h": "hn", "c": "c_out"}
    )
    assert Declared.parse([], ["none"]) == Declared({}, {})
    for text in ("x", "x=", "x=-1", "x=one", "1"):
        with pytest.raises(UsageError, match=rf"--batch-axis must be INPUT=AXIS.*got '{text}'$"):
            Declared.parse([text], [])
    for text in ("h", "=h", "hn=", "="):
        with pytest.raises(
            UsageError, match=rf"--state must be OUTPUT=INPUT, .* or none, got '{text}'$"
        ):
            Declared.parse([], [text])
