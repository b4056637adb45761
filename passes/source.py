"""Reading and writing models: from a file to the intermediate representation and back."""

from pathlib import Path

import onnx
import onnx_ir as ir

from onnxgru.core import files
from onnxgru.core.errors import ModelError

LARGEST = 2**31 - 1

SHAPED = "onnxgru.shaped"
"""Metadata key of an inner value whose shape stays in a file of the smallest size."""


def read(path: Path) -> ir.Model:
    """Read an ONNX file with its external data.

    Raises
    ------
    ModelError
        If the file is missing, is no ONNX file, is truncated, or its external data are missing
        or lie outside its folder.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); give the path of an ONNX file"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf raises its own DecodeError
        raise ModelError(
            f"{path}: is not an ONNX file, or a truncated one "
            f"({len(content)} bytes); export the model again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(
            f"{path}: is not an ONNX model, or holds no operators; export the model again"
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises ValidationError, FileNotFoundError and ValueError
        raise ModelError(
            f"{path}: its external data cannot be read from {path.parent} ({_first(error)}); "
            "put the data file beside the model, or export it as a single file"
        ) from error
    try:
        _check(model)
    except onnx.checker.ValidationError as error:
        if "topologically sorted" not in str(error):  # normalisation sorts
            raise ModelError(
                f"{path}: is not a valid ONNX model ({_first(error)}); export the model again"
            ) from error
    return ir.from_proto(model)


def _check(model: onnx.ModelProto) -> None:
    """Check a model, but for outputs without a shape: runtimes infer it, and so do we."""
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

    Graph outputs keep the shapes that they have: inference would replace names of axes.

    Raises
    ------
    ModelError
        If the shapes of the model contradict each other.
    """
    message = ir.to_proto(model)
    if message.ByteSize() > LARGEST:
        raise ModelError("the model is larger than 2 GiB, which a single ONNX file cannot hold")
    try:
        inferred = onnx.shape_inference.infer_shapes(message, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"the shapes of the model contradict each other ({_first(error)}); "
            "a fixed length in a Reshape may need another --recurrence"
        ) from error
    for ours, declared in zip(inferred.graph.output, message.graph.output, strict=True):
        if declared.type.tensor_type.HasField("shape"):
            ours.type.tensor_type.shape.CopyFrom(declared.type.tensor_type.shape)
    return inferred


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy without the inferred types of inner values: the smallest file of the same graph.

    Those of values with the metadata `SHAPED` stay.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _strip(result.graph)
    return result


def _strip(graph: onnx.GraphProto) -> None:
    for index in reversed(range(len(graph.value_info))):
        value = graph.value_info[index]
        if any(p.key == SHAPED for p in value.metadata_props):
            del value.metadata_props[:]
        else:
            del graph.value_info[index]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
