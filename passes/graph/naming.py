"""Naming: every node of the main graph has a name of its own.

Names of our own constants begin with ``onnxgru/``. Initializers of the model that do so too, as in
a model that onnxgru wrote before, get another name: equal names of ours must hold equal values.
"""

import onnx_ir as ir

from onnxgru.core.tape import SHARED
from onnxgru.passes.graph.values import move, unique, value_names

OWN = "model/"
"""Put before the names of initializers that begin like ours."""


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
