"""torch's recurrent layers as operators of ONNX, while they are traced."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxgru.core.errors import ModelError

Module = Any  # torch.nn.Module, which is not imported before it is needed
Tensor = Any


@dataclass(frozen=True)
class TorchLayer:
    """How a class of torch's layers is written in ONNX.

    Parameters
    ----------
    name : str
        Of the operator, and of the class in ``torch.nn``.
    gates : tuple of int
        torch's gates in ONNX's order.
    carries : int
        Values that it keeps from step to step.
    attributes : mapping
        That torch's layer always has.
    """

    name: str
    gates: tuple[int, ...]
    carries: int = 1
    attributes: Mapping[str, int] = field(default_factory=dict)


OPERATORS = (
    TorchLayer("GRU", (1, 0, 2), attributes={"linear_before_reset": 1}),
    TorchLayer("LSTM", (0, 3, 1, 2), carries=2),
    TorchLayer("RNN", (0,)),
)
"""Those of ``torch.nn``."""


def recurrent(module: Module) -> list[Module]:
    """Recurrent layers in a module: torch's, and others that say how they lie in time."""
    return [
        child
        for child in module.modules()
        if hasattr(child, "batch_first") and hasattr(child, "hidden_size")
    ]


def scanned(module: Module) -> list[Module]:
    """Recurrent layers in a module that are none of torch's."""
    known = {operator.name for operator in OPERATORS}
    return [
        layer
        for layer in recurrent(module)
        if known.isdisjoint(kind.__name__ for kind in type(layer).__mro__)
    ]


def bidirectional(layer: Module) -> bool:
    """Whether a layer runs in both directions."""
    return bool(getattr(layer, "bidirectional", False))


@contextlib.contextmanager
def symbolic_layers(torch: Any, module: Module) -> Iterator[None]:
    """Trace every plain layer of ``torch.nn`` as ONNX operators while the context lasts.

    Raises
    ------
    ModelError
        If a layer has no such form.
    """
    plain = [
        (layer, operator)
        for layer in recurrent(module)
        for operator in OPERATORS
        if type(layer).forward is getattr(torch.nn, operator.name).forward
        and "forward" not in vars(layer)
    ]
    buffers: list[tuple[Module, str]] = []
    try:
        for layer, operator in plain:
            if getattr(layer, "proj_size", 0):
                raise ModelError(
                    "an nn.LSTM with proj_size has no ONNX operator; put the projection behind "
                    "the layer, or leave proj_size out"
                )
            for number in range(layer.num_layers):
                for letter, value in _weights(torch, layer, operator, number).items():
                    name = f"{letter}_l{number}"
                    layer.register_buffer(name, value, persistent=False)
                    buffers.append((layer, name))
            layer.forward = _forward(torch, layer, operator)
        yield
    finally:
        for layer, name in buffers:
            delattr(layer, name)
        for layer, _ in plain:
            if "forward" in vars(layer):
                del layer.forward


def _weights(torch: Any, layer: Module, operator: TorchLayer, number: int) -> dict[str, Tensor]:
    """W (D, G H, I), R (D, G H, H) and B (D, 2 G H) of one of a module's layers."""

    def stacked(kind: str) -> Tensor:
        directions = []
        for suffix in ("", "_reverse")[: 1 + layer.bidirectional]:
            gates = getattr(layer, f"{kind}_l{number}{suffix}").detach().chunk(len(operator.gates))
            directions.append(torch.cat([gates[place] for place in operator.gates]))
        return torch.stack(directions)

    weights = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if layer.bias:
        weights["B"] = torch.cat((stacked("bias_ih"), stacked("bias_hh")), dim=1)
    return weights


def _attributes(layer: Module, operator: TorchLayer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "direction": "bidirectional" if layer.bidirectional else "forward",
        "hidden_size": layer.hidden_size,
        **operator.attributes,
    }
    if getattr(layer, "nonlinearity", "tanh") == "relu":
        found["activations"] = ["Relu"] * (1 + layer.bidirectional)
    return found


def _forward(torch: Any, layer: Module, operator: TorchLayer) -> Callable[..., Any]:
    """``layer.forward`` in terms of ONNX operators; what they cannot hold stays torch's."""
    original = layer.forward
    directions = 1 + layer.bidirectional
    several = operator.carries > 1

    def forward(input: Any, hx: Any = None) -> Any:  # named as in torch: callers use keywords
        if not isinstance(input, torch.Tensor) or input.dim() != 3:
            return original(input, hx)  # packed or unbatched
        sequence = input.transpose(0, 1) if layer.batch_first else input
        steps, batch, _ = sequence.shape
        state = (directions, batch, layer.hidden_size)
        given = () if hx is None else tuple(hx) if several else (hx,)
        last: list[tuple[Tensor, ...]] = []
        for number in range(layer.num_layers):
            arguments = [sequence, getattr(layer, f"W_l{number}"), getattr(layer, f"R_l{number}")]
            arguments.append(getattr(layer, f"B_l{number}") if layer.bias else None)
            if given:
                first = number * directions
                whole = layer.num_layers == 1
                arguments.append(None)
                arguments += [h if whole else h[first : first + directions] for h in given]
            hidden, *final = torch.onnx.ops.symbolic_multi_out(
                operator.name,
                arguments,
                attrs=_attributes(layer, operator),
                dtypes=(input.dtype,) * (1 + operator.carries),
                shapes=((steps, *state[:2], layer.hidden_size), *[state] * operator.carries),
            )
            if directions == 1:
                sequence = hidden.squeeze(1)
            else:
                sequence = hidden.transpose(1, 2).flatten(2)
            last.append(tuple(final))
        output = sequence.transpose(0, 1) if layer.batch_first else sequence
        ends = tuple(
            parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*last, strict=True)
        )
        return output, ends if several else ends[0]

    return forward
