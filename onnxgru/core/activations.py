"""The activation functions that ONNX lists for recurrent operators, as functions of float64 arrays.

Source: ONNX operator specification, ``GRU``, attribute ``activations``; default ``alpha`` and
``beta`` as onnxruntime applies them (measured, tests/passes/emission/test_decompose.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import ModelError
from onnxgru.core.integers import IntegerType, Quantization

Reals = npt.NDArray[np.float64]


def _softplus(x: Reals, _alpha: float, _beta: float) -> Reals:
    return np.logaddexp(0.0, x)


def _sigmoid(x: Reals, _alpha: float, _beta: float) -> Reals:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


@dataclass(frozen=True)
class FunctionForm:
    """One row of the table of functions.

    Parameters
    ----------
    formula : callable
        ``formula(x, alpha, beta)`` on float64 arrays of any shape.
    alpha, beta : float or None
        Defaults; None where the function takes no such parameter.
    codomain : {"unit", "symmetric"} or None
        "unit" for [0, 1] and "symmetric" for [-1, 1], which fix the output's quantisation;
        None where it has to be calibrated.
    mirrors : bool
        Whether the function maps [0, 1] onto itself, as 1 - x does. Its codomain is then that of
        its operand. It is an operator of a cell's table and no activation of ONNX.
    """

    formula: Callable[[Reals, float, float], Reals]
    alpha: float | None = None
    beta: float | None = None
    codomain: str | None = None
    mirrors: bool = False


FORMS: Mapping[str, FunctionForm] = {
    "Sigmoid": FunctionForm(_sigmoid, codomain="unit"),
    "HardSigmoid": FunctionForm(
        lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0), 0.2, 0.5, codomain="unit"
    ),
    "Tanh": FunctionForm(lambda x, _alpha, _beta: np.tanh(x), codomain="symmetric"),
    "Softsign": FunctionForm(lambda x, _alpha, _beta: x / (1.0 + np.abs(x)), codomain="symmetric"),
    "Relu": FunctionForm(lambda x, _alpha, _beta: np.maximum(x, 0.0)),
    "LeakyRelu": FunctionForm(lambda x, alpha, _beta: np.where(x < 0, alpha * x, x), 0.01),
    "ThresholdedRelu": FunctionForm(lambda x, alpha, _beta: np.where(x > alpha, x, 0.0), 0.0),
    "Elu": FunctionForm(
        lambda x, alpha, _beta: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), 1.0
    ),
    "Softplus": FunctionForm(_softplus),
    "Affine": FunctionForm(lambda x, alpha, beta: alpha * x + beta, 0.0, 0.0),
    "ScaledTanh": FunctionForm(lambda x, alpha, beta: alpha * np.tanh(beta * x), 0.0, 0.0),
    "Complement": FunctionForm(lambda x, _alpha, _beta: 1.0 - x, mirrors=True),
}
"""The functions by name."""

ACTIVATIONS = tuple(name for name, form in FORMS.items() if not form.mirrors)
"""Names of the functions that ONNX lists for recurrent operators."""


@dataclass(frozen=True)
class Activation:
    """A function with its parameters; with `clip`, its argument is first limited to +-clip.

    Parameters
    ----------
    name : str
        A key of `FORMS`.
    alpha, beta : float
        Parameters; ignored by functions that take none.
    clip : float or None
        Positive limit of the argument (the attribute ``clip``).

    Raises
    ------
    ModelError
        If the function is not known.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.name not in FORMS:
            raise ModelError(
                f"activation {self.name!r} is not one that ONNX lists; "
                f"it must be one of {', '.join(ACTIVATIONS)}"
            )

    def __call__(self, x: Reals) -> Reals:
        """Value at `x`, float64 of the same shape."""
        if self.clip is not None:
            x = np.clip(x, -self.clip, self.clip)
        return FORMS[self.name].formula(x, self.alpha, self.beta)

    @property
    def mirrors(self) -> bool:
        """Whether the function maps [0, 1] onto itself; see `FunctionForm`."""
        return FORMS[self.name].mirrors

    def codomain(self, operand: str | None = None) -> str | None:
        """Codomain, by that of the operand: "unit", "symmetric", or None if it is not fixed."""
        form = FORMS[self.name]
        return "unit" if form.mirrors and operand == "unit" else form.codomain

    def quantization(self, bits: int, operand: str | None = None) -> Quantization | None:
        """The output's quantisation where the codomain fixes it, else None.

        [0, 1] has the scale 1 / (2**b - 1) and zero point 0, so that 1.0 is exact; [-1, 1] has
        the scale 1 / (2**(b-1) - 1) and zero point 2**(b-1), so that -1, 0 and 1 are exact.

        Parameters
        ----------
        bits : int
            Width of the output's codes, b.
        operand : str, optional
            Codomain of what the function reads.
        """
        codomain = self.codomain(operand)
        if codomain == "unit":
            return Quantization(float(np.float32(1 / IntegerType(bits).maximum)), 0, bits)
        if codomain == "symmetric":
            middle = IntegerType(bits).middle
            return Quantization(float(np.float32(1 / (middle - 1))), middle, bits)
        return None
