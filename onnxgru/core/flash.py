"""Flash: the arrays of a program that a device stores."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FlashItem:
    """One parameter that a device keeps in flash.

    Parameters
    ----------
    name : str
        Name of the initializer that holds it.
    role : str
        ``weight``, ``bias``, ``multiplier``, ``shift``, ``reach``, ``zero_point``, ``scale``,
        ``table`` or ``threshold``.
    size : int
        Bytes.
    weights, weight_bits : int
        For weights: number of elements, and that times their width; else 0.
    content : bytes
        Digest of what is stored. Items with equal digests are stored once, under the name of the
        first. Empty for items that are never shared.
    """

    name: str
    role: str
    size: int
    weights: int = 0
    weight_bits: int = 0
    content: bytes = b""
