"""Eliminated operations of an emitted delta network, counted in the graph itself.

A graph in scan form carries the last propagated value of each operand. A copy of the graph outputs
this value at every step. An element that differs from the step before has been propagated.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxgru.core.program import IntegerProgram
from onnxgru.custom_ops.kinds.delta import Delta
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.passes.emission.functions import inlined
from onnxgru.passes.lowering.delta import HELD
from onnxgru.runtime.sessions import onnxruntime_session

Array = npt.NDArray[Any]

NOTE = "onnxgru.delta"
"""Metadata key of a delta network: multiplications of every matrix product, as JSON."""

ALL, MASK = "/all", "/mask/step"


def note(program: IntegerProgram) -> dict[str, Any] | None:
    """The metadata `NOTE` of a program's graph; None if the program is no delta network.

    Returns
    -------
    dict
        ``operands``: multiplications per element of each operand with a threshold, by name.
        ``others``: multiplications per step of the other products of recurrent layers. Dense layers
        count in neither, because they have no step before.
    """
    operators = [
        operator
        for layer in program.layers
        if layer.carries
        for recurrence in layer.recurrences
        for operator in recurrence.operators
    ]
    sources = {o.name: o.inputs[0] for o in operators if isinstance(o, Delta)}
    if not sources:
        return None
    operands, others = dict.fromkeys(sources.values(), 0), 0
    for operator in operators:
        if isinstance(operator, Linear):
            (read,) = operator.inputs
            if read in sources:
                operands[sources[read]] += sum(operator.widths)
            else:
                others += operator.macs
    return {"operands": operands, "others": others}


@dataclass(frozen=True)
class _Place:
    """Where a graph shows an operand: names of its outputs."""

    every: str
    first: str
    mask: str | None


def share(model: onnx.ModelProto, calls: Iterable[tuple[Mapping[str, Array], int]]) -> float | None:
    """Share of the multiplications that an emitted graph eliminates, 0 to 1.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph.
    calls : iterable of (mapping of str to ndarray, int)
        Inputs of every call, and how many of its sequences count.

    Returns
    -------
    float or None
        None if the graph is no delta network, or has another form than scan.
    """
    noted = next((e.value for e in model.metadata_props if e.key == NOTE), None)
    if noted is None:
        return None
    multiplications: dict[str, int] = json.loads(noted)["operands"]
    others: int = json.loads(noted)["others"]
    shown, places = _shown(model)
    if places.keys() != multiplications.keys():
        return None
    run = onnxruntime_session(shown)
    total = needed = 0
    for inputs, count in calls:
        outputs = run(dict(inputs))
        steps = 0
        for name, place in places.items():
            codes, before = outputs[place.every][:, :count], outputs[place.first][None, :count]
            moved = np.count_nonzero(codes != np.concatenate([before, codes[:-1]]))
            mask = None if place.mask is None else outputs[place.mask][:, :count]
            steps = codes[..., 0].size if mask is None else int(mask.sum())
            total += steps * codes.shape[-1] * multiplications[name]
            needed += int(moved) * multiplications[name]
        total += steps * others
        needed += steps * others
    return 1 - needed / max(1, total)


def _shown(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, _Place]]:
    """A copy whose outputs show the operands that its scans carry, and their names by operand."""
    copy = inlined(model)
    places: dict[str, _Place] = {}
    wanted: dict[str, int] = {}
    for node in copy.graph.node:
        if node.op_type != "Scan":
            continue
        body = next(a.g for a in node.attribute if a.name == "body")
        states = len(node.input) - next(a.i for a in node.attribute if a.name == "num_scan_inputs")
        masks = [i for i, value in enumerate(body.input) if value.name.endswith(MASK)]
        for index, value in enumerate(list(body.input)[:states]):
            if not value.name.endswith(HELD):
                continue
            name = value.name.removesuffix(HELD)
            kind = value.type.tensor_type.elem_type
            following = body.output[index].name
            body.node.append(helper.make_node("Identity", [following], [f"{name}{ALL}"]))
            body.output.append(helper.make_tensor_value_info(f"{name}{ALL}", kind, None))
            node.output.append(f"{name}{ALL}")
            mask = node.input[masks[0]] if masks else None
            places[name] = _Place(f"{name}{ALL}", node.input[index], mask)
            wanted |= {places[name].every: kind, places[name].first: kind}
            wanted |= {} if mask is None else {mask: onnx.TensorProto.UINT8}
    known = {value.name for value in copy.graph.output}
    for output, kind in wanted.items():
        if output not in known:
            copy.graph.output.append(helper.make_tensor_value_info(output, kind, None))
    return copy, places
