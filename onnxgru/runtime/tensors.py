"""Torch back end of the primitives: the arithmetic of many candidates at once, on any device.

Values of P candidates of one layer are stacked along the first axis: codes are (P, rows, features),
numbers (P, 1, 1) or (P, 1, N), weights (P, I, N), tables (P, 256). Candidates differ in numbers
only, because operators are computed in their general form.

torch has no integer product for stacks of matrices on devices. float32 is exact as long as no
partial sum reaches 2^24, in any order. A product of a code and a weight is at most 255 x 128, so
blocks of 514 features are safe, and the blocks are added as int32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnxgru.core.fixedpoint import EXACT_IN_FLOAT32
from onnxgru.core.integers import BYTE, BYTE_BITS, IntegerType
from onnxgru.core.primitives import Shift, leaves, mapped
from onnxgru.core.program import IntegerOperator, Stage
from onnxgru.custom_ops.arrays import CODE_PRODUCT, ArrayPrimitives
from onnxgru.custom_ops.kernels import stage
from onnxgru.custom_ops.kernels.kernel import CURVE, TABLE, padded
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.custom_ops.kinds.planes import joined

Tensor = Any
Stacked = tuple[tuple[IntegerOperator, Any], ...]
"""Operators of a stage with the parameters of all candidates."""

WEIGHTS = "weights."
"""Prefix of the paths of weights in the parameters of a linear operator."""

EXACT_INPUTS = (EXACT_IN_FLOAT32 - 1) // CODE_PRODUCT
"""Most features of a product that is exact in float32."""


class TensorPrimitives:
    """Primitives on torch tensors of several candidates, exact.

    They have the operations of `compute`; `stacked` prepares parameters with arrays.

    Parameters
    ----------
    count : int
        P.
    device : torch.device
        Where tensors are.
    """

    general = True

    def __init__(self, count: int, device: Any) -> None:
        import torch

        self._torch = torch
        self._firsts = torch.arange(count, dtype=torch.int32, device=device).view(-1, 1, 1)
        self._tables = self._firsts * TABLE

    def split(self, value: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
        """Along the last axis, as views."""
        parts: Sequence[Tensor] = self._torch.split(value, list(sizes), dim=-1)
        return parts

    def widen(self, value: Tensor) -> Tensor:
        """To int32."""
        return value.to(self._torch.int32)

    def narrow(self, value: Tensor, kind: IntegerType) -> Tensor:
        """To the container."""
        return value.to(getattr(self._torch, kind.container.name))

    def matmul(self, codes: Tensor, zero_point: Tensor, weights: Tensor) -> Tensor:
        """Product in float32, in blocks that are exact; the weights are signed, without offset."""
        steps = codes.to(self._torch.float32) - zero_point
        product: Tensor = None
        for start in range(0, weights.shape[-2], EXACT_INPUTS):
            part = slice(start, start + EXACT_INPUTS)
            block = self._torch.matmul(steps[..., part], weights[..., part, :])
            integers = block.to(self._torch.int32)
            product = integers if product is None else product + integers
        return product

    def matmul_words(self, codes: Tensor, zero_points: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Two such products."""
        wide = self.widen(codes)
        upper, lower = (
            self.matmul(part, zero_point, weights)
            for part, zero_point in zip((wide >> BYTE_BITS, wide & BYTE), zero_points, strict=True)
        )
        return upper * (BYTE + 1) + lower

    def joined(self, product: Tensor, byte: Shift[Tensor], count: int, dropped: int) -> Tensor:
        """As `onnxgru.custom_ops.kinds.planes` does."""
        return joined(self, product, byte, count, dropped)

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """Sum."""
        return left + right

    def sub(self, left: Tensor, right: Tensor) -> Tensor:
        """Difference."""
        return left - right

    def mul(self, left: Tensor, right: Tensor) -> Tensor:
        """Product."""
        return left * right

    def floor_shift(self, value: Tensor, shift: Shift[Tensor]) -> Tensor:
        """Arithmetic shift to the right; `stacked` has put the number of bits for the mask."""
        return self._torch.bitwise_right_shift(value, shift.mask)

    def clip(self, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Limit."""
        return self._torch.clamp(value, low, high)

    def gather(self, table: Tensor, codes: Tensor) -> Tensor:
        """Look up in every candidate's own table, all of them side by side."""
        places = self.widen(codes) + self._tables
        return table.view(-1).index_select(0, places.view(-1)).view(places.shape)

    def pick(self, numbers: Tensor, index: Tensor) -> Tensor:
        """Look up in every candidate's own numbers, all of them side by side."""
        places = index + self._firsts * numbers.shape[-1]
        return numbers.reshape(-1).index_select(0, places.reshape(-1)).view(places.shape)


def stacked(stages: Sequence[Stage], device: Any) -> Stacked:
    """Prepare one stage of several candidates, and move its parameters to a device.

    Parameters
    ----------
    stages : sequence of Stage
        The same stage of programs of one model.
    device : torch.device
        Where parameters are used.
    """
    import torch

    operators = stages[0].operators
    if not operators:
        return ()
    arrays = ArrayPrimitives(general=True)
    prepared = [stage.prepare(arrays, one) for one in stages]
    moved: list[dict[str, Tensor]] = [{} for _ in operators]
    numbers: list[tuple[int, str, Any]] = []
    for index, operator in enumerate(operators):
        candidates = [dict(leaves(parameters[operator.outputs])) for parameters in prepared]
        for path in candidates[0]:
            if path.startswith(WEIGHTS):
                continue
            values = [np.asarray(known[path]).reshape(-1) for known in candidates]
            if path == "table":
                tables = np.stack([np.pad(value, (0, TABLE - value.size)) for value in values])
                moved[index][path] = torch.from_numpy(tables).to(device)
                continue
            if path == "curve":
                curves = padded(values, CURVE, np.int32)
                moved[index][path] = torch.from_numpy(curves).to(device)
                continue
            # A group of linear operators has one number if they agree, else one per column.
            rows = np.empty((len(values), max(value.size for value in values)), np.int32)
            for row, value in zip(rows, values, strict=True):
                row[:] = np.bitwise_count(value) if path.endswith("mask") else value
            numbers.append((index, path, rows))
        if isinstance(operator, Linear):
            weights = np.stack([_weights(known) for known in candidates])
            blocks = torch.from_numpy(weights).to(device).split(list(operator.blocks), dim=1)
            moved[index] |= {f"{WEIGHTS}{place}": block for place, block in enumerate(blocks)}
    # One transfer for all, because a transfer takes as long for one number as for thousands.
    whole = torch.from_numpy(np.concatenate([rows for _, _, rows in numbers], axis=1)).to(device)
    parts = whole.split([rows.shape[1] for _, _, rows in numbers], dim=1)
    for (index, path, _), part in zip(numbers, parts, strict=True):
        moved[index][path] = part.unsqueeze(1)
    # Candidates may be cut in different blocks; all take those of the first.
    records = (prepared[0][operator.outputs] for operator in operators)
    return tuple(
        (operator, mapped(record, _taken(known)))
        for operator, record, known in zip(operators, records, moved, strict=True)
    )


def _taken(known: Mapping[str, Tensor]) -> Callable[[str, Any], Tensor]:
    return lambda path, _value: known[path]


def _weights(known: Mapping[str, Any]) -> Any:
    """All blocks of a candidate's weights, because candidates may have different blocks."""
    blocks = [value for path, value in known.items() if path.startswith(WEIGHTS)]
    return np.concatenate(blocks).astype(np.float32)
