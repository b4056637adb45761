"""States: which output of a model is which input of its next call."""

import re
from collections.abc import Sequence

import onnx
import onnx_ir as ir

from onnxgru.data.dataset import InputSpec
from onnxgru.passes.graph import recurrent
from onnxgru.passes.graph.axes import origins
from onnxgru.passes.lowering.codes import MOVEMENTS

_SIDES = frozenset(
    {"in", "input", "out", "output", "next", "new", "prev", "previous", "last", "old", "initial"}
    | {"init", "n", "i", "o", "t", "curr", "current", "updated", "final", "first", "new"}
)
"""Words that say which side of a step a state is on."""

_STATES = frozenset(
    {"h", "c", "s", "hx", "cx", "hn", "cn", "ht", "ct", "h0", "c0", "state", "states", "hidden"}
    | {"cell", "cache", "caches", "mem", "memory", "memories", "buf", "buffer", "context", "ctx"}
    | {"carry", "hist", "history", "past", "rnn", "gru", "lstm", "hidden0", "state0"}
)
"""Words in the names of states."""


def pair(
    graph: ir.Graph,
    inputs: Sequence[InputSpec],
    outputs: Sequence[onnx.ValueInfoProto],
) -> dict[str, str]:
    """Pair state inputs with their outputs where structure or names are clear.

    An input is a state if a recurrent node starts from it, or if its name says so. Its output must
    have the same type and shape. If the input goes to a recurrent node, the output must come from
    one. It must be the only such output, or the one with the same name apart from words such as
    ``next``.

    Returns
    -------
    dict of str to str
        Output by input. Empty if the inputs that would remain hold no recording.
    """
    begun = _reached(graph)
    ends = {value.name: _from_recurrence(graph, value.name) for value in outputs}
    found: dict[str, str] = {}
    for spec in inputs:
        if spec.batch_axis is None and not _is_called_state(spec.name):
            continue
        fitting = [v for v in outputs if _fits(spec, v)]
        alike = [v for v in fitting if _stem(v.name) == _stem(spec.name)]
        if spec.name in begun:
            likely = [v for v in fitting if ends[v.name]]
            chosen = alike if len(alike) == 1 else likely if len(likely) == 1 else []
        else:
            chosen = alike if _is_called_state(spec.name) and len(alike) == 1 else []
        if len(chosen) == 1 and chosen[0].name not in found.values():
            found[spec.name] = chosen[0].name
    left = [spec for spec in inputs if spec.batch_axis is not None and spec.name not in found]
    return found if left else {}


def starts(graph: ir.Graph) -> set[str]:
    """Graph inputs that recurrent nodes start from and nothing else reads.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Normalised.
    """
    moving = MOVEMENTS | {"Gather", "Slice", "Split"}
    found = set()
    for name in _reached(graph):
        pending, only = [v for v in graph.inputs if v.name == name], True
        while pending:
            for node, index in pending.pop().uses():
                if (found_at := recurrent.signature(node)) is not None:
                    only &= found_at.inputs[index] in recurrent.initial(node)
                elif node.op_type in moving:
                    pending.extend(node.outputs)
                else:
                    only = False
        if only:
            found.add(name)
    return found


def _reached(graph: ir.Graph) -> set[str]:
    """Graph inputs that the first values of recurrent nodes come from."""
    found: set[str] = set()
    for node in recurrent.recurrent_nodes(graph):
        for role, value in recurrent.inputs(node).items():
            if role in recurrent.initial(node):
                size = 0 if value.shape is None else len(value.shape)
                for axis in range(size or 3):
                    found |= set(origins(value, axis))
    return found


def _from_recurrence(graph: ir.Graph, name: str) -> bool:
    """Whether an output is the last state of a recurrent node, at most moved.

    The outputs of all steps are no last state, but one step of them is.
    """
    taking = {"Gather", "Slice", "Split"}
    moving = {"Concat", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "ScatterND"}
    moving |= taking | {"Cast"}
    pending = [(next(value for value in graph.outputs if value.name == name), False)]
    seen: set[ir.Node] = set()
    while pending:
        value, taken = pending.pop()
        node = value.producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        if recurrent.signature(node) is not None:
            single = value.shape is not None and value.shape[0] == 1
            if (
                taken
                or single
                or any(recurrent.outputs(node).get(r) is value for r in recurrent.final(node))
            ):
                return True
        elif node.op_type in moving:
            taken |= node.op_type in taking
            pending.extend((operand, taken) for operand in node.inputs if operand is not None)
    return False


def _fits(spec: InputSpec, value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    if onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) != spec.dtype:
        return False
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if len(sizes) != len(spec.shape):
        return False
    pairs = zip(sizes, spec.shape, strict=True)
    return all(a is None or not isinstance(b, int) or a == b for a, b in pairs)


def _words(name: str) -> list[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


def _stem(name: str) -> tuple[str, ...]:
    """A name without the words and marks of one side."""
    kept = [word for word in _words(name) if word not in _SIDES]
    if kept and (match := re.fullmatch(r"([hc])[nx0t]?0?(\d*)", kept[-1])):
        kept[-1] = match[1] + match[2]  # h01 and hn1 are one state, h0 and hn too
    return tuple(kept)


def _is_called_state(name: str) -> bool:
    return any(
        word in _STATES or re.fullmatch(r"[hc][nx0t]?\d*|(state|hidden|cache)\d*", word)
        for word in _words(name)
    )
