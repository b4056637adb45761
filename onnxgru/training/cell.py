"""A recurrent layer in torch, built from the tables that everything else is built from.

Every operator is computed in float and its output quantised as the integer program quantises it;
weights are rounded on their way, so that gradients reach what they were rounded from.
"""

from collections.abc import Mapping

import numpy as np

from onnxgru.core.activations import Activation
from onnxgru.core.alignment import is_aligned
from onnxgru.core.integers import Floats, Quantization
from onnxgru.core.network import Layer, Operator
from onnxgru.core.program import IntegerLayer
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.linear import Linear, Part
from onnxgru.training.quantizers import Tensor, ValueQuantizer, WeightQuantizer
from onnxgru.training.scan import Grid, Plan, Stage, scan

REACH = 0.49
"""Spacings that a weight may start away from its code, less than the half that rounds it."""


class LinearCell:
    """Weights of one linear operator.

    They start from the float ones, moved as little as it takes to round to the program's integers,
    whatever method rounded those.

    Parameters
    ----------
    operator : Operator
        The float weights.
    part : Part
        The integers.
    step : float
        Scale of what the weights are multiplied by.
    growth : tensor, optional
        Of the scales, see `WeightQuantizer`.
    """

    def __init__(self, operator: Operator, part: Part, step: float, growth: Tensor | None) -> None:
        import torch

        weight, bias = operator.linear
        self._torch = torch
        fine = step * part.weight_scale.astype(np.float64)
        kept = np.rint(bias / fine) == part.bias
        bias = np.where(kept, bias, (part.bias * fine).astype(np.float32))
        self.weight = torch.from_numpy(_within(weight, part)).requires_grad_()
        self.bias = torch.from_numpy(bias).requires_grad_()
        self._quantizer = WeightQuantizer(part.weight_scale, part.type.bits, growth)

    def quantized(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (outputs, inputs) and biases (outputs,) on their grids.

        Biases are whole steps of the accumulator: products of a weight's scale and that of
        what the weights are multiplied by, `step`.
        """
        fine = (step * self._quantizer.scales[:, 0]).detach()
        rounded = self._torch.round(self.bias.detach() / fine) * fine
        return self._quantizer(self.weight), self.bias + (rounded - self.bias.detach())

    def rounded(self) -> Rounded:
        """The weights as integers."""
        codes = np.nan_to_num(self._quantizer.codes(self.weight).detach().numpy())
        scales = self._quantizer.scales.detach().numpy()[:, 0]
        return Rounded(codes.astype(np.int8), scales.copy(), self.bias.detach().numpy().copy())


class QuantizedLayer:
    """A layer whose operators quantise as one program does.

    Parameters
    ----------
    layer : Layer
        The float layer.
    program : IntegerLayer
        Its integers.
    values : mapping of str to Quantization
        Of every operator's output.
    scheme : Scheme
        What shares a weight scale.
    learn_weights, learn_values : bool
        Which scales are trained.
    """

    def __init__(
        self,
        layer: Layer,
        program: IntegerLayer,
        values: Mapping[str, Quantization],
        scheme: Scheme,
        *,
        learn_weights: bool = True,
        learn_values: bool = False,
    ) -> None:
        import torch

        self._torch = torch
        self.layer = layer
        parts = {
            part.output.name: (part, operator.operands[0].quantization.scale)
            for recurrence in program.recurrences
            for operator in recurrence.operators
            if isinstance(operator, Linear)
            for part in operator.parts
        }
        self._growths = _growths(layer, scheme) if learn_weights else {}
        self.linears = {
            operator.name: LinearCell(
                operator, *parts[operator.name], self._growths.get(operator.name)
            )
            for operator in layer.operators
            if operator.kind == "linear"
        }
        state = ValueQuantizer(program.state.quantization, learned=learn_values)
        self.quantizers = {layer.state: state}
        """Quantisers by the names that calibration has them under."""
        if not program.reads_codes:  # else the other layer's states have been quantised already
            entry = ValueQuantizer(program.input.quantization, learned=learn_values)
            self.quantizers[layer.input] = entry
        self._entry = self.quantizers.get(layer.input, ValueQuantizer(program.input.quantization))
        self.plans = [Plan(recurrence) for recurrence in layer.recurrences]
        """What every direction computes."""
        self._grids: dict[Plan, Grid] = {}
        self._outputs: dict[str, ValueQuantizer] = {}
        summands = {name for recurrence in layer.recurrences for name in recurrence.summands}
        for operator in layer.operators:
            if operator.name in layer.results:
                self._outputs[operator.name] = state
                continue
            fixed = operator.function is not None and (
                operator.function.quantization(values[operator.name].bits) is not None
                or operator.function.name == "Complement"
            )
            follows = None
            if operator.name in summands and is_aligned(
                values[operator.name].scale, state.quantization.scale
            ):
                follows = state
            quantizer = ValueQuantizer(
                values[operator.name], learned=learn_values and not fixed, follows=follows
            )
            self._outputs[operator.name] = quantizer
            if not fixed:
                self.quantizers[operator.name] = quantizer

    @property
    def scales(self) -> list[Tensor]:
        """What is trained of scales."""
        values = [p for q in self.quantizers.values() for p in q.parameters]
        return list({id(growth): growth for growth in [*self._growths.values(), *values]}.values())

    @property
    def weights(self) -> list[Tensor]:
        """Weights and biases."""
        return [p for linear in self.linears.values() for p in (linear.weight, linear.bias)]

    def __call__(
        self, x: Tensor, lengths: Tensor | None = None, initial: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Parameters
        ----------
        x : tensor of float32, shape (T, B, I)
            The sequence.
        lengths : tensor of int, shape (B,), optional
            Steps of every sequence.
        initial : tensor of float32, shape (D, B, H), optional
            Initial state.

        Returns
        -------
        states : tensor of float32, shape (T, D, B, H)
        last : tensor of float32, shape (D, B, H)
        """
        if self.layer.input in self.quantizers:
            x = self.quantizers[self.layer.input](x)
        found = [
            self._direction(plan, x, lengths, None if initial is None else initial[index])
            for index, plan in enumerate(self.plans)
        ]
        states, last = zip(*found, strict=True)
        return self._torch.stack(states, dim=1), self._torch.stack(last)

    def _direction(
        self, plan: Plan, x: Tensor, lengths: Tensor | None, initial: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        torch = self._torch
        if initial is None:
            before = torch.zeros(x.shape[1], self.layer.hidden_size)
        else:
            before = self.quantizers[self.layer.state](initial)
        quantizers = self.values(plan)
        matrices = {stage: self.matrix(plan, stage) for stage in plan.stages if stage.linears}
        scales = torch.stack([quantizer.scale for quantizer in quantizers])
        states = scan(plan, self.grid(plan), x, before, lengths, scales, matrices)
        last = states[0 if plan.recurrence.reverse else -1]
        if lengths is not None:
            going = torch.arange(len(x))[:, None, None] < lengths[:, None]
            states = torch.where(going, states, torch.zeros_like(states))
            last = torch.where((lengths > 0)[:, None], last, torch.zeros_like(last))
        return states, last

    def values(self, plan: Plan) -> list[ValueQuantizer]:
        """Quantisers of everything in a plan's slots."""
        state = {plan.recurrence.state: self.quantizers[self.layer.state]}
        known = self._outputs | state
        return [known[name] for name in plan.slots]

    def matrix(self, plan: Plan, stage: Stage) -> tuple[Tensor, Tensor]:
        """Quantised weights and biases of a stage's linear operators, one below the other."""
        known = dict(zip(plan.slots, self.values(plan), strict=True))
        step = known.get(stage.operand, self._entry).scale
        pairs = [self.linears[operator.name].quantized(step) for operator in stage.linears]
        weights, biases = zip(*pairs, strict=True)
        return self._torch.cat(weights), self._torch.cat(biases)

    def grid(self, plan: Plan) -> Grid:
        """Quantisation of everything in a plan's slots, as trained so far."""
        if plan in self._grids:
            return self._grids[plan]
        quantizers = self.values(plan)
        known = dict(zip(plan.slots, quantizers, strict=True))
        tables = [
            known[operator.name].table(_function(operator), known[operator.inputs[0]])
            for operator in plan.lookups
        ]
        codes, slopes, growths = zip(*tables, strict=True)
        starts = [quantizer.quantization for quantizer in quantizers]
        learned = any(quantizer.parameters for quantizer in quantizers)
        made = Grid(
            np.array([quantizer.scale.item() for quantizer in quantizers], np.float32),
            np.array([start.zero_point for start in starts], np.float32),
            np.array([start.type.maximum for start in starts], np.float32),
            np.stack(codes), np.stack(slopes), np.stack(growths), learned,
        )  # fmt: skip
        if not learned:
            self._grids[plan] = made
        return made


def _within(weight: Floats, part: Part) -> Floats:
    """Weights moved as little as it takes to be rounded to the codes of a part.

    So training starts from what GPTQ found, and weights beyond the largest code can come back.
    """
    scales = part.weight_scale[:, None].astype(np.float64)
    reach = REACH * part.type.spacing
    low, high = (scales * (part.weight + side * reach) for side in (-1, 1))
    return np.clip(weight, low, high).astype(np.float32)


def _growths(layer: Layer, scheme: Scheme) -> dict[str, Tensor]:
    """Growth of the scales of every linear operator, shared by what shares a scale."""
    import torch

    found: dict[str, Tensor] = {}
    shared: dict[tuple[str, str], Tensor] = {}
    for recurrence in layer.recurrences:
        for operator in recurrence.operators:
            if operator.kind != "linear":
                continue
            granularity = scheme.linear(operator.name).granularity
            rows = operator.width if granularity == "channel" else 1
            growth = torch.zeros(rows, 1, requires_grad=True)
            if granularity == "tensor":
                growth = shared.setdefault((recurrence.name, operator.matrix), growth)
            found[operator.name] = growth
    return found


def _function(operator: Operator) -> Activation:
    if operator.function is None:
        raise ValueError(f"{operator.name} is {operator.kind}, it has no function")
    return operator.function
