"""Upgrade: the opset and the IR version that emitted graphs need.

Opset 18 has BitwiseAnd and Split's ``num_outputs``. From IR version 4 on, initializers need not be
graph inputs; version 8 came with opset 15. Opset 21, with IR version 10, has QuantizeLinear to
uint16, which annotated graphs with wide codes need.
"""

import onnx
import onnx.version_converter
import onnx_ir as ir

from onnxgru.core.errors import ModelError

OPSET = 18
"""Lowest opset of a normalised model."""
IR_VERSION = 8
"""Lowest IR version of a normalised model."""
WIDE_OPSET, WIDE_IR_VERSION = 21, 10
"""Lowest versions of annotated graphs with wide codes."""


class Upgrade(ir.passes.InPlacePass):
    """Raise the opset and the IR version, where they are lower.

    Parameters
    ----------
    opset, ir_version : int
        The lowest versions allowed.
    """

    def __init__(self, opset: int = OPSET, ir_version: int = IR_VERSION) -> None:
        super().__init__()
        self._opset, self._ir_version = opset, ir_version

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert the graph with onnx's own converter."""
        modified = model.ir_version < self._ir_version
        model.ir_version = max(model.ir_version, self._ir_version)
        version = model.opset_imports.get("", 0)
        if version >= self._opset:
            return ir.passes.PassResult(model, modified)
        try:
            message = onnx.version_converter.convert_version(ir.to_proto(model), self._opset)
        except Exception as error:  # the converter raises RuntimeError and its own errors
            raise ModelError(
                f"the model has opset {version} and cannot be brought to opset "
                f"{self._opset} ({str(error).splitlines()[0]}); export it again with a later opset"
            ) from error
        declared = [value.shape for value in model.graph.outputs]
        model.graph = ir.from_proto(message).graph
        for value, shape in zip(model.graph.outputs, declared, strict=True):
            value.shape = shape  # the converter names the axes that the model leaves open
        return ir.passes.PassResult(model, modified=True)
