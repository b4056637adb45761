"""Batch: the model takes a fixed number of recordings per call."""

from collections.abc import Mapping

import onnx_ir as ir

from onnxgru.passes.graph.sizes import resize


class Batch(ir.passes.InPlacePass):
    """Set the batch axes of a model's inputs, and all axes with the same name.

    Parameters
    ----------
    axes : mapping of str to int
        Batch axis of every input that has one.
    size : int
        Recordings per call.
    """

    def __init__(self, axes: Mapping[str, int], size: int) -> None:
        super().__init__()
        self._axes, self._size = dict(axes), size

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the shapes of inputs, and the shapes that depend on them."""
        changes: list[tuple[ir.Value, int, int | None]] = []
        names: set[str] = set()
        for value in model.graph.inputs:
            axis = self._axes.get(str(value.name))
            if axis is None or value.shape is None or value.shape[axis] == self._size:
                continue
            size = value.shape[axis]
            if not isinstance(size, int) and size.value is not None:
                names.add(size.value)
            changes.append((value, axis, self._size))
        if not changes:
            return ir.passes.PassResult(model, modified=False)
        resize(model, changes)
        for value in model.graph.outputs:
            if value.shape is not None:
                sizes = [size if isinstance(size, int) else size.value for size in value.shape]
                value.shape = ir.Shape([self._size if s in names else s for s in sizes])
        return ir.passes.PassResult(model, modified=True)
