"""A recurrence in training: through all its steps and back, on codes.

Operators form stages: the linear operators that read the same value, one product, and what follows
elementwise. Those that do not depend on the state run once over all steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.integers import Codes, Floats
from onnxgru.core.network import Operator, Recurrence
from onnxgru.training import loops
from onnxgru.training.loops import Instructions

Tensor = Any

_KINDS = {"add": loops.ADD, "mul": loops.MUL, "lookup": loops.LOOKUP}


@dataclass(frozen=True, eq=False)
class Stage:
    """A product and the operators after it.

    Parameters
    ----------
    operand : str
        What the linear operators read; empty where there are none.
    linears : tuple of Operator
        They, one below the other in the product.
    columns : int
        Of the product.
    instructions : ndarray of int64, shape (N, 4)
        See `onnxgru.training.loops`.
    """

    operand: str
    linears: tuple[Operator, ...]
    columns: int
    instructions: Instructions


class Plan:
    """What a recurrence computes, in the order in which it is computed.

    Parameters
    ----------
    recurrence : Recurrence
        The operators.

    Attributes
    ----------
    slots : dict of str to int
        Places of values in the codes: those that do not depend on the state first.
    prologue, body : tuple of Stage
        Once for all steps; step by step.
    lookups : tuple of Operator
        Those that have a table, in the order of the tables.
    """

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        names = [operator.name for operator in recurrence.prologue]
        names += [recurrence.state, *(operator.name for operator in recurrence.body)]
        self.slots = {name: slot for slot, name in enumerate(names)}
        self.state, self.result = self.slots[recurrence.state], self.slots[recurrence.result]
        self.lookups = tuple(o for o in recurrence.operators if o.kind == "lookup")
        self.prologue = self._stages(recurrence.prologue)
        self.body = self._stages(recurrence.body)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All, those of the prologue first."""
        return self.prologue + self.body

    def _stages(self, operators: Sequence[Operator]) -> tuple[Stage, ...]:
        stages: list[Stage] = []
        followers: list[Operator] = []
        linears: tuple[Operator, ...] = ()
        for group in groups(operators):
            if group[0].kind == "linear" and (linears or followers):
                stages.append(self._stage(linears, followers))
                linears, followers = (), []
            if group[0].kind == "linear":
                linears = tuple(group)
            else:
                followers += group
        return (*stages, self._stage(linears, followers))

    def _stage(self, linears: Sequence[Operator], followers: Sequence[Operator]) -> Stage:
        columns, rows = 0, []
        for operator in linears:
            rows.append((loops.PRODUCT, self.slots[operator.name], columns, 0))
            columns += operator.width
        for operator in followers:
            operands = [self.slots[name] for name in operator.inputs]
            second = self.lookups.index(operator) if operator.kind == "lookup" else operands[1]
            rows.append((_KINDS[operator.kind], self.slots[operator.name], operands[0], second))
        operand = linears[0].inputs[0] if linears else ""
        return Stage(operand, tuple(linears), columns, np.array(rows, np.int64).reshape(-1, 4))


def groups(operators: Sequence[Operator]) -> list[list[Operator]]:
    """Operators in order, linear ones that read the same value together."""
    found: list[list[Operator]] = []
    linear: dict[tuple[str, ...], list[Operator]] = {}
    for operator in operators:
        if operator.kind != "linear":
            found.append([operator])
        elif operator.inputs in linear:
            linear[operator.inputs].append(operator)
        else:
            found.append(linear.setdefault(operator.inputs, [operator]))
    return found


@dataclass(frozen=True, eq=False)
class Grid:
    """Quantisation of everything in the slots.

    Parameters
    ----------
    scales, zero_points, tops : ndarray of float32, shape (slots,)
        And the largest codes.
    tables : ndarray of uint8, shape (tables, 256)
        Codes of lookups by codes.
    slopes, growths : ndarray of float32, shape (tables, 256)
        Derivatives of their values by what is looked up, and by the values' scale.
    learned : bool
        Whether scales are trained.
    """

    scales: Floats
    zero_points: Floats
    tops: Floats
    tables: Codes
    slopes: Floats
    growths: Floats
    learned: bool


def scan(
    plan: Plan,
    grid: Grid,
    x: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    scales: Tensor,
    matrices: Mapping[Stage, tuple[Tensor, Tensor]],
) -> Tensor:
    """Run a recurrence.

    Parameters
    ----------
    plan : Plan
        What to compute.
    grid : Grid
        How values are quantised.
    x : tensor of float32, shape (T, B, I)
        The sequence, quantised.
    initial : tensor of float32, shape (B, H)
        The state before the first step, quantised.
    lengths : tensor of int, shape (B,), optional
        Steps of every sequence; its state stays as it is afterwards.
    scales : tensor of float32, shape (slots,)
        Those of the grid, for their gradients.
    matrices : mapping of Stage to tuple of tensor of float32
        Quantised weights (columns, inputs) and biases (columns,) of every stage's product.

    Returns
    -------
    tensor of float32, shape (T, B, H)
        States after every step.
    """
    stages = [stage for stage in plan.stages if stage.linears]
    flat = [tensor for stage in stages for tensor in matrices[stage]]
    return _scan().apply(plan, grid, lengths, x, initial, scales, *flat)


@cache
def _scan() -> Any:
    """The function of `scan` with its gradient; torch is not loaded before."""
    import torch

    # torch is loaded late, so that its classes have no type here.
    class Scan(torch.autograd.Function):  # type: ignore[misc]
        """A recurrence on codes."""

        @staticmethod
        def forward(
            context: Any,
            plan: Plan,
            grid: Grid,
            lengths: Tensor | None,
            x: Tensor,
            initial: Tensor,
            scales: Tensor,
            *flat: Tensor,
        ) -> Tensor:
            run = _Run(plan, grid, x, lengths, flat)
            states = run.forward(initial)
            context.run = run
            return states

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            return (None, None, None, *context.run.backward(gradient))

    return Scan


class _Run:
    """One batch: what is computed on the way forward and read on the way back."""

    def __init__(
        self, plan: Plan, grid: Grid, x: Tensor, lengths: Tensor | None, flat: Sequence[Tensor]
    ) -> None:
        import torch

        self._torch, self._plan, self._grid = torch, plan, grid
        self.steps, self.batch = x.shape[:2]
        rows = self.steps * self.batch
        self._x = x.reshape(rows, -1)
        width = plan.recurrence.operators[0].width
        self.codes: Codes = np.empty((rows, len(plan.slots), width), np.uint8)
        self._products = {stage: torch.empty(rows, stage.columns) for stage in plan.stages}
        pairs = iter(zip(flat[::2], flat[1::2], strict=True))
        self._matrices = {stage: next(pairs) for stage in plan.stages if stage.linears}
        self._operands = {
            stage: self._x if stage.operand == plan.recurrence.input else torch.empty(rows, width)
            for stage in self._matrices
        }
        self._always = np.ones(rows, bool)
        self._going: npt.NDArray[np.bool_] = self._always
        if lengths is not None:
            going = np.arange(self.steps)[:, None] < lengths.numpy()
            self._going = np.ascontiguousarray(going).reshape(-1)
        self._quantization = (grid.scales, grid.zero_points, grid.tops)

    @property
    def _order(self) -> range:
        steps = range(self.steps)
        return steps[::-1] if self._plan.recurrence.reverse else steps

    def forward(self, initial: Tensor) -> Tensor:
        plan, grid = self._plan, self._grid
        rows = self.steps * self.batch
        for stage in plan.prologue:
            self._product(stage, 0, rows)
            self._compute(stage, 0, rows, self._always)
        scale, zero_point = grid.scales[plan.state], grid.zero_points[plan.state]
        state = np.nan_to_num(np.rint(initial.numpy() / scale) + zero_point)
        for t in self._order:
            start = t * self.batch
            stop = start + self.batch
            self.codes[start:stop, plan.state] = state
            for stage in plan.body:
                self._product(stage, start, stop)
                self._compute(stage, start, stop, self._going)
            state = self.codes[start:stop, plan.result]
        states = self._torch.empty(rows, self.codes.shape[2])
        self._decode(plan.result, states, 0, rows)
        return states.reshape(self.steps, self.batch, -1)

    def _decode(self, slot: int, values: Tensor, start: int, stop: int) -> None:
        scale, zero_point = self._grid.scales[slot], self._grid.zero_points[slot]
        loops.decode(self.codes, slot, scale, zero_point, start, stop, values.numpy())

    def _product(self, stage: Stage, start: int, stop: int) -> None:
        if not stage.linears:
            return
        operand = self._operands[stage]
        if operand is not self._x:
            self._decode(self._plan.slots[stage.operand], operand, start, stop)
        weight, bias = self._matrices[stage]
        target = self._products[stage][start:stop]
        self._torch.addmm(bias, operand[start:stop], weight.t(), out=target)

    def _compute(self, stage: Stage, start: int, stop: int, going: npt.NDArray[np.bool_]) -> None:
        loops.forward(
            self.codes, self._products[stage].numpy(), stage.instructions, *self._quantization,
            self._grid.tables, going, start, stop, (self._plan.state, self._plan.result),
        )  # fmt: skip

    def backward(self, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the sequence, the initial state, the scales and the matrices."""
        torch, plan = self._torch, self._plan
        _, slots, width = self.codes.shape
        gradient = gradient.reshape(self.steps, self.batch, width)
        changes = {stage: torch.empty_like(made) for stage, made in self._products.items()}
        of_scales = np.zeros(slots)
        state = torch.zeros(self.batch, width)
        values = torch.empty(self.batch, slots, width)
        going = torch.from_numpy(self._going).reshape(self.steps, self.batch)
        for t in reversed(self._order):
            start = t * self.batch
            stop = start + self.batch
            state = state + gradient[t]
            values.zero_()
            if self._going is self._always:
                values[:, plan.result] = state
            else:
                values[going[t], plan.result] = state[going[t]]
                values[~going[t], plan.state] = state[~going[t]]
            for stage in reversed(plan.stages):
                loops.backward(
                    self.codes, self._products[stage].numpy(), stage.instructions,
                    *self._quantization, self._grid.slopes, self._grid.growths, self._going,
                    start, stop, values.numpy(), changes[stage].numpy(), of_scales,
                    self._grid.learned,
                )  # fmt: skip
                if stage.operand in plan.slots:
                    weight, _ = self._matrices[stage]
                    change = changes[stage][start:stop]
                    values[:, plan.slots[stage.operand]].addmm_(change, weight)
            state = values[:, plan.state]
        of_x = torch.zeros_like(self._x)
        found: list[Tensor | None] = []
        for stage, (weight, _) in self._matrices.items():
            change, operand = changes[stage], self._operands[stage]
            found += [torch.mm(change.t(), operand), change.sum(dim=0)]
            if operand is self._x:
                of_x.addmm_(change, weight)
        # LSQ divides by the elements of a tensor: those of a step, or of all for the prologue.
        count = np.full(slots, self.batch * width)
        count[[plan.slots[operator.name] for operator in plan.recurrence.prologue]] *= self.steps
        growth = of_scales / np.sqrt(count * self._grid.tops)
        scales = torch.from_numpy(growth.astype(np.float32))
        return of_x.reshape(self.steps, self.batch, -1), state.clone(), scales, *found
