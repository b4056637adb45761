"""Tracing a torch module whose recurrent layers become ONNX operators.

torch's exporter fixes the number of time steps of an ``nn.GRU`` (2.13), and wrote it without
``linear_before_reset`` in 2.9 and 2.10. Here each ``nn.GRU``, ``nn.LSTM`` and ``nn.RNN`` is
therefore traced as operators of ONNX, one per layer (`onnxgru.training.symbolic`); torch exports
everything around it. A module of one's own that steps by torch's ``scan`` becomes a ``Scan``.
"""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from onnxgru.core import install
from onnxgru.core.errors import ModelError, UsageError
from onnxgru.training.symbolic import bidirectional, recurrent, symbolic_layers

BATCH, TIME = "batch", "time"

Module = Any  # torch.nn.Module, which is not imported before it is needed
Tensor = Any
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Layout:
    """Axes of the module's inputs.

    Parameters
    ----------
    batch, time : tuple of int or None
        Axis of the sequences, and of the time steps, for each input; None where there is none.
    """

    batch: tuple[int | None, ...]
    time: tuple[int | None, ...]


def import_torch(purpose: str) -> Any:
    """Import PyTorch, which is optional and slow to load.

    Parameters
    ----------
    purpose : str
        What needs it, for the message: "exporting".

    Returns
    -------
    module
        ``torch``.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
    except ImportError as error:
        raise UsageError(
            f"{purpose} needs PyTorch, which is not installed; {install.hint('torch')}"
        ) from error
    return torch


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what torch's exporter says about its own workings: warnings and log lines."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.export")]
    loggers += [
        logging.getLogger(name)
        for name in list(logging.root.manager.loggerDict)
        if name.startswith(("torch.", "onnxscript", "onnx_ir"))
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def run(module: Module, inputs: Inputs) -> list[Tensor]:
    """Call a module; its outputs in one list, in the order of the graph's.

    Raises
    ------
    ModelError
        If the module raises anything.
    """
    try:
        outputs = module(*inputs)
    except Exception as error:  # a user's module may raise anything
        shapes = ", ".join(str(tuple(value.shape)) for value in inputs)
        raise ModelError(
            f"the module must run on inputs of shape {shapes}, it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    flat: list[Tensor] = []
    _flatten(outputs, flat)
    return flat


def _flatten(value: object, into: list[Tensor]) -> None:
    """Tensors of nested tuples, lists and dicts in the order in which torch exports them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _flatten(item, into)
    elif value is not None:
        into.append(value)


def find_layout(torch: Any, module: Module, inputs: Inputs) -> Layout:
    """Find the batch axis by trying: the axis whose doubling doubles the layers' batch.

    Parameters
    ----------
    torch : module
        See :func:`import_torch`.
    module : torch.nn.Module
        In evaluation mode.
    inputs : tuple of torch.Tensor
        The first one is the sequence; others shaped like a layer's state are taken for states.

    Returns
    -------
    Layout
        All None where neither axis 0 nor axis 1 of the first input is the batch.

    Raises
    ------
    ModelError
        If there is no recurrent layer, or the module fails on its inputs as they are.
    """
    layers = recurrent(module)
    if not layers:
        raise ModelError(
            "the module must hold at least one torch.nn.GRU, LSTM or RNN, or a layer of its own "
            "that has batch_first and hidden_size and steps by torch's scan, it has none; steps "
            "written out by hand do not become one"
        )
    states = {
        (getattr(layer, "num_layers", 1) * (1 + bidirectional(layer)), layer.hidden_size)
        for layer in layers
    }
    single = _batch_sizes(torch, module, inputs)
    for axis in (0, 1):
        batch: list[int | None] = []
        time: list[int | None] = []
        for index, value in enumerate(inputs):
            shape = tuple(value.shape)
            state = index > 0 and len(shape) == 3 and (shape[0], shape[2]) in states
            batch.append(1 if state else axis if len(shape) > axis else None)
            time.append(None if state or len(shape) < 2 else 1 - axis)
        if batch[0] is None:
            continue
        layout = Layout(tuple(batch), tuple(time))
        size = int(inputs[0].shape[axis])
        doubled = resized_inputs(torch, inputs, layout, batch=2 * size)
        try:
            sizes = _batch_sizes(torch, module, doubled)
        except ModelError:  # this axis is not free
            continue
        if single and sizes == [2 * count for count in single]:
            return layout
    return Layout((None,) * len(inputs), (None,) * len(inputs))


def _batch_sizes(torch: Any, module: Module, inputs: Inputs) -> list[int]:
    """Sequences that each call of a recurrent layer gets."""
    sizes: list[int] = []

    def note(layer: Module, arguments: tuple[Any, ...]) -> None:
        value = arguments[0] if arguments else None
        if isinstance(value, torch.Tensor) and value.dim() == 3:
            sizes.append(int(value.shape[0 if layer.batch_first else 1]))

    hooks = [layer.register_forward_pre_hook(note) for layer in recurrent(module)]
    try:
        run(module, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def resized_inputs(
    torch: Any,
    inputs: Inputs,
    layout: Layout,
    *,
    batch: int,
    time: int | None = None,
    seed: int | None = None,
) -> Inputs:
    """Give inputs another batch size (and length), where the layout has such axes.

    Parameters
    ----------
    torch : module
        See :func:`import_torch`.
    inputs : tuple of torch.Tensor
        Any shapes.
    layout : Layout
        Their axes.
    batch : int
        Number of sequences.
    time : int, optional
        Number of time steps; as it is if left out.
    seed : int, optional
        Draws floating inputs from a standard normal distribution; values are repeated without
        it, and those of integer inputs always.

    Returns
    -------
    tuple of torch.Tensor
        New tensors where anything changed.
    """
    generator = torch.Generator().manual_seed(seed or 0)
    resized = []
    for value, batch_axis, time_axis in zip(inputs, layout.batch, layout.time, strict=True):
        for axis, size in ((batch_axis, batch), (time_axis, time)):
            if axis is not None and size is not None:
                indices = torch.arange(size) % value.shape[axis]
                value = value.index_select(axis, indices)  # noqa: PLW2901 - next axis, same input
        if seed is not None and value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value = drawn.to(value.dtype)  # noqa: PLW2901 - the same input, drawn anew
        resized.append(value)
    return tuple(resized)


def trace(
    torch: Any,
    module: Module,
    inputs: Inputs,
    layout: Layout,
    *,
    names: list[str],
    opset: int,
) -> onnx.ModelProto:
    """Export a module whose recurrent layers become ONNX operators.

    Parameters
    ----------
    torch : module
        See :func:`import_torch`.
    module : torch.nn.Module
        In evaluation mode; the same afterwards. May hold `input_names`, a list, for the graph.
    inputs : tuple of torch.Tensor
        At least two sequences where the batch is to be free: torch takes a size of 1 for fixed.
    layout : Layout
        The axes that are to be free, named "batch" and "time".
    names : list of str
        Of the outputs.
    opset : int
        18 or above.

    Returns
    -------
    onnx.ModelProto
        Weights inside, without torch's notes on its origin.

    Raises
    ------
    ModelError
        If torch cannot export it so.
    """
    batch, time = torch.export.Dim(BATCH), torch.export.Dim(TIME)
    dimensions: tuple[Any, ...] = tuple(
        {axis: name for axis, name in ((b, batch), (t, time)) if axis is not None}
        for b, t in zip(layout.batch, layout.time, strict=True)
    )
    parameters = list(inspect.signature(module.forward).parameters.values())
    for place, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:  # one nest for all of *args
            dimensions = (*dimensions[:place], dimensions[place:])
    try:
        with symbolic_layers(torch, module):
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=dimensions,
                input_names=getattr(module, "input_names", None),
                output_names=names,
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch raises its own errors and passes on those of the module
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        line = str(cause).strip().splitlines() or [""]
        raise ModelError(
            f"the module must be exportable by torch.onnx.export, it is not "
            f"({type(cause).__name__}: {line[0][:300]}); make its shapes independent of values"
        ) from error
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove torch's notes, which hold stack traces with the paths of this machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        values = (*graph.input, *graph.output, *graph.value_info)
        for owner in (graph, *graph.node, *graph.initializer, *values):
            del owner.metadata_props[:]
            owner.doc_string = ""
        pending += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
