"""Sizes of an integer program: what it costs in flash, RAM and arithmetic.

The published measure (Miccini et al. 2024) counts the bits of W and R alone,
``1 - M_Q / M_FP16``; a second figure adds the biases at 32 bits. Flash bytes are the exact bytes
of everything a device keeps.

Bit operations are those of van Baalen et al. 2020, "Bayesian Bits" (arXiv 2005.07093)::

    bitops = sum over linear operators of MACs x bits of the weights x bits of the operand

per step and sequence: what a multiplier that works bit by bit would spend.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from onnxgru.core.program import IntegerProgram
from onnxgru.core.schedule import Schedule

HALF_FLOAT_BITS = 16


@dataclass(frozen=True)
class Account:
    """Sizes of a program.

    Parameters
    ----------
    weights : int
        Elements of all W and R; those that two nodes share count once.
    weight_bits : int
        Their bits.
    bias_bits : int
        Bits of the biases, 32 each.
    flash : mapping of str to int
        Bytes by role.
    ram : int
        Bytes of the states of all layers on a device, with what a step needs in memory; see
        `onnxgru.core.schedule`. What a layer reads is its caller's, and locals are on the stack.
    macs : int
        Multiply-accumulates per step and sequence; a dense layer counts as if it ran at every step.
    dense_macs : int
        Those of them in dense layers.
    bitops : int
        Bit operations per step and sequence.
    accumulator_bits : int
        Width of the widest accumulator.
    """

    weights: int
    weight_bits: int
    bias_bits: int
    flash: Mapping[str, int]
    ram: int
    macs: int
    dense_macs: int
    bitops: int
    accumulator_bits: int

    @property
    def flash_bytes(self) -> int:
        """Bytes of everything a device keeps in flash."""
        return sum(self.flash.values())

    @property
    def mean_bits(self) -> float:
        """Mean width of a weight."""
        return self.weight_bits / max(1, self.weights)

    @property
    def reduction(self) -> float:
        """The published measure, 1 - M_Q / M_FP16."""
        return 1 - self.weight_bits / max(1, HALF_FLOAT_BITS * self.weights)

    def to_dict(self) -> dict[str, object]:
        """Figures by name, for JSON; without those of dense layers where there is none."""
        figures = asdict(self)
        if not self.dense_macs:
            del figures["dense_macs"]
        return {
            **figures,
            "flash": dict(self.flash),
            "flash_bytes": self.flash_bytes,
            "mean_bits": self.mean_bits,
            "reduction": self.reduction,
        }


def account(program: IntegerProgram) -> Account:
    """Sizes of a program."""
    items = program.flash()
    flash: dict[str, int] = {}
    for item in items:
        flash[item.role] = flash.get(item.role, 0) + item.size
    operators = list(program.operators)
    return Account(
        weights=sum(item.weights for item in items),
        weight_bits=sum(item.weight_bits for item in items),
        bias_bits=8 * flash.get("bias", 0),
        flash=flash,
        ram=sum(Schedule.of(r).ram for layer in program.layers for r in layer.recurrences),
        macs=sum(operator.macs for operator in operators),
        dense_macs=sum(
            operator.macs
            for layer in program.layers
            if not layer.carries
            for recurrence in layer.recurrences
            for operator in recurrence.operators
        ),
        bitops=sum(w.count * w.weight_bits * w.bits for o in operators for w in o.work),
        accumulator_bits=max((proof.bits for proof in program.proofs()), default=0),
    )
