"""Drive: one direction of a layer through time, written once for all evaluators.

Evaluators differ in how they compute a step. Directions, ``sequence_lens`` and the rule of empty
sequences are here: a finished sequence keeps its carries and emits the code of 0.0. A sequence
without a step ends with 0.0, also if it has an initial state. The oracle has its own loop over
time, against which this one is tested.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxgru.core.program import IntegerRecurrence

Array = Any
"""Codes in the evaluator's type: a NumPy array or a torch tensor."""


@dataclass(frozen=True)
class Lengths:
    """Sequences of different lengths.

    Parameters
    ----------
    going : callable
        From a step to a mask of the sequences that have this step; the mask broadcasts to codes.
    where : callable
        ``numpy.where`` or ``torch.where``.
    zeros : sequence of array
        Code of 0.0 of every carry.
    silence : array
        Code of 0.0 of the output.
    """

    going: Callable[[int], Array]
    where: Callable[[Array, Array, Array], Array]
    zeros: Sequence[Array]
    silence: Array


Watch = Callable[[IntegerRecurrence, int, Sequence[Array], Sequence[Array], Array | None], None]
"""Called after every step with the direction, the step, all carries before and after it, and a mask
of the sequences that have the step (None for all)."""


def drive(
    recurrence: IntegerRecurrence,
    steps: int,
    carried: Sequence[Array],
    compute: Callable[[int, dict[str, Array]], Mapping[str, Array]],
    keep: Callable[[int, Array], None],
    lengths: Lengths | None = None,
    watch: Watch | None = None,
) -> list[Array]:
    """Run all steps.

    Parameters
    ----------
    recurrence : IntegerRecurrence
        The direction.
    steps : int
        T.
    carried : sequence of array
        Codes of every carry before the first step.
    compute : callable
        From a step and the carries by name to what the step computes, by name.
    keep : callable
        Receives a step and its output.
    lengths : Lengths, optional
        For sequences of different lengths.
    watch : callable, optional
        Called after every step.

    Returns
    -------
    list of array
        Codes of every carry after the last step.
    """
    state = list(carried)
    names = [carry.name for carry in recurrence.carries]
    written = [carry.written_by for carry in recurrence.carries]
    for t in range(steps - 1, -1, -1) if recurrence.reverse else range(steps):
        values = compute(t, dict(zip(names, state, strict=True)))
        emitted, following = values[recurrence.emits], [values[name] for name in written]
        going = None
        if lengths is not None:
            going = lengths.going(t)
            emitted = lengths.where(going, emitted, lengths.silence)
            following = [
                lengths.where(going, new, old) for new, old in zip(following, state, strict=True)
            ]
        if watch is not None:
            watch(recurrence, t, state, following, going)
        keep(t, emitted)
        state = following
    if lengths is not None:
        some = lengths.going(0)
        state = [lengths.where(some, s, z) for s, z in zip(state, lengths.zeros, strict=True)]
    return state
