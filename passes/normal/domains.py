"""Domains: ``ai.onnx`` and the empty domain are one; only the empty one is left.

The specification lets a file write either, or both at once.
"""

from collections.abc import MutableMapping

import onnx_ir as ir

_LONG = "ai.onnx"


class Domains(ir.passes.InPlacePass):
    """Write the domain of ONNX's own operators as ""; nodes have it so from reading."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rename the imports of the model and of its functions."""
        imports = [model.opset_imports, *(f.opset_imports for f in model.functions.values())]
        modified = [self._rename(each) for each in imports]
        return ir.passes.PassResult(model, any(modified))

    @staticmethod
    def _rename(imports: MutableMapping[str, int]) -> bool:
        if _LONG not in imports:
            return False
        imports[""] = max(imports.pop(_LONG), imports.get("", 0))
        return True
