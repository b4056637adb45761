"""Upgrade: the opset and the IR version that emitted graphs need.

Opset 18 has BitwiseAnd and Split's ``num_outputs``; from IR version 4 on, initializers need not be
graph inputs, and 8 is the version that came with opset 15.
"""

import onnx
import onnx.version_converter
import onnx_ir as ir

from onnxgru.core.errors import ModelError

OPSET = 18
"""Lowest opset of a normalised model."""
IR_VERSION = 8
"""Lowest IR version of a normalised model."""


class Upgrade(ir.passes.InPlacePass):
    """Raise the opset to 18 and the IR version to 8, where they are lower."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert the graph with onnx's own converter."""
        modified = model.ir_version < IR_VERSION
        model.ir_version = max(model.ir_version, IR_VERSION)
        version = model.opset_imports.get("", 0)
        if version >= OPSET:
            return ir.passes.PassResult(model, modified)
        try:
            message = onnx.version_converter.convert_version(ir.to_proto(model), OPSET)
        except Exception as error:  # the converter raises RuntimeError and its own errors
            raise ModelError(
                f"the model has opset {version} and cannot be brought to opset {OPSET} "
                f"({str(error).splitlines()[0]}); export it again with a later opset"
            ) from error
        declared = [value.shape for value in model.graph.outputs]
        model.graph = ir.from_proto(message).graph
        for value, shape in zip(model.graph.outputs, declared, strict=True):
            value.shape = shape  # the converter names the axes that the model leaves open
        return ir.passes.PassResult(model, modified=True)
