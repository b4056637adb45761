"""Eliminated operations: multiplications of a delta network whose operand did not change.

A device that keeps the accumulators of its matrix products multiplies only the elements of an
operand that were propagated at a step (see `onnxgru.custom_ops.kinds.delta`). The multiplications
of the other elements are eliminated; their share is the EO of Rezk et al. 2022, "Shrink and
Eliminate". It is counted over all steps of all sequences. The first step compares with the code of
0.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.program import IntegerLayer, IntegerProgram, IntegerRecurrence
from onnxgru.custom_ops.kinds.delta import Delta
from onnxgru.custom_ops.kinds.linear import Linear
from onnxgru.data.dataset import Recorded
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.host import Host

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Operand:
    """How often the elements of one operand were propagated.

    Parameters
    ----------
    name : str
        The operand, such as ``/gru/forward/state``.
    threshold : int
        In codes.
    operators : tuple of str
        The linear operators that read it.
    outputs : int
        Multiplications per element: the features of all these operators.
    width : int
        Elements of the operand.
    elements : ndarray of int64, shape (T,)
        Elements of all sequences, by step.
    moved : ndarray of int64, shape (T,)
        Propagated elements, by step.
    """

    name: str
    threshold: int
    operators: tuple[str, ...]
    outputs: int
    width: int
    elements: Counts
    moved: Counts

    @property
    def share(self) -> float:
        """Share of its multiplications that are eliminated."""
        return share([self])

    def part(self, start: int, stop: int) -> "Operand":
        """The same for some steps."""
        steps = slice(start, stop)
        return replace(self, elements=self.elements[steps], moved=self.moved[steps])


@dataclass(frozen=True, eq=False)
class Elimination:
    """What a delta network eliminates on some data.

    Parameters
    ----------
    operands : tuple of Operand
        All operands of its linear operators.
    """

    operands: tuple[Operand, ...]

    @property
    def share(self) -> float:
        """Share of all multiplications of linear operators that are eliminated."""
        return share(self.operands)

    @property
    def operations(self) -> int:
        """Multiplications of all linear operators if nothing were eliminated."""
        return sum(one.outputs * int(one.elements.sum()) for one in self.operands)

    @property
    def left(self) -> float:
        """Remaining multiplications per step and sequence."""
        return sum(one.outputs * one.width * (1 - one.share) for one in self.operands)

    def over_time(self, most: int) -> dict[str, Any]:
        """Percent eliminated along the sequences.

        Parameters
        ----------
        most : int
            Points at most; neighbouring steps share one.

        Returns
        -------
        dict
            ``steps``: first step of every point; ``all``: per cent over all operands; ``operands``:
            per cent by operand.
        """
        length = max((len(one.elements) for one in self.operands), default=0)
        edges = np.unique(np.linspace(0, length, min(most, length) + 1).astype(int))

        def points(operands: Sequence[Operand]) -> list[float]:
            parts = ([one.part(start, stop) for one in operands] for start, stop in pairwise(edges))
            return [round(100 * share(part), 2) for part in parts]

        return {
            "steps": edges[:-1].tolist(),
            "all": points(self.operands),
            "operands": {one.name: points([one]) for one in self.operands},
        }


def share(operands: Sequence[Operand]) -> float:
    """Share of the multiplications of some operands that are eliminated."""
    total = sum(one.outputs * int(one.elements.sum()) for one in operands)
    moved = sum(one.outputs * int(one.moved.sum()) for one in operands)
    return 1 - moved / max(1, total)


@dataclass(eq=False)
class _Counter:
    """Counts the changes of held values, step by step."""

    moved: dict[str, Counts] = field(default_factory=dict)
    elements: dict[str, Counts] = field(default_factory=dict)

    def __call__(
        self,
        recurrence: IntegerRecurrence,
        t: int,
        before: Sequence[Array],
        after: Sequence[Array],
        going: Array | None,
    ) -> None:
        """See `onnxgru.runtime.drive.Watch`."""
        for carry, old, new in zip(recurrence.carries, before, after, strict=True):
            if carry.holds:
                # A finished sequence keeps what it holds.
                rows = len(old) if going is None else int(going.sum())
                self._add(self.moved, carry.holds, t, int(np.count_nonzero(old != new)))
                self._add(self.elements, carry.holds, t, rows * old.shape[-1])

    @staticmethod
    def _add(counts: dict[str, Counts], name: str, t: int, more: int) -> None:
        known = counts.get(name, np.zeros(0, np.int64))
        if t >= len(known):
            known = np.concatenate([known, np.zeros(t + 1 - len(known), np.int64)])
            counts[name] = known
        known[t] += more


class Measuring:
    """Runs delta networks of one model on one set of data, and counts what they eliminate.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset or Corpus
        Sequences. Repeated sequences that fill up a call of fixed size count too.
    outputs : sequence of str, optional
        Outputs of the model that are wanted; all where left out.
    """

    def __init__(self, host: Host, data: Recorded, outputs: Sequence[str] | None = None) -> None:
        self._own = local()  # threads may measure at the same time
        self._evaluator = Evaluator(host, data, self._engine, outputs=outputs)

    def _engine(self, layer: IntegerLayer) -> FusedEngine:
        return FusedEngine(layer, self._own.counter)

    def __call__(self, program: IntegerProgram) -> tuple[dict[str, Array], Elimination]:
        """Outputs of a program, the batch first, and what it eliminates.

        Parameters
        ----------
        program : IntegerProgram
            A delta network with thresholds for all operands of its linear operators.
        """
        counter = self._own.counter = _Counter()
        outputs = self._evaluator.outputs(program)
        return outputs, Elimination(tuple(self._operands(program, counter)))

    @staticmethod
    def _operands(program: IntegerProgram, counter: _Counter) -> list[Operand]:
        found = []
        for layer in program.layers:
            for recurrence in layer.recurrences:
                linears = [o for o in recurrence.operators if isinstance(o, Linear)]
                for delta in (o for o in recurrence.operators if isinstance(o, Delta)):
                    name = delta.inputs[0]
                    readers = [o for o in linears if o.inputs[0] == delta.name]
                    found.append(
                        Operand(
                            name,
                            delta.threshold,
                            tuple(output for reader in readers for output in reader.outputs),
                            sum(width for reader in readers for width in reader.widths),
                            delta.channels,
                            counter.elements[name],
                            counter.moved[name],
                        )
                    )
        return found
