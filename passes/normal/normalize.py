"""Normalize: one form for every model that follows.

1. ONNX's own domain is "", functions are inlined, initializers are not graph inputs, and the opset
   is 18 or later (`Domains`, `Defaults`, `Upgrade`);
2. constants are initializers, nodes topologically sorted, branches of a constant ``If`` lifted,
   and every node has a name of its own (`Constants`, `Branches`, `Naming`);
3. recurrences compute in float32 (`Precision`);
4. weights, biases and first values of recurrent nodes are initializers where they are constant,
   zero states left out, and every recurrent node has ``layout=0`` (`Fold`, `Layout`);
5. cells in the body of a ``Scan`` or ``Loop`` are canonical nodes (`Canonicalize`);
6. dense layers around recurrent ones are canonical nodes, if the user asks for it (`Heads`);
7. unused nodes are removed, and shapes inferred.

Graph inputs and outputs keep name, order, type and declared shape.
"""

import onnx_ir as ir
from onnx_ir.passes import common

from onnxgru.passes.graph import recurrent
from onnxgru.passes.graph.naming import Naming
from onnxgru.passes.graph.shapes import Shapes
from onnxgru.passes.graph.upgrade import OPSET, Upgrade
from onnxgru.passes.normal.branches import Branches
from onnxgru.passes.normal.canonicalize import Canonicalize
from onnxgru.passes.normal.constants import Constants, Fold
from onnxgru.passes.normal.defaults import Defaults
from onnxgru.passes.normal.domains import Domains
from onnxgru.passes.normal.heads import Heads
from onnxgru.passes.normal.layout import Layout
from onnxgru.passes.normal.precision import Precision


class Normalize(ir.passes.InPlacePass):
    """Bring a model into the normal form.

    Parameters
    ----------
    heads : bool
        Whether dense layers are quantised too.
    """

    def __init__(self, *, heads: bool = False) -> None:
        super().__init__()
        self._heads = heads

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run all passes in order."""
        modified = Domains()(model).modified
        if model.functions:
            modified |= common.InlinePass()(model).modified
        for step in (
            Defaults(),
            Upgrade(),
            Constants(),
            common.TopologicalSortPass(),
            Branches(),
            Naming(),
            Precision(),
            Fold(),
            Layout(),
            Canonicalize(),
            *((Shapes(), Heads()) if self._heads else ()),
            common.RemoveUnusedNodesPass(),
            Shapes(),
        ):
            modified |= step(model).modified
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        """Check the normal form."""
        if model.opset_imports.get("", 0) < OPSET:
            raise ir.passes.PostconditionError("opset is too old")
        names = [node.name for node in model.graph]
        if len(set(names)) != len(names) or not all(names):
            raise ir.passes.PostconditionError("nodes must have unique names")
        if any(map(recurrent.batch_first, recurrent.recurrent_nodes(model.graph))):
            raise ir.passes.PostconditionError("layout=1 is left")
