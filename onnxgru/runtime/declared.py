"""Declared: the user's settings of the inputs and outputs of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnxgru.core.errors import UsageError


@dataclass(frozen=True)
class Declared:
    """The user's settings of the interface.

    Parameters
    ----------
    batch_axes : mapping of str to int or None
        Axis of the sequences by input; None for inputs that are given once.
    states : mapping of str to str, optional
        Output by state input; None to find the states automatically.
    """

    batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    states: Mapping[str, str] | None = None

    @classmethod
    def parse(cls, batch_axes: Sequence[str], states: Sequence[str]) -> "Declared":
        """Read ``input=1`` or ``input=none``, and ``output=input`` or ``none``.

        Raises
        ------
        UsageError
            If a text is none of these.
        """
        axes: dict[str, int | None] = {}
        for text in batch_axes:
            name, equals, number = text.rpartition("=")
            if not equals or not (number == "none" or number.isdecimal()):
                raise UsageError(
                    f"--batch-axis must be INPUT=AXIS, such as x=1, or INPUT=none for an input "
                    f"that is given once, got {text!r}"
                )
            axes[name] = None if number == "none" else int(number)
        if not states:
            return cls(axes)
        pairs: dict[str, str] = {}
        for text in states:
            output, equals, name = text.partition("=")
            if text != "none" and not (equals and output and name):
                raise UsageError(
                    f"--state must be OUTPUT=INPUT, such as hn=h, or none, got {text!r}"
                )
            if equals:
                pairs[name] = output
        return cls(axes, pairs)
