"""Integer weights of fine-tuning as a method of rounding, and their file."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import SchemeError
from onnxgru.core.integers import WeightType
from onnxgru.core.network import LinearOperator, Recurrence
from onnxgru.core.weights import Rounded

_FIELDS = {"codes": (np.int8, np.int16), "scales": (np.float32,), "bias": (np.float32,)}
"""Fields of a file with the types that they may have."""


class Finetuned:
    """Returns integers that fine-tuning made, at the widths that they were made for.

    Parameters
    ----------
    rounded : mapping of str to Rounded
        By linear operator.
    source : str
        Where they come from, for messages.
    """

    def __init__(self, rounded: Mapping[str, Rounded], source: str) -> None:
        self._rounded, self._source = rounded, source

    def __call__(
        self,
        recurrence: Recurrence,
        operator: LinearOperator,
        granularity: str,
        bits: int,
        least: npt.NDArray[np.float64] | None = None,
    ) -> Rounded:
        """See `onnxgru.rounding.nearest.Nearest`.

        Raises
        ------
        SchemeError
            If the operator is not among them, or has other weights or a narrower width.
        """
        found = self._rounded.get(operator.name)
        if found is None or found.codes.shape != operator.weight.shape:
            raise SchemeError(
                f"{self._source}: must have weights of {operator.name} of shape "
                f"{operator.weight.shape}; they belong to another model"
            )
        kind = WeightType(bits)
        if (kind.nearest(found.codes.astype(np.float64)) != found.codes).any():
            raise SchemeError(
                f"{self._source}: {operator.name} has codes that weights of {bits} bits do not "
                "have; give the scheme that they were fine-tuned for, or fine-tune again"
            )
        if least is None or (found.scales >= least).all():
            return found
        # Only a channel with hardly any weights and a large bias needs such a scale.
        scales = np.maximum(found.scales, least).astype(np.float32)
        steps = found.codes.astype(np.float64) * (found.scales / scales)[:, None]
        codes = kind.nearest(steps)
        return Rounded(codes.astype(kind.container), scales, found.bias)


def dump(rounded: Mapping[str, Rounded]) -> bytes:
    """Contents of a file of integer weights: ``<operator>|codes``, ``|scales`` and ``|bias``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, value in sorted(rounded.items()):
            for field in _FIELDS:
                entry = zipfile.ZipInfo(f"{name}|{field}.npy")  # without a time: the same bytes
                with file.open(entry, "w") as target:
                    np.lib.format.write_array(target, getattr(value, field), allow_pickle=False)
    return stream.getvalue()


def load(path: Path) -> Finetuned:
    """Read what `dump` wrote.

    Raises
    ------
    SchemeError
        If the file cannot be read or is none of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        names = sorted({key.partition("|")[0] for key in arrays})
        rounded = {
            name: Rounded(*(arrays[f"{name}|{field}"] for field in _FIELDS)) for name in names
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise SchemeError(
            f"{path}: must be a file of fine-tuned weights that onnxgru wrote, but {error}; "
            "fine-tune again"
        ) from error
    for name, value in rounded.items():
        for field, kinds in _FIELDS.items():
            if getattr(value, field).dtype not in kinds:
                wanted = " or ".join(np.dtype(kind).name for kind in kinds)
                raise SchemeError(
                    f"{path}: {field} of {name} must be {wanted}, are "
                    f"{getattr(value, field).dtype}; fine-tune again"
                )
        rows = value.codes.shape[:1]
        if value.codes.ndim != 2 or value.scales.shape != rows or value.bias.shape != rows:
            raise SchemeError(
                f"{path}: {name} must have a scale and a bias for each row of its codes, its "
                f"shapes are {value.codes.shape}, {value.scales.shape} and {value.bias.shape}; "
                "fine-tune again"
            )
        if not all(np.isfinite(a).all() for a in (value.scales, value.bias, 1 / value.scales)):
            raise SchemeError(
                f"{path}: {name} must have finite scales and biases, and no scale of 0; "
                "fine-tune again"
            )
    return Finetuned(rounded, str(path))
