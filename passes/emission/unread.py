"""Unread: a `Scan` no longer gathers sequences that no node reads.

A classifier reads the last state alone. Carries stay, as steps need them.
"""

import onnx_ir as ir


class Unread(ir.passes.InPlacePass):
    """Remove trailing outputs of `Scan` nodes and of their bodies that no node reads."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Remove the outputs. A later pass removes the nodes that made them in the bodies."""
        modified = False
        for node in model.graph:
            if node.op_type != "Scan" or node.domain:
                continue
            body = node.attributes["body"].as_graph()
            carried = len(node.inputs) - node.attributes["num_scan_inputs"].as_int()
            read = len(node.outputs)
            while read > max(carried, 1) and not _read(node.outputs[read - 1]):
                read -= 1
            if read < len(node.outputs):
                modified = True
                node.resize_outputs(read)
                del body.outputs[read:]
        return ir.passes.PassResult(model, modified)


def _read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
