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

from onnxgru.core.errors import UsageError
from onnxgru.core.integers import Codes, Floats
from onnxgru.core.network import (
    CopyOperator,
    LinearOperator,
    LookupOperator,
    Operator,
    Recurrence,
    ScaleOperator,
)
from onnxgru.training import loops
from onnxgru.training.loops import Instructions

Tensor = Any

_KINDS = {"add": loops.ADD, "mul": loops.MUL, "scale": loops.SCALE, "lookup": loops.LOOKUP}
_KINDS["copy"] = loops.SCALE  # by a vector of ones


@dataclass(frozen=True, eq=False)
class ScanStage:
    """A product and the operators after it.

    Parameters
    ----------
    operand : str
        What the linear operators read; empty where there are none.
    linears : tuple of LinearOperator
        The operators that read it, one below the other in the product.
    columns : int
        Of the product.
    instructions : ndarray of int64, shape (N, 4)
        See `onnxgru.training.loops`.
    """

    operand: str
    linears: tuple[LinearOperator, ...]
    columns: int
    instructions: Instructions


class ScanPlan:
    """What a recurrence computes, in the order in which it is computed.

    Parameters
    ----------
    recurrence : Recurrence
        The operators.

    Attributes
    ----------
    slots : dict of str to int
        Places of values in the codes: those that do not depend on the state first, the sequence
        itself among them where the body reads it.
    prologue, body : tuple of ScanStage
        Once for all steps; step by step.
    carries : ndarray of int64, shape (C, 2)
        Slots of every carry before and after the step.
    leaving : tuple of int
        Slots that are read outside of the step: what is emitted, then what is carried on.
    lookups : tuple of LookupOperator
        Those that have a table, in the order of the tables.
    scalings : tuple of ScaleOperator or CopyOperator
        What multiplies by a vector, in the order of the vectors; a copy's are ones.
    width : int
        Features of every operator.

    Raises
    ------
    UsageError
        If operators differ in their numbers of features.
    """

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        widths = sorted({operator.width for operator in recurrence.operators})
        if len(widths) > 1:
            raise UsageError(
                f"{recurrence.name}: fine-tuning takes cells whose operators all have one number "
                f"of features, this one has {', '.join(map(str, widths))}; leave out the training "
                "data, or keep the layer in float with --exclude"
            )
        names = [recurrence.input] if recurrence.reads_input else []
        names += [operator.name for operator in recurrence.prologue]
        names += [carry.name for carry in recurrence.carries]
        names += [operator.name for operator in recurrence.body]
        self.slots = {name: slot for slot, name in enumerate(names)}
        pairs = [(carry.name, carry.written_by) for carry in recurrence.carries]
        places = [[self.slots[name] for name in pair] for pair in pairs]
        self.carries = np.array(places, np.int64).reshape(-1, 2)
        self.leaving = tuple(
            dict.fromkeys([self.slots[recurrence.emits], *self.carries[:, 1].tolist()])
        )
        self.lookups = tuple(o for o in recurrence.operators if isinstance(o, LookupOperator))
        scaling = (ScaleOperator, CopyOperator)
        self.scalings = tuple(o for o in recurrence.operators if isinstance(o, scaling))
        self.width = recurrence.operators[0].width
        self.prologue = self._stages(recurrence.prologue)
        self.body = self._stages(recurrence.body)

    @property
    def stages(self) -> tuple[ScanStage, ...]:
        """All, those of the prologue first."""
        return self.prologue + self.body

    def _stages(self, operators: Sequence[Operator]) -> tuple[ScanStage, ...]:
        stages: list[ScanStage] = []
        followers: list[Operator] = []
        linears: tuple[LinearOperator, ...] = ()
        for group in groups(operators):
            heads = tuple(o for o in group if isinstance(o, LinearOperator))
            if heads and (linears or followers):
                stages.append(self._stage(linears, followers))
                linears, followers = (), []
            if heads:
                linears = heads
            else:
                followers += group
        return (*stages, self._stage(linears, followers))

    def _stage(self, linears: Sequence[LinearOperator], followers: Sequence[Operator]) -> ScanStage:
        columns, rows = 0, []
        for linear in linears:
            rows.append((loops.PRODUCT, self.slots[linear.name], columns, 0))
            columns += linear.width
        for operator in followers:
            operands = [self.slots[name] for name in operator.inputs]
            match operator:
                case LookupOperator():
                    second = self.lookups.index(operator)
                case ScaleOperator() | CopyOperator():
                    second = self.scalings.index(operator)
                case _:
                    second = operands[1]
            rows.append((_KINDS[operator.kind], self.slots[operator.name], operands[0], second))
        operand = linears[0].inputs[0] if linears else ""
        return ScanStage(operand, tuple(linears), columns, np.array(rows, np.int64).reshape(-1, 4))


def groups(operators: Sequence[Operator]) -> list[list[Operator]]:
    """Operators in order, linear ones that read the same value together."""
    found: list[list[Operator]] = []
    linear: dict[tuple[str, ...], list[Operator]] = {}
    for operator in operators:
        if not isinstance(operator, LinearOperator):
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
    tables : ndarray of uint8 or uint16, shape (tables, levels)
        Codes of lookups by codes.
    slopes, growths : ndarray of float32, shape (tables, levels)
        Derivatives of their values by what is looked up, and by the values' scale.
    learned : bool
        Whether scales are trained.
    container : dtype
        Of the codes of everything: uint8, or uint16 where any are wide.
    """

    scales: Floats
    zero_points: Floats
    tops: Floats
    tables: Codes
    slopes: Floats
    growths: Floats
    learned: bool
    container: np.dtype[np.unsignedinteger[Any]]


def scan(
    plan: ScanPlan,
    grid: Grid,
    x: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    scales: Tensor,
    vectors: Tensor,
    matrices: Mapping[ScanStage, tuple[Tensor, Tensor]],
) -> Tensor:
    """Run a recurrence.

    Parameters
    ----------
    plan : ScanPlan
        What to compute.
    grid : Grid
        How values are quantised.
    x : tensor of float32, shape (T, B, I)
        The sequence, quantised.
    initial : tensor of float32, shape (C, B, H)
        The carries before the first step, quantised.
    lengths : tensor of int, shape (B,), optional
        Steps of every sequence; what it carries stays as it is afterwards.
    scales : tensor of float32, shape (slots,)
        Those of the grid, for their gradients.
    vectors : tensor of float32, shape (V, H)
        What values are multiplied by, in the order of the plan.
    matrices : mapping of ScanStage to tuple of tensor of float32
        Quantised weights (columns, inputs) and biases (columns,) of every stage's product.

    Returns
    -------
    tensor of float32, shape (leaving, T, B, H)
        Values after every step of what leaves it, in the order of the plan.
    """
    stages = [stage for stage in plan.stages if stage.linears]
    flat = [tensor for stage in stages for tensor in matrices[stage]]
    return _scan().apply(plan, grid, lengths, x, initial, scales, vectors, *flat)


@cache
def _scan() -> Any:
    """The function of `scan` with its gradient; torch is not loaded before."""
    import torch

    class Scan(torch.autograd.Function):  # type: ignore[misc]  # torch is loaded late
        """A recurrence on codes."""

        @staticmethod
        def forward(
            context: Any,
            plan: ScanPlan,
            grid: Grid,
            lengths: Tensor | None,
            x: Tensor,
            initial: Tensor,
            scales: Tensor,
            vectors: Tensor,
            *flat: Tensor,
        ) -> Tensor:
            run = _Run(plan, grid, x, lengths, vectors, flat)
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
        self,
        plan: ScanPlan,
        grid: Grid,
        x: Tensor,
        lengths: Tensor | None,
        vectors: Tensor,
        flat: Sequence[Tensor],
    ) -> None:
        import torch

        self._torch, self._plan, self._grid = torch, plan, grid
        self.steps, self.batch = x.shape[:2]
        rows = self.steps * self.batch
        self._x = x.reshape(rows, -1)
        width = plan.width
        self._vectors: Floats = vectors.detach().numpy()
        self.codes: Codes = np.empty((rows, len(plan.slots), width), grid.container)
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
        plan = self._plan
        rows = self.steps * self.batch
        entry = plan.slots.get(plan.recurrence.input)
        if entry is not None:
            self.codes[:, entry] = self._encoded(self._x, entry)
        for stage in plan.prologue:
            self._product(stage, 0, rows)
            self._compute(stage, 0, rows, self._always)
        state = [
            self._encoded(values, slot)
            for values, slot in zip(initial, plan.carries[:, 0], strict=True)
        ]
        for t in self._order:
            start = t * self.batch
            stop = start + self.batch
            for codes, slot in zip(state, plan.carries[:, 0], strict=True):
                self.codes[start:stop, slot] = codes
            for stage in plan.body:
                self._product(stage, start, stop)
                self._compute(stage, start, stop, self._going)
            state = [self.codes[start:stop, slot] for slot in plan.carries[:, 1]]
        found = self._torch.empty(len(plan.leaving), rows, self.codes.shape[2])
        for slot, values in zip(plan.leaving, found, strict=True):
            self._decode(slot, values, 0, rows)
        return found.reshape(len(plan.leaving), self.steps, self.batch, -1)

    def _encoded(self, values: Tensor, slot: int) -> Codes:
        """Codes of values that are quantised."""
        grid = self._grid
        found = np.rint(values.numpy() / grid.scales[slot]) + grid.zero_points[slot]
        codes: Codes = np.nan_to_num(found).astype(grid.container)
        return codes

    def _decode(self, slot: int, values: Tensor, start: int, stop: int) -> None:
        scale, zero_point = self._grid.scales[slot], self._grid.zero_points[slot]
        loops.decode(self.codes, slot, scale, zero_point, start, stop, values.numpy())

    def _product(self, stage: ScanStage, start: int, stop: int) -> None:
        if not stage.linears:
            return
        operand = self._operands[stage]
        if operand is not self._x:
            self._decode(self._plan.slots[stage.operand], operand, start, stop)
        weight, bias = self._matrices[stage]
        target = self._products[stage][start:stop]
        self._torch.addmm(bias, operand[start:stop], weight.t(), out=target)

    def _compute(
        self, stage: ScanStage, start: int, stop: int, going: npt.NDArray[np.bool_]
    ) -> None:
        loops.forward(
            self.codes, self._products[stage].numpy(), stage.instructions,
            self._vectors, *self._quantization, self._grid.tables, going, start, stop,
            self._plan.carries,
        )  # fmt: skip

    def backward(self, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the sequence, the first carries, the scales, vectors and matrices."""
        torch, plan = self._torch, self._plan
        _, slots, width = self.codes.shape
        count = len(plan.carries)
        gradient = gradient.reshape(len(plan.leaving), self.steps, self.batch, width)
        changes = {stage: torch.empty_like(made) for stage, made in self._products.items()}
        of_scales, of_vectors = np.zeros(slots), np.zeros(self._vectors.shape)
        state = torch.zeros(count, self.batch, width)
        values = torch.empty(self.batch, slots, width)
        going = torch.from_numpy(self._going).reshape(self.steps, self.batch)
        of_x = torch.zeros_like(self._x)
        entry = plan.slots.get(plan.recurrence.input)
        for t in reversed(self._order):
            start = t * self.batch
            stop = start + self.batch
            values.zero_()
            for slot, arriving in zip(plan.leaving, gradient[:, t], strict=True):
                values[:, slot] = arriving
            for (before, after), carried in zip(plan.carries.tolist(), state, strict=True):
                values[:, after] += carried
                if self._going is not self._always:
                    values[~going[t], before] = values[~going[t], after]
            for stage in reversed(plan.stages):
                loops.backward(
                    self.codes, self._products[stage].numpy(), stage.instructions,
                    self._vectors, *self._quantization, self._grid.slopes, self._grid.growths,
                    self._going, start, stop, values.numpy(), changes[stage].numpy(),
                    of_vectors, of_scales, self._grid.learned,
                )  # fmt: skip
                if stage.linears and self._operands[stage] is not self._x:
                    weight, _ = self._matrices[stage]
                    change = changes[stage][start:stop]
                    values[:, plan.slots[stage.operand]].addmm_(change, weight)
            for place, slot in enumerate(plan.carries[:, 0].tolist()):
                state[place] = values[:, slot]
            if entry is not None:
                of_x[start:stop] = values[:, entry]
        found: list[Tensor | None] = []
        for stage, (weight, _) in self._matrices.items():
            change, operand = changes[stage], self._operands[stage]
            found += [torch.mm(change.t(), operand), change.sum(dim=0)]
            if operand is self._x:
                of_x.addmm_(change, weight)
        # LSQ divides by the elements of a tensor: those of a step, or of all for the prologue.
        elements = np.full(slots, self.batch * width)
        elements[[plan.slots[operator.name] for operator in plan.recurrence.prologue]] *= self.steps
        growth = of_scales / np.sqrt(elements * self._grid.tops)
        scales = torch.from_numpy(growth.astype(np.float32))
        factors = torch.from_numpy(of_vectors.astype(np.float32))
        return of_x.reshape(self.steps, self.batch, -1), state.clone(), scales, factors, *found
