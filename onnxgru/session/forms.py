"""Forms of the recurrence that a model or its data do not allow, refused before any work."""

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from onnxgru.core.errors import DataError, ModelError
from onnxgru.core.network import Layer
from onnxgru.data.dataset import Recorded, Signature
from onnxgru.events import Listener, Notice
from onnxgru.passes.emission.decompose import Decompose
from onnxgru.passes.forms.batch import Batch
from onnxgru.passes.forms.form import Form, length
from onnxgru.passes.forms.start import Start
from onnxgru.passes.forms.step import Step, time_axes
from onnxgru.passes.graph.values import named

NODES = 54
"""Nodes of one unrolled step of one direction of a layer, about: 49 to 59 were counted."""

BYTES = 78
"""Bytes of a node in a file, about."""

MANY = 20_000
"""Nodes that are worth a warning: onnxruntime loads 24,000 in 6 s, 72,000 in a minute or more."""


def cut(
    model: ir.Model, layers: Sequence[Layer], form: Form, signature: Signature = ()
) -> ir.Model:
    """Copy of a normalised model that takes the steps and the batch of a form."""
    clone = model.clone()
    if form.batch is not None:
        axes = {s.name: s.batch_axis for s in signature if s.batch_axis is not None and not s.bare}
        Batch(axes, form.batch)(clone)
    if form.name == "step":
        Start(layers)(clone)
    Step(layers, form.length)(clone)
    return clone


def check(
    model: ir.Model, layers: Sequence[Layer], form: Form, listener: Listener
) -> dict[str, int] | None:
    """Refuse a form that a model does not have; time axes of the inputs in step form.

    Parameters
    ----------
    model : onnx_ir.Model
        Normalised.
    layers : sequence of Layer
        Its layers.
    form : Form
        What is wanted.
    listener : callable
        Is told of a graph that is very large.

    Raises
    ------
    ModelError
        If a layer has no step form, or an unrolled one no fixed number of steps.
    """
    if form.name == "scan":
        return None
    clone = cut(model, layers, form)
    if form.name == "step":
        Decompose(layers, form)(clone)
        return time_axes(model.graph, layers)
    values = named(clone.graph)
    steps = sum(
        len(layer.recurrences) * length(form, layer.name, values.get(layer.ports.x))
        for layer in layers
        if layer.recurrent
    )
    nodes = NODES * steps
    if nodes > MANY:
        listener(
            Notice(
                f"--recurrence unrolled makes a graph of about {nodes:,} nodes "
                f"({BYTES * nodes / 1e6:.1f} MB beside the weights), which runtimes take long to "
                "load; scan and step compute the same codes and do not grow with the steps"
            )
        )
    return None


def check_batch(form: Form, batch: int | None) -> None:
    """Refuse another batch than the model has.

    Raises
    ------
    ModelError
        If the model takes a fixed number of recordings per call, and that is another one.
    """
    if form.batch is not None and batch is not None and form.batch != batch:
        raise ModelError(
            f"--batch {form.batch}: the model itself takes {batch} recording"
            f"{'s' if batch > 1 else ''} per call; leave out --batch, or export the model with a "
            "free batch axis"
        )


def steps(graph: ir.Graph, layers: Sequence[Layer], data: Iterable[Recorded]) -> int:
    """Steps of the longest recording in one call.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Normalised.
    layers : sequence of Layer
        Its layers.
    data : iterable of Dataset or Corpus
        The recordings.

    Returns
    -------
    int
        0 where no input has an axis that is known to be that of time.
    """
    try:
        axes = time_axes(graph, layers)
    except ModelError:
        axes = {}
    parts = [part for recorded in data for part in recorded.parts]
    lengths = (part.inputs[name].shape[axis] for part in parts for name, axis in axes.items())
    return max(lengths, default=0)


def check_data(
    graph: ir.Graph, layers: Sequence[Layer], form: Form, data: Iterable[Recorded]
) -> None:
    """Refuse recordings that an unrolled graph cannot run.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Normalised.
    layers : sequence of Layer
        Its layers.
    form : Form
        What is wanted.
    data : iterable of Dataset or Corpus
        What the graph will be judged on.

    Raises
    ------
    DataError
        If recordings have another number of steps.
    """
    if form.name != "unrolled" or form.steps is None:
        return
    try:
        axes = time_axes(graph, layers)
    except ModelError:
        return  # nothing is known of their length; where it is another one, verification says so
    for part in (part for recorded in data for part in recorded.parts):
        for name, axis in axes.items():
            steps = part.inputs[name].shape[axis]
            if steps != form.steps:
                raise DataError(
                    f"{part.source}: input {name} must have the {form.steps} steps of the unrolled "
                    f"graph, it has {steps}; give --steps {steps}, or recordings of {form.steps} "
                    "steps"
                )
