"""Sizes of an integer program: its costs in flash, RAM and arithmetic.

The published measure (Miccini et al. 2024) counts the bits of W and R only,
``1 - M_Q / M_FP16``. Flash bytes are the exact bytes of everything that a device stores.

Bit operations are those of van Baalen et al. 2020, "Bayesian Bits" (arXiv 2005.07093)::

    bitops = sum over linear operators of MACs x bits of the weights x bits of the operand

per step and sequence: the operations of a multiplier that works bit by bit.
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
        Elements of all W and R; elements that two nodes share count once.
    weight_bits : int
        Bits of these elements.
    bias_bits : int
        Bits of the biases as they are stored.
    flash : mapping of str to int
        Bytes by role.
    ram : int
        Bytes of the structs of all layers on a device: states, and memory of a step; see
        `onnxgru.core.schedule`. The caller has the memory of a layer's input. Local variables on
        the stack do not count.
    macs : int
        Multiply-accumulates per step and sequence; a dense layer counts as if it ran at every step.
    dense_macs : int
        Multiply-accumulates of dense layers among them.
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
        """Bytes of everything that a device stores in flash."""
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
        """Figures by name, for JSON; `dense_macs` is left out if it is 0."""
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
