"""Cancel: a Squeeze that undoes an Unsqueeze.

One layer adds axes to codes that the next layer removes: ``Squeeze(Unsqueeze(x, a), a) = x``.
"""

import numpy as np
import onnx_ir as ir

from onnxgru.passes.graph.values import constant_value


class Cancel(ir.passes.InPlacePass):
    """Let readers of a Squeeze read the value before the Unsqueeze, where both have equal axes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Redirect the readers, and remove nodes that nothing reads any more."""
        modified = False
        for node in list(model.graph):
            if node.op_type != "Squeeze" or node.outputs[0].is_graph_output():
                continue
            inner = node.inputs[0].producer() if node.inputs[0] is not None else None
            if inner is None or inner.op_type != "Unsqueeze" or inner.inputs[0] is None:
                continue
            if not _same(node, inner):
                continue
            modified = True
            ir.convenience.replace_all_uses_with(node.outputs[0], inner.inputs[0])
            for each in (node, inner):
                if not any(v.uses() or v.is_graph_output() for v in each.outputs):
                    model.graph.remove(each, safe=True)
        return ir.passes.PassResult(model, modified)


def _same(squeeze: ir.Node, unsqueeze: ir.Node) -> bool:
    """Whether both have the same axes, which are constants and count from the front."""
    if len(squeeze.inputs) < 2:
        return False
    found = [constant_value(node.inputs[1]) for node in (squeeze, unsqueeze)]
    one, other = (None if array is None else np.sort(array.ravel()) for array in found)
    return one is not None and other is not None and np.array_equal(one, other) and one.min() >= 0
