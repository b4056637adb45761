"""Trained torch modules to ONNX, checked before anything is written.

What comes out must pass onnx.checker, hold recurrent operators and compute what the module
computes.
"""

import inspect
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxgru.core import files
from onnxgru.core.entrypoint import load_entrypoint
from onnxgru.core.errors import ModelError, UsageError, VerificationError
from onnxgru.training.symbolic import OPERATORS, bidirectional, scanned
from onnxgru.training.trace import (
    Inputs,
    Layout,
    Module,
    Tensor,
    find_layout,
    import_torch,
    quiet,
    resized_inputs,
    run,
    trace,
)

MINIMUM_OPSET = 18
TOLERANCE = 1e-5
"""Largest accepted difference between torch and onnxruntime, relative to the largest output."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Parameters
    ----------
    path : pathlib.Path
        The ONNX file.
    difference : float
        Largest difference between onnxruntime's and torch's outputs, relative to the largest
        output; at most `TOLERANCE`.
    operators : tuple of str
        Operator of every recurrent node in the graph, such as ``GRU``: one per layer, with both
        directions; ``Scan`` for layers that step by torch's ``scan``.
    dynamic_batch, dynamic_time : bool
        Whether the graph takes any number of sequences, and of time steps.
    """

    path: Path
    difference: float
    operators: tuple[str, ...]
    dynamic_batch: bool
    dynamic_time: bool


def export(
    factory: str,
    output: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    shape: tuple[int, ...] | None = None,
    dynamic_time: bool = False,
    output_names: Sequence[str] | None = None,
    opset: int = MINIMUM_OPSET,
    seed: int = 0,
) -> Export:
    """Export the module that ``package.module:name`` makes.

    Parameters
    ----------
    factory : str
        Names a callable without arguments that returns an ``nn.Module``, or a tuple of it and
        its example inputs (a tensor or a tuple of tensors). The module may hold them as
        ``example_inputs`` instead.
    output : path
        The ONNX file to write; an existing one is replaced.
    weights : path, optional
        State dict written by ``torch.save``, alone or under "state_dict" or "model_state_dict".
        Without it the module is exported as the factory made it.
    shape : tuple of int, optional
        Shape of the only input, float32, batch included, instead of example inputs.
    dynamic_time, output_names, opset, seed
        As for :func:`export_module`.

    Returns
    -------
    Export
        Path, largest relative difference, recurrent operators.

    Raises
    ------
    UsageError
        If torch is not installed, the factory cannot be imported, or there are no inputs to
        trace the module with.
    ModelError
        If the factory fails or makes something else, the weights cannot be read safely or do not
        fit, or the module cannot be exported with its recurrent layers.
    VerificationError
        If onnxruntime disagrees with torch; nothing is written.
    OutputError
        If the file cannot be written.
    """
    torch = _import_exporter()
    module, inputs = _make(torch, factory, load_entrypoint(factory))
    if shape is not None:
        if inputs is not None and len(inputs) != 1:
            raise UsageError(
                f"{factory}: an input shape fits modules with one input, this one has {len(inputs)}"
            )
        if not shape or min(shape) < 1:
            raise UsageError(f"an input shape must be positive sizes such as 1,28,28, got {shape}")
        inputs = (torch.zeros(shape),)
    if inputs is None:
        raise UsageError(
            f"{factory}: must return (module, example inputs) or a module with example_inputs; "
            "or give the input's shape, such as --input-shape 1,28,28"
        )
    if weights is not None:
        _load_weights(torch, module, Path(weights))
    return export_module(
        module,
        inputs,
        output,
        dynamic_time=dynamic_time,
        output_names=output_names,
        opset=opset,
        seed=seed,
    )


def export_module(
    module: Module,
    inputs: Inputs,
    output: str | PathLike[str],
    *,
    dynamic_time: bool = False,
    output_names: Sequence[str] | None = None,
    opset: int = MINIMUM_OPSET,
    seed: int = 0,
) -> Export:
    """Export a torch module in its evaluation mode, with any batch size where it allows that.

    Parameters
    ----------
    module : torch.nn.Module
        Holds at least one recurrent layer of torch; put in evaluation mode, otherwise unchanged.
        The names of the graph's inputs are its `input_names`, or else those of the arguments of
        its ``forward``.
    inputs : tuple of torch.Tensor
        Example inputs, for shapes and types, and values of integer inputs.
    output : path
        The ONNX file to write, weights inside; an existing one is replaced.
    dynamic_time : bool
        Take any number of time steps too.
    output_names : sequence of str, optional
        Names of the graph's outputs, in order; "output", or "output_0", ... if left out.
    opset : int
        ONNX opset, 18 or above.
    seed : int
        Of the random inputs of the check.

    Returns
    -------
    Export
        Path, largest relative difference, recurrent operators.

    Raises
    ------
    UsageError
        If torch is not installed or too old, the opset too low, or names do not fit the outputs.
    ModelError
        If the module fails on its inputs or cannot be exported with its recurrent layers.
    VerificationError
        If onnxruntime's outputs differ from torch's by more than `TOLERANCE`, relative to the
        largest output; nothing is written.
    OutputError
        If the file cannot be written.
    """
    torch = _import_exporter()
    if opset < MINIMUM_OPSET:
        raise UsageError(f"the opset must be {MINIMUM_OPSET} or above, got {opset}")
    module.eval()
    with torch.no_grad(), quiet():
        names = _output_names(run(module, inputs), output_names)
        layout = find_layout(torch, module, inputs)
        static = Layout((None,) * len(inputs), (None,) * len(inputs))
        if dynamic_time and not any(axis is not None for axis in layout.time):
            raise ModelError(
                "a dynamic time needs an input with batch and time axes that reaches a recurrent "
                "layer, this module has none; leave it out"
            )
        if not dynamic_time:
            layout = Layout(layout.batch, static.time)
        sized = resized_inputs(torch, inputs, layout, batch=2)
        try:
            model = trace(torch, module, sized, layout, names=names, opset=opset)
        except ModelError as error:
            if dynamic_time:
                raise ModelError(f"{error}, or leave out --dynamic-time") from error
            if layout == static:
                raise
            # The module ties its code to one batch size: its own, then.
            layout = static
            model = trace(torch, module, inputs, layout, names=names, opset=opset)
        operators = _check_graph(model)
        _name_nodes(model)
        _name_scans(model, module)
        _name_inputs(model, _argument_names(module, len(inputs)))
        data = model.SerializeToString()
        difference = _largest_difference(torch, module, data, inputs, layout, seed=seed)
    if not difference <= TOLERANCE:
        raise VerificationError(
            f"{output}: onnxruntime must compute what torch does within {TOLERANCE:g} of the "
            f"largest output, they differ by {difference:.3g}; nothing was written, please report "
            "this with the module"
        )
    files.write(output, data)
    batched = any(axis is not None for axis in layout.batch)
    return Export(Path(output), difference, operators, batched, dynamic_time)


def _import_exporter() -> Any:
    torch = import_torch("exporting")
    if not hasattr(torch.onnx, "ops"):
        raise UsageError(
            f"exporting needs PyTorch 2.8 or newer, {torch.__version__} is installed; "
            "pip install --upgrade torch"
        )
    return torch


def _make(torch: Any, name: str, factory: Callable[..., Any]) -> tuple[Module, Inputs | None]:
    """Call a user's factory for a module and its example inputs."""
    try:
        made = factory()
    except Exception as error:  # a user's factory may raise anything
        raise ModelError(
            f"{name}: must return an nn.Module, it raised {type(error).__name__}: {error}"
        ) from error
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{name}: must return an nn.Module or (nn.Module, example inputs), "
            f"it returned a {type(made).__name__}"
        )
    if inputs is None:
        inputs = getattr(module, "example_inputs", None)
    if inputs is None:
        return module, None
    inputs = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    if not inputs or not all(isinstance(value, torch.Tensor) for value in inputs):
        raise ModelError(f"{name}: example inputs must be a tensor or a tuple of tensors")
    return module, inputs


def _load_weights(torch: Any, module: Module, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; name a state dict written by torch.save")
    try:
        with quiet():
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: must hold tensors only (a state dict), it holds other Python objects or is "
            "corrupt and is not loaded; store module.state_dict() with torch.save"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, ... on damage
        raise ModelError(
            f"{path}: must be a whole state dict written by torch.save, it is truncated or corrupt "
            f"({type(error).__name__}); store it again"
        ) from error
    for key in ("state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: must hold a state dict, it holds a {type(state).__name__}")
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [str(key) for key in state if key not in own]
    if missing or unknown:
        raise ModelError(
            f"{path}: must hold the module's parameters, missing: {_few(missing)}; "
            f"not in the module: {_few(unknown)}; use the factory these weights were trained with"
        )
    misfits = [
        f"{key} {tuple(getattr(state[key], 'shape', ()))} for {tuple(value.shape)}"
        for key, value in own.items()
        if getattr(state[key], "shape", None) != value.shape
    ]
    if misfits:
        raise ModelError(
            f"{path}: must hold parameters of the module's shapes, it holds {_few(misfits)}; "
            "use the factory these weights were trained with"
        )
    module.load_state_dict(state)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) or "none"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _output_names(outputs: list[Tensor], names: Sequence[str] | None) -> list[str]:
    if names is None:
        count = len(outputs)
        return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    if len(names) != len(outputs):
        raise UsageError(
            f"output names must be one for each of {len(outputs)} outputs, got {', '.join(names)}"
        )
    return list(names)


def _recurrent(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes that step through time."""
    known = {operator.name for operator in OPERATORS} | {"Scan"}
    return [node for node in model.graph.node if node.op_type in known]


def _check_graph(model: onnx.ModelProto) -> tuple[str, ...]:
    """Check the model's form; return the operators of its recurrent nodes."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported graph must pass onnx.checker, it does not: {error}") from (
            error
        )
    nodes = _recurrent(model)
    if not nodes:
        raise ModelError(
            "the exported graph must hold a recurrent operator, it has none: torch wrote it out "
            "as other operators; give the layer plain tensors with a batch axis"
        )
    for node in nodes:
        wanted = next((o.attributes for o in OPERATORS if o.name == node.op_type), {})
        found = {attribute.name: attribute.i for attribute in node.attribute}
        for name, value in wanted.items():
            if found.get(name, 0) != value:
                raise ModelError(
                    f"node {node.name!r}: torch's {node.op_type} is {name}={value}, torch wrote "
                    f"{found.get(name, 0)}; use a newer torch"
                )
    return tuple(node.op_type for node in nodes)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Name nodes after their modules: ``gru``, or ``gru.0``, ``gru.1`` for stacked layers."""
    nodes = [node for node in _recurrent(model) if node.op_type != "Scan"]
    owners = [node.input[1].rsplit(".W_l", 1) for node in nodes]
    if any(len(owner) != 2 for owner in owners):  # weights that are no parameters of a layer
        return
    layers = Counter(owner for owner, _ in owners)
    names = [owner if layers[owner] == 1 else f"{owner}.{layer}" for owner, layer in owners]
    if len(set(names)) == len(names):
        for node, name in zip(nodes, names, strict=True):
            node.name = name


def _name_scans(model: onnx.ModelProto, module: Module) -> None:
    """Name ``Scan`` nodes after the layers that step by torch's scan: forward, then reverse."""
    nodes = [node for node in model.graph.node if node.op_type == "Scan"]
    names = []
    for name, layer in module.named_modules():
        if layer in scanned(module):
            own = name or "layer"
            names += [own, f"{own}.reverse"] if bidirectional(layer) else [own]
    if len(names) == len(nodes):
        for node, name in zip(nodes, names, strict=True):
            node.name = name


def _argument_names(module: Module, size: int) -> list[str | None]:
    """Names for the graph's inputs: the module's `input_names`, or ``forward``'s arguments."""
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names: list[str | None] = list(getattr(module, "input_names", None) or ())
    names = names or [p.name for p in parameters if p.kind in named]
    return [*names, *[None] * size][:size]


def _name_inputs(model: onnx.ModelProto, names: Sequence[str | None]) -> None:
    """Give inputs their names back: torch calls one that is handed through ``y_orig``."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    for value, name in zip(graph.input, names, strict=False):
        if name is None or name == value.name or name in outputs:
            continue
        taken = {other.name for other in graph.input} | {t.name for t in graph.initializer}
        taken |= {made for node in graph.node for made in node.output}
        if name in taken:
            _rename(graph, name, next(n for i in count() if (n := f"{name}_{i}") not in taken))
        _rename(graph, value.name, name)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value wherever it is made and read."""
    for value in (*graph.input, *graph.initializer, *graph.value_info):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)


def _largest_difference(
    torch: Any, module: Module, data: bytes, inputs: Inputs, layout: Layout, *, seed: int
) -> float:
    """Largest difference between torch and onnxruntime, relative to the largest output.

    Sizes other than the traced ones are tried too, where the graph allows them.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no public base class
        raise ModelError(f"onnxruntime must load the exported graph, it does not: {error}") from (
            error
        )
    names = [value.name for value in session.get_inputs()]
    steps = next((int(inputs[i].shape[a]) for i, a in enumerate(layout.time) if a is not None), 0)
    worst = 0.0
    for batch, time in ((2, None), (3, steps + 3), (1, max(1, steps - 1))):
        given = resized_inputs(
            torch,
            inputs,
            layout,
            batch=batch,
            time=time if steps else None,
            seed=seed + batch,
        )
        other = steps > 0 and time is not None
        try:
            expected = [value.numpy() for value in run(module, given)]
        except ModelError as error:
            if not other:
                raise
            raise ModelError(
                f"the module must take any number of time steps for --dynamic-time, it does not "
                f"take {time} ({error}); leave out --dynamic-time"
            ) from error
        feeds = {name: value.numpy() for name, value in zip(names, given, strict=True)}
        try:
            actual = session.run(None, feeds)
        except Exception as error:
            shapes = ", ".join(str(value.shape) for value in feeds.values())
            hint = f"; torch fixed {steps} time steps, so leave out --dynamic-time" if other else ""
            raise ModelError(
                f"onnxruntime must run the exported graph on inputs of shape {shapes}, "
                f"it does not ({' '.join(str(error).split())[:200]}){hint}"
            ) from error
        for ours, theirs in zip(actual, expected, strict=True):
            worst = max(worst, _relative_difference(ours, theirs))
    return worst


def _relative_difference(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(expected.astype(np.float64)).max(initial=0.0))
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    figure = float(difference.max(initial=0.0)) / (largest or 1.0)
    return figure if np.isfinite(figure) else float("inf")
