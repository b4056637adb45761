"""Reading and writing models: from a file to onnx_ir's representation and back."""

import os
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxgru.core import files
from onnxgru.core.errors import ModelError, UsageError
from onnxgru.passes.graph import wiring
from onnxgru.passes.graph.segment import graphs

LARGEST = 2**31 - 1
_UNSORTED = "topologically sorted"

SHAPED = "onnxgru.shaped"
"""Metadata key of an inner value whose shape `compact` keeps."""

_CONVERTED = "convert it with python -m tf2onnx.convert --{kind} {path} --output model.onnx"


@dataclass(frozen=True, eq=False)
class Origin:
    """A model as the user gave it.

    Parameters
    ----------
    path : Path
        Its file. For a model in memory: the place of its future file, or a name for messages.
    content : bytes
        Content of the file.
    held : bool
        Whether the model is in memory and has no file.
    """

    path: Path
    content: bytes
    held: bool = False

    def at(self, path: Path) -> "Origin":
        """The same with a place for the file of a model in memory; a file stays where it is."""
        return Origin(path, self.content, True) if self.held else self


def origin(model: object) -> Origin:
    """A model as given: a path, bytes of a file, a ``ModelProto`` or an ``onnx_ir.Model``.

    Raises
    ------
    ModelError
        If the file cannot be read.
    UsageError
        If it is none of these.
    """
    if isinstance(model, Origin):
        return model
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        try:
            return Origin(path, path.read_bytes())
        except OSError as error:
            cure = "give the path of an ONNX file"
            if (path / "saved_model.pb").is_file():
                cure = _CONVERTED.format(kind="saved-model", path=path)
            elif (path / "integer.onnx").is_file():
                cure = f"give the path of an ONNX file, such as {path / 'integer.onnx'}"
            raise ModelError(f"{path}: cannot be read ({error.strerror}); {cure}") from error
    if isinstance(model, bytes | bytearray):
        return Origin(Path("model"), bytes(model), True)
    if isinstance(model, ir.Model):
        whole = ir.external_data.load_to_model(model.clone())
        return origin(ir.to_proto(whole))
    if isinstance(model, onnx.ModelProto):
        return Origin(Path("model"), model.SerializeToString(deterministic=True), True)
    hint = ""
    if any(kind.__module__.startswith("torch.nn") for kind in type(model).__mro__):
        hint = "; write a torch module as ONNX with onnxgru.export, or torch.onnx.export"
    raise UsageError(
        "model must be the path of an ONNX file, its bytes, an onnx.ModelProto or an "
        f"onnx_ir.Model, it is of type {type(model).__name__}{hint}"
    )


def read(given: object) -> ir.Model:
    """Read an ONNX model with its external data.

    Parameters
    ----------
    given : path, Origin, bytes, ModelProto or onnx_ir.Model
        As for :func:`origin`.

    Raises
    ------
    ModelError
        If the file is missing, is no ONNX file, is truncated, or its external data are missing
        or lie outside its folder.
    """
    found = origin(given)
    path, content = found.path, found.content
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf raises its own DecodeError
        raise ModelError(
            _foreign(path, content)
            or f"{path}: is not an ONNX file, or a truncated one "
            f"({len(content)} bytes); export the model again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(  # protobuf reads some other files, too
            _foreign(path, content)
            or f"{path}: is not an ONNX model, or holds no operators; export the model again"
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises ValidationError, FileNotFoundError and ValueError
        raise ModelError(
            f"{path}: its external data cannot be read from {path.parent} ({_first(error)}); "
            "put the data file beside the model, or export it as a single file"
        ) from error
    try:
        broken = _broken(model)
        if broken is None:
            return ir.from_proto(model)
    except Exception as error:  # onnx_ir raises what it meets: ValueError, SerdeError, ...
        broken = _first(error)
    raise ModelError(f"{path}: is not a valid ONNX model ({broken}); export the model again")


def _foreign(path: Path, content: bytes) -> str | None:
    """A sentence on what to do with a model of another format; None for other files."""
    name, suffix = str(path), path.suffix.lower()
    if content[4:8] == b"TFL3" or suffix == ".tflite":
        return f"{name}: is a TensorFlow Lite model; {_CONVERTED.format(kind='tflite', path=name)}"
    zipped, kept = content[:2] == b"PK", (".keras", ".h5", ".hdf5")
    if content[:4] == b"\x89HDF" or suffix in kept or (zipped and b"model.weights.h5" in content):
        return f"{name}: is a Keras model; {_CONVERTED.format(kind='keras', path=name)}"
    if (zipped and b"data.pkl" in content) or suffix in (
        ".pt",
        ".pth",
        ".pt2",
        ".ckpt",
        ".safetensors",
    ):
        return (
            f"{name}: is a PyTorch model or its weights; write it as ONNX with onnxgru export "
            "module:factory, and --weights FILE for weights alone"
        )
    return None


def _broken(model: onnx.ModelProto) -> str | None:
    """What is wrong with a model, or None. Nodes in another order are sorted."""
    for name in wiring.names(model.graph):
        if isinstance(name, bytes):  # protobuf gives text that is no UTF-8 as it is
            return f"the name {name!r} is not UTF-8"
    for value in model.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.HasField("dim_value") and size.dim_value < 1:
                return f"input {value.name!r} has the size {size.dim_value} on axis {axis}"
    try:
        _check(model)
    except onnx.checker.ValidationError as error:
        return _unsorted(model) if _UNSORTED in str(error) else _first(error)
    return None


def _unsorted(model: onnx.ModelProto) -> str | None:
    """Sort the nodes of a model; what else is wrong with it, or None."""
    if (fault := wiring.fault(model.graph)) is not None:
        return fault
    wiring.sort(model.graph)
    try:
        _check(model)
    except onnx.checker.ValidationError as error:
        if _UNSORTED not in str(error):  # as inner graphs may be, which normalisation sorts
            return _first(error)
    return None


def _check(model: onnx.ModelProto) -> None:
    """Check a model with onnx; outputs without a shape are allowed, because it is inferred."""
    bare = [v for v in model.graph.output if not v.type.tensor_type.HasField("shape")]
    tensors = [v for v in bare if v.type.HasField("tensor_type")]
    try:
        for value in tensors:
            value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
    finally:
        for value in tensors:
            value.type.tensor_type.ClearField("shape")


def write(path: Path, model: onnx.ModelProto) -> None:
    """Write a model file atomically."""
    files.write(path, model.SerializeToString(deterministic=True))


def proto(model: ir.Model) -> onnx.ModelProto:
    """The protobuf of a model, with shapes inferred where inference succeeds.

    Graph outputs keep their declared shapes, because inference would replace names of axes.

    Raises
    ------
    ModelError
        If the shapes of the model contradict each other.
    """
    message = ir.to_proto(model)
    if message.ByteSize() > LARGEST:
        raise ModelError("the model is larger than 2 GiB, which a single ONNX file cannot hold")
    inferred = _inferred(message)
    for ours, declared in zip(inferred.graph.output, message.graph.output, strict=True):
        if declared.type.tensor_type.HasField("shape"):
            ours.type.tensor_type.shape.CopyFrom(declared.type.tensor_type.shape)
    return inferred


def _inferred(message: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that onnx infers.

    Inference also follows shapes that the graph computes, if that succeeds. onnx 1.23 sometimes
    confuses such values in a graph with a loop, and then reports contradictions where there are
    none.
    """
    for followed in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(message, strict_mode=True, data_prop=followed)
        except onnx.shape_inference.InferenceError as error:
            found = error
    raise ModelError(
        f"the shapes of the model contradict each other ({_first(found)}); "
        "a fixed length in a Reshape may need another --recurrence"
    ) from found


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy without the inferred types of inner values: the smallest file of the same graph.

    Values with the metadata `SHAPED` keep theirs.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for graph in graphs(result.graph):
        for index in reversed(range(len(graph.value_info))):
            value = graph.value_info[index]
            if any(p.key == SHAPED for p in value.metadata_props):
                del value.metadata_props[:]
            else:
                del graph.value_info[index]
    return result


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
