"""Recognize: from the recurrent nodes of a normalised model to layers of bound operators.

Every module of this package that has a ``CELL`` knows one operator. With normalisation, this
package alone knows the recurrent operators of ONNX. A node that cannot be quantised is left alone,
with the reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import onnx_ir as ir

from onnxgru.core.cells import CELLS
from onnxgru.core.errors import ModelError, UsageError
from onnxgru.core.metadata import VERSION
from onnxgru.core.network import Layer
from onnxgru.passes import recognize as package
from onnxgru.passes.graph.description import description
from onnxgru.passes.graph.recurrent import recurrent_nodes
from onnxgru.passes.graph.values import value_names
from onnxgru.passes.normal.elsewhere import Refusal, elsewhere
from onnxgru.passes.recognize import canonical
from onnxgru.passes.recognize.stacked import OnnxCell, UnsuitableError

PARTS = frozenset(
    {"forward", "reverse", "input", "output", "zero_point", "initial", "mask", "nonempty", "y"}
    | {"y_h", *(carry.name for cell in CELLS.values() for carry in cell.carries)}
)
"""Words that follow a layer's name in the names of its values."""
SHOWN = 5
"""Most operators that a message names."""


@cache
def operators() -> Mapping[str, OnnxCell]:
    """The operators that are quantised, by name: one for every module here with a ``CELL``."""
    modules = [
        import_module(f"{package.__name__}.{m.name}") for m in iter_modules(package.__path__)
    ]
    cells: list[OnnxCell] = [module.CELL for module in modules if hasattr(module, "CELL")]
    return {cell.operator: cell for cell in cells}


@dataclass(frozen=True, eq=False)
class Recognition:
    """The recurrences that were found in a model.

    Parameters
    ----------
    layers : tuple of Layer
        Layers that will be quantised, in graph order.
    refusals : tuple of Refusal
        Recurrences that will not be quantised, with the reasons.
    notes : tuple of str
        Warnings about what was found.
    written : str
        Version of onnxgru that wrote the model; empty for others.
    kinds : tuple of str
        Operators of the main graph, the most frequent first.
    """

    layers: tuple[Layer, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...] = field(default=())
    written: str = ""
    kinds: tuple[str, ...] = ()

    @property
    def nothing(self) -> str:
        """The end of a sentence about a model without layers: the reason, and what to do."""
        if self.written:
            return (
                f"was written by onnxgru {self.written} and is quantised already; give the float "
                "model that it was made from"
            )
        what = _either(operators())
        if self.refusals:
            reasons = "; ".join(f"{r.node}: {r.reason}" for r in self.refusals)
            return f"holds no {what} that can be quantised, all of it stays in float ({reasons})"
        shown = ", ".join(self.kinds[:SHOWN]) + (", ..." if len(self.kinds) > SHOWN else "")
        return (
            f"holds no {what} that can be quantised; it must have such a node, or a cell in the "
            f"body of a Scan or Loop, but has only {shown or 'no operators'}"
        )


def recognize(
    model: ir.Model, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Recognition:
    """Find the recurrent layers of a normalised model.

    Parameters
    ----------
    model : onnx_ir.Model
        In normal form.
    include, exclude : sequence of str
        Node names or shell patterns; without `include`, all nodes.

    Raises
    ------
    UsageError
        If a name matches no recurrent node that is quantised.
    """
    known = operators()
    nodes = [
        node
        for node in recurrent_nodes(model.graph)
        if node.op_type in known or description(node) is not None
    ]
    names = [str(node.name) for node in nodes]
    for option, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(_matches(name, pattern) for name in names):
                raise UsageError(
                    f"--{option} {pattern!r} must match a recurrent layer; "
                    f"the model has {', '.join(names) or 'none'}"
                )
    layers, refusals, notes = [], [], []
    prefixes = _prefixes(model.graph, names)
    for node, name in zip(nodes, names, strict=True):
        try:
            if include and not any(_matches(name, pattern) for pattern in include):
                raise UnsuitableError("it is not named by --include")
            if any(_matches(name, pattern) for pattern in exclude):
                raise UnsuitableError("it is named by --exclude")
            if (found := canonical.layer(node, prefixes[name])) is not None:
                layers.append(found)
                continue
            cell = known[node.op_type]
            layers.append(cell.layer(node, prefixes[name]))
            if suspicion := cell.suspicion(node, str(model.producer_name)):
                notes.append(f"{name}: {suspicion}")
        except UnsuitableError as reason:
            refusals.append(Refusal(name, str(reason)))
    refusals.extend(elsewhere(model, frozenset(known)))
    return Recognition(
        tuple(layers),
        tuple(refusals),
        tuple(notes),
        model.metadata_props.get(VERSION, ""),
        tuple(kind for kind, _ in Counter(n.op_type for n in model.graph).most_common()),
    )


def _either(words: Mapping[str, object]) -> str:
    """Words as an enumeration with "or"."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _matches(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern, or equals it, so that names may contain brackets."""
    return name == pattern or fnmatchcase(name, pattern)


def _prefixes(graph: ir.Graph, nodes: Sequence[str]) -> dict[str, str]:
    """Name of the layer of every recurrent node: ``/<node>``, with a number where names would meet.

    A layer's own names begin with its name and one of `PARTS`. No name of the graph, and no other
    layer, may have such a name already.
    """
    names = value_names(graph) | {str(node.name) for node in graph.all_nodes()}
    used = {base for name in names for base in _bases(name)}
    prefixes: dict[str, str] = {}
    layers: set[str] = set()
    for node in nodes:
        wanted = "/" + (node.strip("/") or "gru")
        prefix, count = wanted, 0
        while prefix in used or not layers.isdisjoint(_bases(prefix)):
            count += 1
            prefix = f"{wanted}_{count}"
        prefixes[node] = prefix
        used |= {prefix, *_bases(prefix)}
        layers.add(prefix)
    return prefixes


def _bases(name: str) -> Iterator[str]:
    """Names of layers that could have a value of this name."""
    words = name.split("/")
    for index, word in enumerate(words):
        if word in PARTS:
            yield "/".join(words[:index])


def require(recognition: Recognition, source: str) -> tuple[Layer, ...]:
    """The layers of a recognition that must have one.

    Raises
    ------
    ModelError
        If there is none; the message has every reason.
    """
    if recognition.layers:
        return recognition.layers
    raise ModelError(f"{source}: {recognition.nothing}")
