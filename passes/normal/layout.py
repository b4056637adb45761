"""Layout: ``layout=1`` (batch first) becomes ``layout=0``, with transposed inputs and outputs.

onnxruntime refuses ``layout=1``::

    X (B, T, I), first values (B, D, H)     ->  transposed by (1, 0, 2) before the node
    Y (T, D, B, H), last values (D, B, H)   ->  transposed by (2, 0, 1, 3) and (1, 0, 2) behind it
"""

import onnx_ir as ir

from onnxgru.core.tape import Tape
from onnxgru.passes.graph import recurrent

_SEQUENCE, _VALUES = (2, 0, 1, 3), (1, 0, 2)


class Layout(ir.passes.InPlacePass):
    """Rewrite every recurrent node of the main graph that has ``layout=1``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Transpose inputs and outputs; the outer values keep their names."""
        graph = model.graph
        nodes = [n for n in recurrent.recurrent_nodes(graph) if recurrent.batch_first(n)]
        for node in nodes:
            self._transpose(graph, node)
        return ir.passes.PassResult(model, bool(nodes))

    @staticmethod
    def _transpose(graph: ir.Graph, node: ir.Node) -> None:
        before = Tape(graph=graph)
        after = Tape(before)
        roles = recurrent.SIGNATURES[node.op_type]
        for role, old in recurrent.inputs(node).items():
            if role == "X" or role in recurrent.INITIAL:
                name = f"{node.name}/time_first_{roles.inputs.index(role)}"
                new = before.op("Transpose", old, name=name, perm=list(_VALUES))
                new.type = old.type
                recurrent.connect(node, role, new)
        graph.insert_before(node, before.nodes)
        for role, old in recurrent.outputs(node).items():
            index = roles.outputs.index(role)
            order = _VALUES if role in recurrent.LAST else _SEQUENCE
            new = after.op(
                "Transpose", old, name=f"{node.name}/batch_first_{index}", perm=list(order)
            )
            new.shape, new.type = old.shape, old.type
            producer = new.producer()
            old.shape = None
            kept, old.name = old.name, before.name(f"{node.name}/output_{index}")
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            if producer is not None:
                producer.replace_input_with(0, old)
            new.name = kept
        graph.insert_after(node, after.nodes)
        node.attributes["layout"] = ir.AttrInt64("layout", 0)
