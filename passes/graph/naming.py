"""Naming: every node of the main graph has a name of its own.

The names of constants that onnxgru adds begin with ``onnxgru/``, and equal names must hold equal
values. So initializers of the model with such names, which onnxgru wrote before, are renamed.
"""

import onnx_ir as ir

from onnxgru.core.tape import SHARED
from onnxgru.passes.graph.values import move, unique, value_names

OWN = "model/"
"""Prefix for renamed initializers of the model."""


class Naming(ir.passes.InPlacePass):
    """Name nodes that have no name, or that of another node."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Keep the first node of a name; number the others."""
        graph = model.graph
        modified = self._initializers(graph)
        names: set[str] = set()
        taken = {node.name or "" for node in graph}
        counts: dict[str, int] = {}
        for node in graph:
            wanted = node.name or ""
            if not wanted or wanted in names:
                base = wanted or node.op_type.lower()
                while not wanted or wanted in taken:
                    wanted = f"{base}_{counts.setdefault(base, 0)}"
                    counts[base] += 1
                node.name = wanted
                modified = True
            names.add(wanted)
            taken.add(wanted)
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _initializers(graph: ir.Graph) -> bool:
        meeting = [
            value
            for name, value in graph.initializers.items()
            if name.startswith(SHARED) and not value.is_graph_output()
        ]
        if not meeting:
            return False
        taken = value_names(graph)
        for value in meeting:
            move(value, graph, graph, unique(f"{OWN}{value.name}", taken))
        return True
