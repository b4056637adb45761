"""The float graph around recurrent layers in torch, so that gradients pass through it.

One function per operator of ONNX; weights of products and what is added to them are trained along.
What needs no gradient is computed by onnxruntime where no function is here.
"""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxgru.training.gradients import Computed, as_arrays, flow, needed, reads

Tensor = Any
Attributes = Mapping[str, Any]

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_DISTRIBUTIONS = ("Softmax", "LogSoftmax")


def require_gradients(model: onnx.ModelProto, layers: Container[str], output: str) -> None:
    """Check that gradients can pass from an output to the layers.

    Parameters
    ----------
    model : onnx.ModelProto
        Normalised.
    layers : container of str
        Names of the recurrent nodes that are trained.
    output : str
        The output that is trained for.

    Raises
    ------
    UsageError
        If an operator that must pass gradients on is not known here.
    """
    flow(model, layers, _FUNCTIONS, output)


class HostGraph:
    """A normalised model whose recurrent nodes are given.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    layers : mapping of str to callable
        By node name: from the values of the graph by name to those that the layer makes.
    output : str
        The output that is trained for.

    Raises
    ------
    UsageError
        If the output depends on an operator that gradients are not known of here.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Mapping[str, Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]],
        output: str,
    ) -> None:
        import torch

        self._torch = torch
        self._layers = layers
        graph = model.graph
        producers = {name: node for node in graph.node for name in node.output}
        self.output = output
        last = producers.get(output)
        self.distribution = "" if last is None else _distribution(last, graph, output)
        """Softmax or LogSoftmax, if the output is one over its last axis: what is computed are its
        logits then."""
        if last is not None and self.distribution:
            self.output = last.input[0]
        self._flow = flow(model, layers, _FUNCTIONS, output)
        self._nodes = needed(graph.node, self.output)
        self._computed = Computed(model)
        read = {name for node in self._nodes for name in reads(node)}
        self._constants = {
            tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
            for tensor in graph.initializer
            if tensor.name in read and tensor.data_type != onnx.TensorProto.STRING
        }
        self.trained = {
            name: self._constants[name].requires_grad_() for name in self._weights(producers)
        }
        """Float weights of the graph that are trained, by initializer."""

    def _weights(self, producers: Mapping[str, onnx.NodeProto]) -> list[str]:
        """Initializers that are weights of products, or biases added to products."""
        found = []
        for node in self._nodes:
            made = (producers.get(name) for name in node.input)
            biased = node.op_type == "Add" and any(n and n.op_type in _PRODUCTS for n in made)
            if node.op_type in _PRODUCTS or biased:
                found += [name for name in node.input if name in self._constants]
        return [
            name
            for name in dict.fromkeys(found)
            if self._constants[name].is_floating_point() and name not in self._flow.frozen
        ]

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        """The output, or its logits, for a batch of inputs."""
        values: dict[str, Tensor] = {
            name: self._torch.from_numpy(np.ascontiguousarray(array))
            for name, array in inputs.items()
        }
        values = self._constants | values
        for node in self._nodes:
            if node.output[0] in self._flow.computed:
                arrays = self._computed(node, as_arrays(values, reads(node)))
                made = [self._torch.from_numpy(np.array(array)) for array in arrays]
                values.update(zip((name for name in node.output if name), made, strict=True))
                continue
            if node.name in self._layers:
                values.update(self._layers[node.name](values))
                continue
            operands = [values[name] if name else None for name in node.input]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            found = _FUNCTIONS[node.op_type](self._torch, attributes, *operands)
            results: Sequence[Tensor] = found if isinstance(found, tuple | list) else (found,)
            values.update((n, r) for n, r in zip(node.output, results, strict=False) if n)
        return values[self.output]


def _distribution(node: onnx.NodeProto, graph: onnx.GraphProto, output: str) -> str:
    """Name of a softmax over the last axis, else nothing."""
    value = next(value for value in graph.output if value.name == output)
    last = len(value.type.tensor_type.shape.dim) - 1
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    return node.op_type if node.op_type in _DISTRIBUTIONS and axis in (-1, last) else ""


def _axes(attributes: Attributes, axes: Tensor | None) -> list[int] | None:
    """Axes as an input (newer opsets) or as an attribute."""
    if axes is not None:
        return [int(axis) for axis in axes.reshape(-1)]
    given = attributes.get("axes")
    return None if given is None else list(given)


def _gemm(torch: Any, a: Attributes, x: Tensor, w: Tensor, c: Tensor | None = None) -> Tensor:
    x = x.t() if a.get("transA") else x
    w = w.t() if a.get("transB") else w
    product = a.get("alpha", 1.0) * torch.matmul(x, w)
    return product if c is None else product + a.get("beta", 1.0) * c


def _conv(torch: Any, a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = w.dim() - 2
    strides = list(a.get("strides", [1] * rank))
    dilations = list(a.get("dilations", [1] * rank))
    pads = list(a.get("pads", [0] * 2 * rank))
    automatic = a.get("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME"):
        spans = [(size - 1) * d + 1 for size, d in zip(w.shape[2:], dilations, strict=True)]
        totals = [
            max((math.ceil(size / stride) - 1) * stride + span - size, 0)
            for size, stride, span in zip(x.shape[2:], strides, spans, strict=True)
        ]
        smaller, larger = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = smaller + larger if automatic == "SAME_UPPER" else larger + smaller
    padding = [p for axis in range(rank - 1, -1, -1) for p in (pads[axis], pads[axis + rank])]
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    padded = torch.nn.functional.pad(x, padding)
    return convolve(padded, w, b, strides, 0, dilations, a.get("group", 1))


def _squeeze(_torch: Any, a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = _axes(a, axes)
    return x.squeeze() if given is None else x.squeeze(tuple(given))


def _unsqueeze(_torch: Any, a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = _axes(a, axes) or []
    rank = x.dim() + len(given)
    for axis in sorted(axis % rank for axis in given):
        x = x.unsqueeze(axis)
    return x


def _reshape(_torch: Any, a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = [int(size) for size in shape]
    if not a.get("allowzero"):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(_torch: Any, a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _slice(
    torch: Any,
    _a: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    chosen = range(len(starts)) if axes is None else [int(axis) for axis in axes]
    strides = [1] * len(starts) if steps is None else [int(step) for step in steps]
    for axis, start, end, step in zip(chosen, starts, ends, strides, strict=True):
        places = range(x.shape[axis])[slice(int(start), int(end), step)]
        x = torch.index_select(x, axis, torch.tensor(list(places), dtype=torch.long))
    return x


def _gather(torch: Any, a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.dim()
    places = torch.where(indices < 0, indices + x.shape[axis], indices)
    found = torch.index_select(x, axis, places.reshape(-1).long())
    return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _split(torch: Any, a: Attributes, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = a.get("axis", 0)
    if sizes is not None:
        return list(torch.split(x, [int(size) for size in sizes], dim=axis))
    return list(torch.chunk(x, a["num_outputs"], dim=axis))


def _reduced(name: str) -> Callable[..., Tensor]:
    def reduce(torch: Any, a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = _axes(a, axes)
        if not chosen and a.get("noop_with_empty_axes"):
            return x
        chosen = chosen or list(range(x.dim()))
        return getattr(torch, name)(x, dim=tuple(chosen), keepdim=bool(a.get("keepdims", 1)))

    return reduce


def _div(torch: Any, _a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    """Of whole numbers a whole number, towards zero."""
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


def _shape(torch: Any, a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[a.get("start", 0) : a.get("end")])


def _clip(torch: Any, _a: Attributes, x: Tensor, *limits: Tensor | None) -> Tensor:
    low, high = [*limits, None, None][:2]
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _normalized(
    torch: Any,
    a: Attributes,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
) -> Tensor:
    """As in inference: what was measured in training stays."""
    return torch.nn.functional.batch_norm(
        x, mean, variance, scale, bias, training=False, eps=a.get("epsilon", 1e-5)
    )


def _layer_normalized(
    torch: Any, a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Of the first output alone: mean and deviation are for training."""
    axis = a.get("axis", -1) % x.dim()
    shape = x.shape[axis:]
    scale = scale.expand(shape)
    bias = None if bias is None else bias.expand(shape)
    return torch.nn.functional.layer_norm(x, shape, scale, bias, eps=a.get("epsilon", 1e-5))


def _hard_sigmoid(torch: Any, a: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)


def _cast(_torch: Any, a: Attributes, x: Tensor) -> Tensor:
    kind = onnx.helper.tensor_dtype_to_np_dtype(a["to"])
    return x.to(_torch.from_numpy(np.zeros((), kind)).dtype)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda torch, _a, x: torch.abs(x),
    "Add": lambda _torch, _a, x, y: x + y,
    "BatchNormalization": _normalized,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda torch, a, *xs: torch.cat(xs, dim=a["axis"]),
    "Conv": _conv,
    "Div": _div,
    "Dropout": lambda _torch, _a, x, *_rest: x,
    "Elu": lambda torch, a, x: torch.nn.functional.elu(x, a.get("alpha", 1.0)),
    "Erf": lambda torch, _a, x: torch.erf(x),
    "Exp": lambda torch, _a, x: torch.exp(x),
    "Expand": lambda torch, _a, x, shape: x * torch.ones([int(n) for n in shape], dtype=x.dtype),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _torch, _a, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "Identity": lambda _torch, _a, x: x,
    "LayerNormalization": _layer_normalized,
    "LeakyRelu": lambda torch, a, x: torch.nn.functional.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": lambda torch, _a, x: torch.log(x),
    "LogSoftmax": lambda torch, a, x: torch.log_softmax(x, a.get("axis", -1)),
    "MatMul": lambda torch, _a, x, y: torch.matmul(x, y),
    "Max": lambda torch, _a, *xs: reduce(torch.maximum, xs),
    "Min": lambda torch, _a, *xs: reduce(torch.minimum, xs),
    "Mul": lambda _torch, _a, x, y: x * y,
    "Neg": lambda _torch, _a, x: -x,
    "Pow": lambda torch, _a, x, y: torch.pow(x, y),
    "Reciprocal": lambda _torch, _a, x: 1 / x,
    "ReduceMax": _reduced("amax"),
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "Relu": lambda torch, _a, x: torch.relu(x),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda torch, _a, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda torch, a, x: torch.softmax(x, a.get("axis", -1)),
    "Softplus": lambda torch, _a, x: torch.nn.functional.softplus(x),
    "Split": _split,
    "Sqrt": lambda torch, _a, x: torch.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": lambda _torch, _a, x, y: x - y,
    "Sum": lambda _torch, _a, *xs: reduce(add, xs),
    "Tanh": lambda torch, _a, x: torch.tanh(x),
    "Transpose": lambda _torch, a, x: x.permute(a.get("perm", tuple(range(x.dim()))[::-1])),
    "Unsqueeze": _unsqueeze,
    "Where": lambda torch, _a, condition, x, y: torch.where(condition, x, y),
}
"""Operators by name: from torch, attributes and operands (None where left out) to results."""
