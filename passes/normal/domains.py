"""Domains: the domain ``ai.onnx`` is renamed to the empty domain, which means the same.

The specification allows a file to use either, or both.
"""

from collections.abc import MutableMapping

import onnx_ir as ir

_LONG = "ai.onnx"


class Domains(ir.passes.InPlacePass):
    """Rename the domain in imports; nodes are renamed when the file is read."""

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
