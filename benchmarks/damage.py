"""Valid models and data, and random changes that damage them, for `benchmarks.fuzz`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Generator = np.random.Generator
Model = onnx.ModelProto


# --- what is valid -------------------------------------------------------------------------------


def valid_model(generator: Generator) -> Model:
    """A small model: one or two GRUs with a dense layer, in one of several shapes."""
    inputs, hidden, classes = 3, int(generator.integers(2, 6)), 4
    arrays: dict[str, Any] = {}
    nodes = []
    x, size = "x", inputs
    for index in range(int(generator.integers(1, 3))):
        name = f"gru{index}"
        for part, shape in (
            ("W", (1, 3 * hidden, size)),
            ("R", (1, 3 * hidden, hidden)),
            ("B", (1, 6 * hidden)),
        ):
            arrays[f"{name}.{part}"] = generator.normal(0, 0.5, shape).astype(np.float32)
        parts = [f"{name}.{part}" for part in "WRB"]
        attributes = {"hidden_size": hidden, "linear_before_reset": int(generator.integers(2))}
        nodes.append(helper.make_node("GRU", [x, *parts], [f"{name}.Y", ""], name, **attributes))
        nodes.append(
            helper.make_node("Squeeze", [f"{name}.Y", "axis"], [f"{name}.out"], f"{name}.squeeze")
        )
        x, size = f"{name}.out", hidden
    arrays["axis"] = np.asarray([1], np.int64)
    arrays["dense"] = generator.normal(0, 0.5, (hidden, classes)).astype(np.float32)
    nodes.append(helper.make_node("MatMul", [x, "dense"], ["scores"], "head"))
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["T", "B", classes])]
    graph = helper.make_graph(
        nodes,
        "fuzz",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", inputs])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = int(generator.integers(14, 22))
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=int(generator.integers(7, 11)),
    )


def valid_data(generator: Generator) -> dict[str, Any]:
    """Eight sequences of five steps, with labels per frame in half of the cases."""
    data: dict[str, Any] = {"x": generator.standard_normal((5, 8, 3)).astype(np.float32)}
    if generator.integers(2):
        data["labels"] = generator.integers(0, 4, (8, 5))
    return data


# --- what is changed -----------------------------------------------------------------------------


def pick(generator: Generator, items: Any) -> Any:
    """Choose one of several."""
    return items[int(generator.integers(len(items)))]


def drop_node(model: Model, generator: Generator) -> None:
    """Remove a node."""
    del model.graph.node[int(generator.integers(len(model.graph.node)))]


def double_node(model: Model, generator: Generator) -> None:
    """Write a node twice, with its outputs or with others."""
    node = model.graph.node.add()
    node.CopyFrom(pick(generator, model.graph.node[:-1]))
    if generator.integers(2):
        node.output[0] += ".again"


def reorder(model: Model, generator: Generator) -> None:
    """Put nodes into another order."""
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    generator.shuffle(nodes)  # type: ignore[arg-type]  # any mutable sequence will do
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def rename_operator(model: Model, generator: Generator) -> None:
    """Give a node another type or domain."""
    node = pick(generator, model.graph.node)
    if generator.integers(4):
        kinds = [
            "LSTM",
            "RNN",
            "Relu",
            "Identity",
            "Add",
            "Transpose",
            "Gru",
            "",
            "Loop",
            "If",
            "Softmax",
        ]
        node.op_type = pick(generator, kinds)
    else:
        node.domain = pick(generator, ["ai.onnx", "com.microsoft", "ai.onnx.ml", "own"])


def connect(model: Model, generator: Generator) -> None:
    """Let a node read or write another value."""
    node = pick(generator, model.graph.node)
    names = [n for other in model.graph.node for n in (*other.input, *other.output)]
    names += ["", "nowhere", "x"]
    side = node.input if generator.integers(4) else node.output
    side[int(generator.integers(len(side)))] = pick(generator, names)


def arity(model: Model, generator: Generator) -> None:
    """Give a node more or fewer inputs or outputs."""
    node = pick(generator, model.graph.node)
    side = node.input if generator.integers(2) else node.output
    if generator.integers(2):
        side.append(pick(generator, ["x", "", "more", "axis"]))
    else:
        del side[-1]


def attribute(model: Model, generator: Generator) -> None:
    """Change, remove or add an attribute of a node."""
    node = pick(generator, model.graph.node)
    names = {
        "hidden_size": [0, -1, 1, 7, 2**40, 2.5, "4", [4]],
        "direction": ["reverse", "bidirectional", "sideways", 3, ""],
        "linear_before_reset": [2, -1, 1.0],
        "activations": [
            ["Tanh"],
            ["Sigmoid", "Tanh", "Tanh"],
            ["Relu", "Relu"],
            [],
            ["Elu", "Sine"],
        ],
        "clip": [0.0, -1.0, 0.01, float("nan"), float("inf"), 1],
        "layout": [1, 2, 0.5],
        "activation_alpha": [[1.0], [], [float("nan")] * 2],
        "unknown": [1, "text"],
    }
    name = pick(generator, list(names))
    for index, found in enumerate(node.attribute):
        if found.name == name:
            del node.attribute[index]
            break
    value = pick(generator, names[name])
    if value == []:
        return
    node.attribute.append(helper.make_attribute(name, value))


def sizes(model: Model, generator: Generator) -> None:
    """Change a declared size, type or name of an input or output."""
    value = pick(generator, [*model.graph.input, *model.graph.output])
    tensor = value.type.tensor_type
    choice = int(generator.integers(6))
    if choice == 0:
        value.name = pick(generator, ["", "other", "gru0.Y", "scores", "x"])
    elif choice == 1:
        tensor.elem_type = int(generator.integers(0, 24))
    elif choice == 2:
        del tensor.shape.dim[int(generator.integers(len(tensor.shape.dim)))]
    elif choice == 3:
        value.type.ClearField("tensor_type")
    else:
        dimension = pick(generator, tensor.shape.dim)
        dimension.Clear()
        if generator.integers(4):
            dimension.dim_value = pick(generator, [0, -1, 1, 2, 5, 8, 2**31, 2**60])


def weights(model: Model, generator: Generator) -> None:
    """Change an initializer: values, type, shape, name, or where its data are."""
    tensor = pick(generator, model.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    choice = int(generator.integers(9))
    if choice == 0:
        array.reshape(-1)[0] = np.nan if array.dtype.kind == "f" else 99
    elif choice == 1:
        array = array * np.asarray(pick(generator, [0, 1e30, 1e-30, -1]), array.dtype)
    elif choice == 2:
        array = array.astype(pick(generator, [np.float64, np.float16, np.int8, np.int32, np.bool_]))
    elif choice == 3:
        array = array[..., :-1] if array.ndim else array
    elif choice == 4:
        array = array[np.newaxis]
    elif choice == 5:
        tensor.name = pick(generator, ["", "gru0.W", "x", "axis"])
        return
    elif choice == 6:
        tensor.raw_data = tensor.raw_data[: int(generator.integers(len(tensor.raw_data) + 1))]
        return
    elif choice == 7:
        tensor.dims[0] = pick(generator, [0, -1, 2**33, 7])
        return
    else:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=pick(generator, ["w.bin", "../m", "/etc"]))
        return
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def versions(model: Model, generator: Generator) -> None:
    """Change the opset, its domain, or the IR version."""
    choice = int(generator.integers(4))
    if choice == 0:
        model.opset_import[0].version = int(pick(generator, [0, 1, 3, 7, 11, 13, 25, 99, -1]))
    elif choice == 1:
        model.opset_import[0].domain = pick(generator, ["ai.onnx", "other"])
    elif choice == 2:
        del model.opset_import[:]
    else:
        model.ir_version = int(pick(generator, [0, 1, 2, 3, 4, 13, 99]))


def surroundings(model: Model, generator: Generator) -> None:
    """Drop or add inputs, outputs, initializers and metadata."""
    graph = model.graph
    choice = int(generator.integers(6))
    if choice == 0:
        del graph.input[:]
    elif choice == 1:
        del graph.output[:]
    elif choice == 2:
        del graph.initializer[int(generator.integers(len(graph.initializer)))]
    elif choice == 3:
        tensor = pick(generator, graph.initializer)
        graph.input.add().CopyFrom(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    elif choice == 4:
        key, text = pick(
            generator, [("onnxgru.scheme", "{}"), ("onnxgru.batch_axes", "[1]"), ("a", "")]
        )
        model.metadata_props.add(key=key, value=text)
    else:
        graph.output.add().CopyFrom(pick(generator, [*graph.input, *graph.output]))


MODEL_CHANGES: tuple[Callable[[Model, Generator], None], ...] = (
    drop_node, double_node, reorder, rename_operator, connect, arity, attribute, sizes, weights,
    versions, surroundings,
)  # fmt: skip


def values(data: dict[str, Any], generator: Generator) -> None:
    """Change the values, the type or the shape of the input."""
    x = data["x"]
    others: list[Callable[[], Any]] = [
        lambda: np.where(generator.random(x.shape) < 0.05, np.nan, x).astype(np.float32),
        lambda: np.full_like(x, np.inf),
        lambda: x * 0,
        lambda: x * np.float32(1e30),
        lambda: x * np.float32(1e-30),
        lambda: x.astype(pick(generator, [np.float64, np.float16, np.int64, np.uint8, np.bool_])),
        lambda: x.astype(complex),
        lambda: x.astype(str),
        lambda: x[0],
        lambda: x[..., :2],
        lambda: x[:, :0],
        lambda: x[:1],
        lambda: x[:, :1],
        lambda: x[np.newaxis],
        lambda: np.float32(1),
        lambda: np.array([{"a": 1}], object),
        lambda: x.view([("a", np.float32)]),
        lambda: x.astype(">f4"),
        lambda: np.asfortranarray(x),
    ]
    data["x"] = pick(generator, others)()


def labels(data: dict[str, Any], generator: Generator) -> None:
    """Change the labels."""
    others = [
        np.arange(8), np.zeros((8, 5), int), np.full((8, 5), 99), np.full((8, 5), -1),
        np.zeros((5, 8), int), np.ones(3, int), np.zeros((8, 5, 4)),
        np.eye(4)[np.zeros((8, 5), int)],
        np.array(["a"] * 8), np.full((8, 5), np.nan), np.asarray(1), np.zeros((8, 0), int),
        np.full((8, 5), 2.0), np.full((8, 5), 2**63 - 1), np.zeros((8, 5), bool),
    ]  # fmt: skip
    data["labels"] = pick(generator, others)


def names(data: dict[str, Any], generator: Generator) -> None:
    """Rename, drop or add arrays."""
    choice = int(generator.integers(4))
    if choice == 0:
        data["y"] = data.pop("x")
    elif choice == 1:
        data.pop("x")
    elif choice == 2:
        data["extra"] = np.ones(3)
    else:
        data["X"] = data["x"]


DATA_CHANGES: tuple[Callable[[dict[str, Any], Generator], None], ...] = (values, labels, names)


def damage_bytes(content: bytes, generator: Generator) -> bytes:
    """Cut off, flip, drop, double or overwrite bytes."""
    array = bytearray(content)
    place = int(generator.integers(len(array)))
    choice = int(generator.integers(5))
    if choice == 0:
        return bytes(array[:place])
    if choice == 1:
        for _ in range(int(generator.integers(1, 20))):
            array[int(generator.integers(len(array)))] ^= 1 << int(generator.integers(8))
    elif choice == 2:
        del array[place : place + int(generator.integers(1, 50))]
    elif choice == 3:
        array[place:place] = array[place : place + int(generator.integers(1, 50))]
    else:
        array[place : place + 8] = generator.bytes(8)
    return bytes(array)
