"""Flash: what a device keeps of a program, array by array."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FlashItem:
    """One parameter that a device keeps in flash.

    Parameters
    ----------
    name : str
        Name of the initializer that carries it.
    role : str
        ``weight``, ``bias``, ``multiplier``, ``shift``, ``reach``, ``zero_point``, ``scale``,
        ``table`` or ``threshold``.
    size : int
        Bytes.
    weights, weight_bits : int
        For weights: elements, and elements times width; else 0.
    content : bytes
        What is stored, in short. Items of the same content, of two nodes with the same weights,
        are stored once, under the first one's name. Empty for what is never shared.
    """

    name: str
    role: str
    size: int
    weights: int = 0
    weight_bits: int = 0
    content: bytes = b""
