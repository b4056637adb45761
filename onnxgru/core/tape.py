"""Recording of graph nodes, with names that follow the operators."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

OPERATOR = "onnxgru.operator"
"""Metadata key of the node that computes an operator's value."""


SHARED = "onnxgru/"
"""Prefix of initializers that belong to no operator; equal names hold equal values."""


def digest(array: npt.NDArray[np.generic], bits: int = 0) -> bytes:
    """SHA-256 of an array with its type and shape, and of the width it is stored at."""
    header = f"{bits} {array.dtype.str} {array.shape}".encode()
    return hashlib.sha256(header + array.tobytes()).digest()


class Tape:
    """Records nodes for one graph, and shared constants for the outermost one.

    Parameters
    ----------
    outer : Tape, optional
        The tape whose constants and names this one shares: a `Scan` body has its own nodes but
        keeps its constants in the main graph.
    suffix : str
        Appended to every name, to tell unrolled steps apart.
    graph : onnx_ir.Graph, optional
        For an outermost tape: the graph whose names are taken.
    small : bool
        For an outermost tape: nodes without a label stay without a name, so that the file is
        smaller.
    within : str
        Prefix that is removed from the names of nodes, where all nodes of a graph belong to one
        recurrence.
    """

    def __init__(
        self,
        outer: "Tape | None" = None,
        suffix: str = "",
        graph: ir.Graph | None = None,
        *,
        small: bool = False,
        within: str = "",
    ) -> None:
        self._within = within
        self.nodes: list[ir.Node] = []
        self.suffix = suffix
        self._small: bool = outer._small if outer else small
        self._names: set[str] = outer._names if outer else set()
        self._avoided: set[str] = outer._avoided if outer else set()
        self._labels: dict[str, int] = outer._labels if outer else {}
        self.constants: dict[str, ir.Value] = outer.constants if outer else {}
        self._contents: dict[bytes, str] = outer._contents if outer else {}
        if graph is not None:
            self.constants.update(
                (name, v)
                for name, v in graph.initializers.items()
                if name.startswith(SHARED) and not v.is_graph_output()
            )
            self._names.update(str(value.name) for value in graph.inputs)
            self._names.update(graph.initializers)
            self._names.update(str(v.name) for node in graph.all_nodes() for v in node.outputs)
            self._avoided.update(str(node.name) for node in graph.all_nodes())
            for scope in graph.subgraphs():
                self._avoided.update(str(value.name) for value in scope.inputs)
                self._avoided.update(scope.initializers)

    def at(self, suffix: str) -> "Tape":
        """Tape that records into the same graph under names with another suffix."""
        tape = Tape(self, suffix)
        tape.nodes = self.nodes
        return tape

    def name(self, wanted: str) -> str:
        """`wanted` with the suffix, made unique."""
        base = wanted + self.suffix
        name, count = base, 0
        while name in self._names or name in self._avoided:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def _anonymous(self) -> str:
        """A short name for a value that nothing refers to by name."""
        count = len(self._names)
        name = np.base_repr(count, 36).lower() if self._small else str(count)
        while name in self._names or name in self._avoided:
            name += "_"
        self._names.add(name)
        return name

    def multiple(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        names: Sequence[str | None],
        *,
        label: str | None = None,
        **attributes: Any,
    ) -> list[ir.Value]:
        """Record a node with several outputs.

        Parameters
        ----------
        op_type : str
            Operator of ONNX's own domain.
        inputs : sequence of onnx_ir.Value or None
            Its inputs; None for one that is left out.
        names : sequence of str or None
            Names of the outputs; None for a short one.
        label : str, optional
            Name of the node; the first output's name where left out.
        **attributes
            Its attributes.
        """
        outputs = [ir.Value(name=self.name(n) if n else self._anonymous()) for n in names]
        node = ir.Node(
            "",
            op_type,
            inputs,
            attributes=ir.convenience.convert_attributes(attributes),
            outputs=outputs,
            name=self._called(label, str(outputs[0].name), named=names[0] is not None),
        )
        self.nodes.append(node)
        return outputs

    def _called(self, label: str | None, name: str, *, named: bool) -> str:
        """Name of a node: names that onnx_ir gives by itself take a tenth of a small file."""
        if label is None:
            return name if named or not self._small else ""
        base = label + self.suffix
        count = self._labels.get(base, 0)
        self._labels[base] = count + 1
        return (f"{base}_{count}" if count else base).removeprefix(self._within)

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        name: str | None = None,
        label: str | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Record a node with one output called `name`; see `multiple`."""
        return self.multiple(op_type, inputs, [name], label=label, **attributes)[0]

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer of the outermost graph, made once per name."""
        if name not in self.constants:
            free = self.name(name) if name.startswith(SHARED) else name
            self._names.add(free)
            tensor = ir.tensor(array, name=free)
            self.constants[name] = ir.Value(
                name=free,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.constants[name]

    def shared(self, name: str, array: npt.NDArray[np.generic], bits: int = 0) -> ir.Value:
        """An initializer of the outermost graph, made once per content under the first name."""
        return self.constant(self._contents.setdefault(digest(array, bits), name), array)

    def register(self, graph: ir.Graph) -> None:
        """Make the constants initializers of the outermost graph, where they are not yet."""
        for constant in self.constants.values():
            if constant.name not in graph.initializers:
                graph.register_initializer(constant)

    def axes(self, *axes: int) -> ir.Value:
        """Shape, axis or length tensor: int64, shape (len(axes),)."""
        return self.constant("onnxgru/axes/" + "_".join(map(str, axes)), np.asarray(axes, np.int64))

    def byte(self, value: int) -> ir.Value:
        """A number of the arithmetic itself: uint8, shape ()."""
        return self.constant(f"onnxgru/byte/{value}", np.asarray(value, np.uint8))

    def scalar(self, value: int) -> ir.Value:
        """A number of the arithmetic itself: int32, shape ()."""
        return self.constant(f"onnxgru/{value}", np.asarray(value, np.int32))
