"""Branches: an ``If`` with a constant condition becomes the branch that it takes.

Exporters write such nodes for decisions that Python has made. The nodes of the branch replace the
``If``, also in nested ones, so that recurrent nodes among them are in the main graph. An ``If``
with a condition that varies stays.
"""

import onnx_ir as ir

from onnxgru.passes.graph.values import constant_value, graphs, move, subgraphs, unique, value_names


class Branches(ir.passes.InPlacePass):
    """Replace every ``If`` with a constant condition in the main graph by the branch it takes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lift branches until no such ``If`` is left."""
        modified = False
        while self._lift(model.graph):
            modified = True
        return ir.passes.PassResult(model, modified)

    @classmethod
    def _lift(cls, graph: ir.Graph) -> bool:
        modified = False
        for node in list(graph):
            if node.op_type != "If" or node.domain != "":
                continue
            condition = constant_value(node.inputs[0])
            if condition is None:
                continue
            name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
            cls._replace(graph, node, node.attributes[name].as_graph())
            modified = True
        return modified

    @staticmethod
    def _replace(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
        nodes = list(branch)
        initializers = list(branch.initializers.values())
        for attribute in ("then_branch", "else_branch"):
            del node.attributes[attribute]
        taken = value_names(graph)
        branch.remove(nodes)
        for value in initializers:
            move(value, branch, graph, unique(str(value.name), taken))
        for inner in nodes:
            for value in inner.outputs:
                if value.name:
                    value.name = unique(value.name, taken)
            for scope in (s for each in subgraphs(inner) for s in graphs(each)):
                _rename(scope, taken)
        graph.insert_before(node, nodes)
        results = list(branch.outputs)
        branch.outputs.clear()
        for old, result in zip(list(node.outputs), results, strict=True):
            kept, named = result, old.name
            if old.is_graph_output():  # an Identity gives a graph output a node of its own
                copy = ir.Node("", "Identity", [result], name=f"{node.name}/{named}")
                kept = copy.outputs[0]
                kept.shape, kept.type = old.shape, old.type
                graph.insert_before(node, copy)
            ir.convenience.replace_all_uses_with(old, kept, replace_graph_outputs=True)
            if kept is not result:
                old.name, kept.name = None, named
        graph.remove(node, safe=True)


def _rename(scope: ir.Graph, taken: set[str]) -> None:
    for value in scope.inputs:
        value.name = unique(str(value.name), taken)
    for name, value in list(scope.initializers.items()):
        move(value, scope, scope, unique(name, taken))
    for inner in scope:
        for value in inner.outputs:
            if value.name:
                value.name = unique(value.name, taken)
