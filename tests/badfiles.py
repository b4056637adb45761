"""A folder of what users get wrong: models, data, schemes, calibrations, configurations."""

import pickle
import shutil
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxgru.api import quantize
from onnxgru.core import files
from onnxgru.events import silent
from onnxgru.settings.config import Config
from tests import grus

DIGITS = Path(__file__).resolve().parent.parent / "models" / "digits_row.onnx"
SMALL = grus.Case(T=5, B=8, I=4, H=6)

CALLABLES = """
import numpy as np
def raises():
    raise RuntimeError("no microphone")
def later():
    yield {"X": np.zeros((5, 2, 4), np.float32)}
    raise RuntimeError("the tape tore")
def number():
    return 3
def text(outputs, labels):
    return "good"
def broken(outputs, labels):
    raise ZeroDivisionError("nothing there")
constant = 3
"""


def edited(message: onnx.ModelProto, **arrays: np.ndarray) -> onnx.ModelProto:
    """A copy with other initializers."""
    result = onnx.ModelProto()
    result.CopyFrom(message)
    for tensor in result.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return result


def without(message: onnx.ModelProto, name: str) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(message)
    (tensor,) = (t for t in result.graph.initializer if t.name == name)
    result.graph.initializer.remove(tensor)
    return result


def weight_as_input() -> onnx.ModelProto:
    result = without(grus.model(SMALL), "W")
    shape = [1, 3 * SMALL.H, SMALL.I]
    result.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, shape))
    return result


def weight_computed() -> onnx.ModelProto:
    result = without(grus.model(SMALL), "W")
    result.graph.initializer.append(numpy_helper.from_array(grus.weights(SMALL)["W"], "W_constant"))
    result.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]))
    result.graph.node.insert(0, helper.make_node("Mul", ["W_constant", "gain"], ["W"], name="mul"))
    return result


def single(kind: str, inputs: list[str], arrays: dict[str, np.ndarray], **attributes: object):
    """A model of one operator that reads X (T, B, 4)."""
    node = helper.make_node(kind, ["X", *inputs], ["Y"], name="it", **attributes)
    return helper.make_model(
        helper.make_graph(
            [node],
            "test",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", 4])],
            [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def mlp() -> onnx.ModelProto:
    return single("MatMul", ["W"], {"W": np.ones((4, 2), np.float32)})


def lstm() -> onnx.ModelProto:
    """An LSTM that onnxruntime has quantised."""
    arrays = {"W": np.ones((1, 4, 8), np.int8), "R": np.ones((1, 2, 8), np.int8)}
    result = single(
        "DynamicQuantizeLSTM", ["W", "R"], arrays, hidden_size=2, domain="com.microsoft"
    )
    result.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return result


def conditional() -> onnx.ModelProto:
    """A GRU in both branches of an If."""
    inner = grus.model(SMALL).graph
    branches = [
        helper.make_graph(
            [grus.node(replace(SMALL, outputs=("Y",)), f"{name}_gru")],
            name,
            [],
            [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        )
        for name in ("yes", "no")
    ]
    for branch, suffix in zip(branches, "ab", strict=True):
        branch.output[0].name = branch.node[0].output[0] = f"Y_{suffix}"
    node = helper.make_node(
        "If", ["choice"], ["Z"], name="branch", then_branch=branches[0], else_branch=branches[1]
    )
    choice = helper.make_tensor_value_info("choice", TensorProto.BOOL, [])
    graph = helper.make_graph(
        [node],
        "test",
        [inner.input[0], choice],
        [helper.make_tensor_value_info("Z", TensorProto.FLOAT, None)],
        list(inner.initializer),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def external(location: str) -> onnx.ModelProto:
    """A model whose W lies in another file."""
    result = grus.model(SMALL)
    (tensor,) = (t for t in result.graph.initializer if t.name == "W")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "288")):
        tensor.external_data.add(key=key, value=value)
    return result


def models() -> dict[str, onnx.ModelProto]:
    small = grus.model(SMALL)
    weights = grus.weights(SMALL)
    attribute = grus.model(replace(SMALL, extra={"surprise": 1}))
    return {
        "small": small,
        "backward": grus.model(replace(SMALL, direction="bidirectional")),
        "lengths": grus.model(replace(SMALL, lengths=(5,) * 8)),
        "two": grus.stacked([SMALL, replace(SMALL, I=6)]),
        "other": grus.model(replace(SMALL, H=5)),
        "mlp": mlp(),
        "lstm": lstm(),
        "attribute": attribute,
        "activation": grus.model(replace(SMALL, activations=("Sigmoid", "Sine"))),
        "weight_input": weight_as_input(),
        "weight_computed": weight_computed(),
        "external": external("weights.bin"),
        "outside": external("../secret.bin"),
        "conditional": conditional(),
        "wrong_w": edited(small, W=weights["W"][:, :-1]),
        "wrong_r": edited(small, R=weights["R"][..., :-1]),
        "wrong_b": edited(small, B=weights["B"][:, :-1]),
        "nan": edited(small, W=np.where(weights["W"] > 0.5, np.nan, weights["W"])),
    }


def fill_data(place: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((5, 8, 4)).astype(np.float32)
    bad = x.copy()
    bad[1, 2, 3] = np.nan
    infinite = np.where(x == x.max(), np.inf, x)
    labels = generator.integers(0, 6, 8)
    for name, arrays in {
        "x": {"X": x},
        "axes": {"X": x[0]},
        "features": {"X": x[..., :3]},
        "names": {"input": x, "other": x},
        "extra": {"X": x, "Z": x},
        "texts": {"X": x.astype("U8")},
        "nan": {"X": bad},
        "infinite": {"X": infinite},
        "empty": {"X": x[:, :0]},
        "nothing": {},
        "labels_short": {"X": x, "labels": labels[:5]},
        "labels_negative": {"X": x, "labels": np.full(8, -1)},
        "labels_float": {"X": x, "labels": labels + 0.5},
        "lengths": {"X": x, "lengths": np.full(8, 5, np.int32)},
    }.items():
        np.savez(place / f"{name}.npz", **arrays)
    with np.load(DIGITS.with_suffix(".calibration.npz")) as digits:
        arrays = {name: array[:8] for name, array in digits.items()}
    np.savez(place / "digits.npz", **arrays | {"labels": np.full(8, -1)})
    np.savez(place / "objects.npz", X=np.array([{"a": 1}], object))
    np.save(place / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (place / "void.npz").touch()
    (place / "pickled.npy").write_bytes(pickle.dumps(x))
    (place / "cut.npz").write_bytes((place / "x.npz").read_bytes()[:300])
    (place / "data.csv").write_text("1,2,3\n")
    (place / "data.pt").write_bytes(b"PK\x03\x04")
    (place / "bare").mkdir()


def fill_schemes(place: Path) -> None:
    scheme = files.parse(place / "done" / "scheme.json", "onnxgru.scheme/1")
    calibration = files.parse(place / "done" / "calibration.json", "onnxgru.calibration/1")
    hidden, total = "/gru/forward/reset.hidden", "/gru/forward/reset.sum"

    def variant(name: str, change: Callable[[dict], object], source: dict = scheme) -> None:
        copy = deepcopy(source)
        change(copy)
        (place / name).write_bytes(files.dump(copy))

    def setting(key: str, value: object, operator: str = total) -> Callable[[dict], object]:
        return lambda d: d["operators"][operator].update({key: value})

    variant("s_names.json", lambda d: d["operators"].update({"/x/sum": {"bits": 8}}))
    variant("s_missing.json", lambda d: d["operators"].pop(total))
    variant("s_shapes.json", setting("shape", [5, 5], hidden))
    for name, value in (("1", 1), ("9", 9), ("x", "x"), ("true", True)):
        variant(f"s_bits_{name}.json", setting("bits", value))
    variant("s_key.json", setting("bitz", 4))
    variant("s_observer.json", setting("observer", "foo"))
    variant("s_observer_list.json", setting("observer", [1]))
    variant("s_granularity.json", setting("granularity", {"a": 1}, hidden))
    variant("s_shape_text.json", setting("shape", "6x6", hidden))
    variant("s_version.json", lambda d: d.update(format="onnxgru.scheme/9"))
    variant("s_extra.json", lambda d: d.update(operatorz={}))
    variant("s_list.json", lambda d: d.update(operators=[]))
    (place / "s_text.json").write_text("bits: 8\n")
    (place / "s_array.json").write_text("[1, 2]\n")
    (place / "s_binary.json").write_bytes(b"\xff\xfe\x00")
    (place / "s_deep.json").write_text("[" * 100_000)

    variant("c_range.json", setting("range", [1, "x"]), calibration)
    variant("c_turned.json", setting("range", [3, -3]), calibration)
    variant("c_missing.json", lambda d: d["operators"].pop(total), calibration)
    variant("c_counts.json", setting("histogram", 7), calibration)
    variant("c_extra.json", setting("ranges", [0, 1]), calibration)


def fill(place: Path) -> None:
    """Make the folder whole; ``done``, ``searched`` and ``step`` are results of good commands."""
    (place.parent / "secret.bin").write_bytes(bytes(288))
    for name, message in models().items():
        (place / f"{name}.onnx").write_bytes(message.SerializeToString())
    shutil.copy(DIGITS, place / "digits.onnx")
    (place / "secret.txt").write_text("not a model\n")
    (place / "text.onnx").write_text("this is no model\n" * 10)
    (place / "picture.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (place / "empty.onnx").write_bytes(b"")
    with zipfile.ZipFile(place / "zip.onnx", "w") as archive:
        archive.writestr("a", "b")
    with zipfile.ZipFile(place / "zip.pkl", "w") as archive:
        archive.writestr("net/data.pkl", "b")
    (place / "weights.pth").write_bytes(b"\x80\x02.")
    (place / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(20))
    (place / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    with zipfile.ZipFile(place / "net.keras", "w") as archive:
        archive.writestr("model.weights.h5", "b")
    (place / "saved").mkdir()
    (place / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    (place / "folder.onnx").mkdir()
    (place / "recordings.py").write_text(CALLABLES)
    fill_data(place)
    quiet = {"calibration": place / "x.npz", "validation": place / "x.npz"}
    quantize(place / "small.onnx", Config(output=place / "done", **quiet), listener=silent)
    settings = {**quiet, "search": True, "population": 4, "generations": 1}
    quantize(place / "small.onnx", Config(output=place / "searched", **settings), listener=silent)
    quantize(
        place / "small.onnx",
        Config(output=place / "step", recurrence="step", **quiet),
        listener=silent,
    )
    fill_schemes(place)
    for name, text in {
        "syntax": "bits = = 4",
        "key": "bitz = 4",
        "type": 'bits = "four"',
        "flag": "search = 1",
        "pattern": 'include = "gru"',
        "path": "output = 3",
        "choice": 'observer = "foo"',
    }.items():
        (place / f"{name}.toml").write_text(text + "\n")
