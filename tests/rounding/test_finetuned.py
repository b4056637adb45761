"""Integers of a file: only codes that the width has, and scales that may have to grow."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.errors import SchemeError
from onnxgru.core.weights import Rounded
from onnxgru.rounding.finetuned import Finetuned
from onnxgru.rounding.nearest import Nearest
from tests import grus
from tests.pipeline import pipeline


def rounded(bits: int) -> tuple[tuple, Rounded]:
    """A linear operator as arguments, and its integers."""
    case = grus.Case()
    (layer,) = pipeline(grus.model(case), grus.feeds(case)).layers
    recurrence = layer.recurrences[0]
    operator = next(o for o in recurrence.operators if o.kind == "linear")
    arguments = (recurrence, operator, "channel", bits)
    return arguments, Nearest((layer,))(*arguments)


@pytest.mark.parametrize(("bits", "code"), [(2, 0), (2, 2), (2, -4), (2, 5), (3, 4), (3, -4)])
def test_codes_that_a_width_does_not_have_are_refused(bits: int, code: int) -> None:
    """A zero at 2 bits is of three levels, which they had before."""
    arguments, found = rounded(bits)
    name = arguments[1].name
    assert Finetuned({name: found}, "w.npz")(*arguments) is found
    codes = found.codes.copy()
    codes[-1, -1] = code
    expected = f"w.npz: {name} has codes that weights of {bits} bits do not have"
    with pytest.raises(SchemeError, match=expected):
        Finetuned({name: replace(found, codes=codes)}, "w.npz")(*arguments)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_scales_below_the_least_grow_and_codes_stay_of_their_width(bits: int) -> None:
    arguments, found = rounded(bits)
    given = Finetuned({arguments[1].name: found}, "w.npz")
    least = found.scales.astype(np.float64)
    least[0] = np.float32(1000 * least[0])
    grown = given(*arguments, least)
    assert (grown.scales[0], *grown.scales[1:]) == (np.float32(least[0]), *found.scales[1:])
    assert np.array_equal(grown.codes[1:], found.codes[1:])
    assert np.abs(grown.codes[0]).max() <= (1 if bits == 2 else 0)
    again = Finetuned({arguments[1].name: grown}, "w.npz")
    assert again(*arguments, least) is grown
