"""A recurrent layer in torch, built from the tables that everything else is built from.

Every operator is computed in float and its output quantised as the integer program quantises it;
weights are rounded on their way, so that gradients reach what they were rounded from.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.alignment import is_aligned
from onnxgru.core.copies import copied
from onnxgru.core.errors import UsageError
from onnxgru.core.integers import Floats, Quantization
from onnxgru.core.network import (
    CopyOperator,
    Layer,
    LinearOperator,
    LookupOperator,
    Recurrence,
    ScaleOperator,
)
from onnxgru.core.program import IntegerLayer
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds.copy import Copy
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.training.quantizers import Tensor, ValueQuantizer, WeightQuantizer
from onnxgru.training.scan import Grid, ScanPlan, ScanStage, scan

NO_TABLES = tuple((np.zeros(1, kind),) for kind in (np.uint8, np.float32, np.float32))
"""Codes, slopes and growths where a layer has no lookup: compiled loops want arrays of each."""
REACH = 0.49
"""Spacings that a weight may start away from its code, less than the half that rounds it."""


class LinearCell:
    """Weights of one linear operator.

    They start from the float ones, moved as little as it takes to round to the program's integers,
    whatever method rounded those.

    Parameters
    ----------
    operator : LinearOperator
        The float weights.
    part : Part
        The integers.
    step : float
        Scale of what the weights are multiplied by.
    growth : tensor, optional
        Of the scales, see `WeightQuantizer`.
    """

    def __init__(
        self, operator: LinearOperator, part: Part, step: float, growth: Tensor | None
    ) -> None:
        import torch

        weight, bias = operator.weight, operator.bias
        self._torch, self._part = torch, part
        fine = step * part.weight_scale.astype(np.float64) * part.unit
        if part.after:
            fine = np.full(len(bias), part.bias_step)
        coarse = np.ldexp(fine, part.exponent)
        kept = np.rint(bias / coarse) == part.bias >> part.exponent
        bias = np.where(kept, bias, (part.bias * fine).astype(np.float32))
        self.weight = torch.from_numpy(_within(weight, part)).requires_grad_()
        self.bias = torch.from_numpy(bias).requires_grad_()
        self._quantizer = WeightQuantizer(part.weight_scale, part.type.bits, growth)

    def quantized(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (outputs, inputs) and biases (outputs,) on their grids.

        Biases are whole steps of the accumulator, or a power of two of them: products of a
        weight's scale and that of what the weights are multiplied by, `step`. Those that are
        added after the multiplication are steps of the program's result.
        """
        part, bias = self._part, self.bias.detach()
        if part.after:
            fine = self._torch.full(bias.shape, math.ldexp(part.bias_step, part.exponent))
        else:
            unit = part.unit << part.exponent
            fine = (step * self._quantizer.scales[:, 0]).detach() * unit
        rounded = self._torch.round(bias / fine) * fine
        return self._quantizer(self.weight), self.bias + (rounded - bias)

    def rounded(self) -> Rounded:
        """The weights as integers."""
        codes = np.nan_to_num(self._quantizer.codes(self.weight).detach().numpy())
        scales = self._quantizer.scales.detach().numpy()[:, 0]
        kind = self._part.type.container
        return Rounded(codes.astype(kind), scales.copy(), self.bias.detach().numpy().copy())


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
        recurrences, entry_copy = _copied(layer, program, scheme)
        self._growths = _growths(layer, scheme) if learn_weights else {}
        self.linears = {
            operator.name: LinearCell(
                operator, *parts[operator.name], self._growths.get(operator.name)
            )
            for recurrence in layer.recurrences
            for operator in recurrence.linears
        }
        self.vectors = {
            operator.name: torch.from_numpy(operator.vector.copy()).requires_grad_()
            for recurrence in layer.recurrences
            for operator in recurrence.operators
            if isinstance(operator, ScaleOperator)
        }
        """Of every product with a vector; integers have 15 bits of them."""
        self.quantizers = {
            name: ValueQuantizer(
                boundary.quantization,
                learned=learn_values and layer.fixed(name, boundary.quantization.bits) is None,
            )
            for name, boundary in program.grids.items()
        }
        """Quantisers by the names that calibration has them under."""
        if not program.reads_codes:  # else the other layer's states have been quantised already
            entry = ValueQuantizer(program.input.quantization, learned=learn_values)
            self.quantizers[layer.input] = entry
        self._entry = self.quantizers.get(layer.input, ValueQuantizer(program.input.quantization))
        self._entry_copy = None if entry_copy is None else ValueQuantizer(entry_copy)
        self.plans = [ScanPlan(recurrence) for recurrence in recurrences]
        """What every direction computes."""
        self._grids: dict[ScanPlan, Grid] = {}
        self._outputs: dict[str, ValueQuantizer] = {}
        for recurrence in recurrences:
            for operator in recurrence.operators:
                if isinstance(operator, CopyOperator):
                    self._outputs[operator.name] = self._copy(operator, values)
                    continue
                if operator.name in layer.grids:
                    self._outputs[operator.name] = self.quantizers[layer.grids[operator.name]]
                    continue
                function = operator.function if isinstance(operator, LookupOperator) else None
                fixed = function is not None and (
                    function.mirrors or function.codomain() is not None
                )
                follows = None
                if operator.name in recurrence.summands:
                    total = self.quantizers[layer.grids[recurrence.summands[operator.name]]]
                    if is_aligned(values[operator.name].scale, total.quantization.scale):
                        follows = total
                quantizer = ValueQuantizer(
                    values[operator.name], learned=learn_values and not fixed, follows=follows
                )
                self._outputs[operator.name] = quantizer
                if not fixed:
                    self.quantizers[operator.name] = quantizer

    def _copy(self, operator: CopyOperator, values: Mapping[str, Quantization]) -> ValueQuantizer:
        """Quantiser of a copy, whose scale grows with that of the value."""
        (value,) = operator.inputs
        grid = self.layer.grids.get(value)
        of = self._outputs[value] if grid is None else self.quantizers[grid]
        return ValueQuantizer(values[operator.name], follows=of)

    @property
    def scales(self) -> list[Tensor]:
        """What is trained of scales."""
        values = [p for q in self.quantizers.values() for p in q.parameters]
        return list({id(growth): growth for growth in [*self._growths.values(), *values]}.values())

    @property
    def weights(self) -> list[Tensor]:
        """Weights, biases and vectors."""
        return [tensor for tensors in self.numbers.values() for tensor in tensors]

    @property
    def numbers(self) -> dict[str, tuple[Tensor, ...]]:
        """Weight and bias, or vector, by operator."""
        linears = {name: (cell.weight, cell.bias) for name, cell in self.linears.items()}
        return linears | {name: (vector,) for name, vector in self.vectors.items()}

    def __call__(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        initial: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the layer.

        Parameters
        ----------
        x : tensor of float32, shape (T, B, I)
            The sequence.
        lengths : tensor of int, shape (B,), optional
            Steps of every sequence.
        initial : mapping of str to tensor of float32, shape (D, B, H), optional
            Given first values, by carry.

        Returns
        -------
        states : tensor of float32, shape (T, D, B, H)
            What is emitted.
        last : dict of str to tensor of float32, shape (D, B, H)
            What is carried after the last step, by carry.
        """
        if self.layer.input in self.quantizers:
            x = self.quantizers[self.layer.input](x)
        if self._entry_copy is not None:
            x = self._entry_copy(x)
        found = [
            self._direction(plan, x, lengths, {c: v[index] for c, v in (initial or {}).items()})
            for index, plan in enumerate(self.plans)
        ]
        stack = self._torch.stack
        states = stack([emitted for emitted, _ in found], dim=1)
        return states, {c: stack([last[c] for _, last in found]) for c in self.layer.carries}

    def among(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the layer between the values of a graph: what it makes, by name."""
        ports = self.layer.ports
        lengths = values[ports.lengths] if ports.lengths else None
        initial = {carry: values[name] for carry, name in ports.initial.items()}
        states, last = self(values[ports.x], lengths, initial)
        found = {ports.sequence: states} if ports.sequence else {}
        return found | {name: last[carry] for carry, name in ports.last.items()}

    def _direction(
        self, plan: ScanPlan, x: Tensor, lengths: Tensor | None, initial: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        torch, carries = self._torch, self.layer.carries
        bound = dict(zip(carries, plan.recurrence.carries, strict=True))
        widths = plan.recurrence.widths
        begun = [
            self.quantizers[grid](initial[carry])
            if carry in initial
            else torch.zeros(x.shape[1], widths[bound[carry].written_by])
            for carry, grid in carries.items()
        ]
        before = torch.stack(begun) if begun else torch.zeros(0, x.shape[1], 0)
        quantizers = self.values(plan)
        matrices = {stage: self.matrix(plan, stage) for stage in plan.stages if stage.linears}
        scales = torch.stack([quantizer.scale for quantizer in quantizers])
        vectors = self.factors(plan)
        found = scan(plan, self.grid(plan), x, before, lengths, scales, vectors, matrices)
        values = dict(zip(plan.leaving, found, strict=True))
        states = values[plan.slots[plan.recurrence.emits]]
        end = 0 if plan.recurrence.reverse else -1
        last = {c: values[plan.slots[carry.written_by]][end] for c, carry in bound.items()}
        if lengths is not None:
            going = torch.arange(len(x))[:, None, None] < lengths[:, None]
            states = torch.where(going, states, torch.zeros_like(states))
            some = (lengths > 0)[:, None]
            last = {c: torch.where(some, v, torch.zeros_like(v)) for c, v in last.items()}
        return states, last

    @property
    def _read(self) -> ValueQuantizer:
        """Of what operators read of the sequence."""
        return self._entry_copy or self._entry

    def values(self, plan: ScanPlan) -> list[ValueQuantizer]:
        """Quantisers of everything in a plan's slots."""
        grids = self.layer.grids
        carried = {c.name: self.quantizers[grids[c.name]] for c in plan.recurrence.carries}
        known = self._outputs | carried | {plan.recurrence.input: self._read}
        return [known[name] for name in plan.slots]

    def matrix(self, plan: ScanPlan, stage: ScanStage) -> tuple[Tensor, Tensor]:
        """Quantised weights and biases of a stage's linear operators, one below the other."""
        known = dict(zip(plan.slots, self.values(plan), strict=True))
        step = known.get(stage.operand, self._read).scale
        pairs = [self.linears[operator.name].quantized(step) for operator in stage.linears]
        weights, biases = zip(*pairs, strict=True)
        return self._torch.cat(weights), self._torch.cat(biases)

    def factors(self, plan: ScanPlan) -> Tensor:
        """What a plan's values are multiplied by, (V, H): vectors as trained so far, and ones."""
        torch = self._torch
        found = [
            self.vectors[o.name] if isinstance(o, ScaleOperator) else torch.ones(plan.width)
            for o in plan.scalings
        ]
        return torch.stack(found) if found else torch.zeros(0, plan.width)

    def grid(self, plan: ScanPlan) -> Grid:
        """Quantisation of everything in a plan's slots, as trained so far."""
        if plan in self._grids:
            return self._grids[plan]
        quantizers = self.values(plan)
        known = dict(zip(plan.slots, quantizers, strict=True))
        tables = [
            known[operator.name].table(operator.function, known[operator.inputs[0]])
            for operator in plan.lookups
        ]
        columns = zip(*tables, strict=True) if tables else NO_TABLES
        codes, slopes, growths = (_stacked(arrays) for arrays in columns)
        starts = [quantizer.quantization for quantizer in quantizers]
        learned = any(quantizer.parameters for quantizer in quantizers)
        made = Grid(
            np.array([quantizer.scale.item() for quantizer in quantizers], np.float32),
            np.array([start.zero_point for start in starts], np.float32),
            np.array([start.type.maximum for start in starts], np.float32),
            codes, slopes, growths, learned, max(start.type for start in starts).container,
        )  # fmt: skip
        if not learned:
            self._grids[plan] = made
        return made


def _copied(
    layer: Layer, program: IntegerLayer, scheme: Scheme
) -> tuple[list[Recurrence], Quantization | None]:
    """Recurrences with copies as in a program, and the quantisation of a copy of the sequence.

    All operators read the sequence itself or all of them its copy, so that it is quantised once.
    """
    found, entry = [], None
    for recurrence, integers in zip(layer.recurrences, program.recurrences, strict=True):
        made = {o.inputs[0]: o for o in integers.operators if isinstance(o, Copy)}
        copy = made.pop(recurrence.input, None)
        if copy is not None:
            entry = copy.output.boundary.quantization
            readers = [o for o in integers.operators if recurrence.input in o.inputs]
            if readers != [copy]:
                raise UsageError(
                    f"{recurrence.name}: fine-tuning takes layers whose operators read their input "
                    "in codes of one width; skip all operators that read it, or none of them"
                )
        widths = dict.fromkeys(made, layer.hidden_size)
        found.append(copied(recurrence, scheme, made, widths))
    return found, entry


def _stacked(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays one below the other, with zeros behind the shorter ones."""
    most = max(array.size for array in arrays)
    return np.stack([np.pad(array, (0, most - array.size)) for array in arrays])


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
        for operator in recurrence.linears:
            granularity = scheme.linear(operator.name).granularity
            rows = operator.width if granularity == "channel" else 1
            growth = torch.zeros(rows, 1, requires_grad=True)
            if granularity == "tensor":
                growth = shared.setdefault((recurrence.name, operator.matrix), growth)
            found[operator.name] = growth
    return found
