"""Sizes: axes of graph inputs get other sizes, and other shapes follow.

Declared axes of graph outputs keep their names and sizes unless they depend on the change.
"""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common


def resize(model: ir.Model, changes: Sequence[tuple[ir.Value, int, int | None]]) -> None:
    """Set axes of graph inputs.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    changes : sequence of tuple
        A graph input with a shape, one of its axes, and the new size; None for any size.
    """
    outputs = [value for value in model.graph.outputs if value.producer() is not None]
    declared = [value.shape for value in outputs]
    before = _inferred(model, outputs)
    former: set[object] = set()
    for value, axis, size in changes:
        shape = value.shape
        assert shape is not None
        former.add(shape[axis])
        value.shape = ir.Shape([*shape[:axis], size, *shape[axis + 1 :]])
    for value, kept, old, new in zip(
        outputs, declared, before, _inferred(model, outputs), strict=True
    ):
        value.shape = kept if kept is None else _merged(kept, old, new, former)


def _inferred(model: ir.Model, outputs: Sequence[ir.Value]) -> list[ir.Shape | None]:
    """Shapes of graph outputs, inferred from the shapes of the inputs only."""
    inputs = set(model.graph.inputs)
    for value in (*(v for node in model.graph for v in node.outputs), *outputs):
        if value not in inputs:
            value.shape = None
    common.ShapeInferencePass()(model)
    return [value.shape for value in outputs]


def _merged(
    declared: ir.Shape, before: ir.Shape | None, after: ir.Shape | None, former: set[object]
) -> ir.Shape:
    """A declared shape with the sizes that changed.

    A declared size becomes unknown where inference says nothing of it and it equals one of the
    sizes that changed.
    """
    known = before is not None and after is not None and len(declared) == len(before) == len(after)
    sizes: list[int | str | None] = []
    for axis, size in enumerate(declared):
        name = size if isinstance(size, int) else size.value
        new = after[axis] if after is not None and known else None
        changed = before is not None and known and before[axis] != new
        if changed and isinstance(new, int):
            name = new
        elif not isinstance(new, int) and isinstance(name, int) and name in former:
            name = None
        sizes.append(name)
    return ir.Shape(sizes)
